// Memory for the packets that are under way in a simulation: slots that are given out again, so
// that no packet costs an allocation.

public import ESP

/// Slots of one packet each, counted by their users. A slot stays where it is while it is in use.
///
///     base ├── headroom ──┼──── packet ────┼── tailroom ──┤ slotBytes
///                         ^offset          ^offset + length
public final class PacketPool {
    /// Octets of a slot.
    public static let slotBytes = 2048
    /// Where a packet begins in a new slot: room for any outer header in front of it.
    public static let headroom = 128
    /// Slots do not follow each other at a power of two, or all packets would compete for the same
    /// cache sets.
    private static let stride = slotBytes + 64
    private static let chunkShift = 8
    private static let chunkSlots = 1 << chunkShift

    private struct Slot {
        /// 0: free.
        var users: Int32
        /// The next free slot; -1: none.
        var next: Int32
        var offset: Int32
        var length: Int32
        var word: UInt64
    }

    /// All that changes, behind one pointer: a class's own variables would be checked for
    /// overlapping access each time.
    private struct State {
        var chunks: UnsafeMutablePointer<UnsafeMutableRawPointer>
        var slots: UnsafeMutablePointer<Slot>
        var capacity = 0
        var freeHead: Int32 = -1
        var inUse = 0
    }

    private let state: UnsafeMutablePointer<State>

    /// A pool without slots; it grows when it needs some.
    public init() {
        state = .allocate(capacity: 1)
        state.initialize(
            to: State(chunks: .allocate(capacity: 0), slots: .allocate(capacity: 0)))
    }

    deinit {
        for chunk in 0..<state.pointee.capacity >> Self.chunkShift {
            state.pointee.chunks[chunk].deallocate()
        }
        state.pointee.chunks.deallocate()
        state.pointee.slots.deallocate()
        state.deallocate()
    }

    /// Slots there are.
    public var capacity: Int { state.pointee.capacity }

    /// Slots in use: what is left at the end of a run was leaked.
    public var inUse: Int { state.pointee.inUse }

    // MARK: Users

    /// A slot with one user: an empty packet at `headroom`, user word 0. Its octets are those of
    /// its last use.
    public func allocate() -> Int32 {
        if state.pointee.freeHead < 0 { grow() }
        let number = state.pointee.freeHead
        let slot = state.pointee.slots + Int(number)
        state.pointee.freeHead = slot.pointee.next
        slot.pointee = Slot(users: 1, next: -1, offset: Int32(Self.headroom), length: 0, word: 0)
        state.pointee.inUse &+= 1
        return number
    }

    /// A slot with one user that holds the same packet and word as `slot`.
    public func copy(_ slot: Int32) -> Int32 {
        let twin = allocate()
        let original = used(slot).pointee
        let offset = Int(original.offset)
        (base(twin) + offset).copyMemory(
            from: base(slot) + offset, byteCount: Int(original.length))
        place(twin, offset: offset, length: Int(original.length))
        setWord(twin, original.word)
        return twin
    }

    /// One more user. Precondition: the slot is in use.
    public func retain(_ slot: Int32) { used(slot).pointee.users += 1 }

    /// One user less; after the last one the slot is free. Precondition: the slot is in use.
    public func release(_ slot: Int32) {
        let place = used(slot)
        place.pointee.users &-= 1
        guard place.pointee.users == 0 else { return }
        place.pointee.next = state.pointee.freeHead
        state.pointee.freeHead = slot
        state.pointee.inUse &-= 1
    }

    /// How many use the slot; 0: it is free. Precondition: the slot exists.
    public func users(_ slot: Int32) -> Int {
        precondition(slot >= 0 && Int(slot) < state.pointee.capacity, "no such slot")
        return Int(state.pointee.slots[Int(slot)].users)
    }

    // MARK: Packets

    /// The slot's first octet. Precondition: the slot exists.
    public func base(_ slot: Int32) -> UnsafeMutableRawPointer {
        precondition(slot >= 0 && Int(slot) < state.pointee.capacity, "no such slot")
        return state.pointee.chunks[Int(slot) >> Self.chunkShift]
            + (Int(slot) & (Self.chunkSlots - 1)) &* Self.stride
    }

    /// Where the packet begins.
    public func offset(_ slot: Int32) -> Int { Int(used(slot).pointee.offset) }

    /// Octets of the packet.
    public func length(_ slot: Int32) -> Int { Int(used(slot).pointee.length) }

    /// Says where the packet lies. Precondition: inside the slot.
    public func place(_ slot: Int32, offset: Int, length: Int) {
        precondition(offset >= 0 && length >= 0 && offset + length <= Self.slotBytes)
        let place = used(slot)
        place.pointee.offset = Int32(truncatingIfNeeded: offset)
        place.pointee.length = Int32(truncatingIfNeeded: length)
    }

    /// A word for the user's own purposes.
    public func word(_ slot: Int32) -> UInt64 { used(slot).pointee.word }

    /// Sets the user's word.
    public func setWord(_ slot: Int32, _ word: UInt64) { used(slot).pointee.word = word }

    /// The packet's octets, valid until the slot is free or the packet is placed anew.
    public func packet(_ slot: Int32) -> UnsafeRawBufferPointer {
        let place = used(slot).pointee
        return UnsafeRawBufferPointer(
            start: base(slot) + Int(place.offset), count: Int(place.length))
    }

    /// The packet as an engine takes it.
    public func descriptor(_ slot: Int32) -> PacketDescriptor {
        let place = used(slot).pointee
        return PacketDescriptor(
            buffer: base(slot), capacity: Self.slotBytes, offset: Int(place.offset),
            length: Int(place.length))
    }

    @inline(__always)
    private func used(_ slot: Int32) -> UnsafeMutablePointer<Slot> {
        precondition(slot >= 0 && Int(slot) < state.pointee.capacity, "no such slot")
        let place = state.pointee.slots + Int(slot)
        precondition(place.pointee.users > 0, "the slot is free")
        return place
    }

    @inline(never)
    private func grow() {
        let capacity = state.pointee.capacity
        let chunkCount = capacity >> Self.chunkShift
        let bytes = Self.chunkSlots * Self.stride
        let chunk = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        chunk.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        let chunks = UnsafeMutablePointer<UnsafeMutableRawPointer>
            .allocate(capacity: chunkCount + 1)
        chunks.moveInitialize(from: state.pointee.chunks, count: chunkCount)
        (chunks + chunkCount).initialize(to: chunk)
        let slots = UnsafeMutablePointer<Slot>.allocate(capacity: capacity + Self.chunkSlots)
        slots.moveInitialize(from: state.pointee.slots, count: capacity)
        for number in (capacity..<capacity + Self.chunkSlots).reversed() {
            (slots + number).initialize(
                to: Slot(users: 0, next: state.pointee.freeHead, offset: 0, length: 0, word: 0))
            state.pointee.freeHead = Int32(number)
        }
        state.pointee.chunks.deallocate()
        state.pointee.slots.deallocate()
        state.pointee.chunks = chunks
        state.pointee.slots = slots
        state.pointee.capacity += Self.chunkSlots
    }
}
