// The processes of a lab. The director is the first process of its PID namespace, so all that end
// are its to collect.

internal import Foundation
internal import Glibc

/// Programs that run in the lab's network namespaces.
final class ProcessTable {
    /// What commands may take.
    private static let commandSeconds = 30.0

    /// How processes ended, by number; as waitpid(2) says it.
    private var ended: [pid_t: Int32] = [:]
    /// Names of all logs that were written.
    private(set) var logs: [String] = []

    /// Where the output of a process is.
    static func logPath(_ name: String) -> String { "\(Seclusion.folder)/\(name).log" }

    /// Starts a program in a namespace; its output goes behind what is in the log `name`.
    func start(
        _ name: String, in namespace: String?, _ words: [String],
        environment: [String: String] = [:]
    ) throws(LabError) -> pid_t {
        if !logs.contains(name) { logs.append(name) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, Self.logPath(name), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // `ip netns exec` becomes the program: the number is the program's.
        let all = namespace.map { ["ip", "netns", "exec", $0] + words } ?? words
        return try spawn(all[0], Array(all.dropFirst()), environment: environment, &actions)
    }

    /// Runs a command to its end, and returns what it said. Throws when it fails or takes long.
    @discardableResult
    func run(
        in namespace: String? = nil, _ words: [String], environment: [String: String] = [:]
    ) throws(LabError) -> String {
        let log = Self.logPath("command")
        unlink(log)
        let process = try start("command", in: namespace, words, environment: environment)
        let end = monotonicNanoseconds() + UInt64(Self.commandSeconds * 1e9)
        while isRunning(process) {
            guard monotonicNanoseconds() < end else {
                kill(process, SIGKILL)
                throw LabError("\(words.joined(separator: " ")): no end after 30 s")
            }
            usleep(500)
        }
        let said = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
        guard ended[process] == 0 else {
            throw LabError("\(words.joined(separator: " ")): \(said)")
        }
        return said
    }

    /// False as soon as it has ended.
    func isRunning(_ process: pid_t) -> Bool {
        collect()
        return ended[process] == nil
    }

    /// Waits until a process has ended, so many seconds at most; false: it has not.
    func waitForEnd(_ process: pid_t, seconds: Double) -> Bool {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while isRunning(process) {
            guard monotonicNanoseconds() < end else { return false }
            usleep(1000)
        }
        return true
    }

    /// The last lines of a log, for an error.
    static func tail(_ name: String) -> String {
        let text = (try? String(contentsOfFile: logPath(name), encoding: .utf8)) ?? ""
        let lines = text.split(separator: "\n").suffix(8)
        return lines.map { "\n    " + $0 }.joined()
    }

    private func collect() {
        var status: Int32 = 0
        while true {
            let process = waitpid(-1, &status, WNOHANG)
            guard process > 0 else { return }
            ended[process] = status
        }
    }
}
