import TestSupport
import Testing
import Wire

@testable import ESP

/// RFC 6040 Figure 4, copied by hand: rows inner, columns outer, both in the order
/// Not-ECT, ECT(0), ECT(1), CE. nil is "drop".
private let figure4: [(inner: UInt8, results: [UInt8?])] = [
    (0b00, [0b00, 0b00, 0b00, nil]),
    (0b10, [0b10, 0b10, 0b01, 0b11]),
    (0b01, [0b01, 0b01, 0b01, 0b11]),
    (0b11, [0b11, 0b11, 0b11, 0b11]),
]
private let columns: [UInt8] = [0b00, 0b10, 0b01, 0b11]

@Suite struct TunnelECNTests {
    // All 16, with every DSCP around them; the rest of the packet must not change, but for a
    // checksum that stays right.
    @Test(arguments: [IPAddress.Family.v4, .v6])
    func decapsulation(family: IPAddress.Family) {
        for (inner, results) in figure4 {
            for (outer, result) in zip(columns, results) {
                for dscp in stride(from: UInt8(0), to: 64, by: 7) {
                    let before = packet(family, dscp << 2 | inner)
                    var after = before
                    let isKept = after.withUnsafeMutableBytes { bytes in
                        bytes.baseAddress.map {
                            TunnelECN.decapsulate(
                                outerClass: (63 - dscp) << 2 | outer, inner: $0, family: family)
                        }
                    }
                    #expect(isKept == (result != nil))
                    #expect(after == packet(family, dscp << 2 | (result ?? inner)))
                }
            }
        }
    }

    private func packet(_ family: IPAddress.Family, _ trafficClass: UInt8) -> [UInt8] {
        if family == .v4 {
            var packet = IPv4Packet()
            packet.tos = trafficClass
            return packet.bytes
        }
        var packet = IPv6Packet()
        packet.trafficClass = trafficClass
        packet.flowLabel = 0xABCDE
        return packet.bytes
    }

    // Through a tunnel: the outer header is marked on the way.
    @Test(arguments: [IPAddress.Family.v4, .v6], [IPAddress.Family.v4, .v6])
    func throughATunnel(outerFamily: IPAddress.Family, innerFamily: IPAddress.Family) throws {
        let tunnel = try Tunnel(family: outerFamily)
        for (inner, results) in figure4 {
            for (outer, result) in zip(columns, results) {
                var sealed = try tunnel.seal(packet(innerFamily, 0x28 | inner))
                if outerFamily == .v4 {
                    sealed[1] = sealed[1] & 0xFC | outer
                } else {
                    sealed[1] = sealed[1] & 0xCF | outer << 4
                }
                let opened = tunnel.open(sealed)
                #expect(opened.bytes == result.map { packet(innerFamily, 0x28 | $0) })
                #expect(opened.drop == (result == nil ? .ecn : nil))
            }
        }
    }
}
