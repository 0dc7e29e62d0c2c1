// What a router does to packets, and says of them. Headers and messages are scapy's (2.5.0).
//
// What would fool us: a checksum that is updated wrongly where its carry ends around; errors about
// errors; a message that quotes more than may be.

import TestSupport
import Testing
import Wire

@Suite struct RoutingTests {
    private func octets(_ text: String) -> [UInt8] {
        stride(from: 0, to: text.utf8.count, by: 2).compactMap { place in
            let start = text.index(text.startIndex, offsetBy: place)
            return UInt8(text[start..<text.index(start, offsetBy: 2)], radix: 16)
        }
    }

    // Of each: the TTL, and the packet with it.
    private static let packets = [
        (64, "4500002012340000401152da0a5800020a65010100010002000c254d61626364"),
        (2, "4500002012340000021190da0a5800020a65010100010002000c254d61626364"),
        (1, "4500002012340000011191da0a5800020a65010100010002000c254d61626364"),
        (255, "4500002012340000ff1193d90a5800020a65010100010002000c254d61626364"),
    ]

    private func decremented(_ packet: [UInt8]) -> [UInt8]? {
        var packet = packet
        let goesOn = packet.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map(HopLimit.decrement) ?? false
        }
        return goesOn ? packet : nil
    }

    @Test(arguments: packets)
    func everyHopTakesOneOff(limit: Int, text: String) throws {
        var packet = octets(text)
        guard limit > 1 else {
            #expect(decremented(packet) == nil)
            return
        }
        for left in stride(from: limit - 1, through: 1, by: -1) {
            packet = try #require(decremented(packet))
            #expect(Int(packet[8]) == left && naiveChecksum(packet[..<20]) == 0)
        }
        #expect(packet == octets(Self.packets[2].1))
        #expect(decremented(packet) == nil)
    }

    @Test func hopLimitsOfIPv6() throws {
        var packet = [UInt8](repeating: 0, count: 40)
        packet[0] = 0x60
        packet[7] = 2
        let next = try #require(decremented(packet))
        #expect(next[7] == 1 && next[..<7] == packet[..<7] && next[8...] == packet[8...])
        #expect(decremented(next) == nil)
        packet[7] = 0
        #expect(decremented(packet) == nil)
    }

    private func notice(_ notice: ICMPNotice, _ packet: [UInt8], _ router: String) -> [UInt8]? {
        guard let router = IPAddress(router) else { return nil }
        return packet.withUnsafeBytes { notice.packet(about: $0, from: router) }
    }

    @Test func messagesAreThoseOfScapy() {
        // 700 octets of data: the quotation ends where the message has 576.
        let long =
            octets("450002d8000700000111a14f0a5800020a6501010001000202c42fef")
            + [UInt8](repeating: 0x78, count: 700)
        #expect(
            notice(.timeExceeded, long, "10.88.0.1") == octets(
                "45000240000000004001640b0a5800010a5800020b0067ef00000000") + long[..<548])
        let whole =
            octets("450000800007400009115ba70a5800020a65010100010002006c2f9a")
            + [UInt8](repeating: 0x79, count: 100)
        #expect(
            notice(.tooBig(mtu: 1400), whole, "10.88.0.1") == octets(
                "4500009c00000000400165af0a5800010a58000203040dc100000578") + whole)
        let v6 =
            octets(
                "6000000000301101fd880000000000000000000000000002"
                    + "fd010000000000000000000000000001000100020030736c")
            + [UInt8](repeating: 0x7A, count: 40)
        #expect(
            notice(.timeExceeded, v6, "fd88::1") == octets(
                "6000000000603a40fd880000000000000000000000000001"
                    + "fd8800000000000000000000000000020300906000000000") + v6)
        #expect(
            notice(.tooBig(mtu: 1400), v6, "fd88::1") == octets(
                "6000000000603a40fd880000000000000000000000000001"
                    + "fd88000000000000000000000000000202008be800000578") + v6)
    }

    @Test func nobodyIsToldAboutWhatMayNotBeAnswered() {
        let packet = octets(Self.packets[0].1)
        #expect(notice(.timeExceeded, packet, "10.88.0.1") != nil)
        #expect(notice(.timeExceeded, packet, "fd88::1") == nil)
        func changed(_ place: Int, _ value: [UInt8]) -> [UInt8] {
            var other = packet
            other.replaceSubrange(place..<place + value.count, with: value)
            return other
        }
        // To a group, to everyone, from nobody, from a group.
        #expect(notice(.timeExceeded, changed(16, [224, 0, 0, 1]), "10.88.0.1") == nil)
        #expect(notice(.timeExceeded, changed(16, [255, 255, 255, 255]), "10.88.0.1") == nil)
        #expect(notice(.timeExceeded, changed(12, [0, 0, 0, 0]), "10.88.0.1") == nil)
        #expect(notice(.timeExceeded, changed(12, [239, 1, 1, 1]), "10.88.0.1") == nil)
        // A later fragment, and the first one.
        #expect(notice(.timeExceeded, changed(6, [0, 1]), "10.88.0.1") == nil)
        #expect(notice(.timeExceeded, changed(6, [0x20, 0]), "10.88.0.1") != nil)
        // Errors and questions of ICMP.
        var icmp = changed(9, [1])
        for (type, isAnswered) in [(3, false), (5, false), (8, true), (11, false), (0, true)] {
            icmp[20] = UInt8(type)
            #expect((notice(.timeExceeded, icmp, "10.88.0.1") != nil) == isAnswered)
        }
        for count in 0..<packet.count {
            _ = notice(.timeExceeded, Array(packet[..<count]), "10.88.0.1")
        }
    }
}
