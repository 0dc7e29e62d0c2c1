import TestSupport
import Testing
import Wire

private typealias Extension = IPv6Packet.Extension

private let esp = hex("c0ffee01 00000007") + Array(repeating: 0x5A, count: 32)
private let ike = ikeMessage(initiator: 0x1122_3344_5566_7788, messageID: 3, body: [1, 2, 3, 4])

private func ipv4(_ transport: UInt8, _ payload: [UInt8], fragment: UInt16 = 0) -> [UInt8] {
    var packet = IPv4Packet(payload: payload)
    packet.transport = transport
    packet.fragment = fragment
    return packet.bytes
}

private func ipv6(
    _ transport: UInt8, _ payload: [UInt8], _ extensions: [IPv6Packet.Extension] = []
) -> [UInt8] {
    var packet = IPv6Packet(payload: payload)
    packet.transport = transport
    packet.extensions = extensions
    return packet.bytes
}

/// IP version, by number.
private func ip(_ version: Int, _ transport: UInt8, _ payload: [UInt8]) -> [UInt8] {
    version == 4 ? ipv4(transport, payload) : ipv6(transport, payload)
}

private func location(_ kind: OuterPacket) throws -> ESPLocation {
    guard case .esp(let location) = kind else {
        Issue.record("\(kind) is not ESP")
        throw IPPacketError.malformed
    }
    return location
}

@Suite struct OuterPacketTests {
    @Test func espOverIP() throws {
        let four = try location(classify(ipv4(50, esp)))
        #expect(four.family == .v4 && !four.isUDPEncapsulated)
        #expect(four.headerLength == 20 && four.protocolOffset == 9 && four.espOffset == 20)
        #expect(four.end == 60 && four.spi == SPI(0xC0FF_EE01) && four.sequence == 7)

        let six = try location(classify(ipv6(50, esp, [Extension(0), Extension(60)])))
        #expect(six.family == .v6 && !six.isUDPEncapsulated)
        #expect(six.headerLength == 56 && six.protocolOffset == 48 && six.espOffset == 56)
        #expect(six.end == 96 && six.spi == SPI(0xC0FF_EE01) && six.sequence == 7)
    }

    @Test func trailingOctetsAreNotESP() throws {
        // Ethernet pads short frames.
        let padded = try location(classify(ipv4(50, Array(esp[..<12])) + [0, 0, 0, 0, 0, 0]))
        #expect(padded.end == 32)
        // A UDP length shorter than the IP payload (RFC 768 allows it): ESP ends with UDP.
        let datagram = udpDatagram(from: 4500, to: 4500, esp, length: UInt16(8 + esp.count - 4))
        #expect(try location(classify(ipv4(17, datagram))).end == UInt32(20 + 8 + esp.count - 4))
    }

    @Test(arguments: [4, 6], [(4500, 4500), (4500, 61_000), (61_000, 4500), (500, 4500)])
    func espInUDP(version: Int, ports: (UInt16, UInt16)) throws {
        let header = version == 4 ? 20 : 40
        let kind = classify(ip(version, 17, udpDatagram(from: ports.0, to: ports.1, esp)))
        let place = try location(kind)
        #expect(place.isUDPEncapsulated && place.headerLength == UInt16(header))
        #expect(place.espOffset == UInt16(header + 8))
        #expect(place.end == UInt32(header + 8 + esp.count))
        #expect(place.protocolOffset == (version == 4 ? 9 : 6))
        #expect(place.spi == SPI(0xC0FF_EE01) && place.sequence == 7)
    }

