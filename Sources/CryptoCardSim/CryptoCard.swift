// A cryptographic card in software: the node-specific data structure of the patent (Fig. 7, storage
// 704). What is simulated are a card's limits: bounded memory, commands and handles, time, faults.
// The cryptography is real.

public import Crypto
public import ESP
public import Wire

/// Names a session of one card; the card never gives it to another tunnel.
public typealias CardHandle = AssociationHandle

/// Why the card refused a command. Nothing was changed.
public enum CardError: Error, Equatable, CustomStringConvertible {
    /// All sessions are in use; nothing is evicted to make room.
    case full(capacity: Int)
    /// An inbound session with this SPI exists.
    case duplicateSPI(SPI)
    /// The handle's session was closed, lost or replaced.
    case staleHandle(CardHandle)
    /// The card does not answer.
    case stalled
    /// More different policies than the catalogue holds.
    case tooManyProfiles
    /// The entry to be copied has no keys: another session had them.
    case keysWiped(SPI)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .full(let capacity):
            "the card is full (\(capacity) of \(capacity) sessions): raise its capacity or add a "
                + "node"
        case .duplicateSPI(let spi): "the card has a session for SPI \(spi) already: close it first"
        case .staleHandle(let handle):
            "session \(handle.index).\(handle.generation) is closed: open it again"
        case .stalled: "the card does not answer: reset it"
        case .tooManyProfiles:
            "more than \(AssociationCatalogue.profilesMaximum) different lifetime and header "
                + "policies: let connections share them"
        case .keysWiped(let spi):
            "the table has no keys for SPI \(spi) any more: read its entry from the store again"
        }
    }
}

/// What a card counts.
public struct CardCounters: Equatable, Sendable {
    /// Sessions opened.
    public internal(set) var opened: UInt64 = 0
    /// Sessions closed by command.
    public internal(set) var closed: UInt64 = 0
    /// Commands to open a session that found the card full.
    public internal(set) var refusedFull: UInt64 = 0
    /// Sessions that vanished by an injected fault.
    public internal(set) var lost: UInt64 = 0
    /// The most sessions there ever were at once.
    public internal(set) var peak = 0
    /// Packets of all batches taken.
    public internal(set) var packets: UInt64 = 0
}

/// When a batch is done.
public struct BatchReceipt: Equatable, Sendable {
    /// On the caller's clock; the time of submission when the card keeps no time.
    public let completesAtNanoseconds: UInt64
}

/// A bounded store of sessions with the engine that works on them.
///
/// Keys enter with `open` and are wiped with `close`, by a fault, and with the card. A session is
/// one association in one direction; inbound ones are found by SPI, outbound ones by handle.
public struct CryptoCard: ~Copyable {
    /// The most sessions.
    public let capacity: Int
    /// What happened so far.
    public private(set) var counters = CardCounters()
    /// nil: every batch is done at once.
    public var timing: CardTiming?

    var sessions: AssociationSlab
    var engine: ESPEngine
    private var index: SPIIndex
    private var clock = CardClock()
    private var stalledUntil: UInt64 = 0
    private var bound = 0
    private var boundUntil: UInt64 = 0

    /// An empty card: 256 octets a session and 16 to 32 for finding it.
    /// `keyedContexts` bounds the key schedules (about 1 KiB each) that stay ready;
    /// the others are run again when their packets come. `isResident`: all memory is taken now, as
    /// a card has it; otherwise as it fills, as a host does when it stands in for a card.
    public init(
        capacity: Int, library: CryptoLibrary, catalogue: AssociationCatalogue,
        keyedContexts: Int = ESPEngine.defaultKeyedContexts, timing: CardTiming? = nil,
        isResident: Bool = true
    ) {
        self.capacity = capacity
        self.timing = timing
        sessions = AssociationSlab(
            capacity: capacity, catalogue: catalogue, isResident: isResident)
        engine = ESPEngine(library: library, keyedContexts: keyedContexts)
        index = SPIIndex(capacity: capacity, isResident: isResident)
    }

    /// Sessions now.
    public var count: Int { sessions.count }

    /// Refusals of all sessions, also of those that are closed.
    public var drops: DropCounters { engine.drops }

    /// How often a key schedule was run.
    public var keyings: UInt64 { engine.keyings }

    // MARK: Commands

