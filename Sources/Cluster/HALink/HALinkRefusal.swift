// Why a datagram of the HA link was dropped: one reason each, counted.

/// A refused datagram; in the order in which the reasons are decided.
public enum HALinkRefusal: UInt8, CaseIterable, Error, Sendable {
    /// Shorter than the shortest message.
    case truncated
    /// Not a datagram of this protocol.
    case magic
    /// A version of the protocol that this program does not speak.
    case version
    /// From a cluster with another key.
    case foreignCluster
    /// To another node.
    case notForUs
    /// The sender's incarnation is not known (yet), or it claims to be the receiver.
    case unknownSender
    /// Of a former life of the sender, or to one of the receiver.
    case staleIncarnation
    /// Its counter was received before, or is too old to tell.
    case replayed
    /// Its tag is wrong.
    case forged
    /// Longer than a datagram may be; or authentic, but not a message.
    case malformed

    /// What to think of it, for a line beside the counter.
    public var explanation: String {
        switch self {
        case .truncated: "too short: damaged, or sent by another program"
        case .magic: "not of this protocol: another program sends to the HA port"
        case .version: "of another version: run one version on all nodes"
        case .foreignCluster: "of another cluster: check that all nodes have one cluster key"
        case .notForUs: "to another node: check the nodes' addresses and numbers"
        case .unknownSender: "from a node without an incarnation in the store: normal at its start"
        case .staleIncarnation: "of a former process: normal for a moment after a restart"
        case .replayed: "received before: duplicated by the network, or replayed"
        case .forged: "not authentic: damaged, or made by someone without the cluster key"
        case .malformed: "not a message: run one version on all nodes"
        }
    }
}

/// What a node's HA link has done since it began.
public struct HALinkCounters: Hashable, Sendable {
    /// Datagrams sealed.
    public internal(set) var sent: UInt64 = 0
    /// Datagrams opened.
    public internal(set) var received: UInt64 = 0
    private var refused = Array(repeating: UInt64(0), count: HALinkRefusal.allCases.count)

    /// All zero.
    public init() {}

    /// Datagrams refused for a reason.
    public internal(set) subscript(refusal: HALinkRefusal) -> UInt64 {
        get { refused[Int(refusal.rawValue)] }
        set { refused[Int(refusal.rawValue)] = newValue }
    }
}
