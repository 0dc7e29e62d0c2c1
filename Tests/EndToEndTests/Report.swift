// The JSON that `spindle replay --json` prints, and what must be true of every one.

import Foundation
import Testing

struct Report: Decodable {
    struct Packets: Decodable, Equatable {
        var total: Int
        var esp: Int
        var ike: Int
        var natKeepalive: Int
        var other: Int
    }

    struct Node: Decodable {
        let id: Int
        let alive: Bool
        let identifiers: Int
        let packets: Int
        let delivered: Int
        let dropped: [String: Int]
        let ike: Int
        let softLifetimes: Int
        let associations: Int
        let cardPeak: Int
        let hostAssociations: Int?
        let hostPackets: Int?
    }

    struct Association: Decodable {
        let spi: String
        let identifier: Int
        let owners: [Int]
        let delivered: Int
        let dropped: Int
    }

    struct IKE: Decodable {
        let initiatorCookie: String
        let identifier: Int
        let owners: [Int]
        let messages: Int
    }

    struct Reallocation: Decodable {
        struct Share: Decodable {
            let id: Int
            let gained: Int
            let lost: Int
            let loaded: Int
            let updated: Int?
            let hosted: Int?
            let refused: Int
            let cleared: Int
        }

        struct Move: Decodable {
            let identifier: Int
            let from: Int
            let to: Int
        }

        let packet: Int
        let cause: String
        let node: Int
        let epoch: Int
        let moves: [Move]
        let nodes: [Share]
    }

    struct Refusal: Decodable {
        let spi: String
        let node: Int
        let packet: Int
        let reason: String
    }

    let packets: Packets
    let delivered: Int
    let dropped: [String: Int]
    let nodes: [Node]
    let associations: [Association]
    let reallocations: [Reallocation]
    let ike: [IKE]
    let refused: [Refusal]
}

/// What is asked of a cluster: `kind` is fail or join.
struct Event: Equatable {
    let kind: String
    let node: Int
    let packet: Int

    static func fail(_ node: Int, _ packet: Int) -> Event {
        Event(kind: "fail", node: node, packet: packet)
    }

    static func join(_ node: Int, _ packet: Int) -> Event {
        Event(kind: "join", node: node, packet: packet)
    }

    var arguments: [String] { ["--\(kind)", "\(node)@\(packet)"] }
}

extension Report {
    static let identifierCount = 256

    /// Runs a replay that must succeed, and checks that its report adds up.
    static func replay(
        _ capture: String, sas: String, nodes: Int, events: [Event] = [], write: String? = nil,
        more: [String] = [], complaints: Int = 0
    ) throws -> Report {
        var arguments = ["replay", capture, "--sas", sas, "--nodes", "\(nodes)", "--json"] + more
        arguments += events.flatMap(\.arguments)
        if let write { arguments += ["--write", write] }
        let outcome = try Program.spindle(arguments)
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        #expect(outcome.complaints.count == complaints, "\(outcome.testDescription)")
        let report = try JSONDecoder().decode(Report.self, from: outcome.output)
        report.checkSums(outcome)
        report.checkReallocations(nodes: nodes, events: events, outcome)
        report.checkOwners(outcome)
        return report
    }

