// Everything in this module that can be refused, with the text that an operator reads.

/// Why an operation on the cluster's shared state was refused. The state is unchanged.
public enum ClusterError: Error, Hashable, Sendable {
    /// The number of distribution identifiers is not a power of two from 16 to 4096.
    case identifierCount(Int)
    /// The derived cookie key has the wrong length.
    case cookieKeyLength(bytes: Int)
    /// An allocation needs at least one node; the last one cannot be removed either.
    case noNodes
    /// Every node needs at least one identifier of its own.
    case tooManyNodes(nodes: Int, identifiers: Int)
    /// The node is already a member of the allocation.
    case nodeExists(NodeID)
    /// The node is no member of the allocation.
    case nodeUnknown(NodeID)
    /// The identifier is outside of the allocation.
    case identifierUnknown(DistributionIdentifier, count: Int)
    /// The identifier has been owned 65534 times: under a next owner no nonce is left under its
    /// tunnels' keys.
    case generationExhausted(DistributionIdentifier)
    /// A stored allocation contradicts itself.
    case allocationMalformed(AllocationFault)
    /// The allocation offered is not newer than the one in force.
    case allocationStale(inForce: UInt64, offered: UInt64)
    /// Two different allocations carry one epoch.
    case allocationForked(epoch: UInt64)
    /// Two allocations speak of different numbers of identifiers.
    case identifierCountDiffers(inForce: Int, offered: Int)
    /// A newer allocation carries an older generation, or a new owner without a new generation.
    case generationNotRaised(DistributionIdentifier, inForce: UInt16, offered: UInt16)

    /// What is wrong in a stored allocation.
    public enum AllocationFault: String, Hashable, Sendable {
        /// Epoch 0 means "none yet", and the last one has no successor.
        case epoch = "its epoch is out of range"
        /// Not one generation for each owner.
        case generationCount = "it has not one generation for each identifier"
        /// Generations start at 1.
        case generationZero = "a generation is 0"
        /// Not one successor, or none, for each owner.
        case successorCount = "it has not one successor field for each identifier"
        /// Who owns an identifier cannot get ready to take it over.
        case successorOwns = "a successor owns its identifier already"
        /// Not one overrun generation for each owner.
        case overrunCount = "it has not one overrun field for each identifier"
        /// An overrun of a generation that has not begun.
        case overrunGeneration = "an overrun is newer than its generation"
    }
}

extension ClusterError: CustomStringConvertible {
    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .identifierCount(let count):
            "\(count) distribution identifiers are not possible: "
                + "choose a power of two from 16 to 4096"
        case .cookieKeyLength(let bytes):
            "a cookie key has \(CookieKey.byteCount) bytes, not \(bytes): "
                + "derive it from the cluster secret"
        case .noNodes:
            "an allocation needs at least one node: add another node before this one goes"
        case .tooManyNodes(let nodes, let identifiers):
            "\(nodes) nodes cannot share \(identifiers) distribution identifiers: "
                + "use fewer nodes, or configure more identifiers"
        case .nodeExists(let node):
            "node \(node) is a member already: give each node its own number"
        case .nodeUnknown(let node):
            "node \(node) is not a member: add it first"
        case .identifierUnknown(let identifier, let count):
            "there is no distribution identifier \(identifier): choose from 0 to \(count - 1)"
        case .generationExhausted(let identifier):
            "distribution identifier \(identifier) has used up its generations: "
                + "renew the keys of its tunnels, then start a new allocation"
        case .allocationMalformed(let fault):
            "the stored allocation is damaged (\(fault.rawValue)): restore it from another member"
        case .allocationStale(let inForce, let offered):
            "the allocation of epoch \(offered) is older than epoch \(inForce) in force: "
                + "read the store again"
        case .allocationForked(let epoch):
            "two different allocations carry epoch \(epoch): "
                + "check that all members use one coordination store"
        case .identifierCountDiffers(let inForce, let offered):
            "an allocation of \(offered) identifiers cannot follow one of \(inForce): "
                + "configure all members alike"
        case .generationNotRaised(let identifier, let inForce, let offered):
            "distribution identifier \(identifier) would go from generation \(inForce) "
                + "to \(offered): refuse this allocation and read the store again"
        }
    }
}
