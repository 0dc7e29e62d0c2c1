// The times that failure detection and fencing are made of. docs/decisions/0010 proves that they
// fit together.

/// Times of one cluster; equal on all nodes. All in nanoseconds of a node's monotonic clock.
public struct ClusterTiming: Hashable, Sendable {
    /// Between two heartbeats to one peer.
    public var heartbeatNanoseconds: UInt64 = 10_000_000

    /// Heartbeats that may be missing before a peer is suspected.
    public var heartbeatsMissed: UInt64 = 3

    /// How much the rates of two clocks may differ, in parts per million. Crystal clocks stay
    /// within 100; the rest is margin.
    public var rateTolerancePartsPerMillion: UInt64 = 1000

    /// The store's lease of a member's key, in whole seconds, as etcd grants them.
    public var sessionSeconds = 2

    /// Between two signs of life to the store.
    public var keepAliveNanoseconds: UInt64 = 400_000_000

    /// A request that the store has not answered for this long means that the store is away.
    public var storeAwayNanoseconds: UInt64 = 500_000_000

    /// How long a node keeps its promise to take nothing over after the store has come back, so
    /// that all members find back to it before anyone decides.
    public var storeBackNanoseconds: UInt64 = 1_000_000_000

    /// How long links to a node must be good before it is taken in.
    public var healthyNanoseconds: UInt64 = 100_000_000

    /// How long a successor holds packets before the owner lets go in a planned move: more than
    /// the time by which the copies of one packet reach two nodes apart.
    public var holdNanoseconds: UInt64 = 2_000_000

    /// An owner that let go and was not relieved after this takes its tunnels back.
    public var reliefNanoseconds: UInt64 = 100_000_000

    /// A planned move is given up when its successor is not ready after this: the two may not hear
    /// each other.
    public var offerNanoseconds: UInt64 = 2_000_000_000

    /// The default times.
    public init() {}

    /// Without a vouched heartbeat for this long, a peer is suspected.
    public var detectionNanoseconds: UInt64 { heartbeatNanoseconds * heartbeatsMissed }

    /// How long a vote lets a node serve, counted from when the heartbeat was *sent* that the vote
    /// answers. Shorter than the detection time by what two clocks may drift apart meanwhile.
    public var servingNanoseconds: UInt64 { shortened(detectionNanoseconds) }

    /// How long the store's lease of the member key counts on the member's own clock, from when
    /// the sign of life was sent.
    public var sessionNanoseconds: UInt64 { shortened(UInt64(sessionSeconds) * 1_000_000_000) }

    /// At short intervals the way to a peer and back counts for much: there a heartbeat is answered
    /// at once, not with the next one that is due. Else a node would stop serving whenever its
    /// peers' heartbeats are out of step with its own.
    public var answersAtOnce: Bool { heartbeatNanoseconds <= 5_000_000 }

    private func shortened(_ duration: UInt64) -> UInt64 {
        // (1 - r) / (1 + r) > 1 - 2r; the margin is rounded up.
        duration - (duration * 2 * rateTolerancePartsPerMillion + 999_999) / 1_000_000
    }
}
