// What a new allocation means to one node, and to the cluster (patent Fig. 6B, 610…617).

/// The difference between two allocations as one node sees it.
///
/// The node loads the entries of ``gained`` from the common table into its card and only then
/// begins to serve them (611…613); it stops serving ``lost`` and clears them from its card
/// (614…616). With neither it does nothing (617).
///
/// Ownership is compared with its generation. A node that slept through two changes, or that was
/// restarted, may be named as owner before and after: others may have served in between, or its
/// own counters may be gone. Such an identifier is in *both* lists: clear first, then load.
public struct Reallocation: Hashable, Sendable {
    /// The node whose view this is.
    public let node: NodeID

    /// The epoch before; 0 if the node had no allocation.
    public let epochBefore: UInt64

    /// The epoch that takes force.
    public let epochAfter: UInt64

    /// Identifiers whose ownership by the node begins, ascending (610).
    public let gained: [DistributionIdentifier]

    /// Identifiers whose ownership by the node ends, ascending (614).
    public let lost: [DistributionIdentifier]

    /// Whether the node has nothing to do but note the epoch (617).
    public var isUnchanged: Bool { gained.isEmpty && lost.isEmpty }

    /// Compares the allocation in force, nil for a node that starts, with the one that is to take
    /// force. The same one twice is no change.
    ///
    /// Throws ``ClusterError/allocationStale(inForce:offered:)``,
    /// ``ClusterError/allocationForked(epoch:)``,
    /// ``ClusterError/identifierCountDiffers(inForce:offered:)`` or
    /// ``ClusterError/generationNotRaised(_:inForce:offered:)``: then nothing may be switched.
    public init(
        of node: NodeID, from before: Allocation?, to after: Allocation
    ) throws(ClusterError) {
        self.node = node
        self.epochBefore = before?.epoch ?? 0
        self.epochAfter = after.epoch
        guard let before else {
            self.gained = after.identifiers(of: node)
            self.lost = []
            return
        }
        let renewed = try Self.renewed(from: before, to: after)
        self.gained = renewed.filter { after.owner(of: $0) == node }
        self.lost = renewed.filter { before.owner(of: $0) == node }
    }

    /// One identifier that changes its owner.
    public struct Move: Hashable, Sendable {
        /// What moves.
        public let identifier: DistributionIdentifier
        /// The owner before.
        public let from: NodeID
        /// The owner after.
        public let to: NodeID
    }

    /// All changes of owner between two allocations, by ascending identifier. Ownerships that are
    /// only renewed are none.
    ///
    /// Throws what ``init(of:from:to:)`` throws.
    public static func moves(
        from before: Allocation, to after: Allocation
    ) throws(ClusterError) -> [Move] {
        try renewed(from: before, to: after)
            .map { Move(identifier: $0, from: before.owner(of: $0), to: after.owner(of: $0)) }
            .filter { $0.from != $0.to }
    }

    /// The identifiers whose ownership is a new one, ascending, after checking that `after` may
    /// follow `before`.
    private static func renewed(
        from before: Allocation, to after: Allocation
    ) throws(ClusterError) -> [DistributionIdentifier] {
        guard after.epoch >= before.epoch else {
            throw .allocationStale(inForce: before.epoch, offered: after.epoch)
        }
        guard after.epoch > before.epoch || after == before else {
            throw .allocationForked(epoch: after.epoch)
        }
        guard after.identifierCount == before.identifierCount else {
            throw .identifierCountDiffers(
                inForce: before.identifierCount, offered: after.identifierCount)
        }
        var renewed: [DistributionIdentifier] = []
        for identifier in after.allIdentifiers {
            let (old, new) = (before.generation(of: identifier), after.generation(of: identifier))
            let isSameOwner = before.owner(of: identifier) == after.owner(of: identifier)
            // Who owns one that is used up does not serve it: it needs no new generation.
            guard new > old || (new == old && (isSameOwner || after.isSpent(identifier))) else {
                throw .generationNotRaised(identifier, inForce: old, offered: new)
            }
            if new > old || !isSameOwner { renewed.append(identifier) }
        }
        return renewed
    }
}
