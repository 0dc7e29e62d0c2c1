// Which node owns which distribution identifier (patent Fig. 6A, step 602).
//
// A value without history: every change makes the next allocation, with the next epoch. The
// coordination store keeps the newest by compare-and-swap on the epoch. Changes move as few
// identifiers as they can, because every move costs a takeover.

/// The owners of all distribution identifiers at one moment.
///
/// One owner is stored for each identifier, so the nodes' sets are disjoint and complete by
/// construction. Lists are in ascending order and every choice is deterministic: two nodes that
/// compute the same change to the same allocation get the same result.
public struct Allocation: Hashable, Sendable {
    /// Rises by 1 with every change; the first allocation has 1.
    public let epoch: UInt64

    /// The members, ascending. One may own nothing after ``moving(_:to:)`` took its identifiers.
    public let nodes: [NodeID]

    /// The owner of each identifier, by identifier. Always one of ``nodes``.
    public let owners: [NodeID]

    /// How often each identifier was given to a node, by identifier; from 1. It rises by 1 with
    /// every new ownership and begins each IV, as the sender identifier of RFC 6054 §3 does: two
    /// nodes that both believe to own a tunnel still never use one nonce.
    public let generations: [UInt16]

    /// The first allocation: an even split (counts differ by at most 1) in contiguous runs, lower
    /// nodes first. Runs rather than turns, since both hashes spread tunnels evenly anyway, and
    /// a run is one comparison in a kernel filter and one word in a log line.
    ///
    /// Throws ``ClusterError/identifierCount(_:)``, ``ClusterError/noNodes``,
    /// ``ClusterError/nodeExists(_:)`` for a node named twice, or
    /// ``ClusterError/tooManyNodes(nodes:identifiers:)``.
    public init(nodes: some Sequence<NodeID>, identifierCount: Int) throws(ClusterError) {
        try Distribution.check(identifierCount: identifierCount)
        let members = nodes.sorted()
        try Self.check(nodes: members, identifierCount: identifierCount)
        self.epoch = 1
        self.nodes = members
        self.owners = (0..<identifierCount).map { members[$0 * members.count / identifierCount] }
        self.generations = Array(repeating: 1, count: identifierCount)
    }

    /// An allocation as it was stored or received, after checking that it is one.
    ///
    /// Throws what ``init(nodes:identifierCount:)`` throws, ``ClusterError/nodeUnknown(_:)`` for
    /// an owner that is no member, or ``ClusterError/allocationMalformed(_:)``.
    public init(
        epoch: UInt64, nodes: some Sequence<NodeID>, owners: [NodeID], generations: [UInt16]
    ) throws(ClusterError) {
        try Distribution.check(identifierCount: owners.count)
        let members = nodes.sorted()
        try Self.check(nodes: members, identifierCount: owners.count)
        // Half of the numbers are left for changes: an epoch can't be counted up to its end.
        guard epoch >= 1, epoch < 1 << 63 else { throw .allocationMalformed(.epoch) }
        guard generations.count == owners.count else {
            throw .allocationMalformed(.generationCount)
        }
        guard !generations.contains(0) else { throw .allocationMalformed(.generationZero) }
        for owner in owners where !members.contains(owner) { throw .nodeUnknown(owner) }
        self.epoch = epoch
        self.nodes = members
        self.owners = owners
        self.generations = generations
    }

    /// The next allocation after `previous`. Every identifier in `renewed` begins a new ownership;
    /// the caller has seen to it that no other changes its owner.
    init(
        after previous: Allocation, nodes: [NodeID], owners: [NodeID],
        renewed: [DistributionIdentifier]
    ) throws(ClusterError) {
        var generations = previous.generations
        // One that is used up stays so: nobody serves it.
        for identifier in renewed where generations[Int(identifier.value)] < .max {
            generations[Int(identifier.value)] += 1
        }
        guard previous.epoch < UInt64(Int64.max) else { throw .allocationMalformed(.epoch) }
        self.epoch = previous.epoch + 1
        self.nodes = nodes
        self.owners = owners
        self.generations = generations
    }

    /// The last generation under which tunnels are served. The one above it says that an identifier
    /// is used up: no nonce is left under its tunnels' keys (docs/decisions/0015).
    public static let lastGeneration = UInt16.max - 1

    /// True when the identifier is used up. Its owner serves nothing, and clears its tunnels.
    public func isSpent(_ identifier: DistributionIdentifier) -> Bool {
        generation(of: identifier) > Self.lastGeneration
    }

    /// True when the identifier can change its owner and be served by the next.
    public func mayMove(_ identifier: DistributionIdentifier) -> Bool {
        generation(of: identifier) < Self.lastGeneration
    }

    /// The number of distribution identifiers.
    public var identifierCount: Int { owners.count }

    /// The node that handles the packets of `identifier`, which must be below
    /// ``identifierCount``.
    public func owner(of identifier: DistributionIdentifier) -> NodeID {
        owners[Int(identifier.value)]
    }

    /// The generation of the present ownership of `identifier`, which must be below
    /// ``identifierCount``.
    public func generation(of identifier: DistributionIdentifier) -> UInt16 {
        generations[Int(identifier.value)]
    }

    /// What `node` owns, ascending; nothing if it is no member.
    public func identifiers(of node: NodeID) -> [DistributionIdentifier] {
        allIdentifiers.filter { owner(of: $0) == node }
    }

    /// Every identifier, ascending.
    var allIdentifiers: some Sequence<DistributionIdentifier> {
        // At most 4096, so the number fits.
        owners.indices.lazy.map { DistributionIdentifier(UInt16($0)) }
    }

    /// How many identifiers each of ``nodes`` owns, in the order of ``nodes``.
    var counts: [Int] {
        var counts = Array(repeating: 0, count: nodes.count)
        for owner in owners {
            if let position = nodes.firstIndex(of: owner) { counts[position] += 1 }
        }
        return counts
    }

    private static func check(nodes: [NodeID], identifierCount: Int) throws(ClusterError) {
        guard !nodes.isEmpty else { throw .noNodes }
        for (node, next) in zip(nodes, nodes.dropFirst()) where node == next {
            throw .nodeExists(node)
        }
        guard nodes.count <= identifierCount else {
            throw .tooManyNodes(nodes: nodes.count, identifiers: identifierCount)
        }
    }
}
