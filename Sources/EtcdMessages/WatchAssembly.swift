// Whole revisions from what a watch tells in pieces.
//
// etcd puts several revisions into one answer, and, if it gets large, splits it wherever it
// likes (`fragment`). A revision is complete when a later one follows, or when the answer is over.

public import Cluster

/// How far a watch has come.
public struct WatchAssembly: Sendable {
    /// More octets in one revision than `--max-request-bytes` can be set to reasonably.
    private static let pendingOctetsMaximum = 64 << 20

    private let keys: KeySpace
    private let range: KeyRange
    /// Changes of the last revision, as long as it may go on.
    private var pending: [CoordinationChange] = []
    private var pendingOctets = 0
    /// The revision of the latest change in this stream.
    private var last: UInt64 = 0

    /// All revisions before this one were given out.
    public private(set) var next: UInt64
    /// Changes of keys that no node can have written, as they are not UTF-8.
    public private(set) var foreignKeys = 0

    /// A watch from a revision on, for all keys with `prefix`; before these stands `keyPrefix` in
    /// etcd.
    public init(keyPrefix: String, prefix: String, from: UInt64) {
        keys = KeySpace(prefix: keyPrefix)
        range = keys.range(of: prefix)
        next = max(from, 1)
    }

    /// What etcd is to be asked for, at the beginning and after every loss: one revision more than
    /// is wanted. When etcd compacts at a revision it drops the deletions in it, and still lets
    /// watches begin there; from one before, it says that something is missing.
    package var question: EtcdQuestion { .watch(range, from: startRevision) }

    /// The first revision that etcd is asked for; its numbers are signed.
    package var startRevision: UInt64 { min(max(next - 1, 1), UInt64(Int64.max)) }

    /// A new stream begins: what the last one left incomplete comes again.
    public mutating func restart() {
        pending = []
        pendingOctets = 0
        last = 0
    }

    /// Takes an answer of the stream. Returns whole revisions, ascending. After an error the stream
    /// must not go on.
    public mutating func take(
        _ answer: EtcdAnswer
    ) throws(MalformedAnswer) -> [CoordinationChange] {
        var complete: [CoordinationChange] = []
        for event in answer.events {
            let revision = event.pair.modRevision
            guard revision >= startRevision, revision >= last, range.contains(event.pair.key)
            else { throw MalformedAnswer("a change out of order, or of another key") }
            if revision > last {
                release(&complete)
                last = revision
            }
            // Given out before, or more than was wanted.
            guard revision >= next else { continue }
            guard let change = change(event) else {
                foreignKeys += 1
                continue
            }
            pendingOctets += 64 + event.pair.key.count + event.pair.value.count
            guard pendingOctets <= Self.pendingOctetsMaximum else {
                throw MalformedAnswer("a revision without end")
            }
            pending.append(change)
        }
        if !answer.fragment {
            release(&complete)
            next = max(next, last + 1)
        }
        return complete
    }

    /// The pending changes are all of their revision.
    private mutating func release(_ complete: inout [CoordinationChange]) {
        complete += pending
        pending.removeAll(keepingCapacity: true)
        pendingOctets = 0
        next = max(next, last + 1)
    }

    private func change(_ event: EtcdAnswer.Event) -> CoordinationChange? {
        let revision = event.pair.modRevision
        if event.isDelete {
            return keys.key(of: event.pair.key).map {
                CoordinationChange(revision: revision, kind: .delete(key: $0))
            }
        }
        return event.pair.coordinationPair(keys).map {
            CoordinationChange(revision: revision, kind: .put($0))
        }
    }
}

extension EtcdAnswer.Pair {
    /// The pair as nodes know it; nil if its key can't be theirs.
    func coordinationPair(_ keys: KeySpace) -> CoordinationPair? {
        keys.key(of: key).map {
            CoordinationPair(
                key: $0, value: value, createRevision: createRevision, modRevision: modRevision,
                lease: lease == 0 ? nil : UInt64(bitPattern: lease))
        }
    }
}
