// Load: told, taken in, and balanced (patent Fig. 6A, 604 and 605). docs/decisions/0015.

public import Cluster
import ESP
import Wire

extension Gateway {
    // MARK: What an operator may want

    /// Moves identifiers until the load is even, whichever node otherwise decides: without the
    /// wait and the threshold that keep moves from following every swing. What is far above the
    /// others and can't be divided stays where it is.
    public mutating func rebalance(nowNanoseconds now: UInt64) {
        balance.isDemanded = true
        balance.nextLookAt = 0
        pump(now)
    }

    /// Moves an identifier to a member by plan, when no other move is under way. Load may move it
    /// on later.
    ///
    /// Throws ``ClusterError/identifierUnknown(_:count:)``, ``ClusterError/nodeUnknown(_:)`` for
    /// who is no member, also before there is an allocation, or
    /// ``ClusterError/generationExhausted(_:)``.
    public mutating func move(
        _ identifier: DistributionIdentifier, to node: NodeID, nowNanoseconds now: UInt64
    ) throws(ClusterError) {
        guard let record else { throw .nodeUnknown(node) }
        _ = try record.planning(identifier, to: node)
        balance.wishes.removeAll { $0.identifier == identifier }
        balance.wishes.append((identifier, node, 0))
        pump(now)
    }

    /// Packets per second of an identifier as its owner told, smoothed.
    public func packetsPerSecond(of identifier: DistributionIdentifier) -> UInt64 {
        balance.loads.packetsPerSecond(of: identifier)
    }

    /// Hands over all that this node owns, as if its weight were 0, for as long as this process
    /// lives. What an operator said of its weight stays for the next one.
    public mutating func leave(nowNanoseconds now: UInt64) {
        isLeaving = true
        balance.nextLookAt = 0
        pump(now)
    }

    /// True when the node is to own nothing: an operator said so in the store, or it says so
    /// itself.
    func isDraining(_ member: NodeID) -> Bool {
        if weights[member] == 0 { return true }
        guard member != node else { return isLeaving }
        return membership.link(to: member)?.last?.flags.contains(.draining) ?? false
    }

    // MARK: Monitoring (604)

    /// Tells all others at intervals how many packets the identifiers have. One that came between
    /// two reports is told of in the next one but one: what it had here is not all it had.
    mutating func reportLoad(_ now: UInt64) {
        guard now >= balance.nextReportAt else { return }
        let began = balance.lastReportAt
        let elapsed = max(now - min(began, now), 1)
        balance.lastReportAt = now
        balance.nextReportAt = now + configuration.balancing.reportNanoseconds
        var loads: [LoadReport.Load] = []
        for place in plane.roles.indices {
            let packets = UInt64(plane.packetCounts[place])
            plane.packetCounts[place] = 0
            balance.packets[place] += packets
            guard plane.roles[place] == .owned, balance.ownedSince[place] <= began else { continue }
            let identifier = DistributionIdentifier(UInt16(place))
            let load = LoadReport.Load(
                identifier: identifier,
                packetsPerSecond: UInt32(clamping: packets * 1_000_000_000 / elapsed),
                tunnels: UInt32(plane.table.count(of: identifier)))
            balance.loads.note(load, nowNanoseconds: now)
            loads.append(load)
        }
        for peer in membership.links.map(\.node) {
            for report in LoadReport.split(loads) { tell(.load(report), to: peer) }
        }
    }

    /// Takes in what an owner told of its identifiers; of others' it is not believed.
    mutating func noteLoads(_ report: LoadReport, from peer: NodeID, _ now: UInt64) {
        guard let allocation else { return }
        for load in report.loads
        where load.identifier.value < allocation.identifierCount
            && allocation.owner(of: load.identifier) == peer
        {
            balance.loads.note(load, nowNanoseconds: now)
        }
    }

    /// The cluster's load as this node knows it.
    var clusterLoad: ClusterLoad {
        var weights = weights
        for link in membership.links where isDraining(link.node) { weights[link.node] = 0 }
        if isLeaving { weights[node] = 0 }
        return ClusterLoad(costs: balance.loads.costs(configuration.balancing), weights: weights)
    }

    // MARK: Deciding (605)

    /// Other members may decide at the same moment, and a successor may not answer.
    private static var wishTries: Int { 8 }

    /// What an operator wants moved.
    mutating func wish(on record: AllocationRecord) -> AllocationRecord? {
        while let wish = balance.wishes.first {
            balance.proposedForLoad = 0
            balance.proposedDemand = nil
            // What is done, has become impossible, or fails again and again is forgotten.
            guard record.allocation.owners[Int(wish.identifier.value)] != wish.node,
                wish.tries < Self.wishTries,
                let next = try? record.planning(wish.identifier, to: wish.node)
            else {
                balance.wishes.removeFirst()
                continue
            }
            balance.wishes[0].tries += 1
            return next
        }
        return nil
    }

