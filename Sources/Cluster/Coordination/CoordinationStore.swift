// The coordination store in memory: for nodes in one process, tests and simulation. It keeps to
// the rules of etcd v3, so that what runs on it runs on etcd.

/// Keys with revisions, leases and a history of changes, as etcd v3 has them.
///
/// The revision counts the changes of the whole store: 1 for an empty one, and 1 more with each
/// transaction that changes something. Time comes in as an argument and must not run backwards.
public struct CoordinationStore: Sendable {
    private struct Lease {
        let number: UInt64
        let nanoseconds: UInt64
        var deadline: UInt64

        mutating func begin(_ nowNanoseconds: UInt64) {
            let (sum, isBeyond) = nowNanoseconds.addingReportingOverflow(nanoseconds)
            deadline = isBeyond ? .max : sum
        }
    }

    /// The number of the latest change; 1 for an empty store.
    public private(set) var revision: UInt64 = 1

    private var pairs = SortedPairs()
    private var history: ChangeHistory
    /// Ascending by number, as numbers are given in turn and never again.
    private var leases: [Lease] = []
    private var leasesGranted: UInt64 = 0

    /// An empty store that keeps at least the latest revision and, beyond that, whole revisions of
    /// at most `historyMaximum` changes, which must be at least 1. Older ones are compacted.
    public init(historyMaximum: Int = 100_000) {
        history = ChangeHistory(maximum: historyMaximum)
    }

    /// Changes are kept from this revision on.
    public var oldestRevision: UInt64 { history.oldest }

    /// When the next lease runs out, in nanoseconds; nil without leases. From then on
    /// ``expire(nowNanoseconds:)`` has something to do.
    public var nextExpiry: UInt64? { leases.lazy.map(\.deadline).min() }

    /// Answers a request. Never ``CoordinationFailure/unavailable`` or
    /// ``CoordinationFailure/outcomeUnknown``: those are for what stands between a node and its
    /// store. A watch is only checked; ``changes(prefix:from:)`` has what it shall see.
    ///
    /// A lease that has run out takes no key and can't be kept alive, but its keys stay until
    /// ``expire(nowNanoseconds:)``: etcd deletes them with a delay, too.
    public mutating func handle(
        _ request: CoordinationRequest, nowNanoseconds: UInt64
    ) -> CoordinationReply {
        if let refusal = request.refusal { return .failed(refusal) }
        switch request {
        case .transaction(let transaction):
            return commit(transaction, nowNanoseconds)
        case .read(let prefix):
            return .pairs(pairs.pairs(prefix: prefix), revision: revision)
        case .watch(_, let from):
            return max(from, 1) >= history.oldest
                ? .watching : .failed(.compacted(oldest: history.oldest))
        case .grantLease(let seconds):
            return grant(UInt64(seconds), nowNanoseconds)
        case .keepAlive(let number):
            guard let index = liveLease(number, nowNanoseconds) else {
                return .failed(.leaseUnknown)
            }
            leases[index].begin(nowNanoseconds)
            return .lease(number)
        case .revoke(let number):
            guard let index = leases.firstIndex(where: { $0.number == number }) else {
                return .failed(.leaseUnknown)
            }
            end(index)
            return .committed(revision: revision)
        }
    }

    /// Ends the leases whose time has run out, those of the earliest end first, and deletes their
    /// keys: one revision per lease that has keys.
    public mutating func expire(nowNanoseconds: UInt64) {
        let ended = leases.filter { $0.deadline <= nowNanoseconds }
            .sorted { ($0.deadline, $0.number) < ($1.deadline, $1.number) }
        for lease in ended {
            if let index = leases.firstIndex(where: { $0.number == lease.number }) { end(index) }
        }
    }

    /// Lets every lease begin again with its full time, also those that have run out but were not
    /// ended yet: what a new leader of etcd does, as it can't know which were kept alive.
    public mutating func extendLeases(nowNanoseconds: UInt64) {
        for index in leases.indices { leases[index].begin(nowNanoseconds) }
    }

    /// Everything that happened below a prefix in revision `from` and after it, in order; empty for
    /// a future revision, nil if the revision was compacted.
    public func changes(prefix: String, from: UInt64) -> [CoordinationChange]? {
        history.changes(prefix: prefix, from: from)
    }

    /// Forgets the changes before a revision; the keys stay as they are. The newest revision is
    /// never forgotten, as in etcd: a later one stands for it.
    public mutating func compact(before: UInt64) {
        history.drop(before: min(before, revision))
    }

    private mutating func commit(
        _ transaction: CoordinationTransaction, _ nowNanoseconds: UInt64
    ) -> CoordinationReply {
        for condition in transaction.conditions
        where pairs.modRevision(of: condition.key) != condition.modRevision {
            return .conflict(revision: revision)
        }
        for case .put(_, _, let number?) in transaction.operations
        where liveLease(number, nowNanoseconds) == nil {
            return .failed(.leaseUnknown)
        }
        apply(transaction.operations)
        return .committed(revision: revision)
    }

    /// Does the operations, all in the next revision, if there is something to change.
    private mutating func apply(_ operations: [CoordinationTransaction.Operation]) {
        let next = revision + 1
        var changes: [CoordinationChange] = []
        for operation in operations {
            switch operation {
            case .put(let key, let value, let lease):
                let pair = pairs.put(key: key, value: value, lease: lease, revision: next)
                changes.append(CoordinationChange(revision: next, kind: .put(pair)))
            case .delete(let key):
                guard pairs.remove(key) else { continue }
                changes.append(CoordinationChange(revision: next, kind: .delete(key: key)))
            }
        }
        guard !changes.isEmpty else { return }
        revision = next
        history.append(changes)
    }

    private mutating func grant(_ seconds: UInt64, _ nowNanoseconds: UInt64) -> CoordinationReply {
        leasesGranted += 1
        // The refusal of long leases keeps the product within 64 bits.
        var lease = Lease(
            number: leasesGranted, nanoseconds: seconds * 1_000_000_000, deadline: 0)
        lease.begin(nowNanoseconds)
        leases.append(lease)
        return .lease(lease.number)
    }

    /// Where a lease that has not run out is found.
    private func liveLease(_ number: UInt64, _ nowNanoseconds: UInt64) -> Int? {
        leases.firstIndex { $0.number == number && $0.deadline > nowNanoseconds }
    }

    private mutating func end(_ index: Int) {
        let number = leases.remove(at: index).number
        apply(pairs.keys(lease: number).map { .delete(key: $0) })
    }
}
