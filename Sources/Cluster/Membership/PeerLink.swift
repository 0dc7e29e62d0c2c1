// What one node knows of one other: which of its own heartbeats arrived there, which of the other's
// arrived here, and what the other said last.

/// The two-way link to one process of another node.
///
/// Times of the node's own heartbeats are kept by number, so that an answer tells when the
/// question was *asked*: all that is promised to a peer counts from there, whatever the network did
/// to the answer.
public struct PeerLink: Sendable {
    /// Heartbeats whose times are remembered; older answers count for nothing.
    static let timesRemembered: UInt64 = 64

    /// Whose link.
    public let node: NodeID
    /// The last number sent to it; 0: none.
    public private(set) var numberSent: UInt64 = 0
    /// When a heartbeat of its was last answered out of turn.
    public private(set) var answeredAt: UInt64 = 0
    private var timesSent: [UInt64]
    /// The highest number received from it; 0: none.
    public private(set) var numberHeard: UInt64 = 0
    /// When that one came.
    public private(set) var heardAt: UInt64 = 0
    /// Our latest heartbeat that it is known to have received: when that was sent. 0: none.
    public private(set) var echoedAt: UInt64 = 0
    /// Our latest heartbeat that it vouched for: when that was sent. 0: none.
    public private(set) var votedAt: UInt64 = 0
    /// It promised to decide nothing: when our heartbeat was sent that the promise answers. 0: no.
    public private(set) var promisedAt: UInt64 = 0
    /// The highest of its numbers that we vouched for.
    public private(set) var numberVouched: UInt64 = 0
    /// When that one had come; before the first, when we began to listen.
    public private(set) var vouchedAt: UInt64
    /// Since when the link works both ways; nil while it does not.
    public private(set) var healthySince: UInt64?
    /// The epoch in which we told others that we suspect it; 0: none.
    public private(set) var suspicionEpoch: UInt64 = 0
    /// The last number with which we promised to decide nothing.
    public private(set) var numberPromised: UInt64 = 0
    /// It may have used numbers beyond its lease, under such a promise, and not published them.
    public private(set) var mayHaveOverrun = true
    /// The newest heartbeat received.
    public private(set) var last: Heartbeat?

    init(node: NodeID, nowNanoseconds now: UInt64) {
        self.node = node
        timesSent = Array(repeating: 0, count: Int(Self.timesRemembered))
        vouchedAt = now
    }

    /// When our heartbeat `number` was sent; nil if it is unknown or too old.
    private func timeSent(_ number: UInt64) -> UInt64? {
        guard number >= 1, number <= numberSent, numberSent - number < Self.timesRemembered
        else { return nil }
        return timesSent[Int(number % Self.timesRemembered)]
    }

    /// Takes in a heartbeat; an older one than the newest is ignored. `epoch` is ours.
    mutating func note(
        _ heartbeat: Heartbeat, epoch: UInt64, timing: ClusterTiming, rules: Rules, _ now: UInt64
    ) {
        guard heartbeat.number > numberHeard else { return }
        numberHeard = heartbeat.number
        heardAt = now
        last = heartbeat
        let asked = timeSent(heartbeat.echo)
        if let asked { echoedAt = max(echoedAt, asked) }
        // Who votes or promises in an epoch that we have not seen may have seen us removed.
        let isOfOurs = heartbeat.epoch <= epoch || !rules.hold(.votesOfOwnEpoch)
        if isOfOurs, let asked = timeSent(heartbeat.grant) { votedAt = max(votedAt, asked) }
        promisedAt = isOfOurs && heartbeat.flags.contains(.storeAway) ? asked ?? 0 : 0
        if heartbeat.flags.contains(.withinLease), heartbeat.echo > numberPromised {
            mayHaveOverrun = false
        }
        if now - min(now, echoedAt) > timing.detectionNanoseconds {
            healthySince = nil
        } else if healthySince == nil {
            healthySince = now
        }
    }

    /// True when our heartbeats have been arriving there.
    public func isTwoWay(_ timing: ClusterTiming, _ now: UInt64) -> Bool {
        echoedAt != 0 && now - min(now, echoedAt) <= timing.detectionNanoseconds
            && now - min(now, heardAt) <= timing.detectionNanoseconds
    }

    /// True when nothing that we vouched for is younger than the detection time.
    func isSuspect(_ timing: ClusterTiming, _ now: UInt64) -> Bool {
        now >= vouchedAt + timing.detectionNanoseconds
    }

    /// The link works both ways, and has for as long as a newcomer must wait.
    public func isHealthy(_ timing: ClusterTiming, _ now: UInt64) -> Bool {
        guard let healthySince, isTwoWay(timing, now) else { return false }
        return now - healthySince >= timing.healthyNanoseconds
    }

    mutating func noteAnswer(_ now: UInt64) { answeredAt = now }

    /// Others were told that this node suspects the peer.
    mutating func noteSuspicionTold(in epoch: UInt64) { suspicionEpoch = epoch }

    mutating func expireHealth(_ timing: ClusterTiming, _ now: UInt64) {
        if !isTwoWay(timing, now) { healthySince = nil }
    }

    /// Numbers the next heartbeat to the peer, and vouches for what was heard if we may.
    mutating func next(
        vouches: Bool, promises: Bool, suspectedIn epoch: UInt64?, _ now: UInt64
    ) -> (number: UInt64, echo: UInt64, grant: UInt64) {
        numberSent += 1
        timesSent[Int(numberSent % Self.timesRemembered)] = now
        if let epoch { suspicionEpoch = epoch }
        if vouches, numberHeard > 0 {
            numberVouched = numberHeard
            vouchedAt = heardAt
        }
        if promises {
            numberPromised = numberSent
            mayHaveOverrun = true
        }
        return (numberSent, numberHeard, vouches ? numberVouched : 0)
    }
}
