// Fragments put together.
//
// What would fool us: a cutter and an assembler that agree on a mistake (so scapy cuts in
// ScapyFrameTests, Linux cuts and assembles in the live tests, and fragments here are cut by hand),
// an order that always works, a limit that never bites, memory that is not given back.

import TestSupport
import Testing
import Wire

private typealias Cut = (start: Int, end: Int, hasMore: Bool)

private func take(
    _ fragment: [UInt8], _ assembly: inout PacketAssembly, at now: UInt64 = 0
) -> AssemblyResult {
    fragment.withUnsafeBytes { assembly.take($0, nowNanoseconds: now) }
}

private func fragmentV4(_ whole: IPv4Packet, _ cut: Cut) -> [UInt8] {
    var packet = whole
    packet.fragment = UInt16(cut.start / 8) | (cut.hasMore ? 0x2000 : 0)
    packet.payload = Array(whole.payload[cut.start..<cut.end])
    return packet.bytes
}

private func fragmentV6(_ whole: IPv6Packet, _ cut: Cut) -> [UInt8] {
    var packet = whole
    packet.extensions.append(
        .init(fragmentOffset: UInt16(cut.start / 8), more: cut.hasMore))
    packet.payload = Array(whole.payload[cut.start..<cut.end])
    return packet.bytes
}

/// Cuts at random multiples of 8.
private func cuts(_ count: Int, _ random: inout SeededGenerator) -> [Cut] {
    var cuts: [Cut] = []
    var start = 0
    while start < count {
        let end = min(count, start + 8 * (1 + Int(random.next() % 12)))
        cuts.append((start, end, end < count))
        start = end
    }
    return cuts
}

@Suite struct PacketAssemblyTests {
    @Test func fragmentsInAnyOrderAreThePacket() throws {
        var random = SeededGenerator()
        for round in 0..<300 {
            var assembly = PacketAssembly()
            let payload = random.bytes(9 + Int(random.next() % 900))
            let fragments: [[UInt8]]
            let expected: [UInt8]
            if round.isMultiple(of: 2) {
                var whole = IPv4Packet(payload: payload)
                whole.tos = 0xB8
                whole.options = Array(repeating: 1, count: 4 * Int(random.next() % 4))
                expected = whole.bytes
                fragments = cuts(payload.count, &random).map { fragmentV4(whole, $0) }
            } else {
                var whole = IPv6Packet(payload: payload)
                whole.extensions = random.next() & 1 == 0 ? [] : [.init(0), .init(43)]
                expected = whole.bytes
                fragments = cuts(payload.count, &random).map { fragmentV6(whole, $0) }
            }
            // A packet that is cut once only is no fragment in IPv4.
            guard fragments.count > 1 else { continue }
            let order = fragments.shuffled(using: &random)
            for (index, fragment) in order.enumerated() {
                let result = take(fragment, &assembly)
                #expect(result == (index < order.count - 1 ? .waiting : .whole(expected)))
                // An exact copy changes nothing.
                if index < order.count - 1, random.next() % 4 == 0 {
                    #expect(take(fragment, &assembly) == .waiting)
                }
            }
            #expect(assembly.count == 0 && assembly.octets == 0)
        }
    }