    /// Takes a newcomer in, with its share of the load.
    mutating func welcome(_ newcomer: NodeID, _ record: AllocationRecord) -> AllocationRecord? {
        let next = try? record.adding(newcomer, clusterLoad, configuration.balancing)
        let planned = next?.successors.count { $0 != nil } ?? 0
        // The rest of its share follows.
        if planned >= configuration.balancing.movesMaximum { balance.isDemanded = true }
        balance.proposedForLoad = 0
        balance.proposedDemand = nil
        return next
    }

    /// The next planned moves, if there is reason for any.
    mutating func balance(_ record: AllocationRecord, _ now: UInt64) -> AllocationRecord? {
        guard now >= balance.nextLookAt else { return nil }
        let balancing = configuration.balancing
        balance.nextLookAt = now + max(balancing.reportNanoseconds / 4, 1)
        var grounds: BalancePlan.Grounds = []
        if balance.isDemanded { grounds.insert(.demand) }
        if balance.loads.isFresh(balancing, nowNanoseconds: now) { grounds.insert(.load) }
        let plan = BalancePlan(
            record, clusterLoad, balancing, grounds: grounds, backups: configuration.backups)
        guard !plan.isEmpty else {
            balance.isDemanded = false
            balance.imbalancedSince = nil
            return nil
        }
        if plan.movesForLoad == plan.moves.count, !balance.isDemanded, !isLoadDue(now) {
            return nil
        }
        guard let next = try? record.planning(plan) else { return nil }
        balance.proposedDemand = !plan.isWhole
        balance.proposedForLoad = plan.movesForLoad
        return next
    }

    /// True when the load has been out of balance for long enough, and so are the last moves.
    private mutating func isLoadDue(_ now: UInt64) -> Bool {
        let balancing = configuration.balancing
        let since = balance.imbalancedSince ?? now
        balance.imbalancedSince = since
        if let moved = balance.movedAt, now < moved + balancing.intervalNanoseconds { return false }
        return now >= since + balancing.persistenceNanoseconds
    }

    /// Notes what a record that takes force means for the load.
    mutating func noteAdoption(
        of next: AllocationRecord, after before: AllocationRecord?, _ now: UInt64
    ) {
        // Leases are published on the condition of the record in force: between two lots of moves
        // there is time for some.
        balance.nextLookAt = now + 5 * configuration.timing.heartbeatNanoseconds
        for place in next.allocation.owners.indices {
            let isNew = before?.allocation.generations[place] != next.allocation.generations[place]
            guard isNew else { continue }
            balance.movedAt = now
            balance.ownedSince[place] = now
            warn(DistributionIdentifier(UInt16(place)), next.allocation)
        }
        if next == proposed {
            plane.counters.loadMoves += UInt64(balance.proposedForLoad)
            if let demand = balance.proposedDemand {
                balance.isDemanded = demand
                balance.imbalancedSince = nil
            }
        }
        balance.proposedForLoad = 0
        balance.proposedDemand = nil
    }

    // MARK: The end of generations

    /// Tells the owner's operator in time.
    private mutating func warn(_ identifier: DistributionIdentifier, _ allocation: Allocation) {
        let generation = allocation.generation(of: identifier)
        guard allocation.owner(of: identifier) == node, !allocation.isSpent(identifier),
            generation >= LoadBalancing().generationReserve
        else { return }
        outputs.append(
            .event(
                .generationsLow(identifier, left: Int(Allocation.lastGeneration - generation))))
    }

    /// Becomes the owner of an identifier that is used up: its packets are refused here, and its
    /// tunnels are cleared everywhere.
    mutating func retire(_ identifier: DistributionIdentifier, _ now: UInt64) {
        let place = Int(identifier.value)
        plane.generations[place] = .max
        plane.roles[place] = .owned
        isStale[place] = false
        moves.endIncoming(identifier)
        release(identifier, isOwner: false, now)
        let entries = plane.table.entries(of: identifier)
        for entry in entries {
            discard(entry, plane.table.status(of: entry).spi, of: identifier, now)
        }
        outputs.append(.event(.generationsSpent(identifier, cleared: entries.count)))
    }

    /// Clears a tunnel of an identifier that is used up, here and in the store.
    mutating func discard(
        _ entry: AssociationHandle, _ spi: SPI, of identifier: DistributionIdentifier,
        _ now: UInt64
    ) {
        let revision = plane.book.storedRevision(entry)
        drop(entry, now)
        if entries.adding.contains(where: { $0.spi == spi }) {
            entries.adding.removeAll { $0.spi == spi }
            let reason = ClusterError.generationExhausted(identifier).description
            outputs.append(.event(.refused(spi, reason)))
        }
        entries.clearing.removeAll { $0.spi == spi }
        entries.clearing.append(
            PendingClearing(spi: spi, identifier: identifier, revision: revision, triedAt: 0))
    }
}
