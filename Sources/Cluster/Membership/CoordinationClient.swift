// One node's dealings with the coordination store: its session, its watch, and the requests under
// way. Values in, values out; the caller carries them to whatever store there is.
//
//     grant lease ─▶ look at own key ─▶ claim it ─▶ read everything ─▶ watch from there on
//         ▲                                                              │ keep alive
//         └────────────────── lease unknown, key gone ◀──────────────────┘

/// What the store had to say.
public enum CoordinationNotice: Sendable {
    /// Everything in the store at one revision: what is not in it is gone.
    case snapshot([CoordinationPair])
    /// What changed since, in order.
    case changes([CoordinationChange])
    /// The answer to a request of the caller's.
    case answer(request: UInt64, CoordinationReply)
}

/// The session of one process with the store.
public struct CoordinationClient: Sendable {
    private enum Purpose: Hashable {
        case grant, look, claim, read, watch, keepAlive, caller
    }

    private struct Pending {
        let id: UInt64
        let purpose: Purpose
        let sentAt: UInt64
    }

    /// After this many nanoseconds nothing is expected of a request any more.
    private static let patienceNanoseconds: UInt64 = 2_000_000_000
    /// Between two attempts at what failed.
    private static let retryNanoseconds: UInt64 = 50_000_000

    /// Which rules hold.
    public var rules = Rules()

    private let memberKey: String
    private let memberValue: [UInt8]
    private let timing: ClusterTiming
    private var pending: [Pending] = []
    private var lastID: UInt64 = 0
    private var outgoing: [(id: UInt64, request: CoordinationRequest)] = []

    private var lease: UInt64?
    private var claimRevision: UInt64?
    private var aliveSentAt: UInt64 = 0
    private var isWatching = false
    /// The number of the last request to watch.
    private var currentWatch: UInt64 = 0
    private var nextKeepAliveAt: UInt64 = .max
    private var retryAt: UInt64 = .max
    private var lastFailedAt: UInt64 = 0
    private var lastAnswerAt: UInt64
    /// When the latest request was sent that was answered.
    private var answeredSentAt: UInt64 = 0
    private var promiseUntil: UInt64 = 0

    /// The revision up to which the table follows the store; 0 before the first snapshot.
    public private(set) var revision: UInt64 = 0
    /// True once everything in the store has been read; false again while changes may be missing.
    public private(set) var isComplete = false

    /// A client that begins at once. `memberValue` is of this very process: no other has the same.
    public init(
        memberKey: String, memberValue: [UInt8], timing: ClusterTiming, nowNanoseconds now: UInt64
    ) {
        self.memberKey = memberKey
        self.memberValue = memberValue
        self.timing = timing
        lastAnswerAt = now
        ask(.grantLease(seconds: timing.sessionSeconds), .grant, now)
    }

    // MARK: State

    /// Until when, on this node's clock, the store surely keeps its key; 0 without a session, or
    /// before the table has come as far as the claim: what was decided before it must be known.
    public var sessionUntil: UInt64 {
        guard let claimRevision, revision >= claimRevision else { return 0 }
        return aliveSentAt + timing.sessionNanoseconds
    }

    /// True while the store does not answer.
    public func isAway(nowNanoseconds now: UInt64) -> Bool {
        if lastFailedAt > lastAnswerAt { return true }
        // What was lost before the last answer tells nothing of now.
        for request in pending where request.purpose != .watch {
            let age = now - min(now, request.sentAt)
            if request.sentAt > answeredSentAt, age > timing.storeAwayNanoseconds { return true }
        }
        return false
    }

    /// True while the store is away, and for a while after: this node decides nothing then.
    public func isPromising(nowNanoseconds now: UInt64) -> Bool {
        isAway(nowNanoseconds: now) || now < promiseUntil
    }

    /// Takes the requests that are to be carried to the store.
    public mutating func takeRequests() -> [(id: UInt64, request: CoordinationRequest)] {
        guard !outgoing.isEmpty else { return [] }
        return exchange(&outgoing, with: [])
    }

    // MARK: Input

    /// Sends a request of the caller's; its answer comes as a notice with the number returned.
    public mutating func submit(
        _ request: CoordinationRequest, nowNanoseconds now: UInt64
    ) -> UInt64 {
        ask(request, .caller, now)
    }

    /// Takes an answer. One that comes after patience ended is ignored: the caller was told then
    /// that nothing is known.
    public mutating func receive(
        _ reply: CoordinationReply, to id: UInt64, nowNanoseconds now: UInt64
    ) -> [CoordinationNotice] {
        guard let place = pending.firstIndex(where: { $0.id == id }) else { return [] }
        let wasAway = isAway(nowNanoseconds: now)
        let request = pending.remove(at: place)
        switch reply {
        case .failed(.unavailable), .failed(.outcomeUnknown):
            if request.sentAt >= answeredSentAt { lastFailedAt = now }
        default:
            lastAnswerAt = now
            answeredSentAt = max(answeredSentAt, request.sentAt)
            lastFailedAt = 0
            if wasAway { promiseUntil = now + timing.storeBackNanoseconds }
        }
        return act(on: reply, request, now)
    }

