// Cards that are too small: what has no room is refused by name, everything else works, and room
// that a reallocation makes is used.
//
// What would fool us: refused tunnels whose packets vanish without a count; a served tunnel that
// loses its place when others come; a node that keeps what it could give to those who wait.

import Foundation
import Testing

/// Ten tunnels with selectors of their own, and packets for them.
private struct Tunnels {
    let spis: [UInt32]

    static func text(_ spi: UInt32) -> String {
        let digits = String(spi, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }

    /// Keys differ from tunnel to tunnel, so that the wrong one opens nothing.
    func file() throws -> Data {
        let entries = spis.enumerated().map { index, spi -> [String: Any] in
            let digits = (0..<16).map { String(format: "%02x", (index * 17 + $0 * 5 + 1) & 0xFF) }
            return [
                "spi": Self.text(spi), "src": "192.0.2.1", "dst": "198.51.100.1", "mode": "tunnel",
                "encr": "AES_GCM_16", "key_bits": 128, "encr_key": digits.joined(),
                "salt": String(format: "0a0b0c%02x", index), "esn": false,
                "ts_src": ["10.\(index).1.0/24"], "ts_dst": ["10.\(index).2.0/24"],
            ]
        }
        return try JSONSerialization.data(withJSONObject: ["esp": entries])
    }

    /// `rounds` packets of each tunnel, by turns.
    func packets(rounds: Int) -> Capture {
        var capture = Capture()
        for round in 0..<rounds {
            for index in spis.indices {
                let number = UInt64(round * spis.count + index)
                capture.records.append(
                    Record(
                        nanoseconds: 1_700_000_000_000_000_000 + number * 1_000_000,
                        octets: Self.packet(
                            tunnel: UInt8(index), number: UInt8(truncatingIfNeeded: number))))
            }
        }
        return capture
    }

    /// IPv4 with UDP (checksum 0: none) and eight octets of data.
    private static func packet(tunnel: UInt8, number: UInt8) -> [UInt8] {
        var header: [UInt8] = [
            0x45, 0, 0, 36, 0, number, 0, 0, 64, 17, 0, 0, 10, tunnel, 1, 1, 10, tunnel, 2, 1,
        ]
        var sum: UInt32 = 0
        for at in stride(from: 0, to: 20, by: 2) {
            sum += UInt32(header[at]) << 8 | UInt32(header[at + 1])
        }
        sum = sum & 0xFFFF + sum >> 16
        let check = ~UInt16(truncatingIfNeeded: sum & 0xFFFF + sum >> 16)
        (header[10], header[11]) = (UInt8(check >> 8), UInt8(check & 0xFF))
        let data = [UInt8](repeating: tunnel, count: 7) + [number]
        return header + [0x03, 0xE8, 0x07, 0xD0, 0, 16, 0, 0] + data
    }
}

@Suite struct CardCapacityTests {
    private static let rounds = 20
    private static let count = 10

    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// Seals the tunnels' packets; returns what replays need.
    private func seal(
        _ tunnels: Tunnels
    ) throws -> (sas: String, sealed: String, inner: Capture) {
        let sas = try scratch.write(tunnels.file(), as: "sas.json")
        let inner = tunnels.packets(rounds: Self.rounds)
        let plain = try scratch.write(inner.file(), as: "inner.pcap")
        let sealed = scratch.path("sealed.pcap")
        let outcome = try Program.spindle("seal", plain, "--sas", sas, "--write", sealed)
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        #expect(outcome.text.hasPrefix("\(inner.records.count) sealed, 0 dummies, 0 dropped"))
        return (sas, sealed, inner)
    }

    /// Of these rounds, exactly the packets of these tunnels were delivered.
    private func expect(served: [Int], _ inner: Capture, in rounds: Range<Int>) throws {
        let expected = inner.records.enumerated().filter {
            rounds.contains($0.offset / Self.count) && served.contains($0.offset % Self.count)
        }.map(\.element)
        #expect(try written(inner, in: rounds) == expected)
    }

