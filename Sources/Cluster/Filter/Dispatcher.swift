// The other way to distribute: a station in front of the nodes takes every frame and gives it to
// the owner. It holds no association and no key but that of the cookie hash.

public import Wire

/// What becomes of a frame.
public enum DispatchVerdict: Equatable, Sendable {
    /// It is addressed to this node now: send it.
    case forward(NodeID)
    /// It is for every node: have it addressed to each with ``Dispatcher/address(_:to:)``.
    case everyone
    /// ARP and neighbor discovery: for the dispatcher itself, which answers for the cluster.
    case local
    /// Not to be sent.
    case drop(DispatchRefusal)
}

/// Why a frame is not sent on.
public enum DispatchRefusal: String, CaseIterable, Equatable, Sendable {
    /// Addressed to another station.
    case otherStation
    /// Not for the cluster, or of a kind that is nobody's.
    case nobody
    /// No node owns the identifier, or nobody knows where the owner is.
    case noOwner
}

/// Addresses frames to the owners of what is in them.
public struct Dispatcher: Sendable {
    private let distribution: Distribution
    private let front: ClusterFront
    private let own: MACAddress
    /// By identifier.
    private var owners: [NodeID?]
    private var members: [(node: NodeID, address: MACAddress)] = []

    /// Knows no node yet. `own`: the MAC address that peers are told for the cluster addresses.
    public init(distribution: Distribution, front: ClusterFront, own: MACAddress) {
        self.distribution = distribution
        self.front = front
        self.own = own
        owners = Array(repeating: nil, count: distribution.identifierCount)
    }

    /// The nodes and where they are; frames go by this allocation from now on. Its identifiers must
    /// be as many as the distribution's.
    public mutating func follow(_ allocation: Allocation, addresses: [NodeID: MACAddress]) {
        precondition(allocation.identifierCount == distribution.identifierCount)
        owners = allocation.owners
        members = allocation.nodes.compactMap { node in
            addresses[node].map { (node, $0) }
        }
    }

    /// The nodes that get what is for everyone.
    public var nodes: [NodeID] { members.map(\.node) }

    /// Says whose a frame is, and addresses it.
    public func dispatch(_ frame: UnsafeMutableRawBufferPointer) -> DispatchVerdict {
        guard let base = frame.baseAddress, frame.count >= EthernetHeader.byteCount else {
            return .drop(.nobody)
        }
        let destination = MACAddress(at: base, 0)
        let bytes = UnsafeRawBufferPointer(frame)
        if load16(base, 12) == EthernetHeader.arp || NeighborMessage(frame: bytes) != nil {
            return .local
        }
        guard destination == own else { return .drop(.otherStation) }
        switch distribution.share(ofFrame: bytes, front: front) {
        case .nobody: return .drop(.nobody)
        case .everyone: return .everyone
        case .owner(let identifier):
            guard let owner = owners[Int(identifier.value)], address(frame, to: owner) else {
                return .drop(.noOwner)
            }
            return .forward(owner)
        }
    }

    /// Addresses a frame to a node, from the dispatcher; false: nobody knows where it is.
    public func address(_ frame: UnsafeMutableRawBufferPointer, to node: NodeID) -> Bool {
        guard let base = frame.baseAddress, frame.count >= EthernetHeader.byteCount,
            let member = members.first(where: { $0.node == node })
        else { return false }
        member.address.write(base, 0)
        own.write(base, 6)
        return true
    }
}