    /// Takes changes that a watch delivers, named by the number of its request. Those of an earlier
    /// watch are ignored: some before them may be missing.
    public mutating func receive(
        _ changes: [CoordinationChange], ofWatch watch: UInt64
    ) -> [CoordinationNotice] {
        let new = changes.filter { $0.revision > revision }
        guard watch == currentWatch, let last = new.last else { return [] }
        revision = last.revision
        for change in new {
            if case .delete(memberKey) = change.kind { forgetSession() }
        }
        return [.changes(new)]
    }

    /// A watch broke: changes may have been missed.
    public mutating func loseWatch(_ watch: UInt64, nowNanoseconds now: UInt64) {
        guard watch == currentWatch, watch != 0 else { return }
        pending.removeAll { $0.purpose == .watch }
        isWatching = false
        isComplete = false
        ask(.watch(prefix: StoreKey.prefix, from: revision + 1), .watch, now)
    }

    /// When `tick` has something to do.
    public var nextDeadline: UInt64 {
        let patience = pending.lazy.map(\.sentAt).min().map { $0 + Self.patienceNanoseconds }
        return min(nextKeepAliveAt, retryAt, patience ?? .max)
    }

    /// Keeps the session alive, tries again what failed, and gives up what was not answered.
    public mutating func tick(nowNanoseconds now: UInt64) -> [CoordinationNotice] {
        var notices: [CoordinationNotice] = []
        while let late = pending.first(where: { now >= $0.sentAt + Self.patienceNanoseconds }) {
            // The watch is asked for once and then speaks for itself.
            notices += receive(.failed(.outcomeUnknown), to: late.id, nowNanoseconds: now)
        }
        if now >= nextKeepAliveAt, let lease {
            nextKeepAliveAt = now + timing.keepAliveNanoseconds
            ask(.keepAlive(lease: lease), .keepAlive, now)
        }
        if now >= retryAt {
            retryAt = .max
            resume(now)
        }
        return notices
    }

    // MARK: Inside

    @discardableResult
    private mutating func ask(
        _ request: CoordinationRequest, _ purpose: Purpose, _ now: UInt64
    ) -> UInt64 {
        lastID += 1
        if purpose == .watch { currentWatch = lastID }
        pending.append(Pending(id: lastID, purpose: purpose, sentAt: now))
        outgoing.append((lastID, request))
        return lastID
    }

    private func isUnderWay(_ purposes: Set<Purpose>) -> Bool {
        pending.contains { purposes.contains($0.purpose) }
    }

    /// The next step towards a session, a complete table and a watch.
    private mutating func resume(_ now: UInt64) {
        if !isUnderWay([.grant, .look, .claim]) {
            if lease == nil {
                ask(.grantLease(seconds: timing.sessionSeconds), .grant, now)
            } else if claimRevision == nil {
                ask(.read(prefix: memberKey), .look, now)
            }
        }
        if claimRevision != nil || revision > 0, !isWatching, !isUnderWay([.read, .watch]) {
            if revision > 0, isComplete {
                ask(.watch(prefix: StoreKey.prefix, from: revision + 1), .watch, now)
            } else {
                ask(.read(prefix: StoreKey.prefix), .read, now)
            }
        }
    }

    private mutating func forgetSession() {
        lease = nil
        claimRevision = nil
        nextKeepAliveAt = .max
        retryAt = 0
    }

    private mutating func act(
        on reply: CoordinationReply, _ request: Pending, _ now: UInt64
    ) -> [CoordinationNotice] {
        switch (request.purpose, reply) {
        case (.caller, _):
            return [.answer(request: request.id, reply)]
        case (.grant, .lease(let id)):
            lease = id
            aliveSentAt = request.sentAt
            nextKeepAliveAt = now + timing.keepAliveNanoseconds
            retryAt = 0
        case (.look, .pairs(let pairs, _)):
            claim(over: pairs.first { $0.key == memberKey }, now)
        case (.claim, .committed(let revision)):
            claimRevision = revision
            retryAt = 0
        case (.read, .pairs(let pairs, let revision)):
            self.revision = max(self.revision, revision)
            isComplete = true
            ask(.watch(prefix: StoreKey.prefix, from: self.revision + 1), .watch, now)
            return [.snapshot(pairs)]
        case (.watch, .watching):
            isWatching = true
            isComplete = true
        case (.watch, .failed(.compacted(let oldest))) where !rules.hold(.resynchronised):
            revision = max(revision, oldest - 1)
            isComplete = true
            retryAt = 0
        case (.watch, .failed(.compacted)):
            // What was missed is gone: only everything will do.
            isComplete = false
            retryAt = 0
        case (.keepAlive, .lease):
            aliveSentAt = max(aliveSentAt, request.sentAt)
        case (.keepAlive, .failed(.leaseUnknown)), (.claim, .failed(.leaseUnknown)):
            forgetSession()
        default:
            retryAt = min(retryAt, now + Self.retryNanoseconds)
        }
        if retryAt == 0 {
            retryAt = .max
            resume(now)
        }
        return []
    }

    /// Claims the node's key. One of this very process is taken over; that of another process of
    /// the same node must end first, as that process may be alive.
    private mutating func claim(over pair: CoordinationPair?, _ now: UInt64) {
        guard let lease, pair.map({ $0.value == memberValue }) ?? true else {
            retryAt = now + Self.retryNanoseconds
            return
        }
        let transaction = CoordinationTransaction(
            conditions: [.init(key: memberKey, modRevision: pair?.modRevision ?? 0)],
            operations: [.put(key: memberKey, value: memberValue, lease: lease)])
        ask(.transaction(transaction), .claim, now)
    }
}
