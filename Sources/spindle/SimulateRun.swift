// One seed of `spindle simulate`: run, run again, and, if it failed, run once more to tell how.

import ESP
import Foundation
import SimKit

/// What one seed came to.
struct SimulateOutcome {
    struct Failure {
        /// Nanoseconds since the end of the setting up; negative: while setting up.
        let time: Int64
        let text: String
    }

    let options: SimulationOptions
    let faults: [Fault]
    let figures: SimulationFigures
    let failures: [Failure]
    /// The last lines of the trace of a run that broke a rule.
    let trace: [String]
    /// Of all runs of this seed together.
    let realSeconds: Double
    let runs: Int
}

enum SimulateRun {
    /// Lines of the trace that are told about a failure.
    static let traceLines = 15

    /// Runs a seed, twice if it is to be compared with itself.
    static func outcome(of options: SimulationOptions, isRepeated: Bool) throws -> SimulateOutcome {
        let start = monotonicNanoseconds()
        let simulation = try Simulation(options)
        simulation.run()
        var hashes = [simulation.figures.traceHash]
        if isRepeated {
            let second = try Simulation(options)
            second.run()
            hashes.append(second.figures.traceHash)
        }
        let seconds = Double(monotonicNanoseconds() - start) / 1e9
        var failures = Self.failures(of: simulation)
        let trace = simulation.violations.isEmpty ? [] : try tail(of: options)
        if Set(hashes).count > 1 {
            let text =
                "two runs of the seed differ: trace hashes "
                + hashes.map { String($0, radix: 16) }.joined(separator: " and ")
            failures.append(.init(time: Int64(options.duration), text: text))
        }
        return SimulateOutcome(
            options: options, faults: simulation.faults, figures: simulation.figures,
            failures: failures, trace: trace, realSeconds: seconds, runs: hashes.count)
    }

    private static func failures(of simulation: Simulation) -> [SimulateOutcome.Failure] {
        simulation.violations.map {
            .init(time: Simulation.sinceWarmUp($0.time), text: $0.text)
        }
    }

    /// A run that tells everything that happens while it does.
    static func traced(
        _ options: SimulationOptions, _ trace: SimulateTrace
    ) throws -> SimulateOutcome {
        let start = monotonicNanoseconds()
        let simulation = try Simulation(options)
        var last: [String] = []
        simulation.onTrace = { time, text in
            let line = Self.line(time, text)
            keep(line, in: &last)
            trace.write(line)
        }
        simulation.run()
        try trace.close()
        return SimulateOutcome(
            options: options, faults: simulation.faults, figures: simulation.figures,
            failures: failures(of: simulation), trace: simulation.violations.isEmpty ? [] : last,
            realSeconds: Double(monotonicNanoseconds() - start) / 1e9, runs: 1)
    }

    /// Most runs don't fail, and tracing takes its time: so the lines come from a run of their own.
    private static func tail(of options: SimulationOptions) throws -> [String] {
        let simulation = try Simulation(options)
        var last: [String] = []
        simulation.onTrace = { time, text in keep(line(time, text), in: &last) }
        simulation.run()
        return last
    }

    private static func keep(_ line: String, in last: inout [String]) {
        if last.count == traceLines { last.removeFirst() }
        last.append(line)
    }

    private static func line(_ time: UInt64, _ text: String) -> String {
        let time = secondsText(Simulation.sinceWarmUp(time))
        return String(repeating: " ", count: max(0, 12 - time.count)) + time + "  " + text
    }
}

/// Seconds with six digits behind the point, whatever the locale.
func secondsText(_ nanoseconds: Int64) -> String {
    let microseconds = nanoseconds.magnitude / 1000
    let digits = String(1_000_000 + microseconds % 1_000_000).dropFirst()
    return (nanoseconds < 0 ? "-" : "") + "\(microseconds / 1_000_000).\(digits) s"
}

/// Where a trace goes: a file, or standard output for "-".
final class SimulateTrace {
    private let path: String
    private let handle: FileHandle
    private var buffer = ""
    private var failure: (any Error)?

    init(path: String) throws {
        self.path = path
        if path == "-" {
            handle = .standardOutput
            return
        }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw CommandError("\(path): \(String(cString: strerror(errno)))")
        }
        handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    }

    func write(_ line: String) {
        buffer += line + "\n"
        if buffer.utf8.count >= 1 << 16 { flush() }
    }

    /// A trace that could not be written whole is a failure.
    func close() throws {
        flush()
        if failure != nil {
            let name = path == "-" ? "standard output" : path
            throw CommandError("\(name): the trace could not be written: is the disk full?")
        }
    }

    private func flush() {
        do {
            if failure == nil { try handle.write(contentsOf: Data(buffer.utf8)) }
        } catch {
            failure = error
        }
        buffer = ""
    }
}

/// True when a file is the page that a report in a folder writes.
func isPage(_ file: String, of folder: String) -> Bool {
    let page = URL(filePath: folder, directoryHint: .isDirectory).appending(path: "index.html")
    return URL(filePath: file).standardizedFileURL.path == page.standardizedFileURL.path
}

/// Makes a folder for a report, unless it is there and can be written to.
func makeFolder(_ folder: String) throws {
    do {
        try FileManager.default.createDirectory(
            at: URL(filePath: folder, directoryHint: .isDirectory),
            withIntermediateDirectories: true)
    } catch {
        throw CommandError(
            "\(folder): no report can be written there: name a folder that is there or can be made")
    }
    guard access(folder, W_OK) == 0 else {
        throw CommandError("\(folder): \(String(cString: strerror(errno)))")
    }
    let page = URL(filePath: folder, directoryHint: .isDirectory).appending(path: "index.html").path
    var directory: ObjCBool = false
    if FileManager.default.fileExists(atPath: page, isDirectory: &directory), directory.boolValue {
        throw CommandError("\(page): this is a folder, and the page would be there: remove it")
    }
}

/// Writes a page into a folder that is there, and returns its path.
func writePage(_ html: String, _ name: String, in folder: String) throws -> String {
    let file = URL(filePath: folder, directoryHint: .isDirectory).appending(path: name)
    do {
        try Data(html.utf8).write(to: file, options: .atomic)
    } catch {
        throw CommandError("\(file.path): the report could not be written: is the disk full?")
    }
    return file.path
}