    @Test(arguments: [4, 6])
    func ikeOnItsPorts(version: Int) {
        let header = withGuarded(ike) { ISAKMPHeader(at: $0, count: ike.count) }
        guard let header else {
            Issue.record("no header")
            return
        }
        for ports: (UInt16, UInt16) in [(500, 500), (500, 9), (9, 500)] {
            let plain = udpDatagram(from: ports.0, to: ports.1, ike)
            #expect(classify(ip(version, 17, plain)) == .ike(header))
        }
        // RFC 3948 §2.2: the non-ESP marker.
        let marked = udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + ike)
        #expect(classify(ip(version, 17, marked)) == .ike(header))
        // Without it, it is ESP with the cookie's first half as SPI.
        let unmarked = udpDatagram(from: 4500, to: 4500, ike)
        #expect((try? location(classify(ip(version, 17, unmarked))))?.spi == SPI(0x1122_3344))
    }

    @Test(arguments: [4, 6])
    func keepalives(version: Int) {
        func onNATPort(_ body: [UInt8]) -> OuterPacket {
            classify(ip(version, 17, udpDatagram(from: 4500, to: 4500, body)))
        }
        #expect(onNATPort([0xFF]) == .natKeepalive)
        #expect(onNATPort([0xFE]) == .malformed(.truncated))
        #expect(onNATPort([]) == .malformed(.truncated))
        #expect(onNATPort([0xFF, 0xFF]) == .malformed(.truncated))
        let onIKEPort = classify(ip(version, 17, udpDatagram(from: 500, to: 500, [0xFF])))
        #expect(onIKEPort == .other)
    }

    @Test(arguments: [4, 6], 0..<12)
    func shortESP(version: Int, count: Int) throws {
        let body = Array(esp[..<count])
        let plain = classify(ip(version, 50, body))
        let inUDP = classify(ip(version, 17, udpDatagram(from: 4500, to: 4500, body)))
        if count < 8 {
            #expect(plain == .malformed(.truncated) && inUDP == .malformed(.truncated))
        } else {
            #expect(try location(plain).sequence == 7 && location(inUDP).sequence == 7)
        }
    }

    @Test(arguments: [4, 6])
    func lyingUDPLengths(version: Int) {
        // ESP that can't be read is a loss; IKE that can't be read is sent again.
        let bodies: [(port: UInt16, body: [UInt8], isESP: Bool)] = [
            (4500, esp, true), (500, ike, false), (4500, [0, 0, 0, 0] + ike, false),
        ]
        for (port, body, isESP) in bodies {
            for length in 0..<8 {
                let datagram = udpDatagram(from: port, to: port, body, length: UInt16(length))
                let expected: OuterPacket = isESP ? .malformed(.malformed) : .other
                #expect(classify(ip(version, 17, datagram)) == expected)
            }
            for excess in [1, 100, 60_000] {
                let length = UInt16(8 + body.count + excess)
                let datagram = udpDatagram(from: port, to: port, body, length: length)
                let expected: OuterPacket = isESP ? .malformed(.truncated) : .other
                #expect(classify(ip(version, 17, datagram)) == expected)
            }
        }
    }

    // RFC 7296 §3.1: a cookie of 0, or a length that is not there.
    @Test(arguments: [4, 6])
    func damagedIKEIsNobodys(version: Int) {
        for message in [
            ikeMessage(initiator: 0), ikeMessage(initiator: 1, length: 29),
            ikeMessage(initiator: 1, length: 27), Array(ike[..<27]), [],
        ] {
            for datagram in [
                udpDatagram(from: 500, to: 500, message),
                udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + message),
            ] {
                #expect(classify(ip(version, 17, datagram)) == .other)
            }
        }
    }

    @Test(arguments: [4, 6])
    func udpWithoutRoomForItsHeader(version: Int) {
        for count in 0..<8 {
            let body = Array(udpDatagram(from: 4500, to: 4500, [])[..<count])
            #expect(classify(ip(version, 17, body)) == .malformed(.truncated))
        }
        // The ports are there, and say that it is somebody else's.
        for count in 4..<8 {
            let body = Array(udpDatagram(from: 53, to: 53, [])[..<count])
            #expect(classify(ip(version, 17, body)) == .other)
        }
    }

    @Test func others() {
        #expect(classify(ipv4(6, Array(repeating: 0, count: 20))) == .other)
        #expect(classify(ipv6(58, Array(repeating: 0, count: 20))) == .other)
        #expect(classify(ipv4(51, esp)) == .other)
        // A lying length on another port is not ours to judge.
        #expect(classify(ipv4(17, udpDatagram(from: 53, to: 4501, esp, length: 3))) == .other)
        #expect(classify([]) == .other)
        #expect(classify(Array(repeating: 0, count: 60)) == .other)
    }

    @Test func fragments() {
        // More fragments, or an offset.
        for field: UInt16 in [0x2000, 0x0001, 0x2001] {
            #expect(classify(ipv4(50, esp, fragment: field)) == .fragment)
        }
        #expect(throws: Never.self) { try location(classify(ipv4(50, esp, fragment: 0x4000))) }
        let datagram = udpDatagram(from: 4500, to: 4500, esp)
        #expect(classify(ipv4(17, datagram, fragment: 0x2000)) == .fragment)
        #expect(
            classify(ipv4(17, udpDatagram(from: 500, to: 500, ike), fragment: 0x2000)) == .other)
        let marked = udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + ike)
        #expect(classify(ipv4(17, marked, fragment: 0x2000)) == .other)
        #expect(
            classify(ipv4(17, udpDatagram(from: 53, to: 53, ike), fragment: 0x2000)) == .other)
        // No ports in a later fragment.
        #expect(classify(ipv4(17, datagram, fragment: 5)) == .other)

        let first = Extension(fragmentOffset: 0, more: true)
        let later = Extension(fragmentOffset: 9, more: true)
        let atomic = Extension(fragmentOffset: 0, more: false)
        #expect(classify(ipv6(50, esp, [first])) == .fragment)
        #expect(classify(ipv6(50, esp, [later])) == .fragment)
        #expect(classify(ipv6(17, datagram, [first])) == .fragment)
        #expect(classify(ipv6(17, datagram, [later])) == .other)
        #expect(throws: Never.self) { try location(classify(ipv6(50, esp, [atomic]))) }
    }

    // A packet whose IP header is wrong counts as malformed when ESP may be lost with it, else as
    // other.
    @Test func wrongHeadersAreJudgedByWhatTheyName() {
        var four = ipv4(50, esp)
        four[0] = 0x44
        #expect(classify(four) == .malformed(.malformed))
        four[9] = 6
        #expect(classify(four) == .other)
        // Without a header length nobody can say where the ports are.
        four[9] = 17
        #expect(classify(four) == .other)
        // The walk never got to what the chain carries.
        let endless = Array(repeating: Extension(60), count: 20)
        #expect(classify(ipv6(50, esp, endless)) == .other)
        for body in [udpDatagram(from: 4500, to: 9, esp), udpDatagram(from: 9, to: 4500, esp)] {
            #expect(classify(Array(ipv4(17, body).dropLast())) == .malformed(.truncated))
            #expect(classify(Array(ipv6(17, body).dropLast())) == .malformed(.truncated))
            let chain = ipv6(17, body, [Extension(0), Extension(60)])
            #expect(classify(Array(chain.dropLast())) == .malformed(.truncated))
            // Octets of the middle of something, whatever they look like.
            #expect(classify(Array(ipv4(17, body, fragment: 7).dropLast())) == .other)
        }
        for port: UInt16 in [9, 500] {
            let body = udpDatagram(from: port, to: port, esp)
            #expect(classify(Array(ipv4(17, body).dropLast())) == .other)
            #expect(classify(Array(ipv6(17, body).dropLast())) == .other)
        }
    }

    // Every cut of every kind of packet: never a trap (the memory behind the cut can't be read),
    // and never taken, because the IP length tells that octets are missing. A cut ESP packet is a
    // loss however little of it there is; a cut IKE message is none as soon as it can be told.
    @Test func cutPacketsAreNeverTaken() {
        let espPackets = [
            ipv4(50, esp), ipv6(50, esp, [Extension(0), Extension(60)]),
            ipv4(17, udpDatagram(from: 4500, to: 4500, esp)),
            ipv6(17, udpDatagram(from: 4500, to: 4500, esp), [Extension(0, bytes: 24)]),
        ]
        for packet in espPackets {
            #expect(classify([]) == .other)
            for count in 1..<packet.count {
                let kind = classify(Array(packet[..<count]))
                #expect(kind == .malformed(.truncated), "\(count) octets")
            }
        }
        // Where each can be told from ESP: with its ports, or with its marker.
        let ikePackets = [
            (ipv4(17, udpDatagram(from: 500, to: 500, ike)), 24),
            (ipv6(17, udpDatagram(from: 500, to: 500, ike)), 44),
            (ipv4(17, udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + ike)), 32),
            (ipv6(17, udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + ike)), 52),
        ]
        for (packet, known) in ikePackets {
            for count in 1..<packet.count {
                let expected: OuterPacket = count < known ? .malformed(.truncated) : .other
                #expect(classify(Array(packet[..<count])) == expected, "\(count) octets")
            }
        }
    }

    @Test func damagedPacketsNeverLieOutside() {
        var random = SeededGenerator()
        let whole = [
            ipv4(50, esp), ipv6(50, esp, [Extension(0)]),
            ipv4(17, udpDatagram(from: 4500, to: 4500, esp)),
            ipv6(17, udpDatagram(from: 4500, to: 4500, [0, 0, 0, 0] + ike)),
        ]
        var taken = 0
        for _ in 0..<4_000 {
            var bytes = whole.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                bytes[Int.random(in: 0..<min(bytes.count, 64), using: &random)] =
                    UInt8.random(in: 0 ... .max, using: &random)
            }
            bytes.removeLast(Int.random(in: 0...6, using: &random))
            bytes += random.bytes(Int.random(in: 0...6, using: &random))
            guard case .esp(let place) = classify(bytes) else { continue }
            taken += 1
            #expect(Int(place.end) <= bytes.count)
            #expect(Int(place.espOffset) + 8 <= Int(place.end))
            #expect(place.headerLength <= place.espOffset)
            #expect(place.protocolOffset < place.headerLength)
            let start = Int(place.espOffset)
            #expect(place.spi.value == number(bytes[start..<start + 4]))
            #expect(place.sequence == number(bytes[start + 4..<start + 8]))
        }
        #expect(taken > 100, "too few valid packets to mean anything")
    }
}
