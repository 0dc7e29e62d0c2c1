// What the coordination store answers and reports, as values shaped after etcd v3.

/// A key with its value at one revision.
public struct CoordinationPair: Hashable, Sendable {
    /// Not empty.
    public var key: String
    /// As it was written; secrets are sealed before they get here.
    public var value: [UInt8]
    /// The revision in which the key appeared. A key that was deleted appears anew.
    public var createRevision: UInt64
    /// The revision that changed the key last.
    public var modRevision: UInt64
    /// The lease whose end deletes the key, if any.
    public var lease: UInt64?

    /// A pair of these parts.
    public init(
        key: String, value: [UInt8], createRevision: UInt64, modRevision: UInt64, lease: UInt64?
    ) {
        self.key = key
        self.value = value
        self.createRevision = createRevision
        self.modRevision = modRevision
        self.lease = lease
    }
}

/// The answer to a ``CoordinationRequest``.
public enum CoordinationReply: Hashable, Sendable {
    /// Done. The revision is that of the change or, if nothing changed, the store's.
    case committed(revision: UInt64)
    /// A condition did not hold, and nothing was done. The revision is the store's.
    case conflict(revision: UInt64)
    /// All pairs below the prefix as they stood at the revision, ascending by the octets of their
    /// keys. A watch from the next revision on misses nothing.
    case pairs([CoordinationPair], revision: UInt64)
    /// The watch has begun.
    case watching
    /// The lease was granted or kept alive. Its time runs from when the *store* handled the
    /// request: a node counts from before it asked.
    case lease(UInt64)
    /// Not done, unless the failure says that this is uncertain.
    case failed(CoordinationFailure)
}

/// Why the coordination store did not do what was asked.
public enum CoordinationFailure: Hashable, Sendable, Error {
    /// The store can't be reached, or has no leader: surely not done.
    case unavailable
    /// No answer in time: it may have been done, or may be done yet.
    case outcomeUnknown
    /// The revision asked for is gone; changes are kept from `oldest` on.
    case compacted(oldest: UInt64)
    /// The lease has expired or was never granted. Nothing was done.
    case leaseUnknown
    /// More than ``CoordinationTransaction/operationsMaximum`` conditions or operations.
    case tooManyOperations(Int)
    /// Two operations of one transaction name this key.
    case duplicateKey(String)
    /// The values of a transaction have more than ``CoordinationTransaction/valueBytesMaximum``
    /// octets together.
    case valueTooLarge(bytes: Int)
    /// The lease time is not in ``CoordinationRequest/leaseSecondsRange``.
    case leaseSeconds(Int)
}

extension CoordinationFailure: CustomStringConvertible {
    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .unavailable:
            "the coordination store is not available: ask again later"
        case .outcomeUnknown:
            "the coordination store did not answer in time: read what it holds before asking again"
        case .compacted(let oldest):
            "the coordination store keeps changes from revision \(oldest) on only: "
                + "read the keys again and watch from there"
        case .leaseUnknown:
            "the lease has expired or was never granted: ask for a new one"
        case .tooManyOperations(let count):
            "a transaction has at most \(CoordinationTransaction.operationsMaximum) conditions "
                + "or operations, not \(count): split it"
        case .duplicateKey(let key):
            "a transaction changes the key \(key) twice: keep the last change only"
        case .valueTooLarge(let bytes):
            "the values of a transaction have at most "
                + "\(CoordinationTransaction.valueBytesMaximum) bytes, not \(bytes): split it"
        case .leaseSeconds(let seconds):
            "a lease of \(seconds) s is not possible: choose from "
                + "\(CoordinationRequest.leaseSecondsRange.lowerBound) to "
                + "\(CoordinationRequest.leaseSecondsRange.upperBound)"
        }
    }
}

/// One change of one key. All changes of a transaction share one revision.
public struct CoordinationChange: Hashable, Sendable {
    /// What was done.
    public enum Kind: Hashable, Sendable {
        /// The key was written: the pair as it stands now.
        case put(CoordinationPair)
        /// The key was deleted, by a transaction or by the end of its lease.
        case delete(key: String)
    }

    /// The revision that the change made.
    public var revision: UInt64

    /// What was done.
    public var kind: Kind

    /// A change of these parts.
    public init(revision: UInt64, kind: Kind) {
        self.revision = revision
        self.kind = kind
    }

    /// The key that changed.
    public var key: String {
        switch kind {
        case .put(let pair): pair.key
        case .delete(let key): key
        }
    }
}
