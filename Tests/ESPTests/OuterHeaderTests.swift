import TestSupport
import Testing
import Wire

@testable import ESP

private typealias Family = IPAddress.Family

private func inner(
    _ family: IPAddress.Family, trafficClass: UInt8 = 0, hopLimit: UInt8 = 33,
    dontFragment: Bool = false
) -> [UInt8] {
    if family == .v4 {
        var packet = IPv4Packet()
        packet.tos = trafficClass
        packet.ttl = hopLimit
        packet.fragment = dontFragment ? 0x4000 : 0
        return packet.bytes
    }
    var packet = IPv6Packet()
    packet.trafficClass = trafficClass
    packet.hopLimit = hopLimit
    return packet.bytes
}

/// An outer header read by hand.
private struct Header {
    let trafficClass: UInt8
    let length: UInt16
    let hopLimit: UInt8
    let payload: UInt8
    /// IPv4 only.
    let flags: UInt16

    init(_ packet: [UInt8]) {
        if packet[0] >> 4 == 4 {
            trafficClass = packet[1]
            length = number(packet[2..<4])
            hopLimit = packet[8]
            payload = packet[9]
            flags = number(packet[6..<8])
            #expect(naiveChecksum(packet[..<20]) == 0)
            #expect(packet[0] == 0x45 && Int(length) == packet.count)
            #expect(Array(packet[12..<20]) == hex("c0000201 c6336401"))
        } else {
            trafficClass = packet[0] << 4 | packet[1] >> 4
            length = number(packet[4..<6])
            hopLimit = packet[7]
            payload = packet[6]
            flags = 0
            #expect(packet[0] >> 4 == 6 && Int(length) + 40 == packet.count)
            #expect(packet[1] & 0x0F == 0 && packet[2] == 0 && packet[3] == 0)
            let addresses = hex(
                "20010db8aaaa00000000000000000001 20010db8bbbb00000000000000000002")
            #expect(Array(packet[8..<40]) == addresses)
        }
    }
}

@Suite struct OuterHeaderTests {
    @Test(arguments: [IPAddress.Family.v4, .v6], [IPAddress.Family.v4, .v6])
    func defaults(outer: IPAddress.Family, inside: IPAddress.Family) throws {
        let tunnel = try Tunnel(family: outer)
        for _ in 0..<50 {
            let header = Header(try tunnel.seal(inner(inside, trafficClass: 0xB9)))
            #expect(header.payload == 50 && header.hopLimit == 64)
            #expect(header.trafficClass == 0xB9)
        }
    }

    // RFC 4301 §5.1.2.1 with RFC 6040 §4.1 for ECN.
    @Test(arguments: [IPAddress.Family.v4, .v6], [IPAddress.Family.v4, .v6])
    func trafficClasses(outer: IPAddress.Family, inside: IPAddress.Family) throws {
        for dscp in [nil, 0, 46, 63] as [UInt8?] {
            for ecn in [TunnelHeaderPolicy.ECN.normal, .compatibility] {
                let tunnel = try Tunnel(family: outer) {
                    $0.headers.dscp = dscp
                    $0.headers.ecn = ecn
                }
                for trafficClass in stride(from: UInt8(0), through: 255, by: 5) {
                    let sealed = try tunnel.seal(inner(inside, trafficClass: trafficClass))
                    let upper = dscp.map { $0 << 2 } ?? (trafficClass & 0xFC)
                    let lower = ecn == .normal ? trafficClass & 3 : 0
                    #expect(Header(sealed).trafficClass == upper | lower)
                    #expect(tunnel.open(sealed).bytes == inner(inside, trafficClass: trafficClass))
                }
            }
        }
    }

    @Test(arguments: [IPAddress.Family.v4, .v6], [IPAddress.Family.v4, .v6])
    func hopLimits(outer: IPAddress.Family, inside: IPAddress.Family) throws {
        for policy in [nil, 1, 64, 255] as [UInt8?] {
            let tunnel = try Tunnel(family: outer) { $0.headers.hopLimit = policy }
            for limit: UInt8 in [1, 2, 33, 255] {
                let sealed = try tunnel.seal(inner(inside, hopLimit: limit))
                #expect(Header(sealed).hopLimit == policy ?? limit)
                #expect(tunnel.open(sealed).bytes == inner(inside, hopLimit: limit))
            }
        }
    }

    @Test func dontFragment() throws {
        let expected: [(TunnelHeaderPolicy.DontFragment, v4: Bool, v4Set: Bool, v6: Bool)] = [
            (.copy, false, true, true), (.set, true, true, true), (.clear, false, false, false),
        ]
        for (policy, plain, marked, six) in expected {
            let tunnel = try Tunnel { $0.headers.dontFragment = policy }
            for (packet, isSet) in [
                (inner(.v4), plain), (inner(.v4, dontFragment: true), marked), (inner(.v6), six),
            ] {
                let sealed = try tunnel.seal(packet)
                #expect(Header(sealed).flags == (isSet ? 0x4000 : 0))
                // Fragments of different packets must not be put together.
                let identification: UInt16 = number(sealed[4..<6])
                let sequence: UInt32 = number(sealed[24..<28])
                #expect(identification == (isSet ? 0 : UInt16(sequence)))
                #expect(tunnel.open(sealed).bytes == packet)
            }
        }
    }

