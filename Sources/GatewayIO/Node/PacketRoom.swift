// Memory for a batch of packets, with room before and behind each for the headers and trailers that
// tunnels put around it.

internal import ESP
internal import Gateway
internal import Wire

/// Slots for packets, used anew for each batch. One owner, one thread.
final class PacketRoom {
    static let slots = Gateway.batchMaximum
    /// In front of a packet; a multiple of a cache line.
    static let headroom = 128
    /// The largest packet: an IPv4 packet or the payload of an IPv6 one.
    static let packetMaximum = 65_535
    private static let slotBytes = headroom + 65_536 + 128

    private let memory: UnsafeMutableRawPointer
    let descriptors: UnsafeMutableBufferPointer<PacketDescriptor>
    let verdicts: UnsafeMutableBufferPointer<PacketVerdict>

    init() {
        precondition(ESPOverhead.headroom <= Self.headroom && ESPOverhead.tailroom <= 128)
        memory = .allocate(byteCount: Self.slots * Self.slotBytes, alignment: 4096)
        descriptors = .allocate(capacity: Self.slots)
        verdicts = .allocate(capacity: Self.slots)
        verdicts.initialize(repeating: .other)
        for slot in 0..<Self.slots {
            descriptors.initializeElement(at: slot, to: descriptor(slot, before: 0, count: 0))
        }
    }

    deinit {
        memory.deallocate()
        descriptors.deallocate()
        verdicts.deallocate()
    }

    /// Where the packet of a slot is put.
    func place(_ slot: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: address(slot), count: Self.packetMaximum)
    }

    /// Its first octet.
    func address(_ slot: Int) -> UnsafeMutableRawPointer {
        memory + slot * Self.slotBytes + Self.headroom
    }

    /// A packet of `count` octets at the slot's place, with `before` more in front of it.
    func descriptor(_ slot: Int, before: Int, count: Int) -> PacketDescriptor {
        PacketDescriptor(
            buffer: memory + slot * Self.slotBytes, capacity: Self.slotBytes,
            offset: Self.headroom - before, length: before + count)
    }

    /// The first `count` packets.
    func batch(_ count: Int) -> UnsafeMutableBufferPointer<PacketDescriptor> {
        UnsafeMutableBufferPointer(rebasing: descriptors[..<count])
    }

    /// The verdicts on the first `count` packets.
    func answers(_ count: Int) -> UnsafeMutableBufferPointer<PacketVerdict> {
        UnsafeMutableBufferPointer(rebasing: verdicts[..<count])
    }
}
