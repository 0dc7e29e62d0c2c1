// Memory for a batch of packets, with room before and behind each for the headers and trailers that
// tunnels put around it.

internal import ESP
internal import Gateway
internal import Wire

/// Slots in which packets arrive, as many for pieces that are cut out of them, and the batch that
/// is put together of both. One owner, one thread.
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
    /// In which slot each packet of the batch arrived.
    private let origins: UnsafeMutablePointer<Int>
    /// Packets of the batch.
    private(set) var count = 0

    init() {
        precondition(ESPOverhead.headroom <= Self.headroom && ESPOverhead.tailroom <= 128)
        precondition(OffloadHeader.byteCount <= Self.headroom)
        memory = .allocate(byteCount: 2 * Self.slots * Self.slotBytes, alignment: 4096)
        descriptors = .allocate(capacity: Self.slots)
        verdicts = .allocate(capacity: Self.slots)
        verdicts.initialize(repeating: .other)
        origins = .allocate(capacity: Self.slots)
        origins.initialize(repeating: 0, count: Self.slots)
        for slot in 0..<Self.slots {
            descriptors.initializeElement(
                at: slot,
                to: PacketDescriptor(
                    buffer: memory, capacity: Self.slotBytes, offset: 0, length: 0))
        }
    }

    deinit {
        memory.deallocate()
        descriptors.deallocate()
        verdicts.deallocate()
        origins.deallocate()
    }

    /// Where a packet arrives.
    func place(_ slot: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: address(slot), count: Self.packetMaximum)
    }

    /// Its first octet, with the headroom in front.
    func address(_ slot: Int) -> UnsafeMutableRawPointer {
        memory + slot * Self.slotBytes + Self.headroom
    }

    // MARK: The batch

    /// Where the next packet of the batch goes if it is cut out of what arrived.
    var piece: UnsafeMutableRawPointer { address(Self.slots + count) }

    /// So many more packets have room in the batch.
    var free: Int { Self.slots - count }

    /// Appends the packet that arrived in a slot, of `count` octets, with `before` more in front.
    func append(slot: Int, before: Int, count octets: Int) {
        append(at: slot, before: before, count: octets, origin: slot)
    }

    /// Appends what was written to `piece`, cut out of what arrived in a slot.
    func appendPiece(of slot: Int, before: Int, count octets: Int) {
        append(at: Self.slots + count, before: before, count: octets, origin: slot)
    }

    private func append(at slot: Int, before: Int, count octets: Int, origin: Int) {
        precondition(count < Self.slots)
        descriptors[count] = PacketDescriptor(
            buffer: memory + slot * Self.slotBytes, capacity: Self.slotBytes,
            offset: Self.headroom - before, length: before + octets)
        origins[count] = origin
        count += 1
    }

    /// In which slot a packet of the batch arrived.
    func origin(_ index: Int) -> Int { origins[index] }

    /// The packets.
    var batch: UnsafeMutableBufferPointer<PacketDescriptor> {
        UnsafeMutableBufferPointer(rebasing: descriptors[..<count])
    }

    /// The verdicts on them.
    var answers: UnsafeMutableBufferPointer<PacketVerdict> {
        UnsafeMutableBufferPointer(rebasing: verdicts[..<count])
    }

    /// Keeps of the batch what `isKept` says, in order, where it is: nothing may be appended before
    /// the batch is done with.
    func filter(_ isKept: (UnsafeMutableRawBufferPointer) -> Bool) {
        var kept = 0
        for index in 0..<count {
            let descriptor = descriptors[index]
            let packet = UnsafeMutableRawBufferPointer(
                start: descriptor.buffer + descriptor.offset, count: descriptor.length)
            guard isKept(packet) else { continue }
            descriptors[kept] = descriptor
            origins[kept] = origins[index]
            kept += 1
        }
        count = kept
    }

    /// Begins a new batch.
    func clear() { count = 0 }
}
