// The client's thread: which member is spoken to, and whether it can be.
//
//     nobody chosen ─▶ all members are asked at once ─▶ the first that answers is chosen
//           ▲                                                   │ requests, watches go to it
//           └── connection lost, no answer in time, no leader ──┘
//
// A probe is a read through a majority. So no request is sent to a member that could not serve it,
// and what waits meanwhile was surely not done.

internal import Cluster
internal import EtcdMessages
internal import NIOCore
internal import NIOSSL

/// All state of a client. It is touched in the event loop only: hence `@unchecked`.
final class EtcdEngine: @unchecked Sendable {
    /// One endpoint of the configuration.
    struct Member {
        let endpoint: EtcdEndpoint
        var link: EtcdLink?
        /// The end of the probe under way.
        var patience: Scheduled<Void>?
        /// What the store's revision was at least, when the probe under way began.
        var floor: UInt64 = 0
        var retryAt = NIODeadline.uptimeNanoseconds(0)
    }

    private static let tick = TimeAmount.milliseconds(50)
    /// Between two attempts at what failed.
    static let retry = TimeAmount.milliseconds(100)

    let configuration: EtcdConfiguration
    let keys: KeySpace
    let loop: any EventLoop
    let outbox: Outbox
    private let security: NIOSSLContext?
    private var members: [Member]
    private var ticking: RepeatedTask?
    /// The member that was chosen last, even if it is not any more.
    private var previous: Int?
    private var answeredAt = NIODeadline.uptimeNanoseconds(0)
    /// The etcd cluster; nil before the first answer.
    private var cluster: UInt64?

    /// The member that requests go to; nil while there is none.
    private(set) var chosen: Int?
    /// The highest revision that a member told.
    private(set) var known: UInt64 = 0
    /// Why the store can't be used; nil while it can.
    var trouble: EtcdError? {
        didSet { if trouble != oldValue { outbox.trouble = trouble } }
    }
    /// Requests, by what they must not wait for.
    var lanes = Lane.allCases.map { LaneQueue(lane: $0) }
    /// The request that is under way on a connection.
    var busy: [ObjectIdentifier: Job] = [:]
    /// Watches by the numbers of their requests.
    var watches: [UInt64: Watch] = [:]

    init(
        _ configuration: EtcdConfiguration, _ security: NIOSSLContext?, loop: any EventLoop,
        outbox: Outbox
    ) {
        self.configuration = configuration
        self.security = security
        self.loop = loop
        self.outbox = outbox
        keys = KeySpace(prefix: configuration.keyPrefix)
        members = configuration.endpoints.map { Member(endpoint: $0) }
    }

    func start() {
        ticking = loop.scheduleRepeatedTask(
            initialDelay: .zero, delay: Self.tick
        ) { [weak self] _ in self?.work() }
    }

    /// Ends everything; nothing is told any more.
    func stop() {
        ticking?.cancel()
        chosen = nil
        for index in members.indices { dropProbe(index) }
        stopRequests()
        for watch in watches.values { watch.stop() }
        watches = [:]
    }

    /// Now, as timers have it.
    var now: NIODeadline { .now() }

    /// Begins a connection to a member.
    func open(_ place: Int, _ tell: @escaping (LinkEvent) -> Void) -> EtcdLink {
        outbox.count { $0.connections += 1 }
        return EtcdLink(
            to: members[place].endpoint, at: place, security: security,
            serverName: configuration.tls?.serverName,
            patience: .nanoseconds(Int64(clamping: configuration.probeNanoseconds)), loop: loop,
            tell: tell)
    }

    // MARK: Choosing

    /// What is due from time to time.
    private func work() {
        if let chosen {
            let silence = now - answeredAt
            if silence >= .nanoseconds(Int64(clamping: configuration.probeNanoseconds)) {
                probe(chosen)
            }
        } else {
            probeAll()
        }
        workOnWatches()
    }

    private func probeAll() {
        for index in members.indices where now >= members[index].retryAt { probe(index) }
    }

