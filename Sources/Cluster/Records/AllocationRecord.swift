// The one record of who owns what, and who is about to: changed by compare-and-swap only.

/// The allocation as the store keeps it, with what concerns its changes.
public struct AllocationRecord: Hashable, Sendable {
    /// Who owns what.
    public var allocation: Allocation
    /// By identifier: the member that gets ready to take it over by plan; never its owner.
    public var successors: [NodeID?]
    /// By identifier: the last generation that began at the outage limit, where what the owner
    /// before it sent and accepted is not known exactly; 0: none.
    public var overrunGenerations: [UInt16]

    /// An allocation without successors and overruns.
    public init(_ allocation: Allocation) {
        self.allocation = allocation
        successors = Array(repeating: nil, count: allocation.identifierCount)
        overrunGenerations = Array(repeating: 0, count: allocation.identifierCount)
    }

    /// All three, after checking that they agree.
    ///
    /// Throws ``ClusterError/nodeUnknown(_:)`` for a successor that is no member, or
    /// ``ClusterError/allocationMalformed(_:)``.
    public init(
        allocation: Allocation, successors: [NodeID?], overrunGenerations: [UInt16]
    ) throws(ClusterError) {
        guard successors.count == allocation.identifierCount else {
            throw .allocationMalformed(.successorCount)
        }
        guard overrunGenerations.count == allocation.identifierCount else {
            throw .allocationMalformed(.overrunCount)
        }
        for identifier in allocation.allIdentifiers {
            if let successor = successors[Int(identifier.value)] {
                guard allocation.nodes.contains(successor) else { throw .nodeUnknown(successor) }
                guard successor != allocation.owner(of: identifier) else {
                    throw .allocationMalformed(.successorOwns)
                }
            }
            let overrun = overrunGenerations[Int(identifier.value)]
            guard overrun <= allocation.generation(of: identifier) else {
                throw .allocationMalformed(.overrunGeneration)
            }
        }
        self.allocation = allocation
        self.successors = successors
        self.overrunGenerations = overrunGenerations
    }
}
