import TestSupport
import Testing
import Wire

@testable import ESP

/// An ESP packet taken apart by lengths that the test knows, not by the code under test.
private struct Plain {
    let spi: UInt32
    let sequence: UInt32
    let iv: [UInt8]
    /// Payload, padding, pad length and next header, if they were not encrypted.
    let body: [UInt8]
    let icv: [UInt8]

    init(_ esp: [UInt8], iv: Int, icv: Int) {
        spi = number(esp[..<4])
        sequence = number(esp[4..<8])
        self.iv = Array(esp[8..<8 + iv])
        body = Array(esp[(8 + iv)..<(esp.count - icv)])
        self.icv = Array(esp[(esp.count - icv)...])
    }
}

@Suite struct EncapsulationTests {
    // What would fool us: padding that is right modulo something, and a receiver that strips it the
    // same wrong way. With NULL encryption the octets are there to be read: RFC 4303 §2.4 by hand.
    @Test(arguments: 0...300)
    func paddingWithoutEncryption(length: Int) throws {
        let tunnel = try Tunnel(.plain)
        let inner = IPv4Packet(payload: Array(repeating: 0x77, count: length)).bytes
        let outer = try tunnel.seal(inner)
        let plain = Plain(Array(outer[20...]), iv: 0, icv: 16)
        #expect(plain.spi == 0x1001 && plain.sequence == 1)
        let pad = (0...3).first { (inner.count + $0 + 2) % 4 == 0 } ?? 0
        #expect(plain.body == inner + (0..<pad).map { UInt8($0 + 1) } + [UInt8(pad), 4])
        // The MAC is over everything from the SPI on.
        let keys = keyOctets(SPI(0x1001), .plain)
        let mac = try macOracle("SHA2-256", key: keys, data: Array(outer[20..<(outer.count - 16)]))
        #expect(plain.icv == Array(mac[..<16]))
        #expect(tunnel.open(outer).bytes == inner)
    }

    // The sealed length, for every kind and length, from RFC numbers alone; and the least padding.
    @Test(arguments: Transform.kinds)
    func lengthsOfEveryKind(_ transform: Transform) throws {
        let tunnel = try Tunnel(transform)
        let block = transform.encryption == .aesCBC ? 16 : 4
        for length in 0...300 {
            var packet = IPv4Packet(payload: Array(repeating: 0x77, count: length))
            packet.transport = 99
            let outer = try tunnel.seal(packet.bytes)
            let body = (20 + length + 2 + block - 1) / block * block
            #expect(outer.count == 20 + 8 + transform.ivBytes + body + transform.icvBytes)
            let opened = tunnel.open(outer)
            #expect(opened.bytes == packet.bytes && opened.drop == nil)
        }
        #expect(tunnel.receiver.status(tunnel.into).packets == 301)
        #expect(tunnel.receiver.drops(tunnel.into).total == 0)
    }

