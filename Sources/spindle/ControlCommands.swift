// `spindle list`, `initiate`, `terminate`, `rekey` and `keys`: what an operator asks a running node
// over its control socket.

import ArgumentParser
import Foundation
import GatewayIO

/// Where the node is found.
struct ControlOptions: ParsableArguments {
    @Option(help: "The node's control socket.", completion: .file())
    var socket = "/run/spindle/control"

    @Option(help: "How long to wait for an answer, in seconds.")
    var timeout = 30

    func validate() throws {
        guard (1...3600).contains(timeout) else {
            throw ValidationError("--timeout must be 1 to 3600")
        }
    }

    /// The last line of the answer; the others are printed to standard error.
    func ask(_ request: ControlRequest) throws -> ControlReply {
        let path = URL(filePath: socket).path
        let reply = try ControlConnection.ask(request, path: path, seconds: timeout) { line in
            if let report = line.report { complain(report) }
        }
        if let error = reply.error { throw CommandError(error) }
        return reply
    }
}

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Show the IKE SAs of a running node with their pairs of CHILD SAs.")

    @OptionGroup var control: ControlOptions

    @Flag(help: "Print one JSON array.")
    var json = false

    func run() throws {
        let associations = try control.ask(ControlRequest(.list)).associations ?? []
        guard !json else { return try printJSON(associations) }
        for association in associations {
            print(Self.heading(association))
            for pair in association.pairs {
                let local = pair.local.joined(separator: ", ")
                let remote = pair.remote.joined(separator: ", ")
                print(
                    "  \(pair.policy) \(pair.inboundSPI)/\(pair.outboundSPI) \(pair.suite) "
                        + "\(pair.mode) in \(pair.encapsulation)\(pair.isCurrent ? "" : ", old")")
                print("    \(local) - \(remote)")
                print(
                    "    in \(pair.packetsIn) packets, \(pair.bytesIn) octets; "
                        + "out \(pair.packetsOut) packets, \(pair.bytesOut) octets")
            }
        }
        if associations.isEmpty { print("no IKE SAs") }
    }

    private static func heading(_ association: AssociationListing) -> String {
        let name = association.connection.isEmpty ? "(unknown)" : association.connection
        let state = association.isEstablished ? "established" : "being set up or replaced"
        let identity = association.remoteIdentity.map { " \($0)" } ?? ""
        let addresses = association.virtualAddresses.joined(separator: ", ")
        return "\(name) \(association.localSPI) \(association.role), \(state), "
            + "\(association.local) - \(association.remote)\(identity)"
            + (addresses.isEmpty ? "" : " [\(addresses)]")
            + ", \(association.suite ?? "no suite yet"), \(association.ageSeconds) s"
    }
}

struct InitiateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "initiate",
        abstract: "Set up an IKE SA with the peer of a connection, and wait for it.")

    @OptionGroup var control: ControlOptions

    @Argument(help: "The connection's name.")
    var connection: String

    @Option(help: "The child to set up with it; without it, the first one.")
    var child: String?

    func run() throws {
        var request = ControlRequest(.initiate)
        request.connection = connection
        request.child = child
        _ = try control.ask(request)
    }
}

/// Which IKE SAs a command is about.
struct ChosenAssociations: ParsableArguments {
    @Argument(help: "The connection's name: all of its IKE SAs.")
    var connection: String?

    @Option(help: "One IKE SA, by the SPI that `spindle list` shows first, in hexadecimal digits.")
    var spi: String?

    func validate() throws {
        guard (connection == nil) != (spi == nil) else {
            throw ValidationError("name a connection, or one IKE SA with --spi")
        }
        guard let spi, Self.digits(spi) == nil else { return }
        throw ValidationError(
            "--spi \(spi.debugDescription): an SPI has 1 to 16 hexadecimal digits; spindle list "
                + "shows it behind the connection's name")
    }

    /// As the node writes them; nil: it is no SPI.
    private static func digits(_ text: String) -> String? {
        let word = text.lowercased()
        let digits = word.hasPrefix("0x") ? String(word.dropFirst(2)) : word
        guard (1...16).contains(digits.utf8.count),
            digits.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }

    func request(_ command: ControlRequest.Command) -> ControlRequest {
        var request = ControlRequest(command)
        request.connection = connection
        request.spi = spi.flatMap(Self.digits)
        return request
    }
}

struct TerminateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "terminate", abstract: "End IKE SAs with all their pairs, and wait for it.")

    @OptionGroup var control: ControlOptions
    @OptionGroup var chosen: ChosenAssociations

    func run() throws { _ = try control.ask(chosen.request(.terminate)) }
}

struct RekeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rekey", abstract: "Begin to renew the keys of all pairs, or of the IKE SAs.")

    @OptionGroup var control: ControlOptions
    @OptionGroup var chosen: ChosenAssociations

    @Flag(help: "The IKE SAs rather than their pairs.")
    var ike = false

    func run() throws {
        var request = chosen.request(.rekey)
        request.ofIKE = ike
        _ = try control.ask(request)
    }
}

struct KeysCommand: ParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable { case wireshark }

    static let configuration = CommandConfiguration(
        commandName: "keys",
        abstract: "Write the keys of a running node's SAs for a program that reads captures.",
        discussion: """
            Whoever has these files can read what the tunnels carry: only this user can open them. \
            Wireshark reads esp_sa and ikev2_decryption_table from its configuration folder \
            (WIRESHARK_CONFIG_DIR); ESP needs its preference esp.enable_encryption_decode. Files \
            that are there may hold keys of your own, and stay: --force replaces them, for example \
            after rekeying.

            Example:
              spindle keys --format wireshark /root/keys
              WIRESHARK_CONFIG_DIR=/root/keys tshark -o esp.enable_encryption_decode:TRUE -r a.pcap
            """)

    @OptionGroup var control: ControlOptions

    @Option(help: "For which program.")
    var format: Format

    @Flag(help: "Replace esp_sa and ikev2_decryption_table where they are there.")
    var force = false

    @Argument(help: "The folder for the files; it is made if there is none.")
    var directory: String

    func run() throws {
        var request = ControlRequest(.keys)
        request.directory = URL(filePath: directory).path
        request.isForced = force
        _ = try control.ask(request)
    }
}