    /// Asks a member whether it can serve, unless that is being asked.
    private func probe(_ place: Int) {
        guard members[place].patience == nil else { return }
        members[place].floor = known
        members[place].patience = loop.assumeIsolated().scheduleTask(
            in: .nanoseconds(Int64(clamping: configuration.probeNanoseconds))
        ) { [weak self] in
            guard let self else { return }
            fail(place, .silent(members[place].endpoint))
        }
        if let link = members[place].link, link.isIdle {
            link.ask(.probe())
        } else {
            members[place].link?.close()
            members[place].link = open(place) { [weak self] in self?.probeHears($0, place) }
        }
    }

    private func probeHears(_ event: LinkEvent, _ place: Int) {
        switch event {
        case .opened: members[place].link?.ask(.probe())
        case .answer(let status, let body):
            let endpoint = members[place].endpoint
            do throws(EtcdError) {
                let answer = try read(body, .range, status, endpoint).get(or: endpoint)
                guard answer.revision >= members[place].floor else {
                    throw .wentBack(
                        endpoint, revision: answer.revision, known: members[place].floor)
                }
                members[place].patience?.cancel()
                members[place].patience = nil
                if chosen == nil { choose(place) }
            } catch {
                fail(place, error)
            }
        case .line: break
        case .closed(let error):
            outbox.count { $0.broken += 1 }
            // Only one that was used is missed.
            if members[place].patience != nil || chosen == place { fail(place, error) }
            members[place].link = nil
        }
    }

    private func dropProbe(_ place: Int) {
        members[place].patience?.cancel()
        members[place].patience = nil
        members[place].link?.close()
        members[place].link = nil
    }

    /// A member can't be used now.
    private func fail(_ place: Int, _ error: EtcdError) {
        dropProbe(place)
        members[place].retryAt = now + Self.retry
        distrust(place, error)
    }

    /// A member may not be usable: if it was chosen, all are asked again.
    func distrust(_ place: Int, _ error: EtcdError) {
        if chosen == place { chosen = nil }
        guard chosen == nil else { return }
        trouble = error
        probeAll()
    }

    private func choose(_ place: Int) {
        chosen = place
        trouble = nil
        if let previous, previous != place { outbox.count { $0.failovers += 1 } }
        previous = place
        for lane in Lane.allCases { dispatch(lane) }
        for watch in watches.values where watch.link?.place != place { openWatch(watch) }
    }

    // MARK: Answers

    /// Reads an answer, or why there is none. Throws what is no answer of this cluster.
    func read(
        _ body: [UInt8], _ form: EtcdAnswer.Form, _ status: UInt, _ endpoint: EtcdEndpoint
    ) throws(EtcdError) -> Verdict {
        do throws(MalformedAnswer) {
            guard status == 200 else {
                let refusal = try EtcdRefusal.read(body)
                outbox.count { $0.answered += 1 }
                return .refused(refusal)
            }
            let answer = try EtcdAnswer.read(body, as: form)
            if let refusal = answer.refusal {
                outbox.count { $0.answered += 1 }
                return .refused(refusal)
            }
            guard answer.revision > 0 else { throw MalformedAnswer("no revision is told") }
            try check(answer)
            outbox.count { $0.answered += 1 }
            answeredAt = now
            return .answered(answer)
        } catch {
            outbox.count { $0.malformed += 1 }
            let reason = status == 200 ? error.reason : "HTTP status \(status)"
            guard error != Self.foreign else { throw .otherCluster(endpoint) }
            throw .malformed(endpoint, reason: reason)
        }
    }

    private static let foreign = MalformedAnswer("another etcd cluster")

    /// Every answer tells where it is from, and how far the store has come.
    func check(_ answer: EtcdAnswer) throws(MalformedAnswer) {
        if answer.cluster != 0 {
            guard cluster == nil || cluster == answer.cluster else { throw Self.foreign }
            cluster = answer.cluster
        }
        known = max(known, answer.revision)
    }
}

/// What etcd says to a question.
enum Verdict {
    case answered(EtcdAnswer)
    case refused(EtcdRefusal)

    /// The answer; a refusal is an error.
    func get(or endpoint: EtcdEndpoint) throws(EtcdError) -> EtcdAnswer {
        switch self {
        case .answered(let answer): answer
        case .refused(let refusal) where refusal.isNoLeader: throw .noLeader(endpoint)
        case .refused(let refusal): throw .refused(endpoint, reason: refusal.message)
        }
    }
}