    // RFC 4301 §5.1.2.1 note 3.
    @Test(arguments: [IPAddress.Family.v4, .v6], [Mode.tunnel, .transport])
    func countsItselfAsAHop(family: IPAddress.Family, mode: Mode) throws {
        let tunnel = try Tunnel(mode: mode, family: family) {
            $0.headers.decrementsInnerHopLimit = true
            $0.headers.hopLimit = nil
        }
        for limit: UInt8 in [2, 3, 64, 255] {
            let sealed = try tunnel.seal(inner(family, hopLimit: limit))
            #expect(tunnel.open(sealed).bytes == inner(family, hopLimit: limit - 1))
            #expect(sealed[family == .v4 ? 8 : 7] == limit - 1)
        }
        let before = tunnel.sender.status(tunnel.out)
        for limit: UInt8 in [0, 1] {
            let drop = tunnel.sender.seal(inner(family, hopLimit: limit), tunnel.out).drop
            #expect(drop == .hopLimit)
        }
        #expect(tunnel.sender.status(tunnel.out) == before)
    }

    @Test(arguments: [IPAddress.Family.v4, .v6], [Mode.tunnel, .transport])
    func udpEncapsulation(family: IPAddress.Family, mode: Mode) throws {
        let ports = UDPPorts(source: 4500, destination: 61_000)
        let tunnel = try Tunnel(mode: mode, family: family) { $0.udp = ports }
        for length in 0..<70 {
            var packet = IPv4Packet(payload: Array(repeating: 0xC3, count: length)).bytes
            if family == .v6 {
                packet = IPv6Packet(payload: Array(repeating: 0xC3, count: length)).bytes
            }
            let sealed = try tunnel.seal(packet)
            let start = family == .v4 ? 20 : 40
            #expect(sealed[family == .v4 ? 9 : 6] == 17)
            #expect(
                Array(sealed[start..<start + 4]) == bigEndian(UInt16(4500))
                    + bigEndian(UInt16(61_000)))
            #expect(Array(sealed[start + 4..<start + 6]) == bigEndian(UInt16(sealed.count - start)))
            let checksum: UInt16 = number(sealed[start + 6..<start + 8])
            // RFC 3948 §2.1: zero over IPv4; RFC 8200 §8.1: never zero over IPv6.
            #expect(checksum == (family == .v4 ? 0 : naiveUDPChecksum(ipv6: sealed, at: start)))
            #expect(tunnel.open(sealed).bytes == packet)
        }
    }

    // What would fool us: one packet in 65 536 whose sum is 0, which would say "no checksum". The
    // source port is in no ICV, so it can be chosen to make the sum what the test wants.
    @Test func udpChecksumOverIPv6IsNeverZero() throws {
        func sealed(port: UInt16) throws -> [UInt8] {
            let tunnel = try Tunnel(family: .v6) {
                $0.udp = UDPPorts(source: port, destination: 4500)
            }
            return try tunnel.seal(inner(.v6))
        }
        let before: UInt16 = number(try sealed(port: 4500)[46..<48])
        let port = UInt16((4500 + UInt32(before)) % 0xFFFF)
        let packet = try sealed(port: port)
        #expect(Array(packet[46..<48]) == [0xFF, 0xFF])
        #expect(naiveUDPChecksum(ipv6: packet, at: 40) == 0xFFFF)
    }

    // RFC 7296 §2.23: received either way, whatever was agreed for sending.
    @Test func receivesWithAndWithoutUDP() throws {
        let plain = try Tunnel()
        let wrapped = try Tunnel { $0.udp = UDPPorts(source: 4500, destination: 4500) }
        let packet = inner(.v4)
        #expect(plain.open(try wrapped.seal(packet)).bytes == packet)
        _ = try plain.seal(packet)
        #expect(wrapped.open(try plain.seal(packet)).bytes == packet)
    }
}

@Suite struct TransportModeTests {
    private func chain(_ numbers: [UInt8]) -> IPv6Packet {
        var packet = IPv6Packet(payload: Array(0..<50))
        packet.extensions = numbers.map { .init($0, bytes: $0 == 43 ? 24 : 8) }
        packet.transport = 6
        return packet
    }

