// What an operator may know of a node and of the cluster as that node sees it.

public import Cluster

/// A node at one moment. Nothing secret is in it.
public struct GatewayStatus: Codable, Equatable, Sendable {
    /// How a node's link to a peer is.
    public enum Link: String, Codable, Sendable {
        /// Both hear each other, and have for as long as a newcomer must wait.
        case healthy
        /// Both hear each other, but not for long.
        case young
        /// The peer is heard and does not hear this node.
        case oneWay
        /// Nothing was heard within the detection time.
        case silent
    }

    /// How many identifiers this node plays each part for.
    public struct Roles: Codable, Equatable, Sendable {
        /// Served.
        public internal(set) var owned = 0
        /// Served; their entries are still on the way to the card.
        public internal(set) var loading = 0
        /// Owned; their entries are still being read from the store, and packets are held.
        public internal(set) var awaiting = 0
        /// Handed to a successor that has not taken over yet; packets are held.
        public internal(set) var frozen = 0
        /// About to be taken over from another node; packets are held.
        public internal(set) var holding = 0
    }

    /// One node, this one or another, as this node knows it.
    public struct Member: Codable, Equatable, Sendable {
        /// Who.
        public let node: NodeID
        /// It is in the allocation in force.
        public internal(set) var isMember = false
        /// It has a session with the store.
        public internal(set) var isPresent = false
        /// Identifiers that it owns.
        public internal(set) var identifiers = 0
        /// Identifiers that it is named to take over.
        public internal(set) var arriving = 0
        /// Its share of the load, 1 unless an operator said otherwise; 0: it is drained.
        public internal(set) var weight: UInt16 = 1
        /// How it is heard; nil for this node itself.
        public internal(set) var link: Link?
        /// This node calls it suspect.
        public internal(set) var isSuspect = false
        /// It handles packets. This and what follows is what its last heartbeat said, and false or
        /// nil before the first.
        public internal(set) var isServing = false
        /// It gives up all it owns.
        public internal(set) var isDraining = false
        /// None of its tunnels uses numbers beyond what it has published.
        public internal(set) var isWithinLease = false
        /// It has read everything that the store held.
        public internal(set) var isComplete = false
        /// It can't reach the store.
        public internal(set) var isStoreAway = false
        /// The epoch of the allocation that it knows; 0: none.
        public internal(set) var epoch: UInt64?
        /// The store's revision up to which it follows the store.
        public internal(set) var revision: UInt64?
        /// Revisions by which its copy of all tunnels is behind the newest that this node knows of.
        public internal(set) var lag: UInt64?
        /// Nanoseconds since it was last heard; nil: never, or it is this node.
        public internal(set) var silenceNanoseconds: UInt64?

        init(_ node: NodeID) { self.node = node }
    }

    /// Who speaks.
    public let node: NodeID
    /// This process of it, as 16 hexadecimal digits.
    public let incarnation: String
    /// The epoch of the allocation in force; 0: none yet.
    public let epoch: UInt64
    /// The store's revision up to which this node follows the store.
    public let revision: UInt64
    /// False while changes of the store may be missing.
    public let isComplete: Bool
    /// The store does not answer.
    public let isStoreAway: Bool
    /// Another process has this node's number: this one serves nothing.
    public let isReplaced: Bool
    /// Nanoseconds for which this node may go on serving if nothing more is heard; 0: it is fenced.
    public let servingLeftNanoseconds: UInt64
    /// Nanoseconds for which the store surely keeps this node's key; 0: it has no session.
    public let sessionLeftNanoseconds: UInt64
    /// All distribution identifiers of the cluster.
    public let identifierCount: Int
    /// This node's part in them.
    public let roles: Roles
    /// The lowest generation among its own identifiers; 0 without any.
    public let lowestGeneration: UInt16
    /// The highest; none may come after 65534.
    public let highestGeneration: UInt16
    /// Identifiers with a named successor, in the whole cluster.
    public let moves: Int
    /// Identifiers that this node is handing over.
    public let movesAway: Int
    /// Moves that operators asked this node for and that have not begun.
    public let wishes: Int
    /// An operator wants the load even, and it is not yet.
    public let isRebalancing: Bool
    /// Identifiers whose leases are to be published, and no request has taken.
    public let unpublished: Int
    /// Identifiers in which numbers beyond the published ones may be in use, as the store is away.
    public let overrunning: Int
    /// Packets held now, for planned moves.
    public let heldPackets: Int
    /// Tunnels in this node's common table.
    public let tunnels: Int
    /// How many it has room for.
    public let tunnelCapacity: Int
    /// Sessions on the card, up to two for each tunnel.
    public let sessions: Int
    /// How many it has room for.
    public let sessionCapacity: Int
    /// Sessions in host memory, which found no room on the card.
    public let hostSessions: Int
    /// IKE SAs that this node speaks for.
    public let ikeAssociations: Int
    /// All nodes that are in the allocation or the store, this one among them, ascending.
    public let members: [Member]

    /// True when this node serves nothing: its right to serve has ended, or it never had one.
    public var isFenced: Bool { servingLeftNanoseconds == 0 }
}

/// One distribution identifier, as one node sees it.
public struct IdentifierStatus: Codable, Equatable, Sendable {
    /// Which.
    public let identifier: UInt16
    /// Its owner.
    public let owner: NodeID
    /// Who is named to take it over; nil: nobody.
    public let successor: NodeID?
    /// The generation of the ownership.
    public let generation: UInt16
    /// Tunnels of it in this node's common table.
    public let tunnels: Int
    /// Packets per second that its owner told, smoothed.
    public let packetsPerSecond: UInt64
    /// Packets that this process of this node handled for it, both ways.
    public let packets: UInt64
}
