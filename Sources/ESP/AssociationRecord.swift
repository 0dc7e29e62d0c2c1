// One association as the packet path sees it: four cache lines, plain memory, keys included.
// Records live in an `AssociationSlab` only, which wipes them.

import Wire

/// 256 octets, 64-aligned:
///
///     line 0   identity, salt, sequence numbers, counters
///     line 1   replay ring (or a pointer to it), first half of the keys
///     line 2   second half of the keys
///     line 3   outer addresses, short selectors, links
struct AssociationRecord {
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let isOutbound = Flags(rawValue: 1)
        static let isTransport = Flags(rawValue: 2)
        static let usesESN = Flags(rawValue: 4)
        static let usesUDP = Flags(rawValue: 8)
        static let outerIsV6 = Flags(rawValue: 16)
        /// The ring is a heap block; `ring[0]` holds its address.
        static let hasLargeRing = Flags(rawValue: 32)
        /// The profile limits packets, bytes or time.
        static let hasLifetimes = Flags(rawValue: 64)
        static let isInUse = Flags(rawValue: 128)
    }

    struct Marks: OptionSet {
        let rawValue: UInt8
        /// A soft lifetime was reached and reported.
        static let softReported = Marks(rawValue: 1)
        /// The slot's drop counters are not all zero.
        static let hasDrops = Marks(rawValue: 2)
        /// Keys and salt are not here, but on a card.
        static let keysWiped = Marks(rawValue: 4)
    }

    enum SelectorKind: UInt8 {
        case any
        /// `selectorSource`/`selectorDestination` with their prefix lengths and a protocol.
        case ipv4Prefixes
        /// `selectorSource` is the index of a list in the catalogue.
        case list
    }

    // Line 0
    var spi: UInt32 = 0
    var flags: Flags = []
    var transform: UInt8 = 0
    var ringMask: UInt8 = 0
    var selectorKind: SelectorKind = .any
    /// Rises whenever the slot gets another association: a stale handle never hits it.
    var generation: UInt32 = 0
    /// The distribution identifier (patent Fig. 5: distribution information 510).
    var distributionIdentifier: UInt16 = 0
    var profile: UInt16 = 0
    /// Where the key pool last held this key.
    var context: UInt32 = 0
    /// The pool's clock at the last packet.
    var lastUsed: UInt32 = 0
    /// As it stands before the IV in the nonce; in memory order.
    var salt: UInt32 = 0
    var windowBits: UInt16 = 0
    /// The upper 16 bits of the IV of counter modes: the owner's generation of the DI.
    var ivGeneration: UInt16 = 0
    /// Sending: the last number used. Receiving: the highest number accepted.
    var sequence: UInt64 = 0
    /// The highest number that may be used or accepted.
    var sequenceLimit: UInt64 = 0
    var packets: UInt64 = 0
    var bytes: UInt64 = 0

    // Line 1 and 2
    var ring: [4 of UInt64] = .init(repeating: 0)
    /// Cipher key, then integrity key: at most 32 + 64.
    var keys: [96 of UInt8] = .init(repeating: 0)

    // Line 3
    /// Over IPv6 the outer addresses. Over IPv4 they are in the low halves; the high halves hold
    /// what an IPv4 header is made of: both addresses in wire order, and their sum for the
    /// checksum.
    var sourceHigh: UInt64 = 0
    var sourceLow: UInt64 = 0
    var destinationHigh: UInt64 = 0
    var destinationLow: UInt64 = 0
    var sourcePort: UInt16 = 0
    var destinationPort: UInt16 = 0
    var selectorSource: UInt32 = 0
    var selectorDestination: UInt32 = 0
    var selectorSourceLength: UInt8 = 0
    var selectorDestinationLength: UInt8 = 0
    var selectorProtocol: UInt8 = 0
    var marks: Marks = []
    var createdNanoseconds: UInt64 = 0
    /// Links of the list the record is in: the slab's free list, or a table's list per DI.
    var next: UInt32 = 0
    var previous: UInt32 = 0

    static let keysOffset = 96
    static let keysMaximum = 96
    static let ringOffset = 64
    /// Windows up to this many numbers need no heap block.
    static let inlineWindowBits = 192
}

typealias RecordPointer = UnsafeMutablePointer<AssociationRecord>

extension RecordPointer {
    @inline(__always)
    var keyBytes: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(self) + AssociationRecord.keysOffset
    }

    @inline(__always)
    var ringWords: UnsafeMutablePointer<UInt64> {
        let inline = (UnsafeMutableRawPointer(self) + AssociationRecord.ringOffset)
            .assumingMemoryBound(to: UInt64.self)
        if !pointee.flags.contains(.hasLargeRing) { return inline }
        // Set by the slab when it made the record; never nil while the flag is set.
        return UnsafeMutablePointer<UInt64>(bitPattern: UInt(inline.pointee)).unsafelyUnwrapped
    }

    @inline(__always)
    var replayRing: ReplayRing {
        ReplayRing(
            bits: UInt64(pointee.windowBits), words: ringWords, mask: UInt64(pointee.ringMask),
            usesESN: pointee.flags.contains(.usesESN))
    }

    /// RFC 4301 §5.2: does the association's policy allow this inner packet, whose lengths have
    /// been checked?
    @inline(__always)
    func admits(
        _ base: UnsafeRawPointer, count: Int, _ family: IPAddress.Family,
        _ catalogue: AssociationCatalogue.Pointers
    ) -> Bool {
        switch pointee.selectorKind {
        case .any: return true
        case .ipv4Prefixes:
            guard family == .v4 else { return false }
            let isSource = Self.isInside(
                load32(base, 12), pointee.selectorSource, pointee.selectorSourceLength)
            let isDestination = Self.isInside(
                load32(base, 16), pointee.selectorDestination, pointee.selectorDestinationLength)
            return isSource && isDestination
                && (pointee.selectorProtocol == 0 || pointee.selectorProtocol == load8(base, 9))
        case .list:
            return catalogue.selectors[Int(pointee.selectorSource)].admits(base, count: count)
        }
    }

    @inline(__always)
    private static func isInside(_ address: UInt32, _ prefix: UInt32, _ length: UInt8) -> Bool {
        UInt64(address ^ prefix) &>> (32 &- UInt64(length)) == 0
    }
}
