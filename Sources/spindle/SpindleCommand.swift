// The one program. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.

import ArgumentParser
import Foundation

struct SpindleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spindle",
        abstract: "An IPsec VPN gateway cluster: terminate ESP tunnels, fail them over, verify.",
        discussion: """
            Start with `spindle replay --help` (terminate a captured session on a cluster and kill \
            a node in the middle) or `spindle verify` (known answers of RFCs, NIST and Wycheproof).
            """,
        subcommands: [
            ReplayCommand.self, SealCommand.self, VerifyCommand.self, SimulateCommand.self,
            NodeCommand.self, ListCommand.self, InitiateCommand.self, TerminateCommand.self,
            RekeyCommand.self, StatusCommand.self, DrainCommand.self, UndrainCommand.self,
            WeightCommand.self, RebalanceCommand.self, MoveCommand.self, TraceCommand.self,
            KeysCommand.self, CheckCommand.self, ClusterKeyCommand.self, LabCommand.self,
            LabDirectorCommand.self, LabTrafficCommand.self, BenchCommand.self,
        ])
}

@main
enum Spindle {
    static func main() {
        do {
            var command = try SpindleCommand.parseAsRoot()
            do {
                try command.run()
            } catch let error as ValidationError {
                // Found out only with the files at hand; the usage would be that of the root.
                complain("spindle: \(error.message)")
                exit(2)
            }
        } catch {
            leave(error)
        }
        // print() tells nobody that the disk is full.
        if fflush(nil) != 0 {
            complain("spindle: standard output: \(String(cString: strerror(errno)))")
            exit(1)
        }
    }

    /// One line for a failure, the usage for wrong usage.
    private static func leave(_ error: any Error) -> Never {
        let code = SpindleCommand.exitCode(for: error)
        let message = SpindleCommand.fullMessage(for: error)
        if code == .success {
            print(message)
            exit(0)
        }
        if code == .validationFailure {
            complain(message)
            exit(2)
        }
        if error is ExitCode { exit(code.rawValue) }
        complain("spindle: \(error)")
        exit(1)
    }
}

/// A failure that says it all in one line.
struct CommandError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Writes a line to standard error. Where it can't be written, nobody can be told so, and a node
/// must not end for it.
func complain(_ line: String) {
    let octets = Array((line + "\n").utf8)
    var rest = octets[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
    }
}

/// Prints a value as JSON with sorted keys.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}
