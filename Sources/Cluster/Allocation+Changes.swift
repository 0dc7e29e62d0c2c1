// The changes of an allocation: node down (patent Fig. 6A, 606), node up or new (607), and single
// moves; what load moves (605) is planned in Moves/BalancePlan.
//
// Nodes go and come by one scheme: decide how many identifiers each node shall own, then let every
// node above its number give up its highest ones.

extension Allocation {
    /// Takes a node out, as it is dead or shall rest: its identifiers, and no others, go to the
    /// survivors, each to the one that owns least. A member that owns nothing fills up first.
    ///
    /// Throws ``ClusterError/nodeUnknown(_:)``, or ``ClusterError/noNodes`` for the last one.
    public func removing(_ node: NodeID) throws(ClusterError) -> Allocation {
        guard let position = nodes.firstIndex(of: node) else { throw .nodeUnknown(node) }
        var survivors = nodes
        survivors.remove(at: position)
        guard !survivors.isEmpty else { throw .noNodes }
        var targets = counts
        let orphans = targets.remove(at: position)
        for _ in 0..<orphans { targets[targets.firstIndexOfMinimum] += 1 }
        return try retargeted(nodes: survivors, targets: targets)
    }

    /// Takes a node in: it gets its fair share, rounded down, from those that own most.
    ///
    /// Throws ``ClusterError/nodeExists(_:)`` or
    /// ``ClusterError/tooManyNodes(nodes:identifiers:)``.
    public func adding(_ node: NodeID) throws(ClusterError) -> Allocation {
        guard !nodes.contains(node) else { throw .nodeExists(node) }
        let members = (nodes + [node]).sorted()
        guard members.count <= identifierCount else {
            throw .tooManyNodes(nodes: members.count, identifiers: identifierCount)
        }
        let share = identifierCount / members.count
        var targets = counts
        for _ in 0..<share { targets[targets.firstIndexOfMaximum] -= 1 }
        targets.insert(share, at: members.firstIndex(of: node) ?? nodes.count)
        return try retargeted(nodes: members, targets: targets)
    }

    /// Gives one identifier to a member. Giving it to its owner renews the ownership.
    ///
    /// Throws ``ClusterError/identifierUnknown(_:count:)``, ``ClusterError/nodeUnknown(_:)`` or
    /// ``ClusterError/generationExhausted(_:)`` for one that could not be served after it.
    public func moving(
        _ identifier: DistributionIdentifier, to node: NodeID
    ) throws(ClusterError) -> Allocation {
        guard identifier.value < identifierCount else {
            throw .identifierUnknown(identifier, count: identifierCount)
        }
        guard nodes.contains(node) else { throw .nodeUnknown(node) }
        guard mayMove(identifier) else { throw .generationExhausted(identifier) }
        var owners = owners
        owners[Int(identifier.value)] = node
        return try Allocation(after: self, nodes: nodes, owners: owners, renewed: [identifier])
    }

    /// Begins a new ownership of all that `node` owns, and moves nothing: what a restarted node
    /// needs before it may serve when nobody took over in between, as it no longer knows which
    /// nonces it used.
    ///
    /// Throws ``ClusterError/nodeUnknown(_:)``.
    public func renewing(_ node: NodeID) throws(ClusterError) -> Allocation {
        guard nodes.contains(node) else { throw .nodeUnknown(node) }
        return try Allocation(
            after: self, nodes: nodes, owners: owners, renewed: identifiers(of: node))
    }

    /// The next allocation, in which each of `members` owns as many identifiers as `targets` says
    /// in the same place. Nodes above their number give up their highest identifiers, those that
    /// are no members all; these go to the nodes below their number, in runs, lower nodes first.
    private func retargeted(
        nodes members: [NodeID], targets: [Int]
    ) throws(ClusterError) -> Allocation {
        var owners = owners
        var keeps = targets
        var moved: [DistributionIdentifier] = []
        for identifier in allIdentifiers {
            if let position = members.firstIndex(of: owner(of: identifier)), keeps[position] > 0 {
                keeps[position] -= 1
            } else {
                moved.append(identifier)
            }
        }
        // What a node could still keep is what it is short of; the sum of these is the number
        // moved, because the targets add up to all identifiers.
        let receivers = zip(members, keeps).flatMap { repeatElement($0, count: $1) }
        for (identifier, node) in zip(moved, receivers) { owners[Int(identifier.value)] = node }
        return try Allocation(after: self, nodes: members, owners: owners, renewed: moved)
    }
}

extension [Int] {
    /// The place of the smallest element, the first among equals; 0 if there is none.
    fileprivate var firstIndexOfMinimum: Int {
        indices.min { self[$0] < self[$1] } ?? 0
    }

    /// The place of the largest element, the first among equals; 0 if there is none.
    fileprivate var firstIndexOfMaximum: Int {
        // `max(by:)` would return the last of equals.
        indices.min { self[$0] > self[$1] } ?? 0
    }
}
