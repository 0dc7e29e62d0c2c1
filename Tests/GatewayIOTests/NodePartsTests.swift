// What a live node is put together from, as far as it can be tried without rights: see
// EndToEndTests/LiveNodeTests for the rest.

import Cluster
import Crypto
import ESP
import Gateway
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite struct NodePartsTests {
    // MARK: Routes

    // A peer that asks for odd ranges would have the node call the kernel thousands of times.
    @Test func oddRangesHaveOneRouteAroundThem() throws {
        let odd = try (0..<8).map { index in
            try TrafficSelector(parsing: "10.\(index).0.1-10.\(index).255.254")
        }
        let routes = RouteTable.prefixes(of: odd).map { "\($0.address)/\($0.length)" }
        #expect(routes == ["10.0.0.0/13"])
        #expect(RouteTable.prefixes(of: [odd[0]]).count == 30)
    }

    // What would fool us: prefixes that overlap, or leave a gap, at ranges that are no prefix.
    @Test func selectorsBecomeTheFewestPrefixes() throws {
        var random = SeededGenerator()
        for _ in 0..<300 {
            let two = [UInt32(random.next() & 0x3FF), UInt32(random.next() & 0x3FF)].sorted()
            let base: UInt32 = Bool.random(using: &random) ? 0x0A00_0000 : 0xFFFF_FC00
            let selector = try #require(
                TrafficSelector(
                    first: IPAddress(v4: base + two[0]), last: IPAddress(v4: base + two[1])))
            var covered: [UInt32] = []
            for (address, length) in selector.prefixes {
                let range = address.prefixRange(length: length)
                #expect(range.first == address)
                covered += (UInt32(range.first.low)...UInt32(range.last.low)).map { $0 - base }
            }
            #expect(covered == Array(two[0]...two[1]))
            // No more than twice the bits in which first and last differ (RFC 4632's arithmetic).
            #expect(selector.prefixes.count <= 20)
        }
    }

    @Test(arguments: [
        ("0.0.0.0", "255.255.255.255", ["0.0.0.0/0"]),
        ("10.0.0.1", "10.0.0.1", ["10.0.0.1/32"]),
        ("10.0.0.1", "10.0.0.6", ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["::/0"]),
        (
            "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::",
            ["fd00::ffff:ffff:ffff:ffff/128", "fd00:0:0:1::/128"]
        ),
    ])
    func knownPrefixes(first: String, last: String, expected: [String]) throws {
        let ends = (try #require(IPAddress(first)), try #require(IPAddress(last)))
        let selector = try #require(TrafficSelector(first: ends.0, last: ends.1))
        #expect(selector.prefixes.map { "\($0.0)/\($0.1)" } == expected)
    }

    // MARK: Headers

    // What would fool us: a header that the gateway reads in another way than it was meant.
    @Test(arguments: [IPAddress.Family.v4, .v6])
    func headersPutBackAreReadAsTheyWere(family: IPAddress.Family) throws {
        let ends = family == .v4 ? Outer.v4 : Outer.v6
        let headerBytes = family == .v4 ? 20 : 40
        let esp = bigEndian(UInt32(0x1234_5678)) + bigEndian(UInt32(9)) + [1, 2, 3, 4]
        var packet = [UInt8](repeating: 0xEE, count: headerBytes) + esp
        let total = packet.count
        packet.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            OuterHeader.write(
                base, source: ends.source, destination: ends.destination, trafficClass: 0xB9,
                payload: 50, total: total)
            guard case .esp(let location) = OuterPacket.classify(at: base, count: total) else {
                Issue.record("not ESP")
                return
            }
            #expect(location.spi == SPI(0x1234_5678) && location.sequence == 9)
            #expect(Int(location.espOffset) == headerBytes && Int(location.end) == total)
        }
        let header = try #require(packet.withUnsafeBytes { OuterHeader($0) })
        #expect(header.source == ends.source && header.destination == ends.destination)
        #expect(header.trafficClass == 0xB9 && !header.isUDP)
    }

    @Test func socketAddressesComeBack() throws {
        for text in ["192.0.2.1", "2001:db8::1:2"] {
            let address = try #require(IPAddress(text))
            let socket = SocketAddress(address, 4501)
            let read = withUnsafePointer(to: socket.storage) { SocketAddress.read($0) }
            #expect(read?.0 == address && read?.1 == 4501)
        }
    }

    // MARK: A cluster of one

    @Test func aNodeThatIsAloneServesAtOnce() throws {
        var random = SystemRandomSource()
        let member = try SoleMember(
            capacity: 2, journal: nil, store: CoordinationStore(), ike: nil,
            library: CryptoLibrary(), random: &random)
        func establish(_ spi: UInt32) throws -> String? {
            member.establish(
                inbound: try association(parameters(spi, .inbound)),
                outbound: try association(parameters(spi | 1 << 31)), replacing: nil,
                member.founded)
        }
        #expect(try establish(0x1001) == nil)
        #expect(try establish(0x1001)?.contains("already") == true)
        #expect(try establish(0x1002) == nil)
        #expect(try establish(0x1003)?.contains("full") == true)
        // A day in which nobody looked at it.
        let later = member.founded + 86_400_000_000_000
        member.gateway.tick(nowNanoseconds: later)
        member.carry(later)
        let until = member.gateway.servingUntilNanoseconds
        let counts = member.gateway.packetCounts(of: SPI(0x1002))
        #expect(until > later && counts?.received == 0)
    }
}
