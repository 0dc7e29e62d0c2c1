// What `spindle replay` found, as it is printed in JSON.

/// The whole report.
struct ReplayReport: Encodable {
    struct Node: Encodable {
        let id: Int
        var alive: Bool
        /// Distribution identifiers owned at the end.
        var identifiers: Int
        /// ESP packets handled: delivered or dropped.
        var packets: UInt64
        var delivered: UInt64
        var dropped: [String: UInt64]
        var ike: UInt64
        /// Packets after which an association was due for a rekey.
        var softLifetimes: UInt64
        /// Sessions of the card at the end.
        var associations: Int
        var cardPeak: Int
        /// Sessions in host memory at the end.
        var hostAssociations: Int?
        /// ESP packets handled from host memory.
        var hostPackets: UInt64?
    }

    struct Association: Encodable {
        let spi: String
        let identifier: Int
        /// Owners in the order of their taking over.
        var owners: [Int]
        var delivered: UInt64 = 0
        var dropped: UInt64 = 0
    }

    struct IKE: Encodable {
        let initiatorCookie: String
        let identifier: Int
        var owners: [Int]
        var messages: Int
    }

    struct ReallocationEntry: Encodable {
        struct Share: Encodable {
            let id: Int
            let gained: Int
            let lost: Int
            let loaded: Int
            /// nil: there were none.
            let updated: Int?
            let hosted: Int?
            let refused: Int
            let cleared: Int
        }

        struct Move: Encodable {
            let identifier: Int
            let from: Int
            let to: Int
        }

        let packet: Int
        let cause: String
        let node: Int
        let epoch: UInt64
        let moves: [Move]
        let nodes: [Share]
    }

    struct Refusal: Encodable {
        let spi: String
        let node: Int
        /// Before which packet of the capture the reallocation came; 0: at the installation.
        let packet: Int
        let reason: String

        var line: String {
            "SPI \(spi) refused by node \(node)"
                + (packet == 0 ? "" : " before packet \(packet)") + ": \(reason)"
        }
    }

    /// Packets of the capture, by kind.
    struct Packets: Encodable {
        var total = 0
        var esp = 0
        var ike = 0
        var natKeepalive = 0
        var other = 0
    }

    var capture: String
    var packets = Packets()
    var delivered: UInt64 = 0
    var dropped: [String: UInt64] = [:]
    var nodes: [Node] = []
    var associations: [Association] = []
    var reallocations: [ReallocationEntry] = []
    var ike: [IKE] = []
    var refused: [Refusal] = []
}

extension ReplayReport {
    /// The report for a terminal.
    func lines() -> [String] {
        var lines = [
            "\(capture): \(packets.total) packets, \(packets.esp) ESP, \(packets.ike) IKE, "
                + "\(packets.natKeepalive) NAT keepalives, \(packets.other) other",
            "",
        ]
        lines += nodeLines() + [""] + associationLines()
        if !ike.isEmpty { lines += [""] + ikeLines() }
        for entry in reallocations { lines += [""] + Self.lines(entry) }
        if !refused.isEmpty {
            lines += ["", "Tunnels without a place on a card"]
            lines += refused.map { "  \($0.line)" }
        }
        let reasons = Self.text(dropped)
        lines += [
            "",
            "\(delivered) delivered, \(dropped.values.reduce(0, +)) dropped"
                + (reasons.isEmpty ? "" : " (\(reasons))"),
        ]
        return lines
    }

    private static func text(_ dropped: [String: UInt64]) -> String {
        dropped.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    private static func text(_ owners: [Int]) -> String {
        owners.map(String.init).joined(separator: " → ")
    }

    private func nodeLines() -> [String] {
        var table = TextTable(
            "node", "identifiers", "SAs", "card peak", "ESP", "delivered", "dropped", "IKE", "")
        for node in nodes {
            table.add(
                "\(node.id)", "\(node.identifiers)", "\(node.associations)", "\(node.cardPeak)",
                "\(node.packets)", "\(node.delivered)",
                node.dropped.isEmpty ? "0" : Self.text(node.dropped), "\(node.ike)",
                node.alive ? "" : "dead")
        }
        let rekeys = nodes.filter { $0.softLifetimes > 0 }
            .map { "  node \($0.id): \($0.softLifetimes) packets beyond a soft lifetime" }
        let hosts = nodes.filter { $0.hostPackets != nil || $0.hostAssociations != nil }.map {
            "  node \($0.id): \($0.hostAssociations ?? 0) SAs in host memory, which handled "
                + "\($0.hostPackets ?? 0) packets"
        }
        return ["Nodes"] + table.lines() + rekeys + hosts
    }

    private func associationLines() -> [String] {
        var table = TextTable("SPI", "identifier", "owner", "delivered", "dropped")
        for association in associations {
            table.add(
                association.spi, "\(association.identifier)", Self.text(association.owners),
                "\(association.delivered)", "\(association.dropped)")
        }
        return ["Associations"] + table.lines()
    }

    private func ikeLines() -> [String] {
        var table = TextTable("initiator cookie", "identifier", "owner", "messages")
        for entry in ike {
            table.add(
                entry.initiatorCookie, "\(entry.identifier)", Self.text(entry.owners),
                "\(entry.messages)")
        }
        return ["IKE by cookie"] + table.lines()
    }

    private static func lines(_ entry: ReallocationEntry) -> [String] {
        var table = TextTable("node", "gained", "lost", "loaded", "refused", "cleared")
        for share in entry.nodes {
            table.add(
                "\(share.id)", "\(share.gained)", "\(share.lost)", "\(share.loaded)",
                "\(share.refused)", "\(share.cleared)")
        }
        let elsewhere = entry.nodes.filter { $0.updated != nil || $0.hosted != nil }.map {
            "  node \($0.id): \($0.updated ?? 0) updated on the card, \($0.hosted ?? 0) into host "
                + "memory"
        }
        let verb = entry.cause == "fail" ? "died" : "joined"
        return [
            "Node \(entry.node) \(verb) before packet \(entry.packet): epoch \(entry.epoch), "
                + "\(entry.moves.count) identifiers moved"
        ] + table.lines() + elsewhere
    }
}
