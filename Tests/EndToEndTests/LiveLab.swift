// Namespaces, daemons and pings for the tests of the live node.

import Foundation
import Glibc
import Testing

/// A network that goes with its last user; see Live/lab for who is where.
final class LiveLab {
    static let absence: Comment = """
        NOT RUN: the live node needs root, /dev/net/tun, ip, ping and strongSwan: run \
        'scripts/prepare test', and the tests as root
        """

    static let isPossible: Bool = {
        let tools = [
            "/usr/sbin/ip", "/usr/bin/ping", "/usr/sbin/charon-systemd", "/usr/sbin/swanctl",
            "/usr/bin/tshark",
        ]
        guard getuid() == 0, FileManager.default.fileExists(atPath: "/dev/net/tun"),
            tools.allSatisfy(FileManager.default.isExecutableFile)
        else { return false }
        // A container may have root without the right to make namespaces.
        let name = "spindle-try-\(getpid())"
        let made = try? Program.run("/usr/sbin/ip", ["netns", "add", name])
        _ = try? Program.run("/usr/sbin/ip", ["netns", "delete", name])
        return made?.code == 0
    }()

    private static let script = path(of: "lab")

    /// Where a file of Live is.
    static func path(of name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Live/\(name)").path
    }

    let scratch: Scratch
    private let prefix: String

    init() throws {
        scratch = try Scratch()
        prefix = "s\(getpid())-\(UInt16.random(in: 0...9999))"
        let made = try Program.run(Self.script, ["up", prefix])
        try #require(made.code == 0, "\(made.testDescription)")
    }

    deinit { _ = try? Program.run(Self.script, ["down", prefix]) }

    /// Runs a program in a namespace.
    func run(in name: String, _ arguments: [String]) throws -> Outcome {
        try Program.run("/usr/sbin/ip", ["netns", "exec", "\(prefix)-\(name)"] + arguments)
    }

    /// Starts a program in a namespace that runs beside the test.
    func start(in name: String, _ arguments: [String], log: String) throws -> Daemon {
        try Daemon(
            "/usr/sbin/ip", ["netns", "exec", "\(prefix)-\(name)"] + arguments,
            log: scratch.path(log))
    }

    /// Asks the node of a namespace.
    func ask(_ name: String, _ arguments: String...) throws -> Outcome {
        try Program.spindle(arguments + ["--socket", scratch.path("\(name).control")])
    }

    // MARK: Daemons

    /// Starts a node with a configuration in which SOCKET and SECRETS stand for its own files, and
    /// waits until it serves.
    func startNode(
        _ name: String, _ configuration: String, options: [String] = []
    ) throws -> Daemon {
        let secrets = scratch.path("\(name).secrets.yaml")
        try Self.secrets.write(toFile: secrets, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: secrets)
        let text =
            configuration
            .replacingOccurrences(of: "SOCKET", with: scratch.path("\(name).control"))
            .replacingOccurrences(of: "SECRETS", with: secrets)
        let file = try scratch.write(Data(text.utf8), as: "\(name).yaml")
        let node = try start(
            in: name, [Program.path(of: "spindle"), "node", "--config", file] + options,
            log: "\(name).log")
        try node.waitFor("serving")
        return node
    }

    /// One key for all.
    static let secrets = """
        preshared_keys:
          - identities: ["gw.lab.example", "*.lab.example"]
            secret: "a key for the tests of the live node"
        """

