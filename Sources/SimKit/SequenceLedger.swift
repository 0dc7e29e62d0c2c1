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

/// All ESP packets that the gateways of a cluster sent, by association, sequence number and
/// generation.
///
/// Generation and number make the IV of counter modes (RFC 6054), so under one key a pair that
/// occurs twice is a nonce that occurs twice.
public struct SequenceLedger: Sendable {
    private struct Repeat: Hashable {
        let association: Int
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

    /// An empty record of associations 0..<`associations`; it grows when more come.
    public init(associations: Int) { runs = NumberRuns(lists: associations) }

    /// Records one packet. Precondition: the number is below 2⁴⁸, the counter's part of the IV.
    public mutating func note(
        association: Int, sequence: UInt64, generation: UInt16
    ) -> SequenceVerdict {
        precondition(sequence < 1 << 48, "the counter of an IV has 48 bits")
        packets &+= 1
        if association >= runs.lists { runs.grow(to: association + 1) }
        guard let first = runs.insert(sequence, tag: generation, list: association) else {
            return .new
        }
        violations &+= 1
        if first == generation { return .nonceTwice }
        let again = Repeat(
            association: association, sequence: sequence, generation: generation)
        return repeats.insert(again).inserted ? .sequenceTwice : .nonceTwice
    }

    /// The highest number sent; nil: none.
    public func highest(_ association: Int) -> UInt64? { runs.highest(association) }

    /// Different numbers sent.
    public func count(_ association: Int) -> Int { runs.count(association) }

    /// True when the number was sent.
    public func hasSent(_ association: Int, sequence: UInt64) -> Bool {
        runs.contains(sequence, list: association)
    }
}
