// How many numbers are published ahead of use.

/// Sizes of sequence leases; equal on all nodes, since a successor computes with them.
public struct LeaseSizing: Hashable, Sendable {
    /// A lease is made to last this long at the tunnel's present rate.
    public var horizonNanoseconds: UInt64 = 4_000_000_000
    /// The same for receiving.
    public var receiveHorizonNanoseconds: UInt64
    /// The fewest numbers for sending.
    public var sendMinimum: UInt64 = 1024
    /// The fewest numbers for receiving. They cost nothing while the owner lives; after its death
    /// they are what `strict` refuses, and how long `learn` counts.
    public var receiveMinimum: UInt64
    /// What a new owner may send before it has published a lease of its own.
    public var sendStart: UInt64 = 4096
    /// What a new owner may receive before it has published a lease of its own.
    public var receiveStart: UInt64
    /// What an owner may use beyond its lease while all members agree that the store is away.
    public var sendAllowance: UInt64 = 1 << 20
    /// What an owner may accept beyond its lease then.
    public var receiveAllowance: UInt64

    /// Sizes that fit a policy: with `strict`, numbers to be refused are few.
    public init(policy: TakeoverPolicy) {
        switch policy {
        case .learn:
            receiveMinimum = 4096
            receiveStart = 4096
            receiveHorizonNanoseconds = 4_000_000_000
            receiveAllowance = 1 << 20
        case .strict:
            receiveMinimum = 1024
            receiveStart = 1024
            receiveHorizonNanoseconds = 500_000_000
            // What a restarted cluster refuses.
            receiveAllowance = 1024
        }
    }
}

/// What a new owner does about packets that the old one may have accepted after its last
/// checkpoint (RFC 6027 §3.5: a policy decision).
public enum TakeoverPolicy: String, CaseIterable, Hashable, Sendable {
    /// Accepts everything above the last checkpoint, and counts what may have been replays.
    case learn
    /// Refuses everything that may have been accepted: no replay, at the price of an outage.
    case strict
}
