// What a network and an attacker may do to packets: each inner packet is delivered exactly once,
// and every other packet is refused for exactly the reason that it has, also across a failover.
//
// What would fool us: an oracle with the product's replay window (ours is a set of numbers, in
// python); forged packets that come after the good ones, so that a window which they move does no
// harm (ours come before); a failover between the first time and the replay that forgets what was
// seen.

import Foundation
import Testing

/// What must become of a capture, by the oracle of hostile.py.
private struct Oracle: Decodable {
    let total: Int
    let delivered: Int
    let other: Int
    let natKeepalive: Int
    let dropped: [String: Int]
}

@Suite(.enabled(if: Judges.areInstalled, Judges.absence))
struct HostileCaptureTests {
    /// All that receiving can refuse, but for cards and lifetimes.
    private static let reasons: Set<String> = [
        "truncated", "malformed", "fragment", "reservedSPI", "unknownSPI", "sequenceZero",
        "replayed", "tooOld", "ciphertextLength", "integrity", "padding", "dummy", "nextHeader",
        "innerMalformed", "ecn", "selector",
    ]

    @Test(arguments: ["duplicates", "reordered", "late", "damaged", "combined"])
    func everyPacketGetsItsFate(scenario: String) throws {
        let scratch = try Scratch()
        let made = try Program.judge("hostile", [scratch.path, scenario])
        try #require(made.code == 0, "\(made.testDescription)")
        let oracle = try JSONDecoder().decode(
            Oracle.self, from: scratch.read("\(scenario).json"))
        let expected = try Capture(contentsOf: scratch.path("\(scenario).expected.pcap"))
        try #require(oracle.delivered == expected.records.count && oracle.delivered >= 600)
        if scenario == "combined" {
            #expect(Set(oracle.dropped.keys) == Self.reasons)
        }
        // The second time of `combined` begins after the first quarter of all packets: so do the
        // failovers.
        let (early, middle, late) = (oracle.total / 4, oracle.total / 2, oracle.total * 3 / 4)
        let plans: [[Event]] = [
            [], [.fail(1, middle)], [.fail(2, middle)], [.fail(3, middle)],
            [.fail(1, early), .join(1, middle), .fail(2, middle + 1), .join(4, late)],
        ]
        var moved = 0
        for events in plans {
            let report = try Report.replay(
                scratch.path("\(scenario).pcap"), sas: scratch.path("sas.json"), nodes: 3,
                events: events, write: scratch.path("written"))
            let run = Comment(rawValue: "\(scenario) \(events)")
            #expect(report.packets.total == oracle.total, run)
            #expect(report.packets.other == oracle.other, run)
            #expect(report.packets.natKeepalive == oracle.natKeepalive, run)
            #expect(report.delivered == oracle.delivered, run)
            #expect(report.dropped == oracle.dropped, run)
            #expect(try Capture(contentsOf: scratch.path("written")) == expected, run)
            moved += report.associations.count { $0.owners.count > 1 }
        }
        #expect(moved >= 5, "every association moved at least once")
    }

    /// Everything up to the middle comes once more after each kind of failover: nothing of it
    /// passes.
    @Test(
        arguments: [
            "aes256gcm16", "aes128-sha256", "kernel-esn-aes256gcm16", "scapy-esn-aes256gcm16",
        ])
    func aReplayedFirstHalfIsRefused(name: String) throws {
        let set = CaptureSet.inRepository(name)
        let scratch = try Scratch()
        let original = try Capture(contentsOf: set.capture)
        let middle = original.records.count / 2
        // The first half again, then the rest; times go on so that both are told apart.
        var again = original
        again.records.insert(contentsOf: original.records[..<middle], at: middle)
        let path = try scratch.write(again.file(), as: "again.pcap")
        let quiet = try Report.replay(
            set.capture, sas: set.sas, nodes: 3, write: scratch.path("once"))
        let first = try Report.replay(
            try scratch.write(
                Capture(
                    linkType: original.linkType, records: Array(original.records[..<middle])
                ).file(), as: "first.pcap"), sas: set.sas, nodes: 3)
        for node in 1...3 {
            for events in [
                [Event.fail(node, middle + 1)], [.fail(node, 9), .join(node, middle + 1)],
            ] {
                let report = try Report.replay(
                    path, sas: set.sas, nodes: 3, events: events, write: scratch.path("twice"))
                #expect(report.delivered == quiet.delivered)
                #expect(report.dropped.values.reduce(0, +) == first.delivered)
                // Far behind the edge, an extended number is taken for one of the next 2³² (RFC
                // 4303 A2.2), whose ICV is another.
                #expect(Set(report.dropped.keys).isSubset(of: ["replayed", "tooOld", "integrity"]))
                #expect(try scratch.read("once") == scratch.read("twice"))
            }
        }
    }
}
