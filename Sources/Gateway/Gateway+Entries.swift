// Entries of both tables: made here and communicated (patent Fig. 4, 400…403), learned from others,
// and moved by reallocation (Fig. 6B, 610…617).

public import Cluster
public import CryptoCardSim
public import ESP
public import Wire

/// Where a new entry belongs.
public enum EntryPlace: Equatable, Sendable {
    /// To this node.
    case own(DistributionIdentifier)
    /// To another one: the patent's foreign entry (its FTP example), to be handed to its owner.
    case foreign(DistributionIdentifier, owner: NodeID)
}

/// An entry that found no room on its owner's card.
public struct EntryRefusal: Equatable, Sendable {
    /// Whose entry.
    public let spi: SPI
    /// What the card said, and what to do about it.
    public let reason: String
}

/// What a node did for one reallocation.
public struct ReallocationReport: Equatable, Sendable {
    /// The epoch that took force.
    public let epoch: UInt64
    /// Who.
    public let node: NodeID
    /// Identifiers gained.
    public let gained: Int
    /// Identifiers lost.
    public let lost: Int
    /// Entries copied from the common table to the card (613).
    public internal(set) var loaded = 0
    /// Entries that found no room on the card, also after it was cleared.
    public internal(set) var refusals: [EntryRefusal] = []
    /// Sessions cleared from the card (616).
    public internal(set) var cleared = 0

    /// How many entries found no room.
    public var refused: Int { refusals.count }
}

extension Gateway {
    // MARK: Fig. 4

    /// Who owns the entry of an SPI. Precondition: there is an allocation.
    public func place(of spi: SPI) -> EntryPlace {
        guard let allocation else { preconditionFailure("no allocation is in force") }
        let identifier = distribution.identifier(of: spi)
        let owner = allocation.owner(of: identifier)
        return owner == node ? .own(identifier) : .foreign(identifier, owner: owner)
    }

    /// Adds an inbound association of this node: first to the card (400), then to its own common
    /// table (401). The caller communicates it to the other nodes (402, 403: `learn`).
    ///
    /// Returns why the card refused, if it did: the entry is in the table then, its packets are
    /// dropped as `cardFull`, and it is loaded as soon as the card has room.
    /// Throws when the table can't take it; nothing is changed then.
    public mutating func add(
        _ association: borrowing SecurityAssociation, nowNanoseconds now: UInt64
    ) throws(CommonTableError) -> CardError? {
        precondition(association.parameters.direction == .inbound)
        let spi = association.parameters.spi
        guard case .own(let identifier) = place(of: spi), let allocation else {
            preconditionFailure("a foreign entry goes to its owner")
        }
        if table.find(spi) != nil { throw .duplicateSPI(spi) }
        var refusal: CardError?
        var session: CardHandle?
        do {
            session = try card.open(
                association, distributionIdentifier: identifier.value,
                ivGeneration: allocation.generation(of: identifier), nowNanoseconds: now)
        } catch {
            refusal = error
        }
        do {
            let entry = try table.insert(association, identifier: identifier)
            if refusal != nil { waiting.append(entry) }
        } catch {
            if let session { try? card.close(session) }
            throw error
        }
        return refusal
    }

    /// Adds an entry that another node communicated (403). If the entry is this node's, or will be
    /// with the prepared allocation, it goes to the card too.
    public mutating func learn(
        _ association: borrowing SecurityAssociation, nowNanoseconds now: UInt64
    ) throws(CommonTableError) {
        let identifier = distribution.identifier(of: association.parameters.spi)
        let entry = try table.insert(association, identifier: identifier)
        let isGained = prepared.map { $0.allocation.owner(of: identifier) == node } ?? false
        if owns(identifier) || isGained, load(entry, now) != nil { waiting.append(entry) }
    }

    /// Notes how far the owner of an association has come. A session of it that is loaded here but
    /// not served yet follows.
    public mutating func learn(_ checkpoint: SequenceCheckpoint) {
        table.apply(checkpoint)
        guard !owns(distribution.identifier(of: checkpoint.spi)),
            let session = card.session(for: checkpoint.spi)
        else { return }
        try? card.apply(checkpoint, to: session)
    }

    /// Clears an inbound association from both tables, whoever owns it; false when it is unknown.
    @discardableResult
    public mutating func remove(_ spi: SPI, nowNanoseconds now: UInt64) -> Bool {
        guard let entry = table.find(spi) else { return false }
        if let session = card.session(for: spi) { try? card.close(session) }
        table.remove(entry)
        _ = loadWaiting(now)
        return true
    }

    /// How far this node has come with one of its sessions; nil when the card has none.
    public borrowing func checkpoint(of spi: SPI) -> SequenceCheckpoint? {
        card.session(for: spi).flatMap { try? card.checkpoint(of: $0) }
    }

    /// How far this node has come with all sessions of some identifiers: what a planned move hands
    /// over before the switch.
    public borrowing func checkpoints(
        of identifiers: [DistributionIdentifier]
    ) -> [SequenceCheckpoint] {
        identifiers.flatMap { table.entries(of: $0) }.compactMap { entry in
            checkpoint(of: table.status(of: entry).spi)
        }
    }

