// What a node says of itself in the store.

/// That a node lives, and which life of it this is. Kept under a store lease, so that it goes when
/// the node does.
public struct MemberRecord: Hashable, Sendable {
    /// Drawn at random when the process starts: keys of the HA link depend on it.
    public var incarnation: UInt64

    /// A member's record.
    public init(incarnation: UInt64) { self.incarnation = incarnation }
}

/// How much of the load a node shall take.
public struct WeightRecord: Hashable, Sendable {
    /// Shares are in proportion to it. 0: drain.
    public var weight: UInt16

    /// A weight's record.
    public init(weight: UInt16) { self.weight = weight }
}
