// What the gateway of etcd answers, as values. Fields that are zero, false or empty are not in the
// text; fields that are not known are passed over, as later versions have more.

/// One answer, or one line of a watch.
public struct EtcdAnswer: Hashable, Sendable {
    /// Which question it answers.
    public enum Form: UInt8, CaseIterable, Sendable {
        case transaction, range, lease, keptAlive, revoked, watch
    }

    /// A pair in etcd.
    public struct Pair: Hashable, Sendable {
        /// Any octets.
        public var key: [UInt8] = []
        /// Any octets.
        public var value: [UInt8] = []
        /// See ``Cluster/CoordinationPair``.
        public var createRevision: UInt64 = 0
        /// The same.
        public var modRevision: UInt64 = 0
        /// 0: none.
        public var lease: Int64 = 0
    }

    /// A change that a watch tells.
    public struct Event: Hashable, Sendable {
        /// True if the key was deleted; then the pair has key and revision only.
        public var isDelete = false
        /// The key as it stands now.
        public var pair = Pair()
    }

    /// Which etcd cluster answers; 0: not told.
    public var cluster: UInt64 = 0
    /// The revision of the store; 0: not told.
    public var revision: UInt64 = 0
    /// Of a transaction: whether its conditions held.
    public var succeeded = false
    /// Of a range: what is in it, in order.
    public var pairs: [Pair] = []
    /// Of a range: whether there is more than the limit let through.
    public var more = false
    /// Of a lease: its number.
    public var lease: Int64 = 0
    /// Of a lease: the seconds it has; 0: it is not known.
    public var seconds: Int64 = 0
    /// Of a watch: it has begun.
    public var created = false
    /// Of a watch: it is over.
    public var canceled = false
    /// Of a watch that is over: it wanted revisions before this one, which are gone; 0: no.
    public var compactRevision: UInt64 = 0
    /// Of a watch: the next answer goes on with the same changes.
    public var fragment = false
    /// Of a watch: what changed.
    public var events: [Event] = []
    /// Why etcd refuses; nil: it does not.
    public var refusal: EtcdRefusal?

    /// Reads an answer. Never traps, whatever the octets are.
    public static func read(_ octets: [UInt8], as form: Form) throws(MalformedAnswer) -> Self {
        var cursor = JSONCursor(octets)
        var answer = Self()
        switch form {
        case .transaction, .range, .lease, .revoked:
            try answer.readBody(&cursor, form)
        case .keptAlive, .watch:
            // What can come more than once stands in an envelope.
            try cursor.enterObject()
            while let name = try cursor.nextName() {
                switch name {
                case "result": try answer.readBody(&cursor, form)
                case "error": answer.refusal = try EtcdRefusal(&cursor)
                default: try cursor.skip()
                }
            }
        }
        try cursor.finish()
        return answer
    }

    private mutating func readBody(
        _ cursor: inout JSONCursor, _ form: Form
    ) throws(MalformedAnswer) {
        try cursor.enterObject()
        while let name = try cursor.nextName() {
            switch (name, form) {
            case ("header", _): try readHeader(&cursor)
            case ("succeeded", .transaction): succeeded = try cursor.flag()
            case ("kvs", .range):
                try cursor.enterArray()
                while try cursor.nextElement() { pairs.append(try Pair(&cursor)) }
            case ("more", .range): more = try cursor.flag()
            case ("ID", .lease), ("ID", .keptAlive): lease = try cursor.number()
            case ("TTL", .lease), ("TTL", .keptAlive): seconds = try cursor.number()
            case ("created", .watch): created = try cursor.flag()
            case ("canceled", .watch): canceled = try cursor.flag()
            case ("compact_revision", .watch): compactRevision = try cursor.revision()
            case ("fragment", .watch): fragment = try cursor.flag()
            case ("cancel_reason", .watch):
                refusal = EtcdRefusal(code: nil, message: try cursor.text())
            case ("events", .watch):
                try cursor.enterArray()
                while try cursor.nextElement() { events.append(try Event(&cursor)) }
            default: try cursor.skip()
            }
        }
    }

