// The changes of an allocation: load (patent Fig. 6A, 605), node down (606), node up or new (607).
//
// Those that shift load share one scheme: decide how many identifiers each node shall own, then
// let every node above its number give up its highest ones.

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

    /// Shares all identifiers out in proportion to the nodes' weights, and moves no more of them
    /// than these shares ask for. A node without an entry weighs 1; one of weight 0 owns nothing.
    ///
    /// Shares are rounded by largest remainder; among equal remainders the extra identifier goes
    /// to the node that owns more already, then to the lower node.
    ///
    /// Throws ``ClusterError/weightsAllZero``, or ``ClusterError/nodeUnknown(_:)`` for the lowest
    /// weighed node that is no member.
    public func rebalanced(weights: [NodeID: UInt16] = [:]) throws(ClusterError) -> Allocation {
        if let stranger = weights.keys.filter({ !nodes.contains($0) }).min() {
            throw .nodeUnknown(stranger)
        }
        let weights = nodes.map { Int(weights[$0] ?? 1) }
        let weightsTotal = weights.reduce(0, +)
        guard weightsTotal > 0 else { throw .weightsAllZero }
        var targets = weights.map { identifierCount * $0 / weightsTotal }
        let remainders = weights.map { identifierCount * $0 % weightsTotal }
        let counts = counts
        let byClaim = nodes.indices.sorted {
            (remainders[$0], counts[$0], $1) > (remainders[$1], counts[$1], $0)
        }
        for position in byClaim.prefix(identifierCount - targets.reduce(0, +)) {
            targets[position] += 1
        }
        return try retargeted(nodes: nodes, targets: targets)
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
