// The common data structure of the patent (Fig. 5, 554…556; Fig. 7, storage 708): every association
// of the cluster, with keys, on every node, found by SPI and by distribution identifier.

public import ESP
public import Wire

/// Why the common table took no entry. Nothing was changed.
public enum CommonTableError: Error, Equatable, CustomStringConvertible {
    /// The table holds as many entries as it was made for.
    case full(capacity: Int)
    /// The cluster has an inbound association with this SPI.
    case duplicateSPI(SPI)
    /// More different policies than the catalogue holds.
    case tooManyProfiles

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .full(let capacity):
            "the common table is full (\(capacity) entries): raise its capacity on every node"
        case .duplicateSPI(let spi):
            "the cluster has an association with SPI \(spi) already: delete it first"
        case .tooManyProfiles:
            "more than \(AssociationCatalogue.profilesMaximum) different lifetime and header "
                + "policies: let connections share them"
        }
    }
}

/// All associations of the cluster as one node knows them.
///
/// Each entry carries its distribution identifier (the patent's distribution information 511), and
/// the entries of one identifier are chained, so that a reallocation touches only what moves:
///
///     heads[DI] ──▶ entry ◀──▶ entry ◀──▶ entry
///
/// An entry takes 256 octets, and 17 to 33 for finding it. Memory is taken as the table fills.
public struct CommonTable: ~Copyable {
    private static let none = UInt32.max

    /// Keys and state of all entries; a card copies sessions out of it.
    public private(set) var associations: AssociationSlab
    private var index: SPIIndex
    private var heads: [UInt32]
    private var counts: [Int]

    /// An empty table of at most `capacity` entries for a range of `identifierCount` identifiers.
    public init(capacity: Int, identifierCount: Int, catalogue: AssociationCatalogue) {
        associations = AssociationSlab(capacity: capacity, catalogue: catalogue)
        index = SPIIndex(capacity: capacity)
        heads = Array(repeating: Self.none, count: identifierCount)
        counts = Array(repeating: 0, count: identifierCount)
    }

    /// Entries now.
    public var count: Int { associations.count }

    /// The most entries it holds.
    public var capacity: Int { associations.capacity }

    /// Adds an entry (Fig. 4, steps 401 and 403). Precondition: the identifier is in the range.
    public mutating func insert(
        _ association: borrowing SecurityAssociation, identifier: DistributionIdentifier
    ) throws(CommonTableError) -> AssociationHandle {
        precondition(Int(identifier.value) < heads.count)
        let spi = association.parameters.spi
        let isInbound = association.parameters.direction == .inbound
        if isInbound, index.find(spi) != nil { throw .duplicateSPI(spi) }
        let entry: AssociationHandle
        do {
            entry = try associations.insert(
                association, distributionIdentifier: identifier.value, ivGeneration: 0)
        } catch {
            switch error {
            case .full(let capacity): throw .full(capacity: capacity)
            case .tooManyProfiles: throw .tooManyProfiles
            }
        }
        if isInbound {
            let isNew = index.insert(spi, slot: entry.index)
            precondition(isNew, "checked before")
        }
        link(entry.index, Int(identifier.value))
        return entry
    }

    /// Clears an entry and wipes its keys. Precondition: the handle is current.
    public mutating func remove(_ entry: AssociationHandle) {
        let status = associations.status(of: entry)
        if status.direction == .inbound { index.remove(status.spi) }
        unlink(entry.index, Int(status.distributionIdentifier))
        associations.remove(entry)
    }

    /// The inbound entry with this SPI.
    public borrowing func find(_ spi: SPI) -> AssociationHandle? {
        index.find(spi).flatMap { associations.handle(at: $0) }
    }

    /// Counters, sequence state and identifier of an entry. Precondition: the handle is current.
    public borrowing func status(of entry: AssociationHandle) -> AssociationStatus {
        associations.status(of: entry)
    }

    /// The entries of one identifier (Fig. 6B step 612), latest first.
    public borrowing func entries(of identifier: DistributionIdentifier) -> [AssociationHandle] {
        var entries: [AssociationHandle] = []
        entries.reserveCapacity(counts[Int(identifier.value)])
        var slot = heads[Int(identifier.value)]
        while slot != Self.none {
            guard let entry = associations.handle(at: slot) else {
                preconditionFailure("a list of the common table names an empty slot")
            }
            entries.append(entry)
            slot = associations[linksOf: slot].next
        }
        return entries
    }

    /// All entries, in slot order: the snapshot for a joining node.
    public borrowing func entries() -> [AssociationHandle] {
        associations.handles()
    }

    /// How many entries an identifier has.
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