    private mutating func readHeader(_ cursor: inout JSONCursor) throws(MalformedAnswer) {
        try cursor.enterObject()
        while let name = try cursor.nextName() {
            switch name {
            case "cluster_id": cluster = try cursor.number()
            case "revision": revision = try cursor.revision()
            default: try cursor.skip()
            }
        }
    }
}

extension JSONCursor {
    /// Revisions are signed numbers in etcd, and never negative: one more has always room.
    fileprivate mutating func revision() throws(MalformedAnswer) -> UInt64 {
        let number: Int64 = try number()
        guard number >= 0 else { throw MalformedAnswer("a negative revision") }
        return UInt64(number)
    }
}

extension EtcdAnswer.Pair {
    fileprivate init(_ cursor: inout JSONCursor) throws(MalformedAnswer) {
        try cursor.enterObject()
        while let name = try cursor.nextName() {
            switch name {
            case "key": key = try cursor.octets()
            case "value": value = try cursor.octets()
            case "create_revision": createRevision = try cursor.revision()
            case "mod_revision": modRevision = try cursor.revision()
            case "lease": lease = try cursor.number()
            default: try cursor.skip()
            }
        }
        guard !key.isEmpty, modRevision > 0, createRevision <= modRevision else {
            throw MalformedAnswer("a pair without key or revision")
        }
    }
}

extension EtcdAnswer.Event {
    fileprivate init(_ cursor: inout JSONCursor) throws(MalformedAnswer) {
        try cursor.enterObject()
        var hasPair = false
        while let name = try cursor.nextName() {
            switch name {
            case "type":
                switch try cursor.text() {
                case "PUT": isDelete = false
                case "DELETE": isDelete = true
                default: throw MalformedAnswer("an event of an unknown type")
                }
            case "kv":
                pair = try EtcdAnswer.Pair(&cursor)
                hasPair = true
            default: try cursor.skip()
            }
        }
        guard hasPair else { throw MalformedAnswer("an event without a key") }
    }
}

/// Why etcd does not do what it is asked.
public struct EtcdRefusal: Hashable, Sendable {
    /// The code of gRPC, if it is told.
    public let code: UInt32?
    /// For a log, and to tell refusals of one code apart.
    public let message: String

    package init(code: UInt32?, message: String) {
        self.code = code
        self.message = message
    }

    /// Reads the body of an answer that is not "200 OK".
    public static func read(_ octets: [UInt8]) throws(MalformedAnswer) -> Self {
        var cursor = JSONCursor(octets)
        let refusal = try Self(&cursor)
        try cursor.finish()
        return refusal
    }

    /// `{"code":…,"message":…}`, with `grpc_code` in streams of 3.4.
    fileprivate init(_ cursor: inout JSONCursor) throws(MalformedAnswer) {
        var code: UInt32?
        var message = ""
        try cursor.enterObject()
        while let name = try cursor.nextName() {
            switch name {
            case "code", "grpc_code": code = try cursor.number()
            case "message": message = try cursor.text()
            default: try cursor.skip()
            }
        }
        self.init(code: code, message: message)
    }
}

extension EtcdRefusal {
    // gRPC's codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
    private static let invalidArgument: UInt32 = 3
    private static let notFound: UInt32 = 5
    private static let permissionDenied: UInt32 = 7
    private static let unimplemented: UInt32 = 12
    private static let unauthenticated: UInt32 = 16

    /// The lease has expired or was never granted.
    package var isUnknownLease: Bool {
        code == Self.notFound && message.contains("requested lease not found")
    }

    /// The revision asked for is gone.
    package var isCompacted: Bool { message.contains("required revision has been compacted") }

    /// The member knows no leader.
    package var isNoLeader: Bool { message == "etcdserver: no leader" }

    /// gRPC's limit of a message, in the gateway, was too small for the answer.
    package var isTooLarge: Bool { message.contains("received message larger than max") }

    /// Whether it was surely not done. Everything else may come after the proposal: also "database
    /// space exceeded", which etcd says of the very change that exceeds it, and does.
    package var isSurelyNotDone: Bool {
        switch code {
        case Self.invalidArgument, Self.notFound, Self.permissionDenied, Self.unimplemented,
            Self.unauthenticated:
            true
        default: isNoLeader || message == "etcdserver: too many requests"
        }
    }
}
