// The common data structure of the patent (Fig. 5, 554…556; Fig. 7, storage 708): every tunnel of
// the cluster, with keys, on every node, found by SPI, by distribution identifier and by selectors.

public import ESP
public import Wire

/// Why the common table took no entry. Nothing was changed.
public enum CommonTableError: Error, Equatable, CustomStringConvertible {
    /// The table holds as many tunnels as it was made for.
    case full(capacity: Int)
    /// The cluster has an inbound association with this SPI.
    case duplicateSPI(SPI)
    /// More different policies than the catalogue holds.
    case tooManyProfiles

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .full(let capacity):
            "the common table is full (\(capacity) tunnels): raise its capacity on every node"
        case .duplicateSPI(let spi):
            "the cluster has an association with SPI \(spi) already: delete it first"
        case .tooManyProfiles:
            "more than \(AssociationCatalogue.profilesMaximum) different lifetime and header "
                + "policies: let connections share them"
        }
    }
}

/// All tunnels of the cluster as one node knows them.
///
/// An entry is a tunnel: an inbound association, whose SPI names it, and mostly the outbound one
/// that goes with it. Its handle is that of the inbound association. Each association carries the
/// distribution identifier (the patent's distribution information 511), and the tunnels of one
/// identifier are chained, so that a reallocation touches only what moves:
///
///     heads[DI] ──▶ inbound ◀──▶ inbound ◀──▶ inbound
///                      ⇅            ⇅            ⇅
///                   outbound     outbound     outbound ◀── SelectorIndex
///
/// An association takes 256 octets; a tunnel 25 to 41 more for finding it by SPI, and about 80 for
/// each destination prefix. Memory is taken as the table fills.
public struct CommonTable: ~Copyable {
    static let none = UInt32.max

    /// Keys and state of all associations; a card copies sessions out of it.
    public internal(set) var associations: AssociationSlab
    /// The most tunnels it holds.
    public let capacity: Int
    var index: SPIIndex
    var selectors = SelectorIndex()
    /// By slot: the slot of the tunnel's other association.
    var partners: [UInt32] = []
    /// One more than the order of the last policy.
    var nextOrder: UInt64 = 0
    private var heads: [UInt32]
    private var counts: [Int]

    /// An empty table of at most `capacity` tunnels for a range of `identifierCount` identifiers.
    public init(capacity: Int, identifierCount: Int, catalogue: AssociationCatalogue) {
        precondition((1...(1 << 29)).contains(capacity))
        self.capacity = capacity
        associations = AssociationSlab(capacity: capacity * 2, catalogue: catalogue)
        index = SPIIndex(capacity: capacity)
        heads = Array(repeating: Self.none, count: identifierCount)
        counts = Array(repeating: 0, count: identifierCount)
    }

    /// Tunnels now.
    public var count: Int { index.count }

    /// Adds a tunnel of which only the inbound association is known (Fig. 4, steps 401 and 403).
    /// Preconditions: the association is inbound, the identifier is in the range.
    public mutating func insert(
        _ association: borrowing SecurityAssociation, identifier: DistributionIdentifier
    ) throws(CommonTableError) -> AssociationHandle {
        try admit(association, identifier)
        let entry = try store(association, identifier)
        enter(entry, association.parameters.spi, identifier)
        return entry
    }

    /// Clears a tunnel, given by either of its associations, and wipes its keys. Precondition: the
    /// handle is current.
    public mutating func remove(_ entry: AssociationHandle) {
        let inbound = inbound(of: entry) ?? entry
        let status = associations.status(of: inbound)
        index.remove(status.spi)
        unlink(inbound.index, Int(status.distributionIdentifier))
        if let outbound = outbound(of: inbound) {
            selectors.remove(outbound)
            partners[Int(inbound.index)] = Self.none
            partners[Int(outbound.index)] = Self.none
            associations.remove(outbound)
        }
        associations.remove(inbound)
    }

    /// The tunnel whose inbound association has this SPI.
    public borrowing func find(_ spi: SPI) -> AssociationHandle? {
        index.find(spi).flatMap { associations.handle(at: $0) }
    }

    /// Counters, sequence state and identifier of an association. Precondition: the handle is
    /// current.
    public borrowing func status(of entry: AssociationHandle) -> AssociationStatus {
        associations.status(of: entry)
    }

