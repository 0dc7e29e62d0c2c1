// Who is alive, who is suspected, and until when this node may serve. docs/decisions/0010 has the
// argument; the names there are the names here.
//
// A *vote* for a node says: "I have heard your heartbeat n, and will not call you dead before the
// detection time has passed since". Whoever is to be called dead must be suspected by so many
// members that those who are left are too few to let it serve.

/// One node's view of the others, fed with heartbeats and time.
public struct Membership: Sendable {
    /// This node.
    public let node: NodeID
    /// The times in force.
    public let timing: ClusterTiming
    /// Which rules hold.
    public var rules = Rules()

    /// Links to all nodes that have a key in the store or a place in the allocation, by node.
    public private(set) var links: [PeerLink] = []
    /// The members of the allocation in force, this node possibly among them.
    public private(set) var members: [NodeID] = []
    /// The first epoch that this node knows to have these members.
    private var membersEpoch: UInt64 = 0
    /// The epoch of the allocation in force; 0: none.
    public private(set) var epoch: UInt64 = 0
    /// This process vouches for no one before the epoch exceeds this one: its former life may have
    /// told others a suspicion that it no longer knows of.
    private var silentThrough: UInt64 = 0
    private var unsuspectingUntil: UInt64 = 0
    private var nextHeartbeatAt: UInt64
    /// Whom the last heartbeats called suspect, ascending.
    public private(set) var toldSuspects: [NodeID] = []

    /// A node that knows nobody yet.
    public init(node: NodeID, timing: ClusterTiming, nowNanoseconds now: UInt64) {
        self.node = node
        self.timing = timing
        nextHeartbeatAt = now
    }

    // MARK: Who is there

    /// Begins a link to a node, or begins it anew when another process took the node's place.
    public mutating func meet(_ peer: NodeID, nowNanoseconds now: UInt64) {
        precondition(peer != node)
        let link = PeerLink(node: peer, nowNanoseconds: now)
        if let place = links.firstIndex(where: { $0.node >= peer }) {
            if links[place].node == peer {
                links[place] = link
            } else {
                links.insert(link, at: place)
            }
        } else {
            links.append(link)
        }
    }

    /// Another process has been this node meanwhile: what this one told is not known to it.
    public mutating func silence() { silentThrough = epoch }

    /// Takes a new allocation's members. `isFirst`: it was found at the start of this process.
    public mutating func enter(epoch: UInt64, members: [NodeID], isFirst: Bool) {
        if isFirst, members.contains(node) { silentThrough = epoch }
        if members != self.members { membersEpoch = epoch }
        self.epoch = epoch
        self.members = members
    }

    /// The link to a peer.
    public func link(to peer: NodeID) -> PeerLink? { links.first { $0.node == peer } }

    /// Takes in a heartbeat, whose sender the HA link has authenticated.
    public mutating func note(
        _ heartbeat: Heartbeat, from peer: NodeID, nowNanoseconds now: UInt64
    ) {
        guard let place = links.firstIndex(where: { $0.node == peer }) else { return }
        links[place].note(heartbeat, epoch: epoch, timing: timing, rules: rules, now)
    }

    // MARK: Heartbeats

    /// When the next heartbeats are due.
    public var nextHeartbeatNanoseconds: UInt64 { nextHeartbeatAt }

    /// True when heartbeats are due, or a suspicion is new: others wait for it.
    public func isHeartbeatDue(nowNanoseconds now: UInt64) -> Bool {
        if now >= nextHeartbeatAt { return true }
        return suspects(nowNanoseconds: now).contains { !toldSuspects.contains($0) }
    }

    /// The heartbeats to all peers. `promises`: this node decides nothing, since its store is away.
    public mutating func heartbeats(
        revision: UInt64, flags: Heartbeat.Flags, nowNanoseconds now: UInt64
    ) -> [(peer: NodeID, heartbeat: Heartbeat)] {
        // A node that was stopped does not make up for what it missed.
        nextHeartbeatAt = max(nextHeartbeatAt + timing.heartbeatNanoseconds, now + 1)
        if nextHeartbeatAt <= now + timing.heartbeatNanoseconds / 2 {
            nextHeartbeatAt = now + timing.heartbeatNanoseconds
        }
        toldSuspects = Array(
            suspects(nowNanoseconds: now).prefix(Heartbeat.suspectsMaximum))
        return links.indices.map { place in
            let heartbeat = heartbeat(
                place, suspects: toldSuspects, revision: revision, flags: flags, now)
            return (links[place].node, heartbeat)
        }
    }

