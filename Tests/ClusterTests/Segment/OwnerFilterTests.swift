// The filters of the kernel, run instruction by instruction.
//
// What would fool us: a filter and a share that are wrong alike (so whose a packet is is said from
// the numbers it was made of, and the hashes are pinned in DistributionTests); an interpreter that
// reads our programs as we mean them (so the kernel and libpcap run them too, in
// GatewayIOTests/Segment); sets of identifiers that are easy.

import CMallocCounter
import TestSupport
import Testing
import Wire

@testable import Cluster

@Suite struct OwnerFilterTests {
    private func distribution(
        _ count: Int, _ random: inout SeededGenerator
    ) throws -> Distribution {
        try Distribution(
            identifierCount: count, cookieKey: CookieKey(bytes: random.bytes(20)))
    }

    @Test(arguments: [16, 32, 64, 256, 1024, 4096], [segmentFront, socketFront])
    func everyPacketIsItsOwners(count: Int, front: ClusterFront) throws {
        var random = SeededGenerator()
        let own = MACAddress(0x0200_0000_0001)
        for _ in 0..<8 {
            let distribution = try distribution(count, &random)
            let filter = OwnerFilter(distribution: distribution, front: front)
            let owned = randomSet(count, &random)
            var onPackets = FilterInterpreter(filter.program(owned: owned, view: .packets))
            var onFrames = FilterInterpreter(
                filter.program(owned: owned, view: .frames(own: own)), packetType: 2)
            var packets = SegmentPackets(
                distribution: distribution, front: front, random: random)
            for _ in 0..<400 {
                let packet = packets.next()
                let isMine = packet.share.isFor(owned)
                let accepted = onPackets.run(packet.octets)
                #expect((accepted != 0) == isMine, "\(packet.name): \(packet.octets)")
                let frame = SegmentPackets.frame(packet.octets, to: MACAddress(0x0300_0000_0001))
                #expect(onFrames.run(frame) == accepted, "\(packet.name): \(frame)")
                let shares = frame.withUnsafeBytes { bytes in
                    (
                        distribution.share(ofFrame: bytes, front: front, own: own),
                        distribution.share(
                            ofPacket: UnsafeRawBufferPointer(rebasing: bytes[14...]),
                            front: front)
                    )
                }
                #expect(shares.0 == packet.share && shares.1 == packet.share, "\(packet.name)")
                let isFragment = packet.name == "fragment"
                let relayed = SegmentPackets.frame(packet.octets, to: own)
                #expect((onFrames.run(relayed) != 0) == (isMine || isFragment), "\(packet.name)")
            }
            random = packets.random
        }
    }

    // Octets that no sender makes: cut off anywhere, and with any octet changed.
    @Test func filterAndShareAgreeOnWhatIsBroken() throws {
        var random = SeededGenerator()
        for round in 0..<300 {
            let front = round.isMultiple(of: 2) ? segmentFront : socketFront
            let distribution = try distribution(256, &random)
            let owned = randomSet(256, &random)
            let own = MACAddress(0x0200_0000_0001)
            let filter = OwnerFilter(distribution: distribution, front: front)
            var interpreter = FilterInterpreter(
                filter.program(owned: owned, view: .storedFrames(own: own)))
            var packets = SegmentPackets(
                distribution: distribution, front: front, random: random)
            let destination = round.isMultiple(of: 3) ? own : MACAddress(0x0300_0000_0001)
            let frame = SegmentPackets.frame(packets.next().octets, to: destination)
            random = packets.random
            for length in 0...frame.count {
                agree(Array(frame[..<length]), &interpreter, distribution, front, owned, own)
            }
            for _ in 0..<100 {
                var changed = frame
                for _ in 0...random.next() % 3 {
                    let place = Int(random.next() % UInt64(min(changed.count, 80)))
                    changed[place] = UInt8(truncatingIfNeeded: random.next())
                }
                agree(changed, &interpreter, distribution, front, owned, own)
            }
        }
    }

    private func agree(
        _ frame: [UInt8], _ interpreter: inout FilterInterpreter, _ distribution: Distribution,
        _ front: ClusterFront, _ owned: [DistributionIdentifier], _ own: MACAddress
    ) {
        let share = frame.withUnsafeBytes {
            distribution.share(ofFrame: $0, front: front, own: own)
        }
        #expect((interpreter.run(frame) != 0) == share.isFor(owned), "\(share): \(frame)")
    }

