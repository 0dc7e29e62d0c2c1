// Where records live: a bounded array of them with a free list. The card's store and the common
// table are both built on it, so that an association moves between them as 256 octets.

import Crypto
public import Wire

/// Names one association in one slab. A handle whose slot has been given to another association is
/// stale and matches nothing.
public struct AssociationHandle: Hashable, Sendable {
    /// The slot.
    public let index: UInt32
    /// How often the slot had been filled, this association included.
    public let generation: UInt32

    /// A handle from its parts.
    public init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }
}

/// Why a slab took no association.
public enum SlabError: Error, Equatable {
    /// All places are taken.
    case full(capacity: Int)
    /// More different policies than `AssociationCatalogue.profilesMaximum`.
    case tooManyProfiles
}

/// The moving parts of an association, without keys.
public struct AssociationStatus: Equatable, Sendable {
    /// The SPI.
    public let spi: SPI
    /// Sending or receiving.
    public let direction: Direction
    /// Distribution information: the DI's number.
    public let distributionIdentifier: UInt16
    /// The generation in the IV.
    public let ivGeneration: UInt16
    /// Sending: the last number used. Receiving: the highest number accepted.
    public let sequence: UInt64
    /// Authenticated packets received, or packets sent.
    public let packets: UInt64
    /// Octets of ESP payload before padding.
    public let bytes: UInt64
}

/// A bounded store of association records, wiped when they leave it.
///
/// Memory is reserved at once but usually taken only as it fills: 256 octets an association, a
/// block of its own for windows above 192, and a drop-counter block once a packet of it was
/// refused.
public struct AssociationSlab: ~Copyable {
    /// The most associations it holds.
    public let capacity: Int
    /// Associations now.
    public private(set) var count = 0

    let records: RecordPointer
    let drops: UnsafeMutablePointer<UInt32>
    let catalogue: AssociationCatalogue
    /// Slots 0..<fresh have been used at least once.
    private var fresh = 0
    private var freeHead = UInt32.max

    /// An empty slab; slabs of one node share a catalogue. `isResident`: takes all memory for
    /// records now, as a card has it, so that filling it later costs no page faults.
    public init(capacity: Int, catalogue: AssociationCatalogue, isResident: Bool = false) {
        precondition((1...(1 << 30)).contains(capacity))
        self.capacity = capacity
        self.catalogue = catalogue
        records = zeroedPages(
            AssociationRecord.self, count: capacity, isResident: isResident)
        drops = zeroedPages(UInt32.self, count: capacity * DropReason.count)
    }

    deinit {
        for slot in 0..<fresh where records[slot].flags.contains(.isInUse) {
            Self.release(records + slot, catalogue)
        }
        freePages(records)
        freePages(drops)
    }

    /// Takes a new association. `ivGeneration` is the owner's generation of the DI.
    public mutating func insert(
        _ association: borrowing SecurityAssociation, distributionIdentifier: UInt16,
        ivGeneration: UInt16
    ) throws(SlabError) -> AssociationHandle {
        let parameters = association.parameters
        let profile = AssociationProfile(
            lifetimes: parameters.lifetimes, headers: parameters.headers)
        guard catalogue.hasRoom(for: profile) else { throw .tooManyProfiles }
        let slot = try claim()
        guard let profileNumber = catalogue.intern(profile) else {
            preconditionFailure("there was room")
        }
        let record = records + Int(slot)
        let generation = record.pointee.generation
        record.pointee = AssociationRecord(parameters)
        record.pointee.generation = generation
        record.pointee.profile = profileNumber
        record.pointee.distributionIdentifier = distributionIdentifier
        record.pointee.ivGeneration = ivGeneration
        record.setSelectors(parameters.selectors, catalogue)
        record.setRing(parameters)
        record.setKeys(association)
        return AssociationHandle(index: slot, generation: generation)
    }

    /// False when the lifetime and header policies are new and the catalogue is full.
    public borrowing func canTakePolicies(of parameters: AssociationParameters) -> Bool {
        catalogue.hasRoom(
            for: AssociationProfile(lifetimes: parameters.lifetimes, headers: parameters.headers))
    }