    @Test(arguments: Transform.all)
    func everyTransformWithAndWithoutESN(_ transform: Transform) throws {
        for usesESN in [false, true] {
            let tunnel = try Tunnel(transform) {
                $0.usesESN = usesESN
                $0.firstSequence = usesESN ? 1 << 32 - 1 : 5
            }
            let inner = IPv4Packet().bytes
            for _ in 0..<3 { #expect(tunnel.open(try tunnel.seal(inner)).bytes == inner) }
            // The two ends see the high half: with another one the ICV is wrong.
            guard usesESN else { continue }
            let other = try Tunnel(transform) {
                $0.usesESN = true
                $0.firstSequence = 1 << 33 - 1
            }
            #expect(other.open(try tunnel.seal(inner)).drop == .integrity)
        }
    }

    // RFC 4303 §2.7: inner packets are padded with octets behind them; the receiver cuts them off.
    @Test(arguments: [0, 1, 100, 599, 600, 601, 1000])
    func trafficFlowConfidentiality(length: Int) throws {
        let tunnel = try Tunnel(.plain) { $0.headers.tfcBytes = 620 }
        let inner = IPv4Packet(payload: Array(repeating: 0x77, count: length)).bytes
        let outer = try tunnel.seal(inner)
        let payload = max(inner.count, 620)
        let body = Array(outer[28..<(outer.count - 16)])
        #expect(body.count == (payload + 2 + 3) / 4 * 4)
        #expect(Array(body[..<inner.count]) == inner)
        #expect(body[inner.count..<payload].allSatisfy { $0 == 0 })
        #expect(tunnel.open(outer).bytes == inner)
        // Lifetimes count what was asked for, on both sides.
        #expect(tunnel.sender.status(tunnel.out).bytes == UInt64(inner.count))
    }

    // Octets behind the inner packet's own length (Ethernet padding) are not sent.
    @Test func trailingOctetsAreLeftOut() throws {
        let tunnel = try Tunnel()
        let inner = IPv4Packet(payload: [1, 2, 3]).bytes
        let outer = try tunnel.seal(inner + Array(repeating: 0xEE, count: 30))
        #expect(outer.count == 20 + 8 + 8 + 28 + 16)
        #expect(tunnel.open(outer).bytes == inner)
    }

    @Test(arguments: [Mode.tunnel, .transport], [0, 1, 64, 1000])
    func dummies(mode: Mode, length: Int) throws {
        let tunnel = try Tunnel(.plain, mode: mode)
        let filler = [UInt8](repeating: 0x3C, count: length)
        let outer = try tunnel.seal(filler, isDummy: true)
        #expect(Array(outer[28..<28 + length]) == filler)
        #expect(outer[outer.count - 17] == 59)
        let opened = tunnel.open(outer)
        #expect(opened.drop == .dummy && opened.bytes == nil)
        // It was authentic: the number is used up, the packet counted.
        #expect(tunnel.receiver.status(tunnel.into).sequence == 1)
        #expect(tunnel.receiver.status(tunnel.into).packets == 1)
        #expect(tunnel.open(outer).drop == .replayed)
    }

    @Test func largestPackets() throws {
        for family in [IPAddress.Family.v4, .v6] {
            let tunnel = try Tunnel(family: family)
            // The outer header of IPv4 counts, the one of IPv6 does not.
            let room = 65_535 - (family == .v4 ? 20 : 0) - 8 - 8 - 16
            let largest = room / 4 * 4 - 2
            let inner = IPv4Packet(payload: Array(repeating: 1, count: largest - 20)).bytes
            #expect(tunnel.open(try tunnel.seal(inner)).bytes == inner)
            let larger = IPv4Packet(payload: Array(repeating: 1, count: largest - 19)).bytes
            #expect(tunnel.sender.seal(larger, tunnel.out).drop == .packetTooBig)
        }
    }

    @Test func pathMTU() throws {
        let tunnel = try Tunnel { $0.headers.pathMTU = 1400 }
        let fits = IPv4Packet(payload: Array(repeating: 1, count: 1400 - 20 - 32 - 2 - 20)).bytes
        #expect(try tunnel.seal(fits).count == 1400)
        let before = tunnel.sender.status(tunnel.out)
        let tooBig = IPv4Packet(payload: Array(repeating: 1, count: 1400 - 20 - 32 - 1 - 20)).bytes
        #expect(tunnel.sender.seal(tooBig, tunnel.out).drop == .packetTooBig)
        #expect(tunnel.sender.status(tunnel.out) == before, "no number is spent")
        // TFC padding counts too.
        let padded = try Tunnel {
            $0.headers.pathMTU = 1400
            $0.headers.tfcBytes = 1400
        }
        #expect(padded.sender.seal(IPv4Packet().bytes, padded.out).drop == .packetTooBig)
    }

    @Test func innerPacketsMustBePackets() throws {
        let tunnel = try Tunnel()
        let whole = IPv4Packet().bytes
        for count in 0..<whole.count {
            let drop = tunnel.sender.seal(Array(whole[..<count]), tunnel.out).drop
            #expect(drop == .innerMalformed)
        }
        #expect(tunnel.sender.status(tunnel.out).sequence == 0)
    }

    // What would fool us: a batch in which only the first packet is right.
    @Test func batchesKeepPacketsApart() throws {
        let sender = try Station(capacity: 4, keyedContexts: 1)
        let receiver = try Station(capacity: 4, keyedContexts: 1)
        let transforms = [Transform.gcm, Transform.kinds[5], Transform.kinds[6]]
        let pairs = try transforms.enumerated().map { index, transform in
            let wanted = parameters(0x1001 + UInt32(index), .outbound, transform)
            return (try sender.add(wanted), try receiver.add(wanted.reversedDirection))
        }
        let room = 512
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 16 * room, alignment: 64)
        let batch = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 16)
        defer {
            memory.deallocate()
            batch.deallocate()
        }
        let inners = (0..<16).map { IPv4Packet(payload: Array(repeating: $0, count: 7)).bytes }
        for (index, inner) in inners.enumerated() {
            let base = memory + index * room
            (base + 128).copyMemory(from: inner, byteCount: inner.count)
            var packet = PacketDescriptor(
                buffer: base, capacity: room, offset: 128, length: inner.count)
            packet.slot = pairs[index % 3].0.index
            if index == 7 { packet.drop = .unknownSPI }
            batch.initializeElement(at: index, to: packet)
        }
        sender.engine.encapsulate(batch, slab: sender.slab, nowNanoseconds: 0)
        #expect(Array(batch[7].packet) == inners[7], "left alone")
        for index in 0..<16 where index != 7 {
            let opened = receiver.open(Array(batch[index].packet), pairs[index % 3].1)
            #expect(opened.bytes == inners[index])
        }
        #expect(sender.engine.drops.total == 0)
    }
}
