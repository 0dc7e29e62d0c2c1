// `spindle status`: a running node, and the cluster as it sees it.

import ArgumentParser
import Foundation
import Gateway
import GatewayIO

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show how a running node is, and the cluster as it sees it.",
        discussion: """
            Of the members: which are in the allocation, serve, drain, are heard; how many \
            identifiers they own, and by how many changes of the store their copy of all tunnels \
            is behind (lag). Of the node: for how long it may serve if it hears nothing more, its \
            tunnels, and its counters. docs/operations.md explains them.
            """)

    @OptionGroup var control: ControlOptions

    @Flag(help: "Print one JSON object.")
    var json = false

    @Flag(help: "Show each distribution identifier, too.")
    var identifiers = false

    func run() throws {
        var request = ControlRequest(.status)
        request.withIdentifiers = identifiers
        guard let status = try control.ask(request).status else {
            throw CommandError("the node is of another version: use its spindle")
        }
        guard !json else { return try printJSON(status) }
        StatusText(status).lines().forEach { print($0) }
    }
}

/// A status for a terminal.
struct StatusText {
    private let status: NodeStatus
    private var gateway: GatewayStatus { status.gateway }

    init(_ status: NodeStatus) { self.status = status }

    func lines() -> [String] {
        var lines = [heading]
        if let trouble = status.storeTrouble { lines.append("  store: \(trouble)") }
        if gateway.isReplaced { lines.append("  another process has this node's number") }
        if !status.isAlone { lines += share }
        lines.append(room)
        if !status.isAlone { lines += ["", "Members"] + members }
        if let identifiers = status.identifiers, !identifiers.isEmpty {
            lines += ["", "Identifiers"] + table(identifiers)
        }
        lines += ["", "Counters"]
        lines += status.counters.sorted { $0.key < $1.key }.map { "  \($0.key) \($0.value)" }
        return lines
    }

    private var heading: String {
        let state =
            gateway.isFenced
            ? "not serving" : "serving, for \(time(gateway.servingLeftNanoseconds)) without news"
        guard !status.isAlone else { return "Node alone, \(state)" }
        return "Node \(gateway.node) (process \(gateway.incarnation)), epoch \(gateway.epoch): "
            + state
    }

    private var share: [String] {
        let roles = gateway.roles
        var parts = ["\(roles.owned + roles.loading + roles.awaiting) owned"]
        if roles.loading > 0 { parts.append("\(roles.loading) of them loading") }
        if roles.awaiting > 0 { parts.append("\(roles.awaiting) of them awaited from the store") }
        if roles.frozen > 0 { parts.append("\(roles.frozen) handed over") }
        if roles.holding > 0 { parts.append("\(roles.holding) arriving") }
        if gateway.moves > 0 { parts.append("\(gateway.moves) under way in the cluster") }
        if gateway.isRebalancing { parts.append("being balanced") }
        let session =
            gateway.sessionLeftNanoseconds == 0
            ? "no session" : "session for \(time(gateway.sessionLeftNanoseconds))"
        var leases = "all published"
        if gateway.unpublished > 0 { leases = "\(gateway.unpublished) identifiers to publish" }
        if gateway.overrunning > 0 { leases += ", \(gateway.overrunning) beyond theirs" }
        return [
            "  identifiers: \(parts.joined(separator: ", ")); of \(gateway.identifierCount)",
            "  generations: \(gateway.lowestGeneration) to \(gateway.highestGeneration)",
            "  store: revision \(gateway.revision), \(session)"
                + (gateway.isStoreAway ? ", AWAY" : "")
                + (gateway.isComplete ? "" : ", changes may be missing"),
            "  leases: \(leases)",
        ]
    }

    private var room: String {
        "  tunnels: \(gateway.tunnels) of \(gateway.tunnelCapacity) known, \(gateway.sessions) of "
            + "\(gateway.sessionCapacity) sessions on the card, \(gateway.hostSessions) in host "
            + "memory; \(gateway.ikeAssociations) IKE SAs"
    }

    private var members: [String] {
        var table = TextTable("node", "identifiers", "weight", "lag", "heard", "link", "state")
        table.endsWithWords = true
        for member in gateway.members {
            table.add(
                member.node == gateway.node ? "\(member.node) (this)" : "\(member.node)",
                member.arriving > 0
                    ? "\(member.identifiers) +\(member.arriving)" : "\(member.identifiers)",
                "\(member.weight)", member.lag.map { "\($0)" } ?? "–",
                member.silenceNanoseconds.map { "\(time($0)) ago" } ?? "–",
                member.link.map(word) ?? "–", state(member))
        }
        return table.lines()
    }

    private func word(_ link: GatewayStatus.Link) -> String {
        switch link {
        case .healthy: "healthy"
        case .young: "young"
        case .oneWay: "one way"
        case .silent: "silent"
        }
    }

    private func state(_ member: GatewayStatus.Member) -> String {
        // What it said before it fell silent may be over.
        let isSilent = member.link == .silent
        var words = isSilent ? ["unknown"] : [member.isServing ? "serving" : "not serving"]
        if !member.isMember { words.append("not in the allocation") }
        if !member.isPresent { words.append("no session") }
        if member.isSuspect { words.append("suspect") }
        if member.isDraining { words.append("draining") }
        if member.isStoreAway, !isSilent { words.append("store away") }
        if member.isServing, !member.isWithinLease, !isSilent { words.append("beyond its leases") }
        if !member.isComplete, !isSilent { words.append("reading") }
        return words.joined(separator: ", ")
    }

    private func table(_ identifiers: [IdentifierStatus]) -> [String] {
        var table = TextTable(
            "identifier", "owner", "successor", "generation", "tunnels", "packets/s", "packets here"
        )
        for line in identifiers {
            table.add(
                "\(line.identifier)", "\(line.owner)", line.successor.map { "\($0)" } ?? "–",
                "\(line.generation)", "\(line.tunnels)", "\(line.packetsPerSecond)",
                "\(line.packets)")
        }
        return table.lines()
    }

    /// In the unit that fits.
    private func time(_ nanoseconds: UInt64) -> String {
        switch nanoseconds {
        case ..<1_000_000: "\(nanoseconds / 1000) µs"
        case ..<10_000_000_000: "\(nanoseconds / 1_000_000) ms"
        default: "\(nanoseconds / 1_000_000_000) s"
        }
    }
}
