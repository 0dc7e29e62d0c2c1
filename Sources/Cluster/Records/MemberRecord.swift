// What a node says of itself in the store.

public import Wire

/// Where the other nodes reach one.
public struct MemberEndpoint: Hashable, Sendable {
    /// Of the HA link.
    public var address: IPAddress
    /// The UDP port of the HA link.
    public var port: UInt16
    /// The node's own MAC address on the outer segment, to which others relay what came to them
    /// and is its own.
    public var station: MACAddress

    /// An endpoint of these parts.
    public init(address: IPAddress, port: UInt16, station: MACAddress) {
        self.address = address
        self.port = port
        self.station = station
    }
}

/// That a node lives, and which life of it this is. Kept under a store lease, so that it goes when
/// the node does.
public struct MemberRecord: Hashable, Sendable {
    /// Drawn at random when the process starts: keys of the HA link depend on it.
    public var incarnation: UInt64
    /// Where it is; nil where all nodes are in one process.
    public var endpoint: MemberEndpoint?

    /// A member's record.
    public init(incarnation: UInt64, endpoint: MemberEndpoint? = nil) {
        self.incarnation = incarnation
        self.endpoint = endpoint
    }
}

/// How much of the load a node shall take.
public struct WeightRecord: Hashable, Sendable {
    /// Shares are in proportion to it. 0: drain.
    public var weight: UInt16

    /// A weight's record.
    public init(weight: UInt16) { self.weight = weight }
}