    @Test(arguments: [true, false])
    func datagramsAreTheirOwners(hasMarker: Bool) throws {
        var random = SeededGenerator()
        for _ in 0..<100 {
            let distribution = try distribution(256, &random)
            let owned = randomSet(256, &random)
            let filter = OwnerFilter(distribution: distribution, front: segmentFront)
            var interpreter = FilterInterpreter(
                filter.program(owned: owned, view: .datagrams(hasMarker: hasMarker)))
            let cookie = random.next() | 1
            let spi = UInt32(truncatingIfNeeded: random.next()) | 1
            let message = ikeMessage(initiator: cookie)
            let ofCookie = PacketShare.owner(distribution.identifier(ofInitiatorCookie: cookie))
            let ofSPI = PacketShare.owner(distribution.identifier(of: SPI(spi)))
            let cases: [([UInt8], PacketShare)] =
                hasMarker
                ? [
                    ([0, 0, 0, 0] + message, ofCookie), (bigEndian(spi) + [0, 0, 0, 1], ofSPI),
                    ([0xFF], .nobody), ([], .nobody),
                ] : [(message, ofCookie), ([1, 2, 3], .nobody)]
            for (body, share) in cases {
                let datagram = udpDatagram(from: 1234, to: hasMarker ? 4500 : 500, body)
                #expect((interpreter.run(datagram) != 0) == share.isFor(owned))
                let found = datagram.withUnsafeBytes {
                    distribution.share(ofDatagram: $0, hasMarker: hasMarker)
                }
                #expect(found == share)
            }
        }
    }

    // The kernel says which way a frame goes; what we sent ourselves must never come back.
    @Test func ownFramesAndOthersAreDropped() throws {
        var random = SeededGenerator()
        let distribution = try distribution(256, &random)
        let all = (0..<256).map { DistributionIdentifier(UInt16($0)) }
        let filter = OwnerFilter(distribution: distribution, front: segmentFront)
        var packet = IPv4Packet(payload: random.bytes(40))
        packet.transport = 50
        packet.destination = 0x0A4D_0001
        let frame = SegmentPackets.frame(packet.bytes, to: MACAddress(0x0300_0000_0001))
        let owner = filter.program(owned: all, view: .frames(own: MACAddress(2)))
        for (type, isTaken) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
            for program in [owner, OwnerFilter.insideProgram()] {
                var interpreter = FilterInterpreter(program, packetType: UInt32(type))
                #expect((interpreter.run(frame) != 0) == isTaken)
            }
        }
    }

    // Sizes, and steps for one packet: what would grow unseen.
    @Test func programsAreSmall() throws {
        var random = SeededGenerator()
        for (count, sizeMaximum, stepsMaximum) in [(256, 330, 40), (4096, 1100, 45)] {
            let distribution = try distribution(count, &random)
            // No two neighbors: the set with the most runs.
            let owned = (0..<count / 2).map { DistributionIdentifier(UInt16(2 * $0)) }
            let filter = OwnerFilter(distribution: distribution, front: segmentFront)
            let program = filter.program(
                owned: owned, view: .frames(own: MACAddress(0x0200_0000_0001)))
            var interpreter = FilterInterpreter(program)
            var packet = IPv4Packet(payload: bigEndian(UInt32(0x1234_5678)) + [0, 0, 0, 1])
            packet.transport = 50
            packet.destination = 0xC000_02C8
            _ = interpreter.run(SegmentPackets.frame(packet.bytes, to: MACAddress(1 << 40)))
            print("\(count) identifiers: \(program.count) instructions, \(interpreter.steps) steps")
            #expect(program.count <= sizeMaximum && interpreter.steps <= stepsMaximum)
        }
    }

    // Asked for every packet.
    @Test func sharesTakeNoMemory() throws {
        var random = SeededGenerator()
        let distribution = try distribution(256, &random)
        var packets = SegmentPackets(
            distribution: distribution, front: segmentFront, random: random)
        // Without optimisation, the cookie's vector of four allocates by itself.
        let ofESP = (0..<4000).map { _ in packets.next() }.filter { $0.name.hasPrefix("ESP") }
        let frames = ofESP.map { SegmentPackets.frame($0.octets, to: MACAddress(1 << 40)) }
        let front = segmentFront
        func pass() -> Int {
            // Without optimisation, a `for` loop over an array allocates by itself.
            var (place, owners) = (0, 0)
            while place < frames.count {
                let share = frames[place].withUnsafeBytes {
                    distribution.share(ofFrame: $0, front: front)
                }
                if case .owner = share { owners += 1 }
                place += 1
            }
            return owners
        }
        let owners = pass()
        let before = malloc_counter_value()
        let again = pass()
        let allocations = malloc_counter_value() - before
        #expect(allocations == 0 && owners == again && owners > 100)
    }

    @Test func manyAddressesStillCompile() throws {
        var random = SeededGenerator()
        let distribution = try distribution(4096, &random)
        let addresses = (0..<ClusterFront.addressesMaximum).map { number in
            IPAddress(high: random.next() | 1, low: UInt64(number))
        }
        let front = ClusterFront(addresses: addresses)
        let owned = (0..<2048).map { DistributionIdentifier(UInt16(2 * $0)) }
        var interpreter = FilterInterpreter(
            OwnerFilter(distribution: distribution, front: front)
                .program(owned: owned, view: .packets))
        var packets = SegmentPackets(distribution: distribution, front: front, random: random)
        for _ in 0..<2000 {
            let packet = packets.next()
            #expect((interpreter.run(packet.octets) != 0) == packet.share.isFor(owned))
        }
    }
}
