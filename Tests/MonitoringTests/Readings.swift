// Readings of real gateways, which nobody has made up.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import IKEStub

@testable import Gateway
@testable import GatewayIO

extension NodeReading {
    /// The first of two members, which serves.
    static func ofMember() throws -> NodeReading {
        var configuration = try Self.configuration()
        configuration.cardCapacity = 16
        configuration.tableCapacity = 64
        let cluster = try InProcessCluster(
            nodes: 2, template: configuration, library: CryptoLibrary())
        return reading(of: cluster.members[0].gateway, at: cluster.clock)
    }

    /// A node that has just begun, and is no member of anything.
    static func ofStranger() throws -> NodeReading {
        let gateway = try Gateway(
            configuration(), library: CryptoLibrary(),
            secret: ClusterSecret(key: SecretBytes(count: 32)),
            random: SystemRandomNumberGenerator(), nowNanoseconds: 1)
        return reading(of: gateway, at: 1)
    }

    private static func configuration() throws -> GatewayConfiguration {
        GatewayConfiguration(
            node: NodeID(1),
            distribution: try Distribution(
                identifierCount: 16,
                cookieKey: CookieKey(
                    multipliers: SIMD4(0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F),
                    offset: 0x1234)))
    }

    private static func reading(of gateway: borrowing Gateway, at now: UInt64) -> NodeReading {
        NodeReading(
            isAlone: false, gateway: gateway.status(nowNanoseconds: now),
            identifiers: gateway.identifierStatuses(), counters: gateway.counters,
            ike: gateway.ikeCounters(), link: gateway.linkCounters, card: gateway.cardCounters,
            segments: [:], pairs: 0, storeTrouble: nil, isStopping: false)
    }
}
