// The lab's own formats, and strongSwan's. What would fool us: a reader that shares a mistake with
// the writer; hence octets written by hand, after strongSwan's description of its protocol.

import Testing
import TestSupport

@testable import Lab

@Suite struct TrafficFormatTests {
    @Test func aPacketIsItsLayout() {
        let packet = TrafficPacket(
            tunnel: 0x0102, number: 0x0A0B_0C0D, way: .down, sent: 0x1112_1314_1516_1718)
        var octets = [UInt8](repeating: 0xFF, count: 100)
        octets.withUnsafeMutableBytes { packet.write(to: $0) }
        let expected: [UInt8] = [
            0x53, 0x70, 0x4C, 0x62, 0, 0, 1, 2, 0x0A, 0x0B, 0x0C, 0x0D, 0, 0, 0, 1, 0x11, 0x12,
            0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        ]
        #expect(octets == expected + [UInt8](repeating: 0, count: 76))
        #expect(octets.withUnsafeBytes { TrafficPacket($0) } == packet)
    }

    @Test func aChangedPacketIsNone() {
        let packet = TrafficPacket(tunnel: 1, number: 2, way: .up, sent: 3)
        var good = [UInt8](repeating: 0, count: 100)
        good.withUnsafeMutableBytes { packet.write(to: $0) }
        for place in Array(0..<4) + [12, 15, 24, 99] {
            var bad = good
            bad[place] ^= 0x40
            #expect(bad.withUnsafeBytes { TrafficPacket($0) } == nil, "octet \(place)")
        }
        for length in 0..<100 {
            #expect(good[..<length].withUnsafeBytes { TrafficPacket($0) } == nil)
        }
    }

    @Test func recordsComeBack() {
        var octets: [UInt8] = []
        let records = [
            TrafficRecord(.sent, .up, tunnel: 0, number: 0, sent: 1),
            TrafficRecord(
                .received, .down, tunnel: 0xFF_FFFF, number: .max, sent: .max, received: .max - 1,
                node: 31),
            TrafficRecord(.stray, .up, tunnel: 5, number: 0, sent: 0, received: 9),
        ]
        for record in records { record.write(to: &octets) }
        #expect(octets.count == 72)
        let read = octets.withUnsafeBytes { all in
            (0..<3).map {
                TrafficRecord(UnsafeRawBufferPointer(rebasing: all[$0 * 24..<$0 * 24 + 24]))
            }
        }
        #expect(read == records)
    }
}

@Suite struct ViciTests {
    private static let message = ViciMessage(
        kind: .event, name: "ike",
        contents: ViciSection(entries: [
            .init(key: "up", value: .text("yes")),
            .init(
                key: "t1",
                value: .section(
                    ViciSection(entries: [
                        .init(key: "n", value: .text("")),
                        .init(key: "l", value: .list(["a", "b"])),
                    ]))),
        ]))
    private static let octets: [UInt8] = [
        7, 3, 0x69, 0x6B, 0x65, 3, 2, 0x75, 0x70, 0, 3, 0x79, 0x65, 0x73, 1, 2, 0x74, 0x31, 3, 1,
        0x6E, 0, 0, 4, 1, 0x6C, 5, 0, 1, 0x61, 5, 0, 1, 0x62, 6, 2,
    ]

    @Test func aMessageIsItsOctets() {
        #expect(Self.message.octets == Self.octets)
        #expect(ViciMessage(Self.octets[...]) == Self.message)
    }

    @Test func whatIsCutOffIsNoMessage() {
        // At these lengths all that was begun has ended: a shorter message.
        let whole: Set = [5, 14, Self.octets.count]
        for length in 0..<Self.octets.count where !whole.contains(length) {
            #expect(ViciMessage(Self.octets[..<length]) == nil, "\(length) octets")
        }
    }

    @Test func nothingCrashesIt() {
        var generator = SeededGenerator()
        for _ in 0..<10_000 {
            var octets = Self.octets
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                octets[Int.random(in: 0..<octets.count, using: &generator)] =
                    UInt8.random(in: 0...255, using: &generator)
            }
            _ = ViciMessage(octets[...])
        }
        // Sections without end.
        _ = ViciMessage([1] + [UInt8](repeating: 1, count: 10_000)[...])
    }

    @Test func eventsAreReadByTheNamesOfConnections() {
        func event(_ name: String, _ up: String?) -> [PeerEvent.Kind] {
            var contents = ViciSection(entries: [
                .init(key: "t2", value: .section(ViciSection())),
                .init(key: "other", value: .section(ViciSection())),
            ])
            if let up { contents.entries.insert(.init(key: "up", value: .text(up)), at: 0) }
            let message = ViciMessage(kind: .event, name: name, contents: contents)
            let events = PeerEvent.read(message, at: 1, tunnels: ["t2": 1])
            #expect(events.allSatisfy { $0.tunnel == 1 })
            return events.map(\.kind)
        }
        #expect(event("ike-updown", "yes") == [.authenticated])
        #expect(event("ike-updown", nil) == [.ended])
        #expect(event("child-updown", "yes") == [.pairAdded])
        #expect(event("child-updown", nil) == [.pairEnded])
        #expect(event("ike-rekey", nil) == [.rekeyedIKE])
        #expect(event("child-rekey", nil) == [.rekeyedChild])
        #expect(event("log", nil).isEmpty)
    }
}

@Suite struct LabPlanTests {
    @Test func nobodyHasAnotherOnesAddress() {
        let plan = LabPlan(nodes: 9, tunnels: 1000)
        var addresses = plan.nodes.flatMap {
            [$0.outside4, $0.outside6, $0.inside, $0.link, $0.store]
        }
        addresses += plan.tunnels.flatMap { [$0.outer, $0.inner] }
        addresses += [
            LabPlan.clusterAddress4, LabPlan.clusterAddress6, LabPlan.insideCluster,
            LabPlan.server, LabPlan.etcd,
        ]
        #expect(Set(addresses).count == addresses.count)
        #expect(plan.daemons == 8)
        #expect((0..<8).map { plan.tunnels(of: $0).count } == Array(repeating: 125, count: 8))
    }

    @Test func aNodeIsKnownByItsAddress() {
        #expect(LabPlan.node(ofInsideAddress: [2, 0x53, 0x4C, 0, 0, 3]) == 3)
        #expect(LabPlan.node(ofInsideAddress: [2, 0x53, 0x4C, 0, 1, 3]) == nil)
        #expect(LabPlan(nodes: 3, tunnels: 1).nodes[2].insideMAC == "02:53:4c:00:00:03")
    }
}