    /// The delivered packets of some rounds.
    private func written(_ inner: Capture, in rounds: Range<Int>) throws -> [Record] {
        let span = rounds.lowerBound * Self.count..<rounds.upperBound * Self.count
        let times = Set(inner.records[span].map(\.nanoseconds))
        return try Capture(contentsOf: scratch.path("written")).records
            .filter { times.contains($0.nanoseconds) }
    }

    /// The tunnels of which a packet was delivered in some rounds.
    private func servedTunnels(_ inner: Capture, in rounds: Range<Int>) throws -> [Int] {
        // Each tunnel's number is in its addresses.
        Set(try written(inner, in: rounds).map { Int($0.octets[13]) }).sorted()
    }

    @Test func twoOfTenTunnelsFitIntoOneCard() throws {
        let tunnels = Tunnels(spis: (0..<10).map { 0xC0FF_EE01 + UInt32($0) * 0x0101 })
        let (sas, sealed, inner) = try seal(tunnels)
        let arguments = [
            "replay", sealed, "--sas", sas, "--nodes", "1", "--card-capacity", "2", "--write",
            scratch.path("written"),
        ]
        let outcome = try Program.spindle(arguments)
        #expect(outcome.code == 0)
        #expect(outcome.complaints.count == 8)
        for (line, spi) in zip(outcome.complaints, tunnels.spis.dropFirst(2)) {
            #expect(line.hasPrefix("spindle: SPI \(Tunnels.text(spi)) refused by node 1: "))
            #expect(line.contains("2"), "the capacity: \(line)")
        }
        #expect(outcome.text.hasSuffix("40 delivered, 160 dropped (cardFull 160)\n"))
        let report = try Report.replay(
            sealed, sas: sas, nodes: 1, write: scratch.path("written"),
            more: ["--card-capacity", "2"], complaints: 8)
        #expect(report.dropped == ["cardFull": 160])
        #expect(report.refused.map(\.spi) == tunnels.spis.dropFirst(2).map(Tunnels.text))
        #expect(report.nodes[0].associations == 2 && report.nodes[0].cardPeak == 2)
        #expect(report.associations.map(\.delivered) == [20, 20] + Array(repeating: 0, count: 8))
        #expect(report.associations.map(\.dropped) == [0, 0] + Array(repeating: 20, count: 8))
        try expect(served: [0, 1], inner, in: 0..<Self.rounds)
    }

    /// Who owns which of many SPIs among three nodes, and who takes them over when node 2 dies.
    private func ownership() throws -> [(spi: UInt32, owner: Int, heir: Int)] {
        let candidates = Tunnels(spis: (0..<200).map { 0x0001_0000 + UInt32($0) * 0x0123_4567 })
        let sas = try scratch.write(candidates.file(), as: "candidates.json")
        let two = try scratch.write(
            Tunnels(spis: [1, 2]).packets(rounds: 1).file(), as: "two.pcap")
        let report = try Report.replay(two, sas: sas, nodes: 3, events: [.fail(2, 2)])
        let moves = try #require(report.reallocations.first).moves
        return zip(candidates.spis, report.associations).map { spi, association in
            let owner = association.owners[0]
            let move = moves.first { $0.identifier == association.identifier }
            return (spi, owner, move?.to ?? owner)
        }
    }

    /// `counts`: how many tunnels of node 1, of node 2 with heir 1, of node 2 with heir 3, of node
    /// 3.
    private func choose(_ counts: (Int, Int, Int, Int)) throws -> Tunnels {
        let all = try ownership()
        func some(_ count: Int, _ owner: Int, _ heir: Int) -> [UInt32] {
            Array(all.filter { $0.owner == owner && $0.heir == heir }.map(\.spi).prefix(count))
        }
        let spis =
            some(counts.0, 1, 1) + some(counts.1, 2, 1) + some(counts.2, 2, 3)
            + some(counts.3, 3, 3)
        try #require(spis.count == 10)
        return Tunnels(spis: spis)
    }

