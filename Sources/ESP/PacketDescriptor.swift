// One packet of a batch: where it lies, what to do with it, and what became of it.

public import Wire

/// What a packet told besides its verdict.
public struct PacketEvents: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt8
    /// From the bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The association reached a soft lifetime with this packet: ask for a rekey. Told once.
    public static let softLifetime = PacketEvents(rawValue: 1)
}

/// A packet in memory that the engine transforms in place.
///
///     buffer ├── headroom ──┼──── packet ────┼── tailroom ──┤ capacity
///                           ^offset          ^offset + length
///
/// Receiving: `offset`/`length` name the outer packet before, the inner packet after. Sending: the
/// inner packet before, the outer packet after; room for the outer headers must be in front of it
/// and room for padding and ICV behind it (`ESPOverhead`).
public struct PacketDescriptor {
    /// Start of the memory.
    public var buffer: UnsafeMutableRawPointer
    /// Octets of memory.
    public var capacity: Int
    /// Where the packet begins in it.
    public var offset: Int
    /// Octets of the packet.
    public var length: Int
    /// The slot in the engine's slab; checked by whoever set it (a card does).
    public var slot: UInt32 = 0
    /// Sending: the association, by whose handle the card finds the slot.
    public var handle = AssociationHandle(index: 0, generation: 0)
    /// Receiving: where ESP lies in the packet; nil before somebody has looked.
    public var location: ESPLocation? {
        @inline(__always) get { place.end == 0 ? nil : place }
        @inline(__always) set { place = newValue ?? ESPLocation() }
    }
    /// The location without the question; its `end` is 0 when there is none.
    var place = ESPLocation()
    /// Sending: a dummy packet (RFC 4303 §2.6); the octets are sent as they are, next header 59.
    public var isDummy = false
    /// nil after the batch: the packet is good.
    public var drop: DropReason?
    /// What else the packet told.
    public var events: PacketEvents = []

    /// A packet at `offset` of a buffer of `capacity` octets. Precondition: it lies inside.
    public init(buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int, length: Int) {
        precondition(offset >= 0 && length >= 0 && offset + length <= capacity)
        self.buffer = buffer
        self.capacity = capacity
        self.offset = offset
        self.length = length
    }

    /// The packet's octets.
    public var packet: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: buffer + offset, count: length)
    }
}

/// Room that sending needs around an inner packet, for any transform and any header.
public enum ESPOverhead {
    /// IPv6 header, UDP header, ESP header, IV.
    public static let headroom = IPPacket.ipv6HeaderBytes + 8 + ESPLocation.espHeaderBytes + 16
    /// Padding to a block, pad length, next header, ICV; without TFC padding.
    public static let tailroom = 15 + 2 + 32
}