    /// The tunnels of one identifier (Fig. 6B step 612), latest first.
    public borrowing func entries(of identifier: DistributionIdentifier) -> [AssociationHandle] {
        var entries: [AssociationHandle] = []
        entries.reserveCapacity(counts[Int(identifier.value)])
        forEachEntry(of: identifier) { entries.append($0) }
        return entries
    }

    /// Calls `body` with each tunnel of one identifier, latest first; no memory is allocated.
    public borrowing func forEachEntry<Failure: Error>(
        of identifier: DistributionIdentifier,
        _ body: (AssociationHandle) throws(Failure) -> Void
    ) throws(Failure) {
        var slot = heads[Int(identifier.value)]
        while slot != Self.none {
            guard let entry = associations.handle(at: slot) else {
                preconditionFailure("a list of the common table names an empty slot")
            }
            slot = associations[linksOf: slot].next
            try body(entry)
        }
    }

    /// Brings both associations of a tunnel into the cache, for a caller that will copy them.
    public borrowing func prefetch(_ entry: AssociationHandle) {
        associations.prefetchRecord(at: entry.index)
        guard Int(entry.index) < partners.count else { return }
        let partner = partners[Int(entry.index)]
        if partner != Self.none { associations.prefetchRecord(at: partner) }
    }

    /// All tunnels, in slot order: the snapshot for a joining node.
    public borrowing func entries() -> [AssociationHandle] {
        associations.handles().filter { associations.direction(of: $0) == .inbound }
    }

    /// How many tunnels an identifier has.
    public borrowing func tunnelCount(of identifier: DistributionIdentifier) -> Int {
        counts[Int(identifier.value)]
    }

    /// The same as `tunnelCount`.
    public borrowing func count(of identifier: DistributionIdentifier) -> Int {
        counts[Int(identifier.value)]
    }

    /// Notes how far the owner has come with an inbound association; false when there is no such
    /// entry.
    @discardableResult
    public mutating func apply(_ checkpoint: SequenceCheckpoint) -> Bool {
        guard let entry = find(checkpoint.spi) else { return false }
        return associations.apply(checkpoint, to: entry)
    }

    /// Lends the associations for an update of their state; entries must not come or go.
    public mutating func updateStates<Failure: Error>(
        _ body: (inout AssociationSlab) throws(Failure) -> Void
    ) throws(Failure) {
        let before = associations.count
        try body(&associations)
        precondition(associations.count == before)
    }

    // MARK: Inside

    /// Refuses an inbound association that has no place here.
    borrowing func admit(
        _ inbound: borrowing SecurityAssociation, _ identifier: DistributionIdentifier
    ) throws(CommonTableError) {
        precondition(Int(identifier.value) < heads.count)
        precondition(inbound.parameters.direction == .inbound, "the inbound SPI names a tunnel")
        let spi = inbound.parameters.spi
        if index.find(spi) != nil { throw .duplicateSPI(spi) }
        // Not left to the slab, in which tunnels without an outbound association leave room.
        guard count < capacity else { throw .full(capacity: capacity) }
    }

    mutating func store(
        _ association: borrowing SecurityAssociation, _ identifier: DistributionIdentifier
    ) throws(CommonTableError) -> AssociationHandle {
        do {
            return try associations.insert(
                association, distributionIdentifier: identifier.value, ivGeneration: 0)
        } catch {
            switch error {
            case .full: throw .full(capacity: capacity)
            case .tooManyProfiles: throw .tooManyProfiles
            }
        }
    }

    /// Makes a stored inbound association an entry.
    mutating func enter(
        _ entry: AssociationHandle, _ spi: SPI, _ identifier: DistributionIdentifier
    ) {
        let isNew = index.insert(spi, slot: entry.index)
        precondition(isNew, "checked before")
        link(entry.index, Int(identifier.value))
    }

    private mutating func link(_ slot: UInt32, _ identifier: Int) {
        let head = heads[identifier]
        associations[linksOf: slot] = (next: head, previous: Self.none)
        if head != Self.none {
            associations[linksOf: head] = (next: associations[linksOf: head].next, previous: slot)
        }
        heads[identifier] = slot
        counts[identifier] += 1
    }

    private mutating func unlink(_ slot: UInt32, _ identifier: Int) {
        let (next, previous) = associations[linksOf: slot]
        if previous == Self.none {
            heads[identifier] = next
        } else {
            associations[linksOf: previous] = (
                next: next, previous: associations[linksOf: previous].previous
            )
        }
        if next != Self.none {
            associations[linksOf: next] = (
                next: associations[linksOf: next].next, previous: previous
            )
        }
        counts[identifier] -= 1
    }
}
