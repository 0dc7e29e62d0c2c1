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

    /// Takes dead nodes out (606): their identifiers, and no others, go to the survivors.
    /// `mayHaveOverrun` tells of which of them numbers beyond the lease may have been used. Where
    /// not every node holds every entry (`backups`), they go to those that do.
    public func removing(
        _ dead: [NodeID], backups: Int? = nil, mayHaveOverrun: (NodeID) -> Bool, rules: Rules
    ) throws(ClusterError) -> AllocationRecord {
        var next = allocation
        for node in dead { next = try next.removing(node) }
        // One step for the cluster, however many died.
        var owners =
            backups.map { ownersWithBackups(replacing: dead, among: next.nodes, backups: $0) }
            ?? next.owners
        let lost = allocation.allIdentifiers.filter { dead.contains(allocation.owner(of: $0)) }
        for identifier in lost {
            // Who was getting ready for it anyway has it loaded.
            if let successor = successors[Int(identifier.value)], !dead.contains(successor) {
                owners[Int(identifier.value)] = successor
            }
        }
        var record = try following(
            Allocation(
                after: allocation, nodes: next.nodes, owners: owners,
                renewed: rules.hold(.generationRaised) ? lost : []))
        for identifier in lost where rules.hold(.overrunRespected) {
            if mayHaveOverrun(allocation.owner(of: identifier)) { record.markOverrun(identifier) }
        }
        return record
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

    /// Takes a node in (607), and names it successor of its share.
    public func adding(_ node: NodeID) throws(ClusterError) -> AllocationRecord {
        let target = try allocation.adding(node)
        var record = try following(
            Allocation(
                after: allocation, nodes: target.nodes, owners: allocation.owners, renewed: []))
        record.plan(target.owners)
        return record
    }

    /// Names successors so that every identifier comes to its owner in `target` (605). The owners
    /// in `target` must be members. With `backups`, only what moves and how many of it come to a
    /// node are those of `target`: each goes to one of its backups, as far as that is possible.
    public func planning(
        _ target: Allocation, backups: Int? = nil
    ) throws(ClusterError) -> AllocationRecord {
        var record = try refreshed()
        record.plan(backups.map { ownersNearBackups(target, backups: $0) } ?? target.owners)
        return record
    }

    private mutating func plan(_ owners: [NodeID]) {
        for (place, owner) in owners.enumerated() {
            successors[place] = owner == allocation.owners[place] ? nil : owner
        }
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
