import Testing
import Wire

private let ipv4: [UInt8] = [0x45, 0, 0, 20]
private let ipv6: [UInt8] = [0x60, 0, 0, 0]
private let addresses = [UInt8](repeating: 0xEE, count: 12)
private let cooked = [UInt8](repeating: 0, count: 14)
/// The header of the second cooked version behind its type.
private let cooked2 = [UInt8](repeating: 0, count: 18)

/// A frame, and how many bytes its link header has.
private struct Frame: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let type: LinkType
    let header: [UInt8]
    let packet: [UInt8]

    init(_ name: String, _ type: LinkType, _ header: [UInt8], _ packet: [UInt8]) {
        (testDescription, self.type, self.header, self.packet) = (name, type, header, packet)
    }
}

private let framesWithIP = [
    Frame("Ethernet IPv4", .ethernet, addresses + [0x08, 0x00], ipv4),
    Frame("Ethernet IPv6", .ethernet, addresses + [0x86, 0xDD], ipv6),
    Frame("802.1Q", .ethernet, addresses + [0x81, 0x00, 0x20, 0x05, 0x08, 0x00], ipv4),
    Frame(
        "802.1ad and 802.1Q", .ethernet,
        addresses + [0x88, 0xA8, 0, 7, 0x81, 0x00, 0, 5, 0x86, 0xDD], ipv6),
    Frame("old QinQ", .ethernet, addresses + [0x91, 0, 0, 7, 0x81, 0, 0, 5, 0x08, 0], ipv4),
    Frame("raw IPv4", .rawIP, [], ipv4),
    Frame("raw IPv6", .rawIP, [], ipv6),
    Frame("loopback IPv4, little-endian", .loopback, [2, 0, 0, 0], ipv4),
    Frame("loopback IPv4, big-endian", .loopback, [0, 0, 0, 2], ipv4),
    Frame("loopback IPv6, Linux", .loopback, [10, 0, 0, 0], ipv6),
    Frame("loopback IPv6, OpenBSD", .loopback, [0, 0, 0, 24], ipv6),
    Frame("loopback IPv6, FreeBSD", .loopback, [28, 0, 0, 0], ipv6),
    Frame("loopback IPv6, macOS", .loopback, [30, 0, 0, 0], ipv6),
    Frame("cooked IPv4", .linuxSLL, cooked + [0x08, 0x00], ipv4),
    Frame("cooked 802.1Q", .linuxSLL, cooked + [0x81, 0, 0, 5, 0x86, 0xDD], ipv6),
    Frame("cooked v2 IPv4", .linuxSLL2, [0x08, 0x00] + cooked2, ipv4),
    Frame("cooked v2 IPv6", .linuxSLL2, [0x86, 0xDD] + cooked2, ipv6),
    Frame("cooked v2 802.1Q", .linuxSLL2, [0x81, 0] + cooked2 + [0, 5, 0x08, 0], ipv4),
]

@Suite struct LinkLayerTests {
    // What would fool us: a read behind the end that happens to find zeros. The buffer here has
    // exactly the bytes of the frame, and its subscript traps in debug builds.
    @Test(arguments: framesWithIP)
    fileprivate func packetIsFoundAndEveryTruncationNoticed(frame: Frame) {
        let bytes = frame.header + frame.packet
        let place = NetworkPacketPlace.found(frame.header.count..<bytes.count)
        #expect(frame.type.place(in: bytes) == place)
        // The first byte of the packet is enough: the rest is for the IP header to judge.
        let shortest = frame.header.count + 1
        #expect(
            frame.type.place(in: Array(bytes.prefix(shortest)))
                == .found(frame.header.count..<shortest))
        for count in 0...frame.header.count {
            #expect(frame.type.place(in: Array(bytes.prefix(count))) == .truncated)
        }
    }

    @Test func paddingStaysInThePlace() {
        let bytes = addresses + [0x08, 0x00] + ipv4 + [UInt8](repeating: 0, count: 42)
        #expect(LinkType.ethernet.place(in: bytes) == .found(14..<60))
    }

    @Test(arguments: [
        Frame("ARP", .ethernet, addresses + [0x08, 0x06], ipv4),
        Frame("802.3 length", .ethernet, addresses + [0x00, 0x04], ipv4),
        Frame(
            "three tags", .ethernet,
            addresses + [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x08, 0], ipv4),
        Frame("version 6 in IPv4", .ethernet, addresses + [0x08, 0x00], ipv6),
        Frame("version 4 in IPv6", .ethernet, addresses + [0x86, 0xDD], ipv4),
        Frame("ARP behind a tag", .ethernet, addresses + [0x81, 0, 0, 1, 0x08, 0x06], ipv4),
        Frame("raw, version 5", .rawIP, [], [0x55]),
        Frame("loopback, AppleTalk", .loopback, [16, 0, 0, 0], ipv4),
        Frame("loopback, two orders at once", .loopback, [2, 0, 0, 2], ipv4),
        Frame("cooked ARP", .linuxSLL, cooked + [0x08, 0x06], ipv4),
        Frame("cooked v2 ARP", .linuxSLL2, [0x08, 0x06] + cooked2, ipv4),
    ])
    fileprivate func otherProtocolsAreNotIP(frame: Frame) {
        #expect(frame.type.place(in: frame.header + frame.packet) == .notIP)
    }

    @Test func numbersAreThoseOfTheRegistry() {
        let numbers: [LinkType: [Int]] = [
            .ethernet: [1], .rawIP: [12, 14, 101, 228, 229], .loopback: [0, 108],
            .linuxSLL: [113], .linuxSLL2: [276],
        ]
        #expect(numbers.count == LinkType.allCases.count)
        for (type, numbers) in numbers {
            for number in numbers { #expect(LinkType(number: number) == type) }
        }
        for number in [-1, 2, 105, 127, 192, 65_536, .max, .min] {
            #expect(LinkType(number: number) == nil)
        }
    }
}

extension LinkType {
    fileprivate func place(in frame: [UInt8]) -> NetworkPacketPlace {
        frame.withUnsafeBytes { networkPacket(in: $0) }
    }
}
