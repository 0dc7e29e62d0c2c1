// What a packet of the untrusted side counts as: a loss of ESP, IKE, or nobody's business.
//
// What would fool us: IKE that a capture cut off, or that came in fragments, counted as lost ESP;
// ESP that was cut off behind extension headers, counted as nothing.

import Foundation
import Testing

/// A packet and what it counts as: a drop reason, "ike" or "other".
private struct Stray: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let fate: String
    let octets: [UInt8]

    init(_ name: String, _ fate: String, _ octets: [UInt8], cut: Int = 0) {
        testDescription = name
        self.fate = fate
        self.octets = Array(octets.dropLast(cut))
    }
}

private func word(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)] }

private func ip4(_ transport: UInt8, _ body: [UInt8], fragment: Int = 0) -> [UInt8] {
    [0x45, 0] + word(20 + body.count) + [0, 1] + word(fragment) + [64, transport, 0, 0]
        + [192, 0, 2, 1, 198, 51, 100, 1] + body
}

private func ip6(_ next: UInt8, _ body: [UInt8]) -> [UInt8] {
    let address: [UInt8] = [0x20, 0x01, 0x0D, 0xB8] + Array(repeating: 0, count: 11) + [1]
    return [0x60, 0, 0, 0] + word(body.count) + [next, 64] + address + address + body
}

private func udp(_ source: Int, _ destination: Int, _ body: [UInt8]) -> [UInt8] {
    word(source) + word(destination) + word(8 + body.count) + [0, 0] + body
}

/// Eight octets of an extension header that names the next one.
private func header(_ next: UInt8) -> [UInt8] { [next, 0, 1, 4, 0, 0, 0, 0] }

private let marker: [UInt8] = [0, 0, 0, 0]
private let ike: [UInt8] =
    Array(1...8) + Array(repeating: 0, count: 8) + [33, 0x20, 34, 8, 0, 0, 0, 0]
    + [0, 0, 0, 32, 0, 0, 0, 4]
/// Of an SPI that nobody has.
private let esp: [UInt8] = [0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 1] + Array(repeating: 7, count: 40)

@Suite struct UntrustedSideTests {
    private static let good = CaptureSet.inRepository("scapy-tunnel44-aes256gcm16")

    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func expectFate(_ stray: Stray) throws {
        let capture = Capture(records: [Record(nanoseconds: 0, octets: stray.octets)])
        let path = try scratch.write(capture.file(), as: "stray.pcap")
        let report = try Report.replay(path, sas: Self.good.sas, nodes: 3)
        #expect(report.packets.ike == (stray.fate == "ike" ? 1 : 0))
        #expect(report.packets.other == (stray.fate == "other" ? 1 : 0))
        let isDrop = !["ike", "other"].contains(stray.fate)
        #expect(report.dropped == (isDrop ? [stray.fate: 1] : [:]))
    }

    @Test(
        arguments: [
            Stray("whole", "ike", ip4(17, udp(500, 500, ike))),
            Stray("whole, marked", "ike", ip4(17, udp(4500, 9000, marker + ike))),
            Stray("whole, IPv6", "ike", ip6(17, udp(500, 500, ike))),
            Stray("cut", "other", ip4(17, udp(500, 500, ike)), cut: 1),
            Stray("cut, marked", "other", ip4(17, udp(4500, 4500, marker + ike)), cut: 1),
            Stray("cut, IPv6", "other", ip6(17, udp(4500, 4500, marker + ike)), cut: 30),
            Stray("cut behind an option", "other", ip6(0, header(17) + udp(500, 1, ike)), cut: 9),
            Stray("fragment", "other", ip4(17, udp(500, 500, ike), fragment: 0x2000)),
            Stray(
                "fragment, marked", "other",
                ip4(17, udp(4500, 4500, marker + ike), fragment: 0x2000)),
            Stray("no ISAKMP", "other", ip4(17, udp(500, 500, Array("hello".utf8)))),
            Stray(
                "no ISAKMP behind the marker", "other", ip4(17, udp(4500, 4500, marker + marker))),
            Stray("marker only", "other", ip4(17, udp(4500, 4500, marker))),
            Stray(
                "length of the message too long", "other", ip4(17, udp(500, 500, ike.dropLast()))),
        ])
    private func ikeIsNeverLostESP(_ stray: Stray) throws { try expectFate(stray) }

    @Test(
        arguments: [
            Stray("whole", "unknownSPI", ip4(50, esp)),
            Stray("cut", "truncated", ip4(50, esp), cut: 1),
            Stray("cut, in UDP", "truncated", ip4(17, udp(4500, 4500, esp)), cut: 1),
            Stray("cut behind an option", "truncated", ip6(0, header(50) + esp), cut: 1),
            Stray(
                "cut behind options", "truncated",
                ip6(0, header(43) + header(60) + header(50) + esp),
                cut: 40),
            Stray(
                "cut in UDP behind an option", "truncated", ip6(60, header(17) + udp(4500, 1, esp)),
                cut: 9),
            Stray("cut inside the options", "truncated", ip6(0, header(50) + esp), cut: 50),
            Stray("fragment", "fragment", ip4(50, esp, fragment: 0x2000)),
            Stray("fragment, in UDP", "fragment", ip4(17, udp(4500, 4500, esp), fragment: 0x2000)),
        ])
    private func espIsMissed(_ stray: Stray) throws { try expectFate(stray) }

    @Test(
        arguments: [
            Stray("cut TCP behind an option", "other", ip6(0, header(6) + esp), cut: 1),
            Stray(
                "cut DNS behind an option", "other", ip6(0, header(17) + udp(53, 9, esp)), cut: 1),
            Stray(
                "cut later fragment", "other", ip4(17, udp(4500, 4500, esp), fragment: 3), cut: 1),
            // RFC 4301 §4.4.1.1: the upper-layer protocol, whatever stands behind it.
            Stray("mobility header", "other", ip6(135, header(50) + esp)),
            Stray("cut mobility header", "other", ip6(135, header(50) + esp), cut: 1),
            Stray("authentication header", "other", ip4(51, header(50) + esp)),
        ])
    private func otherPacketsAreNobodys(_ stray: Stray) throws { try expectFate(stray) }
}
