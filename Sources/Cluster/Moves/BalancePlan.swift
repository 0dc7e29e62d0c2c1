// Who shall take what from whom, so that every node has its share of the load (patent Fig. 6A, 605)
// with as few identifiers moved as possible. A pure function of record, weights and costs.
//
// Three steps, each of which may have nothing to do:
//
//     evacuate   nodes of weight 0 give everything away
//     fill       a node that owns nothing, or far too little, is given its share
//     shed       a node far above the mean gives away what brings it near
//
// A node with one very hot identifier is left alone with it: the others share the rest.

/// The planned moves that bring nodes to their shares.
public struct BalancePlan: Hashable, Sendable {
    /// Why moves are looked for.
    public struct Grounds: OptionSet, Sendable {
        /// As octets.
        public let rawValue: UInt8
        /// As octets.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// The costs are known and fresh: load may move identifiers.
        public static let load = Grounds(rawValue: 1)
        /// Balance is aimed at from the first per cent above `aimPercent`: an operator wants it,
        /// or the last plan was cut off.
        public static let demand = Grounds(rawValue: 2)
    }

    /// The moves, the most useful first; each identifier at most once.
    public let moves: [Reallocation.Move]
    /// False: more moves are wanted than may be under way at once.
    public let isWhole: Bool
    /// How many of `moves` are made because of load alone.
    public let movesForLoad: Int

    /// No moves.
    public var isEmpty: Bool { moves.isEmpty }

    /// What is to be moved in `record`. Identifiers that have a successor count as its own and stay
    /// with it; those of the last generations stay where they are. What nodes of weight 0 give away
    /// goes to nodes that hold its entries, where not all do (`backups`).
    public init(
        _ record: AllocationRecord, _ load: ClusterLoad, _ balancing: LoadBalancing,
        grounds: Grounds, backups: Int? = nil
    ) {
        precondition(load.costs.count == record.allocation.identifierCount)
        precondition(max(balancing.startPercent, balancing.aimPercent) <= 150)
        var shares = NodeShares(record, load, balancing, backups: backups)
        shares.evacuate()
        for place in shares.emptyNodes { shares.fill(place) }
        let planned = shares.moves.count
        if grounds.contains(.load) || grounds.contains(.demand) {
            shares.even(isWanted: grounds.contains(.demand))
        }
        let all = shares.moves
        isWhole = all.count <= balancing.movesMaximum
        moves = Array(all.prefix(balancing.movesMaximum))
        movesForLoad = max(moves.count - planned, 0)
    }
}

extension AllocationRecord {
    /// Names the successors of a plan (605); they must be members.
    public func planning(_ plan: BalancePlan) throws(ClusterError) -> AllocationRecord {
        var record = try refreshed()
        for move in plan.moves {
            precondition(allocation.owner(of: move.identifier) == move.from)
            record.successors[Int(move.identifier.value)] = move.to
        }
        return record
    }

    /// Names a member as successor of one identifier, because an operator wants it there.
    ///
    /// Throws ``ClusterError/identifierUnknown(_:count:)``, ``ClusterError/nodeUnknown(_:)``, or
    /// ``ClusterError/generationExhausted(_:)`` where one more move would be the last.
    public func planning(
        _ identifier: DistributionIdentifier, to node: NodeID
    ) throws(ClusterError) -> AllocationRecord {
        guard identifier.value < allocation.identifierCount else {
            throw .identifierUnknown(identifier, count: allocation.identifierCount)
        }
        guard allocation.nodes.contains(node) else { throw .nodeUnknown(node) }
        guard allocation.mayMove(identifier) else { throw .generationExhausted(identifier) }
        var record = try refreshed()
        if allocation.owner(of: identifier) != node {
            record.successors[Int(identifier.value)] = node
        }
        return record
    }

    /// Takes a node in (607), and names it successor of its share of the load.
    ///
    /// Throws ``ClusterError/nodeExists(_:)`` or
    /// ``ClusterError/tooManyNodes(nodes:identifiers:)``.
    public func adding(
        _ node: NodeID, _ load: ClusterLoad, _ balancing: LoadBalancing
    ) throws(ClusterError) -> AllocationRecord {
        guard !allocation.nodes.contains(node) else { throw .nodeExists(node) }
        let members = (allocation.nodes + [node]).sorted()
        guard members.count <= allocation.identifierCount else {
            throw .tooManyNodes(nodes: members.count, identifiers: allocation.identifierCount)
        }
        var record = self
        record.allocation = try Allocation(
            after: allocation, nodes: members, owners: allocation.owners, renewed: [])
        for move in BalancePlan(record, load, balancing, grounds: []).moves {
            record.successors[Int(move.identifier.value)] = move.to
        }
        return record
    }
}