    // RFC 4303 §3.1.1: what routers read stays in front; destination options behind the last
    // routing header are protected. The sealed packet is put together by hand from its parts.
    @Test(
        arguments: [
            ([], 0), ([0], 1), ([0, 43], 2), ([60], 0), ([0, 60], 1), ([60, 43], 2),
            ([0, 60, 43, 60], 3),
            ([0, 60, 60], 1),
        ] as [([UInt8], Int)])
    func insertion(numbers: [UInt8], kept: Int) throws {
        let packet = chain(numbers)
        let bytes = packet.bytes
        let transform = Transform.find(.null, 0, .hmacSHA1)
        let tunnel = try Tunnel(transform, mode: .transport, family: .v6)
        let sealed = try tunnel.seal(bytes)
        // The headers that stay, with ESP as what follows them.
        var front = packet
        front.extensions = Array(packet.extensions[..<kept])
        front.transport = 50
        let next = kept < numbers.count ? numbers[kept] : 6
        let moved = Array(bytes[(bytes.count - tail(packet, kept))...])
        let pad = (0...3).first { (moved.count + $0 + 2) % 4 == 0 } ?? 0
        front.payload =
            bigEndian(UInt32(0x1001)) + bigEndian(UInt32(1)) + moved
            + (0..<pad).map { UInt8($0 + 1) } + [UInt8(pad), next]
        front.payload += sealed.suffix(12)
        #expect(sealed == front.bytes)
        #expect(tunnel.open(sealed).bytes == bytes)
    }

    private func tail(_ packet: IPv6Packet, _ kept: Int) -> Int {
        packet.extensions[kept...].reduce(packet.payload.count) { $0 + $1.body.count }
    }

    @Test(arguments: Transform.kinds, 0...3)
    func ipv4WithOptions(_ transform: Transform, words: Int) throws {
        let tunnel = try Tunnel(transform, mode: .transport)
        for length in 0..<40 {
            var packet = IPv4Packet(payload: Array(repeating: 0x55, count: length))
            packet.options = Array(repeating: 1, count: words * 4)
            packet.tos = 0xB8
            packet.transport = 6
            let sealed = try tunnel.seal(packet.bytes)
            #expect(sealed[9] == 50 && naiveChecksum(sealed[..<(20 + words * 4)]) == 0)
            #expect(number(sealed[2..<4]) == UInt16(sealed.count))
            #expect(Array(sealed[12..<20 + words * 4]) == Array(packet.bytes[12..<20 + words * 4]))
            #expect(tunnel.open(sealed).bytes == packet.bytes)
        }
    }

    // What would fool us: GMAC with extended numbers borrows the four octets in front of ESP for
    // its AAD, which are the address or the UDP header here, and must give them back.
    @Test(arguments: Transform.kinds, [IPAddress.Family.v4, .v6])
    func extendedNumbers(_ transform: Transform, family: IPAddress.Family) throws {
        for udp in [nil, UDPPorts(source: 4500, destination: 4500)] {
            for mode in [Mode.tunnel, .transport] {
                let tunnel = try Tunnel(transform, mode: mode, family: family) {
                    $0.usesESN = true
                    $0.udp = udp
                    $0.firstSequence = 1 << 32 - 2
                }
                let inner = family == .v4 ? IPv4Packet().bytes : IPv6Packet().bytes
                for _ in 0..<4 {
                    let sealed = try tunnel.seal(inner)
                    if udp != nil {
                        let start = tunnel.espOffset - 8
                        let length = bigEndian(UInt16(sealed.count - start))
                        #expect(Array(sealed[start..<start + 6]) == hex("11941194") + length)
                    }
                    var wrong = sealed
                    wrong[wrong.count - 1] ^= 1
                    let refused = tunnel.open(wrong)
                    #expect(refused.drop == .integrity)
                    let front = Station.headroom..<Station.headroom + tunnel.espOffset + 8
                    #expect(Array(refused.memory[front]) == Array(sealed[..<front.count]))
                    #expect(tunnel.open(sealed).bytes == inner)
                }
            }
        }
    }

    @Test func fragmentsAndForeignFamiliesAreRefused() throws {
        let four = try Tunnel(mode: .transport)
        for field: UInt16 in [0x2000, 1] {
            var packet = IPv4Packet()
            packet.fragment = field
            #expect(four.sender.seal(packet.bytes, four.out).drop == .fragment)
        }
        #expect(four.sender.seal(IPv6Packet().bytes, four.out).drop == .selector)
        let six = try Tunnel(mode: .transport, family: .v6)
        var packet = IPv6Packet()
        packet.extensions = [.init(fragmentOffset: 0, more: true)]
        #expect(six.sender.seal(packet.bytes, six.out).drop == .fragment)
        #expect(six.sender.seal(IPv4Packet().bytes, six.out).drop == .selector)
        // In tunnel mode a fragment is a packet like others (RFC 4303 §3.3.4).
        let tunnel = try Tunnel()
        #expect(throws: Never.self) { try tunnel.seal(packet.bytes) }
    }
}
