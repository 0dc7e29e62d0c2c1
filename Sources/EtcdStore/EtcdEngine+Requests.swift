// Requests on their way: queues, connections, time limits, and what answers mean.

internal import Cluster
internal import DequeModule
internal import EtcdMessages
internal import NIOCore

/// Requests of one kind have connections of their own, so that none waits for one of another kind.
enum Lane: Int, CaseIterable {
    case lease, transaction, read

    /// How many connections it may have. Each carries one request at a time; etcd puts what comes
    /// on several at the same time into one write to the disk.
    var linksMaximum: Int {
        switch self {
        case .lease: 2
        case .transaction: 16
        case .read: 3
        }
    }
}

/// The requests and connections of one kind.
struct LaneQueue {
    /// More requests are refused at once: they were surely not done.
    static let waitingMaximum = 8192

    let lane: Lane
    var waiting: Deque<Job> = []
    var links: [EtcdLink] = []

    func idleLink(to place: Int) -> EtcdLink? { links.first { $0.place == place && $0.isIdle } }
}

/// A request under way. It is touched in the event loop only.
final class Job {
    enum Kind {
        case transaction, grant, keepAlive, revoke
        case read(PagedRead)
        /// Whether a watch can begin.
        case check(watch: UInt64)
    }

    /// The number of the request, or of the watch that is checked.
    let id: UInt64
    var kind: Kind
    var question: EtcdQuestion
    let lane: Lane
    var patience: Scheduled<Void>?
    /// The connection that it was sent on.
    var link: EtcdLink?
    var wasSent = false
    var isOver = false

    init(_ id: UInt64, _ kind: Kind, _ question: EtcdQuestion, _ lane: Lane) {
        self.id = id
        self.kind = kind
        self.question = question
        self.lane = lane
    }

    /// Whether it does no harm when it is done twice.
    var isRepeatable: Bool {
        switch kind {
        case .transaction, .grant, .revoke: false
        case .keepAlive, .read, .check: true
        }
    }
}

extension EtcdEngine {
    /// Takes a request of the node's.
    func submit(_ request: CoordinationRequest, id: UInt64) {
        let job: Job
        switch request {
        case .transaction(let transaction):
            job = Job(id, .transaction, .transaction(transaction, keys), .transaction)
        case .read(let prefix):
            let read = PagedRead(keyPrefix: configuration.keyPrefix, prefix: prefix)
            job = Job(id, .read(read), read.question, .read)
        case .watch(let prefix, let from):
            beginWatch(id, prefix: prefix, from: from)
            return
        case .grantLease(let seconds):
            job = Job(id, .grant, .grant(seconds: seconds), .lease)
        case .keepAlive(let lease):
            job = Job(id, .keepAlive, .keepAlive(lease), .lease)
        case .revoke(let lease):
            job = Job(id, .revoke, .revoke(lease), .lease)
        }
        enqueue(job)
    }

    func enqueue(_ job: Job) {
        guard lanes[job.lane.rawValue].waiting.count < LaneQueue.waitingMaximum else {
            outbox.count { $0.unsent += 1 }
            finish(job, .failed(.unavailable))
            return
        }
        beginPatience(job)
        lanes[job.lane.rawValue].waiting.append(job)
        dispatch(job.lane)
    }

    private func beginPatience(_ job: Job) {
        job.patience?.cancel()
        job.patience = loop.assumeIsolated().scheduleTask(
            in: .nanoseconds(Int64(clamping: configuration.requestNanoseconds))
        ) { [weak self] in
            // The job is kept until its time is over, or that is cancelled.
            self?.giveUp(job)
        }
    }

    /// Sends what can be sent.
    func dispatch(_ lane: Lane) {
        guard let chosen else { return }
        let index = lane.rawValue
        while let job = lanes[index].waiting.first {
            guard let link = lanes[index].idleLink(to: chosen) else { break }
            lanes[index].waiting.removeFirst()
            job.link = link
            job.wasSent = true
            busy[ObjectIdentifier(link)] = job
            link.ask(job.question)
        }
        let own = lanes[index].links.filter { $0.place == chosen }
        let opening = own.count(where: \.isOpening)
        let wanted = min(lanes[index].waiting.count - opening, lane.linksMaximum - own.count)
        for _ in 0..<max(0, wanted) { openLink(lane, chosen) }
    }

    private func openLink(_ lane: Lane, _ place: Int) {
        let holder = LinkHolder()
        let link = open(place) { [weak self] event in
            if let self, let link = holder.link { hear(event, link, lane) }
        }
        holder.link = link
        lanes[lane.rawValue].links.append(link)
    }

