// How far an association's numbers have come, told to other nodes and taken over from them, and how
// far they may go. Whatever is taken over, a number that counted as used or received stays so.

public import Wire

/// What a successor must know of an association besides its parameters and keys: how far its
/// numbers have come (RFC 6027 §3.4, §3.5).
public struct SequenceCheckpoint: Hashable, Sendable {
    /// Whose checkpoint this is.
    public let spi: SPI
    /// Sending: the last number used. Receiving: the highest number accepted.
    public let sequence: UInt64
    /// Authenticated or sent packets.
    public let packets: UInt64
    /// Their octets of ESP payload.
    public let bytes: UInt64
    /// The bits of the replay window: number n is bit n mod 64 of word n / 64 mod count, for as
    /// many words as the window needs (a power of two). Empty: only the edge is known.
    public let window: [UInt64]

    /// A checkpoint from its parts, which may come from another node.
    public init(spi: SPI, sequence: UInt64, packets: UInt64, bytes: UInt64, window: [UInt64] = []) {
        self.spi = spi
        self.sequence = sequence
        self.packets = packets
        self.bytes = bytes
        self.window = window
    }
}

extension AssociationSlab {
    // MARK: Checkpoints

    /// The state of an association that changes with every packet. Precondition: the handle is
    /// current.
    public borrowing func checkpoint(of handle: AssociationHandle) -> SequenceCheckpoint {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        return SequenceCheckpoint(
            spi: SPI(record.pointee.spi), sequence: record.pointee.sequence,
            packets: record.pointee.packets, bytes: record.pointee.bytes,
            window: Array(
                UnsafeBufferPointer(
                    start: record.ringWords, count: Int(record.pointee.ringMask) + 1)))
    }

    /// Takes over what a checkpoint of the same association knows: numbers that one of the two
    /// counts as received are so afterwards, and no counter goes back. So checkpoints may come in
    /// any order and more than once. One that knows the edge only, and a higher one, closes all
    /// numbers up to it: which of them were received, nobody can tell.
    ///
    /// False when the checkpoint is of another association or of another window width; nothing is
    /// changed then. Precondition: the handle is current.
    @discardableResult
    public mutating func apply(
        _ checkpoint: SequenceCheckpoint, to handle: AssociationHandle
    ) -> Bool {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        guard checkpoint.spi.value == record.pointee.spi,
            checkpoint.window.isEmpty
                || checkpoint.window.count == Int(record.pointee.ringMask) + 1,
            record.pointee.flags.contains(.usesESN) || checkpoint.sequence <= UInt64(UInt32.max)
        else { return false }
        let ring = record.replayRing
        if checkpoint.window.isEmpty {
            if checkpoint.sequence > record.pointee.sequence {
                ring.close(upTo: checkpoint.sequence, highest: &record.pointee.sequence)
            }
        } else {
            checkpoint.window.withUnsafeBufferPointer {
                ring.merge(
                    $0, highest: checkpoint.sequence, into: &record.pointee.sequence)
            }
        }
        record.pointee.packets = max(record.pointee.packets, checkpoint.packets)
        record.pointee.bytes = max(record.pointee.bytes, checkpoint.bytes)
        return true
    }

    /// Brings a copy up to the original of another slab of the same node, without a checkpoint in
    /// between. Preconditions: both handles are current and name the same association.
    public mutating func copyState(
        to handle: AssociationHandle, from original: AssociationHandle,
        of other: borrowing AssociationSlab
    ) {
        precondition(isCurrent(handle) && other.isCurrent(original))
        let source = other.records + Int(original.index)
        let record = records + Int(handle.index)
        precondition(
            source.pointee.spi == record.pointee.spi
                && source.pointee.ringMask == record.pointee.ringMask)
        record.pointee.sequence = source.pointee.sequence
        record.pointee.packets = source.pointee.packets
        record.pointee.bytes = source.pointee.bytes
        record.ringWords.update(from: source.ringWords, count: Int(source.pointee.ringMask) + 1)
    }

    /// Makes a copy what it would be if it were copied from the original now, under the generation
    /// of a new ownership: numbers, window, limit and counters. Preconditions: both handles are
    /// current and name the same association.
    public mutating func renew(
        _ handle: AssociationHandle, from original: AssociationHandle,
        of other: borrowing AssociationSlab, ivGeneration: UInt16
    ) {
        copyState(to: handle, from: original, of: other)
        let record = records + Int(handle.index)
        record.pointee.sequenceLimit = other.records[Int(original.index)].sequenceLimit
        record.pointee.ivGeneration = ivGeneration
        record.pointee.marks.remove(.softReported)
    }

    // MARK: Limits

    /// The highest number that may be used or accepted. Precondition: the handle is current.
    public borrowing func limit(of handle: AssociationHandle) -> UInt64 {
        precondition(isCurrent(handle))
        return records[Int(handle.index)].sequenceLimit
    }

    /// Sets the highest number that may be used or accepted; never above the last one that the
    /// association can have. Beyond it, packets are refused as `leaseEnded`. Precondition: the
    /// handle is current.
    public mutating func setLimit(_ limit: UInt64, of handle: AssociationHandle) {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        record.pointee.sequenceLimit = min(limit, record.lastSequence)
    }

    /// Sends on after what another node may have used: the next number is at least `last` + 1.
    /// Precondition: the handle is current and names an outbound association.
    public mutating func resumeSending(
        after last: UInt64, limit: UInt64, of handle: AssociationHandle
    ) {
        setLimit(limit, of: handle)
        let record = records + Int(handle.index)
        precondition(record.pointee.flags.contains(.isOutbound))
        record.pointee.sequence = max(record.pointee.sequence, last)
    }

    /// Receives on after what another node may have accepted: all numbers up to `edge` count as
    /// received, and those beyond that were received stay so. Without a replay window nothing is
    /// refused but what is above the limit. Precondition: the handle is current and names an
    /// inbound association.
    public mutating func resumeReceiving(
        closedUpTo edge: UInt64, limit: UInt64, of handle: AssociationHandle
    ) {
        setLimit(limit, of: handle)
        let record = records + Int(handle.index)
        precondition(!record.pointee.flags.contains(.isOutbound))
        record.replayRing.close(
            upTo: min(edge, record.lastSequence), highest: &record.pointee.sequence)
    }
}