    /// Survivors with full cards can't take anything over: its packets are dropped as `cardFull`.
    @Test func aDeathThatFreesNothing() throws {
        let tunnels = try choose((3, 2, 2, 3))
        let (sas, sealed, inner) = try seal(tunnels)
        // 3, 4 and 3 tunnels with two places each.
        let half = Self.rounds / 2
        let report = try Report.replay(
            sealed, sas: sas, nodes: 3, events: [.fail(2, half * 10 + 1)],
            write: scratch.path("written"), more: ["--card-capacity", "2"], complaints: 8)
        let shares = try #require(report.reallocations.first).nodes
        #expect(shares.map(\.loaded) == [0, 0])
        #expect(shares.map(\.refused) == [2, 2])
        // All of node 2's tunnels, those that it had served among them, by name.
        let late = report.refused.filter { $0.packet == half * 10 + 1 }
        #expect(late.map(\.spi).sorted() == tunnels.spis[3..<7].map(Tunnels.text).sorted())
        #expect(late.map(\.node).sorted() == [1, 1, 3, 3])
        let outcome = try Program.spindle(
            "replay", sealed, "--sas", sas, "--nodes", "3", "--card-capacity", "2", "--fail",
            "2@\(half * 10 + 1)")
        for refusal in late {
            let line =
                "SPI \(refusal.spi) refused by node \(refusal.node) before packet "
                + "\(half * 10 + 1): \(refusal.reason)"
            #expect(outcome.complaints.contains { $0 == "spindle: \(line)" }, "\(line)")
            #expect(outcome.text.contains("\n  \(line)\n"), "\(line)")
        }
        try expect(served: [0, 1, 3, 4, 7, 8], inner, in: 0..<half)
        try expect(served: [0, 1, 7, 8], inner, in: half..<Self.rounds)
        #expect(report.delivered == half * 6 + half * 4)
        #expect(report.dropped == ["cardFull": half * 4 + half * 6])
        #expect(report.nodes.filter(\.alive).map(\.associations) == [2, 2])
    }

    /// Survivors with room take over as many as fit, even of those that had been refused before.
    @Test func aDeathAfterWhichSomeFindRoom() throws {
        let tunnels = try choose((1, 4, 4, 1))
        let (sas, sealed, inner) = try seal(tunnels)
        let half = Self.rounds / 2
        let report = try Report.replay(
            sealed, sas: sas, nodes: 3, events: [.fail(2, half * 10 + 1)],
            write: scratch.path("written"), more: ["--card-capacity", "2"], complaints: 12)
        let shares = try #require(report.reallocations.first).nodes
        #expect(shares.map(\.loaded) == [1, 1])
        #expect(shares.map(\.refused) == [3, 3])
        try expect(served: [0, 1, 2, 9], inner, in: 0..<half)
        // One of each heir's four is served now: of those that node 2 served, if there is one.
        let after = try servedTunnels(inner, in: half..<Self.rounds)
        #expect(after.count == 4 && after.contains(0) && after.contains(9), "\(after)")
        #expect(after.count { [1, 2].contains($0) } == 1, "one of those in use: \(after)")
        #expect(after.count { (5...8).contains($0) } == 1)
        try expect(served: after, inner, in: half..<Self.rounds)
        #expect(report.delivered == half * 8)
        #expect(report.dropped == ["cardFull": half * 12])
    }