    /// Takes a copy of an association of another slab of the same node, with its counters and its
    /// window, under the generation of a new owner. Precondition: its keys are there.
    public mutating func insert(
        copying handle: AssociationHandle, from other: borrowing AssociationSlab,
        ivGeneration: UInt16
    ) throws(SlabError) -> AssociationHandle {
        precondition(catalogue === other.catalogue, "the slabs of one node share a catalogue")
        precondition(other.hasKeys(handle), "there is nothing to work with without keys")
        let slot = try claim()
        let source = other.records + Int(handle.index)
        let record = records + Int(slot)
        let generation = record.pointee.generation
        // Octet for octet: a copy by value would leave keys on the stack.
        UnsafeMutableRawPointer(record).copyMemory(
            from: source, byteCount: MemoryLayout<AssociationRecord>.size)
        record.pointee.generation = generation
        record.pointee.ivGeneration = ivGeneration
        record.pointee.context = 0
        record.pointee.lastUsed = 0
        record.pointee.marks = []
        catalogue.retain(profile: record.pointee.profile)
        if record.pointee.selectorKind == .list {
            catalogue.retain(list: record.pointee.selectorSource)
        }
        if record.pointee.flags.contains(.hasLargeRing) { record.duplicateRing() }
        return AssociationHandle(index: slot, generation: generation)
    }

    /// Wipes an association. Precondition: the handle is current.
    public mutating func remove(_ handle: AssociationHandle) {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        if record.pointee.marks.contains(.hasDrops) {
            let reasons = DropReason.count
            (drops + Int(handle.index) * reasons).update(repeating: 0, count: reasons)
        }
        Self.release(record, catalogue)
        record.pointee.generation = handle.generation
        record.pointee.next = freeHead
        freeHead = handle.index
        count -= 1
    }

    /// True while the handle names the association it was made for.
    @inline(__always)
    public borrowing func isCurrent(_ handle: AssociationHandle) -> Bool {
        guard Int(handle.index) < fresh else { return false }
        let record = records + Int(handle.index)
        return record.pointee.generation == handle.generation
            && record.pointee.flags.contains(.isInUse)
    }