    // RFC 5722, and the same for IPv4: all of the packet is lost, also what comes later.
    @Test(arguments: [4, 6])
    func overlapsEndThePacket(version: Int) {
        let payload = (0..<64).map(UInt8.init)
        func fragment(_ cut: Cut, changed: Bool = false) -> [UInt8] {
            var body = payload
            if changed { body[cut.start] ^= 1 }
            return version == 4
                ? fragmentV4(IPv4Packet(payload: body), cut)
                : fragmentV6(IPv6Packet(payload: body), cut)
        }
        let overlaps: [(Cut, Bool)] = [
            ((8, 24, true), false), ((0, 16, true), true), ((0, 8, true), false),
            ((8, 16, true), false), ((0, 24, true), false), ((8, 24, false), false),
        ]
        for (cut, changed) in overlaps {
            var assembly = PacketAssembly()
            #expect(take(fragment((0, 16, true)), &assembly) == .waiting)
            #expect(
                take(fragment(cut, changed: changed), &assembly) == .refused(.overlap), "\(cut)")
            #expect(assembly.octets == 0)
            #expect(take(fragment((16, 64, false)), &assembly) == .refused(.givenUp))
            // After its time the numbers may be used again.
            #expect(take(fragment((0, 16, true)), &assembly, at: 15_000_000_000) == .waiting)
        }
        // Two ends, and octets behind the end.
        for cut in [(32, 48, false), (40, 64, false), (56, 64, true)] as [Cut] {
            var assembly = PacketAssembly()
            #expect(take(fragment((40, 56, false)), &assembly) == .waiting)
            #expect(take(fragment(cut), &assembly) == .refused(.overlap), "\(cut)")
        }
        var assembly = PacketAssembly()
        #expect(take(fragment((40, 56, true)), &assembly) == .waiting)
        #expect(take(fragment((16, 32, false)), &assembly) == .refused(.overlap))
    }

    @Test func lengthsThatCannotBe() {
        var assembly = PacketAssembly()
        let odd = fragmentV4(IPv4Packet(payload: Array(repeating: 0, count: 20)), (0, 20, true))
        #expect(take(odd, &assembly) == .refused(.length))
        var far = IPv4Packet(payload: Array(repeating: 0, count: 64))
        far.fragment = 0x1FFF
        #expect(take(far.bytes, &assembly) == .refused(.tooLong))
        #expect(take(IPv4Packet().bytes, &assembly) == .refused(.notFragment))
        #expect(take([], &assembly) == .refused(.notFragment))
        #expect(assembly.count == 0)
    }

    // An IPv6 packet may have a fragment header though it is whole (RFC 6946).
    @Test func wholePacketsWithAFragmentHeaderLoseIt() {
        var assembly = PacketAssembly()
        let whole = IPv6Packet(payload: [1, 2, 3, 4, 5])
        #expect(take(fragmentV6(whole, (0, 5, false)), &assembly) == .whole(whole.bytes))
    }

    @Test func marksOfCongestionAreKept() {
        for (first, second, expected) in [
            (2, 3, 3), (3, 2, 3), (1, 3, 3), (2, 2, 2), (0, 0, 0), (0, 3, nil), (3, 0, nil),
        ] as [(UInt8, UInt8, UInt8?)] {
            var assembly = PacketAssembly()
            var whole = IPv4Packet(payload: Array(repeating: 7, count: 32))
            whole.tos = 0x40 | first
            _ = take(fragmentV4(whole, (0, 16, true)), &assembly)
            whole.tos = 0x40 | second
            let result = take(fragmentV4(whole, (16, 32, false)), &assembly)
            whole.tos = 0x40 | (expected ?? 0)
            #expect(result == (expected == nil ? .refused(.congestion) : .whole(whole.bytes)))
        }
    }

    // MARK: Bounds

    private func part(
        _ number: Int, source: UInt32, _ cut: Cut = (0, 8, true), bytes: Int = 64
    ) -> [UInt8] {
        var packet = IPv4Packet(payload: Array(repeating: 1, count: bytes))
        packet.source = source
        packet.identification = UInt16(number)
        return fragmentV4(packet, cut)
    }

    @Test func oneSourceHoldsSoManyPacketsOnly() {
        var assembly = PacketAssembly()
        for number in 0..<32 {
            #expect(take(part(number, source: 1), &assembly) == .waiting)
        }
        #expect(take(part(32, source: 1), &assembly) == .refused(.source))
        #expect(take(part(32, source: 2), &assembly) == .waiting)
        // Time gives the places back.
        #expect(take(part(33, source: 1), &assembly, at: 15_000_000_000) == .waiting)
        #expect(assembly.count == 1 && assembly.abandoned == 33)
    }

    @Test func theOldestGoesFirst() {
        var limits = PacketAssembly.Limits()
        limits.packets = 4
        var assembly = PacketAssembly(limits: limits)
        for number in 0..<5 {
            #expect(take(part(number, source: UInt32(number)), &assembly) == .waiting)
        }
        #expect(assembly.count == 4 && assembly.abandoned == 1)
        #expect(take(part(0, source: 0, (8, 64, false)), &assembly) == .waiting)
        #expect(
            take(part(4, source: 4, (8, 64, false)), &assembly) != .waiting, "the newest is there")
    }

    @Test func memoryIsBounded() {
        var limits = PacketAssembly.Limits()
        limits.octets = 70_000
        var assembly = PacketAssembly(limits: limits)
        for number in 0..<20 {
            // Far away, so that much is held for little.
            let fragment = part(
                number, source: UInt32(number), (64_000, 64_008, true), bytes: 64_016)
            #expect(take(fragment, &assembly) == .waiting)
            #expect(assembly.octets <= limits.octets)
        }
        #expect(assembly.count == 1 && assembly.abandoned == 19)
        limits.octets = 1000
        assembly = PacketAssembly(limits: limits)
        let fragment = part(1, source: 1, (64_000, 64_008, true), bytes: 64_016)
        #expect(take(fragment, &assembly) == .refused(.memory))
        #expect(assembly.octets == 0 && assembly.count == 0)
    }

    @Test func manyPiecesEndThePacket() {
        var assembly = PacketAssembly()
        var packet = IPv4Packet(payload: Array(repeating: 1, count: 8 * 200))
        packet.source = 9
        for number in 0..<128 {
            let cut = (8 * number, 8 * number + 8, true)
            #expect(take(fragmentV4(packet, cut), &assembly) == .waiting)
        }
        #expect(take(fragmentV4(packet, (1024, 1032, true)), &assembly) == .refused(.pieces))
    }

    // Any octets at all, against memory that ends where they do.
    @Test func anyOctetsAreTaken() {
        var random = SeededGenerator()
        var assembly = PacketAssembly()
        for round in 0..<20_000 {
            var whole = IPv6Packet(payload: random.bytes(48))
            whole.source = (0, random.next() % 4)
            var fragment =
                round.isMultiple(of: 2)
                ? part(Int(random.next() % 8), source: 1, (0, 16, true))
                : fragmentV6(whole, (16, 48, false))
            for _ in 0..<random.next() % 4 {
                fragment[Int(random.next() % UInt64(fragment.count))] =
                    UInt8(truncatingIfNeeded: random.next())
            }
            if random.next() % 4 == 0 { fragment.removeLast(Int(random.next() % 36)) }
            withGuarded(fragment) { base in
                let bytes = UnsafeRawBufferPointer(start: base, count: fragment.count)
                let now = UInt64(round) * 100_000_000
                if case .whole(let packet) = assembly.take(bytes, nowNanoseconds: now) {
                    #expect(packet.count <= 65_575)
                }
                #expect(assembly.octets >= 0 && assembly.count <= 256)
            }
        }
    }

    // MARK: Cutting

    @Test(arguments: [576, 1280, 1500])
    func whatIsCutIsPutTogether(linkBytes: Int) throws {
        var random = SeededGenerator()
        for round in 0..<60 {
            let payload = random.bytes(Int(random.next() % 9000))
            var expected: [UInt8]
            if round.isMultiple(of: 2) {
                var whole = IPv4Packet(payload: payload)
                whole.options = Array(repeating: 1, count: 4 * Int(random.next() % 4))
                expected = whole.bytes
            } else {
                var whole = IPv6Packet(payload: payload)
                whole.extensions = [[], [.init(0)], [.init(0), .init(43)], [.init(60)]][round % 4]
                expected = whole.bytes
            }
            let fragments = try #require(
                expected.withUnsafeBytes {
                    PacketSplitter.fragments(of: $0, linkBytes: linkBytes, identification: 77)
                })
            #expect(fragments.allSatisfy { $0.count <= linkBytes })
            guard fragments.count > 1 else {
                #expect(fragments == [expected])
                continue
            }
            var assembly = PacketAssembly()
            for fragment in fragments.dropLast() {
                #expect(take(fragment, &assembly) == .waiting)
            }
            #expect(fragments.last.map { take($0, &assembly) } == .whole(expected))
        }
    }

    /// A router may have to cut what another one cut (RFC 791 §3.2); IPv6's may not.
    @Test func fragmentsAreCutAgain() throws {
        var random = SeededGenerator()
        func cut(_ packet: [UInt8], _ linkBytes: Int) -> [[UInt8]]? {
            packet.withUnsafeBytes {
                PacketSplitter.fragments(of: $0, linkBytes: linkBytes, identification: 77)
            }
        }
        for _ in 0..<60 {
            let expected = IPv4Packet(payload: random.bytes(1500 + Int(random.next() % 9000))).bytes
            var fragments = try #require(cut(expected, 1500))
            fragments = try fragments.flatMap { try #require(cut($0, 1400)) }
            fragments = try fragments.flatMap { try #require(cut($0, 576)) }
            #expect(fragments.allSatisfy { $0.count <= 576 && naiveChecksum($0[..<20]) == 0 })
            var assembly = PacketAssembly()
            for fragment in fragments.dropLast() {
                #expect(take(fragment, &assembly) == .waiting)
            }
            #expect(fragments.last.map { take($0, &assembly) } == .whole(expected))
        }
        let six = try #require(cut(IPv6Packet(payload: random.bytes(3000)).bytes, 1500))
        #expect(cut(six[0], 1400) == nil)
        // One whose end would lie beyond the longest packet.
        var odd = IPv4Packet(payload: random.bytes(1480)).bytes
        odd[6] = 0x1F
        odd[7] = 0xFF
        #expect(cut(odd, 1400) == nil)
    }
}