    /// The answer to a heartbeat that has just come, where the timing asks for one; nil: the next
    /// heartbeat that is due will do. At most one in half an interval, so that answers to answers
    /// come to an end.
    public mutating func answer(
        to peer: NodeID, revision: UInt64, flags: Heartbeat.Flags, nowNanoseconds now: UInt64
    ) -> Heartbeat? {
        guard isAnswerDue(to: peer, nowNanoseconds: now),
            let place = links.firstIndex(where: { $0.node == peer })
        else { return nil }
        // New suspicions are for heartbeats to all.
        let suspects = suspects(nowNanoseconds: now).filter { toldSuspects.contains($0) }
        if members.contains(node) {
            for other in links.indices
            where suspects.contains(links[other].node) && members.contains(links[other].node) {
                links[other].noteSuspicionTold(in: epoch)
            }
        }
        links[place].noteAnswer(now)
        return heartbeat(place, suspects: suspects, revision: revision, flags: flags, now)
    }

    /// True when a heartbeat of this peer is to be answered before the next one is due.
    public func isAnswerDue(to peer: NodeID, nowNanoseconds now: UInt64) -> Bool {
        guard timing.answersAtOnce, let link = link(to: peer) else { return false }
        return now >= link.answeredAt + timing.heartbeatNanoseconds / 2
    }

    private mutating func heartbeat(
        _ place: Int, suspects: [NodeID], revision: UInt64, flags: Heartbeat.Flags, _ now: UInt64
    ) -> Heartbeat {
        links[place].expireHealth(timing, now)
        let peer = links[place].node
        // Told to any peer is told: the decision may be anyone's. A stranger's counts nowhere.
        let isTold = suspects.contains(peer) && members.contains(peer) && members.contains(node)
        let numbers = links[place].next(
            vouches: mayVouch(for: links[place], now),
            promises: flags.contains(.storeAway), suspectedIn: isTold ? epoch : nil, now)
        return Heartbeat(
            number: numbers.number, echo: numbers.echo, grant: numbers.grant, epoch: epoch,
            revision: revision, flags: flags, suspects: suspects)
    }

    /// Neither votes nor suspects.
    public var isSilent: Bool { epoch <= silentThrough && epoch != 0 }

    /// True when the peer's newest heartbeat may be vouched for: the link works both ways, and no
    /// suspicion was told in this epoch.
    private func mayVouch(for link: PeerLink, _ now: UInt64) -> Bool {
        guard !isSilent, link.isTwoWay(timing, now) else { return false }
        guard rules.hold(.suspicionKept) else { return true }
        return link.suspicionEpoch != epoch || epoch == 0
    }

    // MARK: Suspicion

    /// This node was stopped, or late: what it has not heard may be waiting for it. To suspect
    /// later than one might is always safe.
    public mutating func excuse(until time: UInt64) {
        unsuspectingUntil = max(unsuspectingUntil, time)
    }

    /// All peers without a vote of ours within the detection time that get none now, ascending.
    public func suspects(nowNanoseconds now: UInt64) -> [NodeID] {
        if isSilent || now < unsuspectingUntil { return [] }
        var suspects: [NodeID] = []
        for place in links.indices where links[place].isSuspect(timing, now) {
            if !mayVouch(for: links[place], now) { suspects.append(links[place].node) }
        }
        return suspects
    }

    /// When the next suspicion begins, if nothing is heard; nil: all are suspected.
    public func nextSuspicion(nowNanoseconds now: UInt64) -> UInt64? {
        var next = UInt64.max
        for place in links.indices {
            let time = links[place].vouchedAt + timing.detectionNanoseconds
            if time > now { next = min(next, time) }
        }
        return next == .max ? nil : next
    }

    /// How many of the *other* members must vouch for a member so that it may serve: with itself
    /// they are a majority.
    private var votesNeeded: Int { members.count / 2 }

