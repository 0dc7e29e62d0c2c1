// What the commands of an operator ask a running node, and what it answers: one JSON object a line,
// over a local socket that only the node's user can open.

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
        /// Counters.
        case status
    }

    /// What is wanted.
    public var command: Command
    /// The connection's name.
    public var connection: String?
    /// A policy of the connection; nil: its first one.
    public var child: String?
    /// The local SPI of one IKE SA, 16 hexadecimal digits.
    public var spi: String?
    /// For keys: the folder for the files.
    public var directory: String?
    /// For keys: files that are there are replaced.
    public var isForced: Bool?
    /// For rekey: the IKE SA rather than its pairs.
    public var ofIKE: Bool?

    /// A request without arguments.
    public init(_ command: Command) { self.command = command }
}

/// One line of an answer. The last one has `error` or `isDone`.
public struct ControlReply: Codable, Sendable {
    /// The request failed; why, and what to do.
    public var error: String?
    /// The request is done.
    public var isDone: Bool?
    /// What happens meanwhile.
    public var report: String?
    /// The answer to `list`.
    public var associations: [AssociationListing]?
    /// The answer to `status`: counters by name.
    public var counters: [String: UInt64]?

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