    /// Opens a session. `ivGeneration` is the owner's generation of the DI (RFC 6054).
    public mutating func open(
        _ association: borrowing SecurityAssociation, distributionIdentifier: UInt16,
        ivGeneration: UInt16, nowNanoseconds: UInt64 = 0
    ) throws(CardError) -> CardHandle {
        let isInbound = association.parameters.direction == .inbound
        try admit(spi: isInbound ? association.parameters.spi : nil, nowNanoseconds)
        let handle: CardHandle
        do {
            handle = try sessions.insert(
                association, distributionIdentifier: distributionIdentifier,
                ivGeneration: ivGeneration)
        } catch {
            throw refusal(error)
        }
        return opened(handle, inbound: isInbound ? association.parameters.spi : nil)
    }

    /// Opens a session with keys, counters and window of an entry of the common table.
    public mutating func open(
        copying entry: AssociationHandle, from table: borrowing AssociationSlab,
        ivGeneration: UInt16, nowNanoseconds: UInt64 = 0
    ) throws(CardError) -> CardHandle {
        let status = table.status(of: entry)
        let spi = status.direction == .inbound ? status.spi : nil
        guard table.hasKeys(entry) else { throw .keysWiped(status.spi) }
        try admit(spi: spi, nowNanoseconds)
        let handle: CardHandle
        do {
            handle = try sessions.insert(copying: entry, from: table, ivGeneration: ivGeneration)
        } catch {
            throw refusal(error)
        }
        return opened(handle, inbound: spi)
    }

