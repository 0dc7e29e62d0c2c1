// What gateways must never do, recorded exactly: use a sequence number, or a nonce, twice.

/// What the ledger knows of a number that a gateway has just sent.
public enum SequenceVerdict: Hashable, Sendable {
    /// Never seen before.
    case new
    /// Sent before, under another generation: the peer takes only one of the two packets.
    case sequenceTwice
    /// Sent before, under the same generation: the same key and nonce protected two packets.
    case nonceTwice
}

/// All ESP packets that the gateways of a cluster sent, by tunnel, sequence number and generation.
///
/// Generation and number make the IV of counter modes (RFC 6054), so under one key a pair that
/// occurs twice is a nonce that occurs twice.
public struct SequenceLedger: Sendable {
    private struct Repeat: Hashable {
        let tunnel: Int
        let sequence: UInt64
        let generation: UInt16
    }

    private var runs: NumberRuns
    /// Further generations of numbers that were sent twice. Asked for members only.
    private var repeats: Set<Repeat> = []
    /// Packets noted, whatever the verdict.
    public private(set) var packets: UInt64 = 0
    /// Packets with a verdict other than `new`.
    public private(set) var violations: UInt64 = 0

    /// An empty record of tunnels 0..<`tunnels`.
    public init(tunnels: Int) { runs = NumberRuns(lists: tunnels) }

    /// Records one packet. Precondition: the number is below 2⁴⁸, the counter's part of the IV.
    public mutating func note(
        tunnel: Int, sequence: UInt64, generation: UInt16
    ) -> SequenceVerdict {
        precondition(sequence < 1 << 48, "the counter of an IV has 48 bits")
        packets &+= 1
        guard let first = runs.insert(sequence, tag: generation, list: tunnel) else { return .new }
        violations &+= 1
        if first == generation { return .nonceTwice }
        let again = Repeat(tunnel: tunnel, sequence: sequence, generation: generation)
        return repeats.insert(again).inserted ? .sequenceTwice : .nonceTwice
    }

    /// The highest number sent; nil: none.
    public func highest(_ tunnel: Int) -> UInt64? { runs.highest(tunnel) }

    /// Different numbers sent.
    public func count(_ tunnel: Int) -> Int { runs.count(tunnel) }

    /// True when the number was sent.
    public func hasSent(_ tunnel: Int, sequence: UInt64) -> Bool {
        runs.contains(sequence, list: tunnel)
    }
}