    /// The first of some associations whose selectors cover an inner packet; stale handles and
    /// packets that are not IP match nothing.
    public borrowing func first(
        of handles: [AssociationHandle], covering packet: UnsafeRawBufferPointer
    ) -> AssociationHandle? {
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count)
        else { return nil }
        let pointers = catalogue.pointers
        for handle in handles where isCurrent(handle) {
            let record = records + Int(handle.index)
            if record.admits(base, count: packet.count, parsed.family, pointers) {
                return handle
            }
        }
        return nil
    }

    /// True when the selectors of an association cover an inner packet; false for a stale handle.
    /// `packet` was parsed as an IP packet of this family.
    public borrowing func admits(
        _ handle: AssociationHandle, _ packet: UnsafeRawBufferPointer, family: IPAddress.Family
    ) -> Bool {
        guard isCurrent(handle), let base = packet.baseAddress else { return false }
        return (records + Int(handle.index))
            .admits(base, count: packet.count, family, catalogue.pointers)
    }

    /// Sets `slot` from `handle` for a batch to be sent. A handle that is stale or names an inbound
    /// association costs its packet the drop reason `sessionLost`.
    public borrowing func resolveHandles(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>
    ) {
        for index in packets.indices where Int(packets[index].handle.index) < fresh {
            prefetch(records + Int(packets[index].handle.index))
        }
        for index in packets.indices where packets[index].drop == nil {
            let handle = packets[index].handle
            guard isCurrent(handle), records[Int(handle.index)].flags.contains(.isOutbound) else {
                packets[index].drop = .sessionLost
                continue
            }
            packets[index].slot = handle.index
        }
    }

    /// Brings all of an association's record into the cache.
    @inline(__always)
    public borrowing func prefetchRecord(at index: UInt32) {
        if Int(index) < fresh { prefetchLines(records + Int(index)) }
    }

    /// The current handle of a slot, or nil when the slot is empty.
    public borrowing func handle(at index: UInt32) -> AssociationHandle? {
        guard Int(index) < fresh, records[Int(index)].flags.contains(.isInUse) else { return nil }
        return AssociationHandle(index: index, generation: records[Int(index)].generation)
    }

    /// The handles of all associations, in slot order.
    public borrowing func handles() -> [AssociationHandle] {
        (0..<UInt32(fresh)).compactMap { handle(at: $0) }
    }

    /// Counters and sequence numbers. Precondition: the handle is current.
    public borrowing func status(of handle: AssociationHandle) -> AssociationStatus {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        return AssociationStatus(
            spi: SPI(record.pointee.spi),
            direction: record.pointee.flags.contains(.isOutbound) ? .outbound : .inbound,
            distributionIdentifier: record.pointee.distributionIdentifier,
            ivGeneration: record.pointee.ivGeneration, sequence: record.pointee.sequence,
            packets: record.pointee.packets, bytes: record.pointee.bytes)
    }

    /// Sending or receiving. Precondition: the handle is current.
    public borrowing func direction(of handle: AssociationHandle) -> Direction {
        precondition(isCurrent(handle))
        return records[Int(handle.index)].flags.contains(.isOutbound) ? .outbound : .inbound
    }

    /// Refusals of one association. Precondition: the handle is current.
    public borrowing func drops(of handle: AssociationHandle) -> DropCounters {
        precondition(isCurrent(handle))
        var counters = DropCounters()
        let block = drops + Int(handle.index) * DropReason.count
        for reason in DropReason.allCases { counters[reason] = UInt64(block[Int(reason.rawValue)]) }
        return counters
    }

    /// What was agreed upon but for the keys, which need not be there. Precondition: the handle is
    /// current.
    public borrowing func parameters(of handle: AssociationHandle) -> AssociationParameters {
        precondition(isCurrent(handle))
        return (records + Int(handle.index)).parameters(catalogue)
    }

    /// The association as it was agreed upon, with its keys, to be given to another node. Its first
    /// sequence number is the one after the last seen; `checkpoint` tells the rest.
    /// Precondition: the handle is current, and its keys are there.
    public borrowing func association(of handle: AssociationHandle) -> SecurityAssociation {
        precondition(hasKeys(handle), "an association without keys is of no use to anyone")
        let record = records + Int(handle.index)
        let parameters = record.parameters(catalogue)
        let transform = parameters.transform
        let keyBytes = transform.keyBytes + transform.integrityKeyBytes
        var secret = SecretBytes(count: keyBytes + transform.saltBytes)
        secret.withUnsafeMutableBytes { target in
            UnsafeMutableRawBufferPointer(rebasing: target[..<keyBytes])
                .copyMemory(from: UnsafeRawBufferPointer(start: record.keyBytes, count: keyBytes))
            withUnsafeBytes(of: &record.pointee.salt) { salt in
                UnsafeMutableRawBufferPointer(rebasing: target[keyBytes...])
                    .copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: salt[..<transform.saltBytes]))
            }
        }
        return SecurityAssociation(valid: parameters, secret: secret)
    }

    /// The link fields of a record, for lists that run through a slab.
    public subscript(linksOf index: UInt32) -> (next: UInt32, previous: UInt32) {
        get { (records[Int(index)].next, records[Int(index)].previous) }
        nonmutating set {
            records[Int(index)].next = newValue.next
            records[Int(index)].previous = newValue.previous
        }
    }

    /// Slots that were used at least once.
    var usedSlots: Int { fresh }

    private mutating func claim() throws(SlabError) -> UInt32 {
        let slot: UInt32
        if freeHead != .max {
            slot = freeHead
            freeHead = records[Int(slot)].next
        } else {
            guard fresh < capacity else { throw .full(capacity: capacity) }
            slot = UInt32(fresh)
            fresh += 1
        }
        records[Int(slot)].generation &+= 1
        count += 1
        return slot
    }

    /// Frees what hangs on a record and zeroes it.
    private static func release(_ record: RecordPointer, _ catalogue: AssociationCatalogue) {
        catalogue.release(profile: record.pointee.profile)
        if record.pointee.selectorKind == .list {
            catalogue.release(list: record.pointee.selectorSource)
        }
        if record.pointee.flags.contains(.hasLargeRing) { record.ringWords.deallocate() }
        wipe(record, count: MemoryLayout<AssociationRecord>.size)
    }
}