    /// A node that joins takes some tunnels; the place that one of them leaves goes to one that
    /// waited, and no tunnel that was served stops being served.
    @Test func aJoinMakesRoom() throws {
        let some = Tunnels(spis: (0..<10).map { 0x0BAD_CAFE + UInt32($0) * 0x0003_0201 })
        let two = try scratch.write(
            Tunnels(spis: [1, 2]).packets(rounds: 1).file(), as: "two.pcap")
        let trial = try Report.replay(
            two, sas: scratch.write(some.file(), as: "some.json"), nodes: 1,
            events: [.join(2, 2)])
        let moves = Set(try #require(trial.reallocations.first).moves.map(\.identifier))
        func spis(areMoved: Bool) -> [UInt32] {
            zip(some.spis, trial.associations)
                .filter { moves.contains($1.identifier) == areMoved }.map(\.0)
        }
        let (gone, kept) = (spis(areMoved: true), spis(areMoved: false))
        try #require(gone.count >= 2 && kept.count >= 2, "enough for both cards")
        // Tunnels 0 and 1 find room at first: one that will move, and one that stays.
        let tunnels = Tunnels(
            spis: [gone[0], kept[0]] + gone.dropFirst() + kept.dropFirst())
        let (sas, sealed, inner) = try seal(tunnels)
        let half = Self.rounds / 2
        let report = try Report.replay(
            sealed, sas: sas, nodes: 1, events: [.join(2, half * 10 + 1)],
            write: scratch.path("written"), more: ["--card-capacity", "2"],
            complaints: 8 + gone.count - 2)
        #expect(report.nodes.map(\.associations) == [2, 2])
        try expect(served: [0, 1], inner, in: 0..<half)
        let after = try servedTunnels(inner, in: half..<Self.rounds)
        #expect(after.count == 4 && after.starts(with: [0, 1]), "\(after)")
        #expect(after.count { (2...gone.count).contains($0) } == 1)
        #expect(after.count { $0 > gone.count } == 1)
        try expect(served: after, inner, in: half..<Self.rounds)
        #expect(report.dropped == ["cardFull": half * 8 + half * 6])
    }

    /// The same with host memory beside the card: nothing is refused, before and after a death.
    @Test func hostMemoryServesWhatHasNoRoom() throws {
        let tunnels = try choose((3, 2, 2, 3))
        let (sas, sealed, inner) = try seal(tunnels)
        let half = Self.rounds / 2
        let report = try Report.replay(
            sealed, sas: sas, nodes: 3, events: [.fail(2, half * 10 + 1)],
            write: scratch.path("written"), more: ["--card-capacity", "2", "--when-full", "host"])
        try expect(served: Array(0..<10), inner, in: 0..<Self.rounds)
        #expect(report.dropped.isEmpty && report.delivered == 200)
        let shares = try #require(report.reallocations.first).nodes
        #expect(shares.map(\.hosted) == [2, 2] && shares.map(\.refused) == [0, 0])
        let alive = report.nodes.filter(\.alive)
        #expect(alive.map(\.associations) == [2, 2] && alive.map(\.hostAssociations) == [3, 3])
        // One of three tunnels at first, and three of five later; two of four at the dead one.
        #expect(alive.map(\.hostPackets) == [half * 4, half * 4])
        #expect(report.nodes.first { !$0.alive }?.hostPackets == half * 2)
    }

    /// The prior art: what one card takes is all that the cluster serves.
    @Test func oneFullCardIsAFullCluster() throws {
        let tunnels = try choose((3, 2, 2, 3))
        let (sas, sealed, inner) = try seal(tunnels)
        let half = Self.rounds / 2
        let report = try Report.replay(
            sealed, sas: sas, nodes: 3, events: [.fail(2, half * 10 + 1)],
            write: scratch.path("written"),
            more: ["--card-capacity", "5", "--mode", "replicate-all"], complaints: 7)
        try expect(served: Array(0..<5), inner, in: 0..<Self.rounds)
        #expect(report.delivered == 100 && report.dropped == ["cardFull": 100])
        let shares = try #require(report.reallocations.first).nodes
        #expect(shares.map(\.updated) == [2, nil] && shares.map(\.loaded) == [0, 0])
        #expect(shares.map(\.refused) == [0, 2] && shares.map(\.cleared) == [0, 0])
        #expect(report.nodes.filter(\.alive).map(\.associations) == [5, 5])
    }
}