    /// Every packet is counted once, by one node.
    private func checkSums(_ outcome: Outcome) {
        let run = Comment(rawValue: outcome.testDescription)
        let drops = dropped.values.reduce(0, +)
        #expect(delivered + drops == packets.esp, run)
        #expect(
            packets.esp + packets.ike + packets.natKeepalive + packets.other == packets.total, run)
        #expect(nodes.map(\.delivered).reduce(0, +) == delivered, run)
        #expect(nodes.map(\.packets).reduce(0, +) == packets.esp, run)
        #expect(nodes.map(\.ike).reduce(0, +) == packets.ike, run)
        #expect(ike.map(\.messages).reduce(0, +) == packets.ike, run)
        for node in nodes {
            #expect(node.delivered + node.dropped.values.reduce(0, +) == node.packets, run)
            #expect(node.associations <= node.cardPeak, run)
        }
        var byReason: [String: Int] = [:]
        for node in nodes { byReason.merge(node.dropped, uniquingKeysWith: +) }
        #expect(byReason == dropped, run)
        #expect(associations.map(\.delivered).reduce(0, +) == delivered, run)
        // Packets of unknown SPIs, and those whose SPI can't be read, belong to no association.
        #expect(associations.map(\.dropped).reduce(0, +) <= drops, run)
        let alive = nodes.filter(\.alive)
        #expect(alive.map(\.identifiers).reduce(0, +) == Self.identifierCount, run)
        #expect(nodes.allSatisfy { $0.alive || $0.identifiers + $0.associations == 0 }, run)
        let shares = alive.map(\.identifiers)
        #expect((shares.max() ?? 0) - (shares.min() ?? 0) <= 1, "\(run): uneven: \(shares)")
    }

    /// The reallocations are those asked for, and move no more identifiers than they must.
    private func checkReallocations(nodes start: Int, events: [Event], _ outcome: Outcome) {
        let run = Comment(rawValue: outcome.testDescription)
        let done = reallocations.map { Event(kind: $0.cause, node: $0.node, packet: $0.packet) }
        #expect(done == events.sorted { $0.packet < $1.packet }, run)
        #expect(reallocations.map(\.epoch) == reallocations.map(\.epoch).sorted(), run)
        #expect(Set(reallocations.map(\.epoch)).count == reallocations.count, run)
        var alive = Set(1...start)
        for entry in reallocations {
            let before = alive.count
            if entry.cause == "fail" { alive.remove(entry.node) } else { alive.insert(entry.node) }
            #expect(Set(entry.nodes.map(\.id)) == alive, run)
            let leaves = entry.cause == "fail"
            #expect(
                entry.moves.allSatisfy { (leaves ? $0.from : $0.to) == entry.node }, run)
            let least = Self.identifierCount / (leaves ? before : before + 1)
            #expect((least...least + 1).contains(entry.moves.count), run)
            for share in entry.nodes {
                #expect(share.gained == entry.moves.count { $0.to == share.id }, run)
                #expect(share.lost == entry.moves.count { $0.from == share.id }, run)
            }
            let moved = Set(entry.moves.map(\.identifier))
            #expect(moved.count == entry.moves.count, run)
            let entries = associations.count { moved.contains($0.identifier) }
            let taken = entry.nodes.map {
                $0.loaded + ($0.updated ?? 0) + ($0.hosted ?? 0) + $0.refused
            }
            .reduce(0, +)
            // A card that a loss made room in may load more.
            #expect(leaves ? taken == entries : taken >= entries, run)
        }
        #expect(Set(nodes.filter(\.alive).map(\.id)) == alive, run)
        // Whoever finds no room is named, at the installation and at each event.
        let places = refused.filter { $0.packet > 0 }.map { [$0.packet, $0.node] }
        let counted = reallocations.flatMap { entry in
            entry.nodes.flatMap { Array(repeating: [entry.packet, $0.id], count: $0.refused) }
        }
        #expect(
            places.sorted { $0.lexicographicallyPrecedes($1) }
                == counted.sorted { $0.lexicographicallyPrecedes($1) }, run)
        #expect(refused.allSatisfy { refusal in associations.contains { $0.spi == refusal.spi } })
    }

    /// Everything has one owner at each moment: the one that the moves of its identifier tell.
    private func checkOwners(_ outcome: Outcome) {
        let run = Comment(rawValue: outcome.testDescription)
        let sets =
            associations.map { ($0.identifier, $0.owners) } + ike.map { ($0.identifier, $0.owners) }
        var known: [Int: Int] = [:]
        for (identifier, owners) in sets {
            let moves = reallocations.flatMap(\.moves).filter { $0.identifier == identifier }
            for (move, next) in zip(moves, moves.dropFirst()) {
                #expect(move.to == next.from, run)
            }
            guard let first = owners.first else { continue }
            let start = moves.first?.from ?? first
            var chain = ([start] + moves.map(\.to))[...]
            for owner in owners {
                guard let place = chain.firstIndex(of: owner) else {
                    Issue.record("\(run): identifier \(identifier) was never node \(owner)'s")
                    continue
                }
                chain = chain[(place + 1)...]
            }
            #expect(known.updateValue(start, forKey: identifier) ?? start == start, run)
        }
    }
}
