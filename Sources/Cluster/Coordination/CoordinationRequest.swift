// What a node asks of the coordination store, as values shaped after etcd v3: one node as a value
// hands them out, and a store in memory or an etcd client answers them alike.

/// One request to the coordination store.
///
/// Keys and prefixes are compared octet by octet, as UTF-8. The empty prefix stands for all keys.
public enum CoordinationRequest: Hashable, Sendable {
    /// Changes keys, all or none, if conditions hold. Answer:
    /// ``CoordinationReply/committed(revision:)`` or ``CoordinationReply/conflict(revision:)``.
    case transaction(CoordinationTransaction)
    /// All pairs whose keys begin with the prefix, at one revision. Answer:
    /// ``CoordinationReply/pairs(_:revision:)``.
    case read(prefix: String)
    /// Every change, with revision `from` or later, of keys that begin with the prefix. Whole
    /// revisions in ascending order; 0 asks for the same as 1, and a future revision is waited
    /// for. Answer: ``CoordinationReply/watching``, and the changes follow.
    ///
    /// (etcd takes 0 for "from now on": its client sends 1 instead.)
    case watch(prefix: String, from: UInt64)
    /// Begins a lease of so many whole seconds, of ``leaseSecondsRange``. Answer:
    /// ``CoordinationReply/lease(_:)``. A store may grant more, as etcd does below its election
    /// time.
    case grantLease(seconds: Int)
    /// Lets a lease begin again with its full time. Answer: ``CoordinationReply/lease(_:)``.
    case keepAlive(lease: UInt64)
    /// Ends a lease and deletes its keys, in one revision; without keys there is none. Answer:
    /// ``CoordinationReply/committed(revision:)``.
    case revoke(lease: UInt64)

    /// The seconds a lease may have, as in etcd.
    public static let leaseSecondsRange = 1...9_000_000_000

    /// Why every store refuses this request, whatever it holds; nil when none does. A client asks
    /// this before it sends, so that all stores answer alike.
    public var refusal: CoordinationFailure? {
        switch self {
        case .transaction(let transaction): transaction.refusal
        case .grantLease(let seconds):
            Self.leaseSecondsRange.contains(seconds) ? nil : .leaseSeconds(seconds)
        case .read, .watch, .keepAlive, .revoke: nil
        }
    }
}

/// Changes of several keys that are done together or not at all.
public struct CoordinationTransaction: Hashable, Sendable {
    /// The most conditions, and the most operations: etcd's default (`--max-txn-ops`).
    public static let operationsMaximum = 128

    /// The most octets of all values of one transaction together. etcd refuses requests above
    /// 1.5 MiB by default (`--max-request-bytes`); the rest is for 128 keys and the framing.
    public static let valueBytesMaximum = 1 << 20

    /// What must hold for one key.
    public struct Condition: Hashable, Sendable {
        /// The key, not empty.
        public var key: String
        /// The revision that changed the key last; 0 stands for "the key is absent".
        public var modRevision: UInt64

        /// The key must have been changed last by this revision, or be absent for 0.
        public init(key: String, modRevision: UInt64) {
            self.key = key
            self.modRevision = modRevision
        }
    }

    /// A change of one key.
    public enum Operation: Hashable, Sendable {
        /// Writes a value. The key goes with `lease`, and no longer with the one it had before.
        case put(key: String, value: [UInt8], lease: UInt64?)
        /// Deletes a key. An absent one is left absent, and that is no change.
        case delete(key: String)

        /// The key, not empty.
        public var key: String {
            switch self {
            case .put(let key, _, _), .delete(let key): key
            }
        }
    }

    /// All of these must hold.
    public var conditions: [Condition]

    /// What is done then; no key twice.
    public var operations: [Operation]

    /// A transaction of these parts; ``refusal`` says whether a store takes it.
    public init(conditions: [Condition] = [], operations: [Operation]) {
        self.conditions = conditions
        self.operations = operations
    }

    /// Why every store refuses this transaction, whatever it holds; nil when none does.
    /// Precondition: no key is empty.
    public var refusal: CoordinationFailure? {
        let count = max(conditions.count, operations.count)
        guard count <= Self.operationsMaximum else { return .tooManyOperations(count) }
        var valueBytes = 0
        for operation in operations {
            if case .put(_, let value, _) = operation { valueBytes += value.count }
        }
        guard valueBytes <= Self.valueBytesMaximum else {
            return .valueTooLarge(bytes: valueBytes)
        }
        precondition(
            conditions.allSatisfy { !$0.key.isEmpty } && operations.allSatisfy { !$0.key.isEmpty },
            "a key of the coordination store is empty")
        return duplicateKey.map { .duplicateKey($0) }
    }

    private var duplicateKey: String? {
        guard operations.count > 1 else { return nil }
        let keys = operations.map(\.key).sorted { $0.precedesInOctets($1) }
        return zip(keys, keys.dropFirst()).first { $0.equalsInOctets($1) }?.0
    }
}
