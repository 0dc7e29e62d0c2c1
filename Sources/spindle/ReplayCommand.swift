// `spindle replay`: options, and the way from files to a report.

import ArgumentParser
import Cluster
import Gateway
import GatewayIO

/// `NODE@PACKET`: what happens to which node, just before which packet of the capture.
struct ClusterEvent: ExpressibleByArgument, Hashable {
    let node: NodeID
    let packet: Int

    init?(argument: String) {
        let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = UInt16(parts[0]), let node = NodeID(exactly: number),
            let packet = Int(parts[1]), packet >= 1
        else { return nil }
        self.node = node
        self.packet = packet
    }

    var description: String { "\(node)@\(packet)" }
}

/// What becomes of a tunnel that finds the card full. None is refused: whoever made the capture was
/// not.
enum ReplayFullCard: String, CaseIterable, ExpressibleByArgument {
    case wait, host

    var policy: GatewayConfiguration.FullCardPolicy {
        switch self {
        case .wait: .wait
        case .host: .serveFromHost
        }
    }
}

struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Terminate the ESP tunnels of a capture on a cluster in this process.",
        discussion: """
            Every node sees every packet; the owner of its distribution identifier decrypts it out \
            of its crypto card. Nodes are numbered from 1. --fail kills a node just before a \
            packet of the capture (counted from 1), --join starts one; both may be repeated.

            The SA file is JSON with an `esp` array (docs/formats.md). Example, with files of this \
            repository:

              spindle replay vectors/captures/aes256gcm16.pcap \\
                --sas vectors/captures/aes256gcm16.json \\
                --nodes 3 --fail 2@90 --join 2@150 --write inner.pcap
            """)

    @Argument(help: "pcap or pcapng; Ethernet, raw IP, Linux cooked v1 or v2.")
    var capture: String

    @Option(help: "The security associations: JSON with an `esp` array.")
    var sas: String

    @Option(help: "Nodes at the start.")
    var nodes = 3

    @Option(help: ArgumentHelp("Kill NODE just before PACKET.", valueName: "node@packet"))
    var fail: [ClusterEvent] = []

    @Option(help: ArgumentHelp("Start NODE just before PACKET.", valueName: "node@packet"))
    var join: [ClusterEvent] = []

    @Option(
        help: """
            Sessions that fit into each node's card, 1 to \(ReplaySession.cardCapacityMaximum).
            """)
    var cardCapacity = 65_536

    @Option(
        help: """
            What the cards hold: two-tables (each node's own tunnels) or replicate-all (the prior \
            art: all tunnels on every card).
            """)
    var mode = CardContents.ownTunnels

    @Option(
        help: """
            What becomes of a tunnel that finds its owner's card full: it waits for room, or is \
            served from host memory until there is.
            """)
    var whenFull = ReplayFullCard.wait

    @Option(help: "Distribution identifiers: a power of two from 16 to 4096.")
    var identifiers = Distribution.identifierCountDefault

    @Option(
        help: ArgumentHelp(
            "Write the inner packets, in the order and with the times of the capture.",
            valueName: "inner.pcap"))
    var write: String?

    @Flag(help: "Print one JSON object instead of tables.")
    var json = false

    func validate() throws {
        guard Distribution.identifierCountRange.contains(identifiers),
            identifiers.nonzeroBitCount == 1
        else {
            let range = Distribution.identifierCountRange
            throw ValidationError(
                "--identifiers must be a power of two from \(range.lowerBound) to "
                    + "\(range.upperBound)")
        }
        guard (1...identifiers).contains(nodes), nodes <= ReplaySession.nodesMaximum else {
            throw ValidationError(
                "--nodes must be from 1 to \(min(identifiers, ReplaySession.nodesMaximum))")
        }
        guard (1...ReplaySession.cardCapacityMaximum).contains(cardCapacity) else {
            throw ValidationError(
                "--card-capacity must be from 1 to \(ReplaySession.cardCapacityMaximum)")
        }
    }

    func run() throws {
        try requireDistinct(output: write, capture: capture, sas: sas)
        let associations = try AssociationFile(path: sas)
        let total = try CaptureExtent(path: capture).packets
        for (option, events) in [("--fail", fail), ("--join", join)] {
            for event in events where event.packet > total {
                throw ValidationError(
                    "\(option) \(event.description): \(capture) has \(total) packets; name one of "
                        + "them")
            }
        }
        let session = try ReplaySession(
            nodes: nodes, identifiers: identifiers, cardCapacity: cardCapacity,
            cardContents: mode, whenFull: whenFull.policy, associations: consume associations)
        let report = try session.run(capture: capture, fail: fail, join: join, write: write)
        for refusal in report.refused { complain("spindle: \(refusal.line)") }
        if json {
            try printJSON(report)
        } else {
            report.lines().forEach { print($0) }
        }
    }
}