    /// Members whose suspicion, told in this epoch, leaves `suspect` too few votes to serve with.
    ///
    /// Of the n - 1 others, at most floor(n/2) - 1 may be left: in a pair one suspicion will do,
    /// and which of the two is removed is for the store to decide.
    public func mayRemove(_ suspect: NodeID, nowNanoseconds now: UInt64) -> Bool {
        guard !isSilent, members.contains(node), members.contains(suspect), suspect != node,
            let own = link(to: suspect), own.isSuspect(timing, now), own.suspicionEpoch == epoch,
            // Among other members, other votes might let it serve.
            let last = own.last, last.epoch >= membersEpoch
        else { return false }
        let others = members.filter { $0 != suspect && $0 != node }
        let agreeing = others.filter { other in
            guard let last = link(to: other)?.last else { return false }
            return last.epoch == epoch && last.suspects.contains(suspect)
        }
        if !rules.hold(.blockingSet) { return true }
        return members.count - 1 - (agreeing.count + 1) < votesNeeded
    }

    /// Members that may be removed, ascending.
    public func removable(nowNanoseconds now: UInt64) -> [NodeID] {
        suspects(nowNanoseconds: now).filter { mayRemove($0, nowNanoseconds: now) }
    }

    /// True when a member that this node has called suspect in this epoch is well again: its votes
    /// stay withheld until an epoch begins in which no one can act on the suspicion. Or when this
    /// node, restarted, has to keep silent in this one.
    public func wantsNewEpoch(nowNanoseconds now: UInt64) -> Bool {
        isSilent
            || links.indices.contains {
                links[$0].suspicionEpoch == epoch && members.contains(links[$0].node)
                    && links[$0].isHealthy(timing, now)
            }
    }

    /// True when every member and this node hear each other and `candidate`.
    public func isWelcome(_ candidate: NodeID, nowNanoseconds now: UInt64) -> Bool {
        guard let link = link(to: candidate), link.isHealthy(timing, now), let last = link.last,
            last.flags.contains(.tableComplete), last.epoch == epoch
        else { return false }
        let others = members.filter { $0 != node }
        guard !members.contains(where: { last.suspects.contains($0) }) else { return false }
        return others.allSatisfy { other in
            self.link(to: other)?.last.map { !$0.suspects.contains(candidate) } ?? false
        }
    }

    // MARK: The right to serve

    /// Until when enough members vouch for this node; `.max` for a lone member.
    public var votedUntil: UInt64 {
        guard members.contains(node) else { return 0 }
        if !rules.hold(.votesAwaited) { return .max }
        let needed = votesNeeded
        if needed == 0 { return .max }
        // Once per datagram: no list on the heap.
        return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: links.count) { votes in
            var count = 0
            for place in links.indices where links[place].votedAt != 0 {
                guard members.contains(links[place].node) else { continue }
                var rank = count
                while rank > 0, votes[rank - 1] < links[place].votedAt {
                    votes[rank] = votes[rank - 1]
                    rank -= 1
                }
                votes[rank] = links[place].votedAt
                count += 1
            }
            return count < needed ? 0 : votes[needed - 1] + timing.servingNanoseconds
        }
    }

    /// Until when all other members have promised to decide nothing; 0 for a lone member, whom a
    /// restarted node may replace as soon as its session is over.
    public var promisedUntil: UInt64 {
        guard members.contains(node), members.count > 1 else { return 0 }
        var until = UInt64.max
        for member in members where member != node {
            guard let promisedAt = link(to: member)?.promisedAt, promisedAt != 0 else { return 0 }
            until = min(until, promisedAt + timing.servingNanoseconds)
        }
        return until
    }

    /// True when no lower member can decide, as far as this node knows: what may be decided by any
    /// one of them is left to the lowest that hears the others, serves, and reaches the store.
    public func isLowest(nowNanoseconds now: UInt64) -> Bool {
        let suspects = suspects(nowNanoseconds: now)
        return !members.contains { member in
            guard member < node, !suspects.contains(member),
                let flags = link(to: member)?.last?.flags
            else { return false }
            return flags.contains(.serving) && flags.contains(.tableComplete)
                && !flags.contains(.storeAway)
        }
    }

    /// The place of this node among the members it does not suspect: who is first decides, the
    /// others wait a little longer each.
    public func rank(nowNanoseconds now: UInt64) -> Int {
        let suspects = suspects(nowNanoseconds: now)
        return members.count { $0 < node && !suspects.contains($0) }
    }
}
