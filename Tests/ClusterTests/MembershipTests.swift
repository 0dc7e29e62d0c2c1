// Heartbeats that are answered at once. What would fool us: answers that answer answers for ever,
// and answers that tell what only heartbeats to all may tell.

import Testing

@testable import Cluster

private let one = NodeID(1)
private let two = NodeID(2)
private let three = NodeID(3)
private let start: UInt64 = 1_000_000_000

@Suite struct MembershipTests {
    /// Node 1 of three, which has met the other two.
    private func membership(heartbeat: UInt64) -> Membership {
        var timing = ClusterTiming()
        timing.heartbeatNanoseconds = heartbeat
        var membership = Membership(node: one, timing: timing, nowNanoseconds: start)
        for peer in [two, three] { membership.meet(peer, nowNanoseconds: start) }
        membership.enter(epoch: 1, members: [one, two, three], isFirst: false)
        return membership
    }

    private func answer(
        _ membership: inout Membership, to peer: NodeID = two, at now: UInt64
    ) -> Heartbeat? {
        let isDue = membership.isAnswerDue(to: peer, nowNanoseconds: now)
        let answer = membership.answer(to: peer, revision: 7, flags: .serving, nowNanoseconds: now)
        #expect(isDue == (answer != nil))
        return answer
    }

    @Test(
        arguments: [
            (1_000_000, true), (5_000_000, true), (5_000_001, false), (10_000_000, false),
        ] as [(UInt64, Bool)])
    func heartbeatsAreAnsweredAtOnceAtShortIntervals(heartbeat: UInt64, isAnswered: Bool) {
        var membership = membership(heartbeat: heartbeat)
        membership.note(Heartbeat(number: 4, epoch: 1), from: two, nowNanoseconds: start)
        let answer = answer(&membership, at: start)
        #expect((answer != nil) == isAnswered)
        guard let answer else { return }
        #expect(answer.number == 1 && answer.echo == 4 && answer.revision == 7)
        #expect(answer.epoch == 1 && answer.flags == .serving && answer.suspects.isEmpty)
    }

    @Test func answersAreHalfAnIntervalApart() {
        var membership = membership(heartbeat: 5_000_000)
        #expect(answer(&membership, at: start) != nil)
        #expect(answer(&membership, at: start + 2_499_999) == nil)
        // Each peer for itself, and no stranger at all.
        #expect(answer(&membership, to: three, at: start + 1) != nil)
        #expect(answer(&membership, to: NodeID(4), at: start + 1) == nil)
        #expect(answer(&membership, at: start + 2_500_000)?.number == 2)
        #expect(answer(&membership, at: start + 4_999_999) == nil)
    }

    // The answer goes to one peer, and a suspicion that no heartbeat to all has told yet is not
    // told by it either.
    @Test func answersRepeatOldSuspicionsOnly() {
        var membership = membership(heartbeat: 5_000_000)
        let late = start + membership.timing.detectionNanoseconds
        #expect(membership.suspects(nowNanoseconds: late) == [two, three])
        #expect(answer(&membership, at: late)?.suspects == [])
        #expect(membership.link(to: three)?.suspicionEpoch == 0)
        _ = membership.heartbeats(revision: 7, flags: [], nowNanoseconds: late + 1)
        #expect(answer(&membership, at: late + 2_500_000)?.suspects == [two, three])
        #expect(membership.link(to: three)?.suspicionEpoch == 1)
    }
}
