// The store of a node alone: in memory, and on disk where there is a journal. Nobody gets an answer
// before what it is about is on the disk; what is asked meanwhile goes there together.

internal import Cluster

/// A store that answers as soon as it may.
struct KeptStore {
    private static let retryNanoseconds: UInt64 = 1_000_000_000

    private var store: CoordinationStore
    private let journal: StateJournal?
    /// Changes up to this revision are on the disk.
    private var kept: UInt64 = 0
    /// Changes up to this revision are on their way there.
    private var writing: UInt64?
    /// False until the first snapshot, before which nothing is served.
    private var hasBegun = false
    /// After a failure of the disk: when it is tried again.
    private var keepsAgainAt: UInt64 = 0
    private var waiting: [(id: UInt64, reply: CoordinationReply, revision: UInt64)] = []
    private var watch: (request: UInt64, revision: UInt64)?
    private var faults: [StateError] = []

    /// Without a journal all is kept at once.
    init(_ store: consuming CoordinationStore, journal: StateJournal?) {
        self.store = store
        self.journal = journal
    }

    /// Writes everything, waits for it, and keeps every change from then on.
    mutating func begin() throws(StateError) {
        guard let journal else { return }
        journal.beginSnapshot(&store)
        _ = try journal.finish(waits: true)
        kept = store.revision
        hasBegun = true
    }

    /// What is visible: all that is on the disk.
    private var visible: UInt64 { journal == nil || !hasBegun ? store.revision : kept }

    /// True when the disk refuses, and it is not time to try again.
    func isFailing(_ now: UInt64) -> Bool { now < keepsAgainAt }

    /// Answers a request; nil: ``collect(_:waits:)`` will.
    mutating func handle(
        _ request: CoordinationRequest, id: UInt64, _ now: UInt64
    ) -> CoordinationReply? {
        if case .transaction = request, isFailing(now) { return .failed(.unavailable) }
        let reply = store.handle(request, nowNanoseconds: now)
        if case .watch(_, let from) = request, case .watching = reply { watch = (id, from) }
        if case .failed = reply { return reply }
        guard store.revision > visible else { return reply }
        waiting.append((id, reply, store.revision))
        return nil
    }

    /// Answers that may be given now, in order. `waits`: all of them, however long the disk takes.
    mutating func collect(
        _ now: UInt64, waits: Bool
    ) -> [(id: UInt64, reply: CoordinationReply)] {
        var ready: [(id: UInt64, reply: CoordinationReply)] = []
        repeat {
            finish(now, waits: waits, &ready)
            start(now)
        } while waits && writing != nil
        return ready
    }

    /// Changes that the watch is to see, with its number; nil: none. Changes that are nil were
    /// missed.
    mutating func nextChanges() -> (watch: UInt64, changes: [CoordinationChange]?)? {
        let visible = visible
        guard let (id, from) = watch, from <= visible else { return nil }
        guard let all = store.changes(prefix: StoreKey.prefix, from: from) else {
            watch = nil
            return (id, nil)
        }
        watch = (id, visible + 1)
        let changes = all.prefix { $0.revision <= visible }
        return changes.isEmpty ? nil : (id, Array(changes))
    }

    /// What went wrong with the disk since the last call.
    mutating func takeFaults() -> [StateError] { exchange(&faults, with: []) }

    // MARK: The disk

    private mutating func finish(
        _ now: UInt64, waits: Bool, _ ready: inout [(id: UInt64, reply: CoordinationReply)]
    ) {
        guard let journal, let revision = writing else { return }
        do throws(StateError) {
            guard try journal.finish(waits: waits) != nil else { return }
            writing = nil
            kept = revision
            keepsAgainAt = 0
            let count = waiting.prefix { $0.revision <= revision }.count
            ready += waiting.prefix(count).map { ($0.id, $0.reply) }
            waiting.removeFirst(count)
        } catch {
            // It may be there or not; what is in memory is written anew later.
            writing = nil
            keepsAgainAt = now + Self.retryNanoseconds
            faults.append(error)
            ready += waiting.map { ($0.id, $0.reply.unkept) }
            waiting = []
        }
    }

    private mutating func start(_ now: UInt64) {
        guard let journal, hasBegun, writing == nil, kept < store.revision, !isFailing(now) else {
            return
        }
        writing = store.revision
        if let changes = store.changes(prefix: "", from: kept + 1) {
            journal.begin(changes.compactMap(\.state), of: &store)
        } else {
            journal.beginSnapshot(&store)
        }
    }
}

extension CoordinationReply {
    /// What an answer is worth if the disk does not have it.
    fileprivate var unkept: CoordinationReply {
        if case .committed = self { .failed(.outcomeUnknown) } else { self }
    }
}

extension CoordinationChange {
    /// What the disk is to have of it; nil: it goes with a lease, and so with the process.
    fileprivate var state: StateChange? {
        switch kind {
        case .put(let pair):
            pair.lease == nil ? .put(key: pair.key, value: pair.value) : nil
        case .delete(let key): .delete(key: key)
        }
    }
}