    private func hear(_ event: LinkEvent, _ link: EtcdLink, _ lane: Lane) {
        switch event {
        case .opened: dispatch(lane)
        case .answer(let status, let body):
            if let job = busy.removeValue(forKey: ObjectIdentifier(link)) {
                job.link = nil
                settle(job, status, body, link)
            }
            // Another member may have been chosen meanwhile.
            if link.place != chosen { drop(link, lane) }
            dispatch(lane)
        case .line: break
        case .closed(let error):
            outbox.count { $0.broken += 1 }
            lanes[lane.rawValue].links.removeAll { $0 === link }
            if let job = busy.removeValue(forKey: ObjectIdentifier(link)) {
                job.link = nil
                lose(job)
            }
            distrust(link.place, error)
        }
    }

    private func drop(_ link: EtcdLink, _ lane: Lane) {
        lanes[lane.rawValue].links.removeAll { $0 === link }
        link.close()
    }

    /// The connection ended before the answer came.
    private func lose(_ job: Job) {
        if job.isRepeatable {
            lanes[job.lane.rawValue].waiting.prepend(job)
        } else {
            finish(job, .failed(.outcomeUnknown))
        }
    }

    /// The time of a request is over.
    private func giveUp(_ job: Job) {
        guard !job.isOver else { return }
        if let link = job.link {
            busy[ObjectIdentifier(link)] = nil
            drop(link, job.lane)
            distrust(link.place, .silent(link.endpoint))
        } else {
            lanes[job.lane.rawValue].waiting.removeAll { $0 === job }
        }
        outbox.count { if job.wasSent { $0.timedOut += 1 } else { $0.unsent += 1 } }
        finish(job, .failed(job.wasSent ? .outcomeUnknown : .unavailable))
    }

    func finish(_ job: Job, _ reply: CoordinationReply) {
        job.isOver = true
        job.patience?.cancel()
        if case .check = job.kind { return }
        outbox.post(.reply(reply, to: job.id))
    }

    func stopRequests() {
        for lane in Lane.allCases {
            for job in lanes[lane.rawValue].waiting { job.patience?.cancel() }
            for link in lanes[lane.rawValue].links { link.close() }
            lanes[lane.rawValue] = LaneQueue(lane: lane)
        }
        for job in busy.values { job.patience?.cancel() }
        busy = [:]
    }

    // MARK: What answers mean

    private func settle(_ job: Job, _ status: UInt, _ body: [UInt8], _ link: EtcdLink) {
        do throws(EtcdError) {
            switch try read(body, job.question.form, status, link.endpoint) {
            case .answered(let answer):
                if chosen != nil { trouble = nil }
                try settle(job, answer, link)
            case .refused(let refusal): settle(job, refusal, link)
            }
        } catch {
            // Nothing that comes here is believed any more.
            drop(link, job.lane)
            finish(job, .failed(job.isRepeatable ? .unavailable : .outcomeUnknown))
            distrust(link.place, error)
        }
    }

    private func settle(
        _ job: Job, _ answer: EtcdAnswer, _ link: EtcdLink
    ) throws(EtcdError) {
        switch job.kind {
        case .transaction:
            finish(
                job,
                answer.succeeded
                    ? .committed(revision: answer.revision)
                    : .conflict(revision: answer.revision))
        case .grant, .keepAlive:
            guard answer.seconds > 0 else {
                finish(job, .failed(.leaseUnknown))
                return
            }
            finish(job, .lease(UInt64(bitPattern: answer.lease)))
        case .revoke: finish(job, .committed(revision: answer.revision))
        case .check(let watch): confirmWatch(watch)
        case .read(var read):
            do throws(MalformedAnswer) {
                try read.take(answer)
            } catch {
                outbox.count { $0.malformed += 1 }
                throw .malformed(link.endpoint, reason: error.reason)
            }
            if let reply = read.reply {
                outbox.count { $0.foreignKeys += UInt64(read.foreignKeys) }
                finish(job, reply)
            } else {
                goOn(job, read)
            }
        }
    }

    /// The next page, which has a time limit of its own.
    private func goOn(_ job: Job, _ read: PagedRead) {
        job.kind = .read(read)
        job.question = read.question
        beginPatience(job)
        lanes[job.lane.rawValue].waiting.prepend(job)
    }

    private func settle(_ job: Job, _ refusal: EtcdRefusal, _ link: EtcdLink) {
        if refusal.isNoLeader { distrust(link.place, .noLeader(link.endpoint)) }
        switch job.kind {
        case _ where refusal.isUnknownLease: finish(job, .failed(.leaseUnknown))
        case .read(var read) where refusal.isCompacted && read.restart():
            goOn(job, read)
        case .read(var read) where refusal.isTooLarge && read.shrink():
            goOn(job, read)
        case .check(let watch):
            job.isOver = true
            job.patience?.cancel()
            // Compacted: the watch itself says from where on it could begin.
            if !refusal.isCompacted { confirmWatch(watch) }
        default:
            trouble = .refused(link.endpoint, reason: refusal.message)
            let isNotDone = job.isRepeatable || refusal.isSurelyNotDone
            finish(job, .failed(isNotDone ? .unavailable : .outcomeUnknown))
        }
    }
}

/// A link that its own listener knows.
private final class LinkHolder {
    weak var link: EtcdLink?
}