    /// Starts strongSwan with the connections of a swanctl.conf; without one, with those of
    /// Live/lab.
    func startStrongSwan(_ configuration: String? = nil) throws -> Daemon {
        let folder = scratch.path("strongswan")
        if let configuration {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true)
            try configuration.write(
                toFile: folder + "/swanctl.conf", atomically: true, encoding: .utf8)
        }
        let daemon = try Daemon(
            Self.script, ["strongswan", prefix, folder], log: scratch.path("strongswan.log"))
        try waitUntil("strongSwan has its connection") {
            FileManager.default.fileExists(atPath: folder + "/loaded")
        }
        return daemon
    }

    /// Gives strongSwan a command.
    func swanctl(_ arguments: String...) throws -> Outcome {
        try Program.run(
            "/usr/sbin/swanctl",
            arguments + ["--uri", "unix://" + scratch.path("strongswan") + "/vici"])
    }

    // MARK: Packets

    /// How many of `count` pings came back before one was lost. Each is sent when the one before
    /// came back: what the ends count is exact, and a busy machine only takes longer. (ping(8) with
    /// a deadline sends further ones while an answer is late; without, it hardly waits for the
    /// last.) Without a source, routes have to choose it.
    func ping(
        from name: String, _ source: String?, _ destination: String, count: Int = 5
    ) throws -> Int {
        let ping =
            ["ping", "-q", "-c", "1", "-W", "5"] + (source.map { ["-I", $0] } ?? [])
            + [destination]
        let script = """
            for ((sent = 0; sent < \(count); sent++)); do
                \(ping.joined(separator: " ")) >/dev/null || break
            done
            echo $sent
            """
        let outcome = try run(in: name, ["bash", "-c", script])
        guard let received = Int(outcome.text.trimmingCharacters(in: .newlines)) else {
            throw RunError(description: outcome.testDescription)
        }
        return received
    }

    /// Of `ip`: so many pings from the gateway to strongSwan.
    func floodArguments(count: Int) -> [String] {
        [
            "netns", "exec", "\(prefix)-gw", "ping", "-q", "-i", "0.002", "-c", "\(count)", "-W",
            "2",
            "-I", "10.88.0.1", "10.101.0.1",
        ]
    }

    /// Of `ip`: catches so many packets of IKE and ESP at the gateway.
    func captureArguments(_ path: String, packets: Int) -> [String] {
        [
            "netns", "exec", "\(prefix)-gw", "tshark", "-i", "eth0", "-f",
            "udp port 500 or udp port 4500 or esp", "-c", "\(packets)", "-w", path,
        ]
    }

    /// Waits until strongSwan has so many pairs. It has one a moment later than the node that
    /// answered it, and drops what it can't open yet.
    func waitForStrongSwan(pairs count: Int) throws {
        try waitUntil("strongSwan has \(count) pairs") {
            try swanctl("--list-sas").text.components(separatedBy: "INSTALLED").count - 1 == count
        }
    }

    /// Waits for what must come. The bound is for what never comes: a busy machine takes a while.
    func waitUntil(_ what: String, _ condition: () throws -> Bool) throws {
        let end = ContinuousClock.now + Daemon.patience
        while try !condition() {
            guard ContinuousClock.now < end else {
                throw RunError(description: "not within \(Daemon.patience): \(what)")
            }
            usleep(20_000)
        }
    }
}

/// A program that runs beside the test, and ends with it.
final class Daemon {
    /// For what must come, and for what must end.
    static let patience = Duration.seconds(30)

    private let process = Process()
    private let log: String

    init(_ path: String, _ arguments: [String], log: String) throws {
        self.log = log
        try Data().write(to: URL(filePath: log))
        let output = try FileHandle(forWritingTo: URL(filePath: log))
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = output
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["SWIFT_BACKTRACE": "enable=no"]) { $1 }
        try process.run()
        try? output.close()
    }

    deinit { if process.isRunning { kill() } }

    var isRunning: Bool { process.isRunning }

    var processIdentifier: Int32 { process.processIdentifier }

    /// Ends it at once, as a crash does.
    func kill() { Glibc.kill(process.processIdentifier, SIGKILL) }

    func signal(_ number: Int32) { Glibc.kill(process.processIdentifier, number) }

    var text: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Waits for a word in the log.
    func waitFor(_ word: String) throws {
        let end = ContinuousClock.now + Self.patience
        var isRunning = process.isRunning
        while !text.contains(word) {
            guard isRunning, ContinuousClock.now < end else {
                throw RunError(description: "no \"\(word)\" in: \(text.suffix(2000))")
            }
            usleep(20_000)
            // Asked before the text: what it said last counts.
            isRunning = process.isRunning
        }
    }

    /// Asks it to end; its exit code, nil when a signal ended it or it did not end.
    func stop() -> Int32? {
        process.terminate()
        let end = ContinuousClock.now + Self.patience
        while process.isRunning, ContinuousClock.now < end { usleep(20_000) }
        guard !process.isRunning, process.terminationReason == .exit else { return nil }
        return process.terminationStatus
    }
}