    /// Gives every entry, with its keys and its latest state, to a joining node's common table.
    public borrowing func snapshot(to other: inout Gateway) throws(CommonTableError) {
        for entry in table.entries() {
            let association = table.associations.association(of: entry)
            let spi = association.parameters.spi
            try other.learn(association, nowNanoseconds: 0)
            other.learn(checkpoint(of: spi) ?? table.associations.checkpoint(of: entry))
        }
    }

    // MARK: Fig. 6B

    /// Receives a reallocation (610): finds the entries of gained identifiers in the common table
    /// (611, 612) and loads them into the card (613). Nothing is served by it yet.
    ///
    /// Throws when the allocation is not newer than the one in force, or contradicts it. A node
    /// that neither gains nor loses has nothing to do but to switch (617).
    public mutating func prepare(
        _ next: Allocation, nowNanoseconds now: UInt64
    ) throws(ClusterError) -> ReallocationReport {
        let reallocation = try Reallocation(of: node, from: allocation, to: next)
        abandonPrepared(for: next)
        var report = ReallocationReport(
            epoch: next.epoch, node: node, gained: reallocation.gained.count,
            lost: reallocation.lost.count)
        prepared = (next, reallocation)
        if reallocation.isUnchanged { return report }
        // Tunnels in use come first: where the card is too small, none of them loses its place to
        // one that never found any.
        let entries = reallocation.gained.flatMap { table.entries(of: $0) }
        for isInUse in [true, false] {
            for entry in entries where (table.status(of: entry).packets > 0) == isInUse {
                renew(entry)
                if let refusal = load(entry, now) {
                    waiting.append(entry)
                    report.refusals.append(
                        EntryRefusal(
                            spi: table.status(of: entry).spi, reason: refusal.description))
                } else {
                    report.loaded += 1
                }
            }
        }
        return report
    }

    /// A newer allocation comes before the prepared one was switched to: what had been loaded for
    /// it and is not this node's now goes again.
    private mutating func abandonPrepared(for next: Allocation) {
        guard let (_, reallocation) = prepared else { return }
        for identifier in reallocation.gained
        where !owns(identifier) && next.owner(of: identifier) != node {
            _ = closeSessions(of: identifier)
        }
    }

    /// Closes the sessions of one identifier, and says how many there were.
    private mutating func closeSessions(of identifier: DistributionIdentifier) -> Int {
        var closed = 0
        for entry in table.entries(of: identifier) {
            guard let session = card.session(for: table.status(of: entry).spi) else { continue }
            try? card.close(session)
            closed += 1
        }
        return closed
    }

    /// Switches the owner filter to the prepared allocation: gained identifiers are served, lost
    /// ones are not. Precondition: `prepare` came before.
    public mutating func switchOver() {
        guard let prepared else { preconditionFailure("prepare comes before switchOver") }
        serve(prepared.allocation)
    }

    /// Clears the sessions of lost identifiers from the card (614…616) and uses the room for
    /// entries that had found none. Precondition: `switchOver` came before.
    public mutating func clearLost(_ report: inout ReallocationReport, nowNanoseconds now: UInt64) {
        guard let (next, reallocation) = prepared, allocation == next else {
            preconditionFailure("switchOver comes before clearLost")
        }
        prepared = nil
        for identifier in reallocation.lost where !owns(identifier) {
            report.cleared += closeSessions(of: identifier)
        }
        report.loaded += loadWaiting(now)
        report.refusals.removeAll { card.session(for: $0.spi) != nil }
    }

    /// An identifier that is lost and gained at once (a renewed generation): the session goes, with
    /// its state kept, so that it is opened again under the new generation.
    private mutating func renew(_ entry: AssociationHandle) {
        guard let session = card.session(for: table.status(of: entry).spi) else { return }
        if let checkpoint = try? card.checkpoint(of: session) { table.apply(checkpoint) }
        try? card.close(session)
    }

    /// Copies an entry to the card under the generation of its identifier; nil: it is there.
    mutating func load(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        guard let current = prepared?.allocation ?? allocation else {
            preconditionFailure("no allocation is in force")
        }
        let identifier = DistributionIdentifier(table.status(of: entry).distributionIdentifier)
        do {
            _ = try card.open(
                copying: entry, from: table.associations,
                ivGeneration: current.generation(of: identifier), nowNanoseconds: now)
            return nil
        } catch {
            return error
        }
    }

    /// Tries the entries that found the card full; those that are no longer owned are forgotten.
    private mutating func loadWaiting(_ now: UInt64) -> Int {
        var loaded = 0
        var still: [AssociationHandle] = []
        for entry in waiting where table.associations.isCurrent(entry) {
            let status = table.status(of: entry)
            guard owns(DistributionIdentifier(status.distributionIdentifier)),
                card.session(for: status.spi) == nil
            else { continue }
            if load(entry, now) == nil { loaded += 1 } else { still.append(entry) }
        }
        waiting = still
        return loaded
    }
}