    /// Closes a session and wipes its keys.
    public mutating func close(_ handle: CardHandle) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        drop(handle)
        counters.closed += 1
    }

    /// Closes a session and opens another in its place, which works on a full card too. On an error
    /// the old session is still there.
    public mutating func replace(
        _ handle: CardHandle, with association: borrowing SecurityAssociation,
        distributionIdentifier: UInt16, ivGeneration: UInt16, nowNanoseconds: UInt64 = 0
    ) throws(CardError) -> CardHandle {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        try requireAnswer(nowNanoseconds)
        let spi = association.parameters.spi
        let isInbound = association.parameters.direction == .inbound
        if isInbound, let other = index.find(spi), other != handle.index {
            throw .duplicateSPI(spi)
        }
        guard sessions.canTakePolicies(of: association.parameters) else {
            throw .tooManyProfiles
        }
        drop(handle)
        counters.closed += 1
        do {
            let new = try sessions.insert(
                association, distributionIdentifier: distributionIdentifier,
                ivGeneration: ivGeneration)
            return opened(new, inbound: isInbound ? spi : nil)
        } catch {
            throw refusal(error)
        }
    }

    /// The session that receives this SPI.
    public borrowing func session(for spi: SPI) -> CardHandle? {
        index.find(spi).flatMap { sessions.handle(at: $0) }
    }

    /// Brings the place of a session that is to be opened into the cache.
    public borrowing func prefetch(_ spi: SPI) { index.prefetchPlace(of: spi) }

    /// The first of some outbound sessions whose selectors cover an inner packet (RFC 4301 §5.1:
    /// the policies are ordered).
    public borrowing func firstSession(
        of handles: [CardHandle], covering packet: UnsafeRawBufferPointer
    ) -> CardHandle? {
        sessions.first(of: handles, covering: packet)
    }

    /// Sequence numbers and counters of a session.
    public borrowing func status(of handle: CardHandle) throws(CardError) -> AssociationStatus {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        return sessions.status(of: handle)
    }

    /// Refusals of one session.
    public borrowing func drops(of handle: CardHandle) throws(CardError) -> DropCounters {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        return sessions.drops(of: handle)
    }

    /// The handles of all sessions, in slot order.
    public borrowing func handles() -> [CardHandle] {
        sessions.handles()
    }

    /// How far a session's numbers have come, for the common table.
    public borrowing func checkpoint(
        of handle: CardHandle
    ) throws(CardError) -> SequenceCheckpoint {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        return sessions.checkpoint(of: handle)
    }

    /// Brings a session that is loaded but not served yet up to the old owner's last checkpoint.
    public mutating func apply(
        _ checkpoint: SequenceCheckpoint, to handle: CardHandle
    ) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        sessions.apply(checkpoint, to: handle)
    }

    /// Begins a new ownership of a session that is loaded already: numbers, window, limit and
    /// counters become those of its entry of the common table, as if it were opened anew.
    public mutating func renew(
        _ handle: CardHandle, from entry: AssociationHandle, of table: borrowing AssociationSlab,
        ivGeneration: UInt16
    ) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        sessions.renew(handle, from: entry, of: table, ivGeneration: ivGeneration)
    }

    /// True while the handle names the session it was made for.
    public borrowing func holds(_ handle: CardHandle) -> Bool { sessions.isCurrent(handle) }

    /// Copies a session's sequence state and counters to its entry in the node's common table.
    public borrowing func copyState(
        of handle: CardHandle, to entry: AssociationHandle, in table: inout AssociationSlab
    ) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        table.copyState(to: entry, from: handle, of: sessions)
    }

    /// True when a session receives this SPI: one search in the store.
    public borrowing func holdsSession(for spi: SPI) -> Bool { index.find(spi) != nil }

    // MARK: Batches

    /// Finds the session of each packet by its SPI and opens the packet in place. A packet without
    /// a session gets the drop reason `unknownSPI`.
    @discardableResult
    public mutating func receive(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, nowNanoseconds now: UInt64
    ) -> BatchReceipt {
        guard take(packets, now) else { return BatchReceipt(completesAtNanoseconds: now) }
        index.resolve(packets)
        engine.decapsulate(packets, slab: sessions, nowNanoseconds: now)
        return receipt(packets, now)
    }

    /// Seals packets whose `handle` names an outbound session. A stale handle costs its packet the
    /// drop reason `sessionLost`.
    @discardableResult
    public mutating func send(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, nowNanoseconds now: UInt64
    ) -> BatchReceipt {
        guard take(packets, now) else { return BatchReceipt(completesAtNanoseconds: now) }
        sessions.resolveHandles(packets)
        engine.encapsulate(packets, slab: sessions, nowNanoseconds: now)
        return receipt(packets, now)
    }

    // MARK: Faults

    /// Makes the card fail in one of the ways cards do.
    public mutating func inject(_ fault: CardFault) {
        switch fault {
        case .sessionLost(let handle):
            guard sessions.isCurrent(handle) else { return }
            drop(handle)
            counters.lost += 1
        case .reset:
            for handle in handles() {
                drop(handle)
                counters.lost += 1
            }
            engine.forgetAll()
            stalledUntil = 0
            clock = CardClock()
        case .stalled(let until):
            stalledUntil = until
        case .bounded(let more, let until):
            bound = sessions.count + more
            boundUntil = until
        case .keyingFails(let count):
            engine.failKeyings(count)
        }
    }

    // MARK: Inside

    private mutating func admit(spi: SPI?, _ now: UInt64) throws(CardError) {
        try requireAnswer(now)
        if let spi, index.find(spi) != nil { throw .duplicateSPI(spi) }
        let room = now < boundUntil ? min(bound, capacity) : capacity
        guard sessions.count < room else {
            counters.refusedFull += 1
            throw .full(capacity: room)
        }
    }

    private func requireAnswer(_ now: UInt64) throws(CardError) {
        if now < stalledUntil { throw .stalled }
    }

    private func refusal(_ error: SlabError) -> CardError {
        switch error {
        case .full(let capacity): .full(capacity: capacity)
        case .tooManyProfiles: .tooManyProfiles
        }
    }

    private mutating func opened(_ handle: CardHandle, inbound spi: SPI?) -> CardHandle {
        if let spi {
            let isNew = index.insert(spi, slot: handle.index)
            precondition(isNew, "checked before")
        }
        counters.opened += 1
        counters.peak = max(counters.peak, sessions.count)
        return handle
    }

    private mutating func drop(_ handle: CardHandle) {
        let status = sessions.status(of: handle)
        if status.direction == .inbound { index.remove(status.spi) }
        engine.forget(handle, in: sessions)
        sessions.remove(handle)
    }

    /// False when the card can't take the batch: every packet of it carries the reason then.
    private mutating func take(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, _ now: UInt64
    ) -> Bool {
        let refusal: DropReason
        if now < stalledUntil {
            refusal = .cardStalled
        } else if let timing, clock.isFull(timing, now) {
            refusal = .cardBusy
        } else {
            counters.packets += UInt64(packets.count)
            return true
        }
        for index in packets.indices where packets[index].drop == nil {
            packets[index].drop = refusal
        }
        return false
    }

    private mutating func receipt(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, _ now: UInt64
    ) -> BatchReceipt {
        guard let timing else { return BatchReceipt(completesAtNanoseconds: now) }
        var bytes = 0
        for index in packets.indices { bytes += packets[index].length }
        return BatchReceipt(
            completesAtNanoseconds: clock.add(timing, packets: packets.count, bytes: bytes, now))
    }
}
