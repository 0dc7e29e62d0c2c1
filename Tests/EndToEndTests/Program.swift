// Runs the built program, and the judges beside it, as a user would: arguments in; exit code and
// both outputs out. Nothing of the product's code is linked into these tests.

import Foundation
import Testing

/// What a program said and how it ended.
struct Outcome {
    let arguments: [String]
    /// The exit code; nil when a signal ended it, as a trap does.
    let code: Int32?
    let output: Data
    let complaint: String

    var text: String { String(decoding: output, as: UTF8.self) }
    /// Lines of standard error.
    var complaints: [Substring] { complaint.split(separator: "\n") }
}

extension Outcome: CustomTestStringConvertible {
    var testDescription: String {
        let end = code.map { "exit code \($0)" } ?? "killed by a signal"
        return "\(arguments.joined(separator: " ")): \(end): \(complaint.prefix(2000))"
    }
}

/// Why a program could not be run.
struct RunError: Error, CustomStringConvertible {
    let description: String
}

enum Program {
    /// The directory of this test's own executable: SwiftPM puts the program beside it.
    private static let products: URL = {
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            ?? CommandLine.arguments[0]
        return URL(filePath: own).deletingLastPathComponent()
    }()

    private static let judges = URL(filePath: #filePath)
        .deletingLastPathComponent().appending(path: "Judges")

    static let python = "/usr/bin/python3"

    /// Runs `spindle`.
    static func spindle(_ arguments: String...) throws -> Outcome { try spindle(arguments) }

    /// Runs `spindle`.
    static func spindle(_ arguments: [String]) throws -> Outcome {
        try run(path(of: "spindle"), arguments)
    }

    /// Where a built program is.
    static func path(of name: String) -> String { products.appending(path: name).path }

    /// Runs one of the python programs of Tests/EndToEndTests/Judges.
    static func judge(_ name: String, _ arguments: [String]) throws -> Outcome {
        try run(python, [judge(named: name)] + arguments)
    }

    /// Where one of them is.
    static func judge(named name: String) -> String {
        judges.appending(path: "\(name).py").path
    }

    /// Runs a program with empty standard input, and ends it if it takes longer than a minute.
    /// `interruptedAfter`: Ctrl-C comes when it has used so many seconds of processor time.
    static func run(
        _ path: String, _ arguments: [String], interruptedAfter seconds: Int? = nil
    ) throws -> Outcome {
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw RunError(description: "\(path) is not there: build it first")
        }
        // Files and not pipes: a full pipe would stop the program.
        let scratch = try Scratch()
        let process = Process()
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        let outputs = try ["output", "complaint"].map { try scratch.handle($0) }
        // Foundation keeps the handles: hundreds of runs would exhaust the descriptors.
        defer { for output in outputs { try? output.close() } }
        process.standardOutput = outputs[0]
        process.standardError = outputs[1]
        // A trap must not cost seconds for a backtrace.
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["SWIFT_BACKTRACE": "enable=no", "LC_ALL": "C.UTF-8"]) { $1 }
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        if let seconds {
            while process.isRunning, try processorSeconds(of: process) < seconds {
                if ended.wait(timeout: .now() + .milliseconds(5)) == .success { ended.signal() }
            }
            process.interrupt()
        }
        if ended.wait(timeout: .now() + .seconds(60)) == .timedOut {
            process.terminate()
            throw RunError(description: "\(path) \(arguments) took more than a minute")
        }
        return Outcome(
            arguments: [path] + arguments,
            code: process.terminationReason == .exit ? process.terminationStatus : nil,
            output: try scratch.read("output"),
            complaint: String(decoding: try scratch.read("complaint"), as: UTF8.self))
    }
}

extension Program {
    /// The processor time that a running program has used (proc(5), fields 14 and 15 of `stat`).
    private static func processorSeconds(of process: Process) throws -> Int {
        let stat = "/proc/\(process.processIdentifier)/stat"
        // Gone: it ended meanwhile.
        guard let text = try? String(contentsOfFile: stat, encoding: .utf8) else { return .max }
        // The name of the program stands in brackets, and may have blanks.
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
            throw RunError(description: "\(stat): \(text)")
        }
        return (user + system) / sysconf(Int32(_SC_CLK_TCK))
    }
}

/// Are the independent judges there? `scripts/prepare test` installs them.
enum Judges {
    static let absence: Comment = """
        NOT JUDGED: /usr/bin/python3 with scapy and cryptography, or tshark and editcap, are not \
        there: run 'scripts/prepare test'
        """

    static let areInstalled: Bool = {
        let tools = ["/usr/bin/tshark", "/usr/bin/editcap"]
        guard tools.allSatisfy(FileManager.default.isExecutableFile) else { return false }
        let outcome = try? Program.run(Program.python, ["-c", "import scapy, cryptography"])
        return outcome?.code == 0
    }()
}

/// A directory that goes when its last user does.
final class Scratch {
    private let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-end-to-end-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    var path: String { folder.path }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    func read(_ name: String) throws -> Data { try Data(contentsOf: folder.appending(path: name)) }

    /// Writes a file and returns its path.
    func write(_ data: Data, as name: String) throws -> String {
        try data.write(to: folder.appending(path: name))
        return path(name)
    }

    /// An empty file, open for writing.
    func handle(_ name: String) throws -> FileHandle {
        try FileHandle(forWritingTo: URL(filePath: write(Data(), as: name)))
    }

    /// The names of all files.
    func contents() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    }
}
