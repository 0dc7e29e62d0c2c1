// Everything that a live node tells of itself, at one moment: for `spindle status` and for metrics.

public import Cluster
public import CryptoCardSim
internal import ESP
public import Gateway
public import IKEStub

/// What a node was, did and counted, up to one moment.
public struct NodeReading: Sendable {
    /// True for a node that is no member of a cluster: it has its own store, and nobody to move
    /// tunnels to.
    public let isAlone: Bool
    /// The gateway, and the cluster as it sees it.
    public let gateway: GatewayStatus
    /// All identifiers; empty for a node alone, whose number of them means nothing.
    public let identifiers: [IdentifierStatus]
    /// Packets.
    public let counters: GatewayCounters
    /// What of IKE was not acted upon.
    public let ike: IKECounters
    /// The HA link.
    public let link: HALinkCounters
    /// The card.
    public let card: CardCounters
    /// The segments of a member of a cluster, by name.
    public let segments: [String: UInt64]
    /// Pairs of CHILD SAs, and manually keyed tunnels.
    public let pairs: Int
    /// Why the store can't be used, in one line; nil: it can.
    public let storeTrouble: String?
    /// The node is about to stop.
    public let isStopping: Bool
}

/// What `spindle status` shows.
public struct NodeStatus: Codable, Sendable {
    /// True for a node that is no member of a cluster.
    public let isAlone: Bool
    /// The gateway, and the cluster as it sees it.
    public let gateway: GatewayStatus
    /// All identifiers, where they were asked for.
    public let identifiers: [IdentifierStatus]?
    /// Counters by name.
    public let counters: [String: UInt64]
    /// Why the store can't be used, in one line; nil: it can.
    public let storeTrouble: String?

    init(_ reading: NodeReading, withIdentifiers: Bool) {
        isAlone = reading.isAlone
        gateway = reading.gateway
        identifiers = withIdentifiers ? reading.identifiers : nil
        counters = Self.counters(reading)
        storeTrouble = reading.storeTrouble
    }

    /// Of reasons, only those that occurred.
    private static func counters(_ reading: NodeReading) -> [String: UInt64] {
        var counters: [String: UInt64] = [
            "delivered": reading.counters.delivered, "sealed": reading.counters.sealed,
            "ike": reading.counters.ike, "foreign": reading.counters.foreign,
            "held": reading.counters.held, "exposed": reading.counters.exposed,
            "ikeAssociations": UInt64(reading.gateway.ikeAssociations),
            "pairs": UInt64(reading.pairs), "linkSent": reading.link.sent,
            "linkReceived": reading.link.received,
        ]
        for (name, count) in reading.segments where count > 0 {
            counters["segment.\(name)"] = count
        }
        for (reason, count) in reading.counters.drops.nonzero {
            counters["drop.\(reason)"] = count
        }
        for reason in IKEDropReason.allCases where reading.ike[reason] > 0 {
            counters["ikeDrop.\(reason.rawValue)"] = reading.ike[reason]
        }
        for refusal in HALinkRefusal.allCases where reading.link[refusal] > 0 {
            counters["linkRefused.\(refusal)"] = reading.link[refusal]
        }
        return counters
    }
}
