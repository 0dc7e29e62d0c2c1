// The changes of the record that the store keeps, each made from the one before and offered to the
// store with compare-and-swap. Crashes move ownership at once; everything planned names a successor
// first, who gets ready while the owner goes on serving (patent Fig. 6A, 604…607).

extension AllocationRecord {
    /// The next epoch without any other change: it voids what was decided on the last one.
    public func refreshed() throws(ClusterError) -> AllocationRecord {
        try following(
            Allocation(
                after: allocation, nodes: allocation.nodes, owners: allocation.owners, renewed: []))
    }

    /// Takes dead nodes out (606), however many in one step: their identifiers, and no others, go
    /// to the survivors, so that these have load as even as can be; to survivors of weight 0 only
    /// if there are no others. `load` nil: identifiers count alike. Where not every node holds
    /// every entry (`backups`), they go to those that do, if any is left.
    /// `mayHaveOverrun` tells of which of them numbers beyond the lease may have been used.
    ///
    /// Throws ``ClusterError/nodeUnknown(_:)`` for one that is no member, or
    /// ``ClusterError/noNodes`` when none is left.
    public func removing(
        _ dead: [NodeID], load: ClusterLoad? = nil, backups: Int? = nil,
        mayHaveOverrun: (NodeID) -> Bool, rules: Rules
    ) throws(ClusterError) -> AllocationRecord {
        for node in dead where !allocation.nodes.contains(node) { throw .nodeUnknown(node) }
        let survivors = allocation.nodes.filter { !dead.contains($0) }
        guard !survivors.isEmpty else { throw .noNodes }
        let lost = allocation.allIdentifiers.filter { dead.contains(allocation.owner(of: $0)) }
        var record = try following(
            Allocation(
                after: allocation, nodes: survivors,
                owners: inherited(lost, from: dead, load, backups),
                renewed: rules.hold(.generationRaised) ? lost : []))
        for identifier in lost where rules.hold(.overrunRespected) {
            if mayHaveOverrun(allocation.owner(of: identifier)) { record.markOverrun(identifier) }
        }
        return record
    }

    /// The owners after a removal.
    private func inherited(
        _ lost: [DistributionIdentifier], from dead: [NodeID], _ load: ClusterLoad?,
        _ backups: Int?
    ) -> [NodeID] {
        var owners = allocation.owners
        var orphans: [Int] = []
        for identifier in lost {
            let place = Int(identifier.value)
            // Who was getting ready for it anyway has it loaded.
            if let successor = successors[place], !dead.contains(successor) {
                owners[place] = successor
            } else {
                orphans.append(place)
            }
        }
        let shares = NodeShares(
            self, load ?? ClusterLoad(identifierCount: owners.count), LoadBalancing(), gone: dead,
            backups: backups)
        for (place, heir) in shares.spread(orphans) { owners[place] = shares.nodes[heir] }
        return owners
    }

    /// Begins new ownerships of all that a restarted node owns: it no longer knows which numbers
    /// its former life used while the store was away.
    public func renewing(_ node: NodeID) throws(ClusterError) -> AllocationRecord {
        var record = try following(allocation.renewing(node))
        for identifier in allocation.identifiers(of: node) {
            record.markOverrun(identifier)
            record.successors[Int(identifier.value)] = nil
        }
        return record
    }

    /// Completes planned moves: `node` becomes the owner of what it was successor of.
    public func committing(
        _ identifiers: [DistributionIdentifier], to node: NodeID, rules: Rules
    ) throws(ClusterError) -> AllocationRecord {
        var owners = allocation.owners
        for identifier in identifiers {
            precondition(successors[Int(identifier.value)] == node)
            owners[Int(identifier.value)] = node
        }
        var record = try following(
            Allocation(
                after: allocation, nodes: allocation.nodes, owners: owners,
                renewed: rules.hold(.generationRaised) ? identifiers : []))
        for identifier in identifiers { record.successors[Int(identifier.value)] = nil }
        return record
    }

    /// Gives planned moves up whose owners have not let go: ownerships stay as they are.
    public func givingUp(
        _ identifiers: [DistributionIdentifier]
    ) throws(ClusterError) -> AllocationRecord {
        var record = try refreshed()
        for identifier in identifiers { record.successors[Int(identifier.value)] = nil }
        return record
    }

    /// Gives planned moves up. An owner that had let go begins a new ownership.
    public func cancelling(
        _ identifiers: [DistributionIdentifier]
    ) throws(ClusterError) -> AllocationRecord {
        var record = try following(
            Allocation(
                after: allocation, nodes: allocation.nodes, owners: allocation.owners,
                renewed: identifiers))
        for identifier in identifiers { record.successors[Int(identifier.value)] = nil }
        return record
    }

    /// True when a planned move is under way.
    public var isMoving: Bool { successors.contains { $0 != nil } }

    /// The record with the next allocation; plans of and for nodes that are gone are forgotten.
    private func following(_ next: Allocation) throws(ClusterError) -> AllocationRecord {
        var record = self
        record.allocation = next
        for place in successors.indices {
            guard let successor = successors[place] else { continue }
            if !next.nodes.contains(successor) || next.owners[place] == successor
                || next.owners[place] != allocation.owners[place]
            {
                record.successors[place] = nil
            }
        }
        return record
    }

    private mutating func markOverrun(_ identifier: DistributionIdentifier) {
        overrunGenerations[Int(identifier.value)] = allocation.generation(of: identifier)
    }
}
