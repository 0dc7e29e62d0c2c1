// What the commands of an operator ask a running node, and what it answers: one JSON object a line,
// over a local socket that only the node's user can open.

public import Cluster

/// One request; a connection carries one.
public struct ControlRequest: Codable, Sendable {
    /// What is wanted.
    public enum Command: String, Codable, Sendable {
        /// All IKE SAs with their pairs.
        case list
        /// A set-up with the peer of a connection.
        case initiate
        /// The end of the IKE SAs of a connection, or of one.
        case terminate
        /// New keys for all pairs of a connection, or for its IKE SAs.
        case rekey
        /// Keys in files, for a program that reads captures.
        case keys
        /// The node, and the cluster as it sees it.
        case status
        /// A node of the cluster is to own nothing.
        case drain
        /// A node of the cluster takes its share again, or another one.
        case weight
        /// Identifiers are moved until the load is even.
        case rebalance
        /// An identifier is moved to a node.
        case move
        /// The last refused packets.
        case trace
    }

    /// What is wanted.
    public var command: Command
    /// The connection's name.
    public var connection: String?
    /// A policy of the connection; nil: its first one.
    public var child: String?
    /// The local SPI of one IKE SA, 16 hexadecimal digits; for trace, the inbound SPI of a tunnel,
    /// 8 digits.
    public var spi: String?
    /// For keys: the folder for the files.
    public var directory: String?
    /// For keys: files that are there are replaced.
    public var isForced: Bool?
    /// For rekey: the IKE SA rather than its pairs.
    public var ofIKE: Bool?
    /// For drain, weight and move: which node, from 1.
    public var node: UInt16?
    /// For weight: the share of the load, from 1; nil: the usual one.
    public var weight: UInt16?
    /// For move: the distribution identifier.
    public var identifier: UInt16?
    /// For drain, weight, rebalance and move: give up after so many seconds.
    public var seconds: Int?
    /// For status: each identifier, too.
    public var withIdentifiers: Bool?
    /// For trace: only packets with a higher number.
    public var after: UInt64?
    /// For trace: the most packets.
    public var count: Int?

    /// A request without arguments.
    public init(_ command: Command) { self.command = command }
}

/// One line of an answer. The last one has `error` or `isDone`.
public struct ControlReply: Codable, Sendable {
    /// The request failed; why, and what to do.
    public var error: String?
    /// The request is done.
    public var isDone: Bool?
    /// What happens meanwhile; with ``isDone``, what became of it.
    public var report: String?
    /// The answer to `list`.
    public var associations: [AssociationListing]?
    /// The answer to `status`.
    public var status: NodeStatus?
    /// The answer to `trace`, the oldest first.
    public var refusals: [RefusalListing]?
    /// With it: the number of the newest packet that was noted.
    public var lastRefusal: UInt64?

    init() {}

    static var done: ControlReply {
        var reply = ControlReply()
        reply.isDone = true
        return reply
    }

    static func failed(_ reason: String) -> ControlReply {
        var reply = ControlReply()
        reply.error = reason
        return reply
    }

    static func report(_ text: String) -> ControlReply {
        var reply = ControlReply()
        reply.report = text
        return reply
    }
}

/// An IKE SA in the answer to `list`, or a manually keyed tunnel, which has none.
public struct AssociationListing: Codable, Sendable {
    /// A pair of CHILD SAs.
    public struct Pair: Codable, Sendable {
        /// The policy's name.
        public let policy: String
        /// What we receive through, 8 hexadecimal digits.
        public let inboundSPI: String
        /// What we send through, 8 hexadecimal digits.
        public let outboundSPI: String
        /// The algorithms.
        public let suite: String
        /// Tunnel or transport.
        public let mode: String
        /// `udp`, or `esp`: an IP protocol of its own.
        public let encapsulation: String
        /// Addresses on our side.
        public let local: [String]
        /// Addresses on the peer's side.
        public let remote: [String]
        /// False: it has a successor, or is over.
        public let isCurrent: Bool
        /// Good packets that came in.
        public let packetsIn: UInt64
        /// Their octets.
        public let bytesIn: UInt64
        /// Packets that went out.
        public let packetsOut: UInt64
        /// Their octets.
        public let bytesOut: UInt64
    }

    /// The connection's name; empty while it is not known.
    public let connection: String
    /// Names it at this node, 16 hexadecimal digits.
    public let localSPI: String
    /// SPIi.
    public let initiatorSPI: String
    /// SPIr.
    public let responderSPI: String
    /// initiator, responder or manual.
    public let role: String
    /// True when pairs can be made.
    public let isEstablished: Bool
    /// The algorithms; nil before they are agreed upon.
    public let suite: String?
    /// Our address and port.
    public let local: String
    /// The peer's.
    public let remote: String
    /// Who we say we are.
    public let localIdentity: String?
    /// Who the peer has proven to be.
    public let remoteIdentity: String?
    /// From a pool.
    public let virtualAddresses: [String]
    /// Whole seconds since it began.
    public let ageSeconds: UInt64
    /// In the order in which they were made.
    public let pairs: [Pair]
}

/// A refused packet in the answer to `trace`.
public struct RefusalListing: Codable, Sendable {
    /// Rises with every note of this node.
    public let number: UInt64
    /// UTC, as RFC 3339 writes it.
    public let time: String
    /// The reason's name.
    public let reason: String
    /// In words.
    public let explanation: String
    /// It came from a peer; false: from the protected network.
    public let isInbound: Bool
    /// The inbound SPI of its tunnel, 8 hexadecimal digits; nil: it can't be told.
    public let spi: String?
    /// The low 32 bits of its sequence number.
    public let sequence: UInt32?
    /// The outer address of what came from a peer, else the inner one.
    public let source: String?
    /// See ``source``.
    public let destination: String?
    /// Octets of the packet.
    public let octets: UInt32
    /// The distribution identifier; nil at a node alone.
    public let identifier: UInt16?
    /// Who owns that now.
    public let owner: NodeID?
}
