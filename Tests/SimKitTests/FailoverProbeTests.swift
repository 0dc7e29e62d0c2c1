// Fooled by: events of another removal, of an earlier suspicion, or of an offer that lost.

import Cluster
import Testing

@testable import SimKit

@Suite struct FailoverProbeTests {
    @Test func phasesAreThoseOfTheRemovalThatTheStoreTook() throws {
        func milestone(_ time: UInt64, _ node: Int, _ kind: Milestone.Kind) -> Milestone {
            Milestone(time: time, node: node, kind: kind)
        }
        let milestones = [
            milestone(10, 1, .suspected(node: 2)),
            milestone(110, 2, .suspected(node: 3)),
            milestone(120, 1, .suspected(node: 3)),
            milestone(130, 1, .suspected(node: 2)),
            milestone(131, 3, .suspected(node: 2)),
            milestone(140, 3, .decided(epoch: 4, removed: [], added: [], moved: [])),
            milestone(150, 1, .decided(epoch: 5, removed: [2], added: [], moved: [7])),
            milestone(155, 3, .inForce(epoch: 4, gained: 1)),
            milestone(160, 3, .inForce(epoch: 5, gained: 0)),
            milestone(161, 1, .inForce(epoch: 5, gained: 1)),
        ]
        let offers: [(time: UInt64, node: Int)] = [(90, 1), (145, 1), (148, 3), (152, 1)]
        let phases = try #require(
            FailoverPhases(of: 2, crashedAt: 100, milestones: milestones, offers: offers))
        #expect(phases.suspected == 30 && phases.offered == 45)
        #expect(phases.decided == 50 && phases.inForce == 61)
        #expect(
            FailoverPhases(
                of: 3, crashedAt: 100, milestones: milestones, offers: offers) == nil,
            "suspected, but never removed")
    }

    /// What the timing allows, and that every moved tunnel is counted once.
    @Test(arguments: [1, 2, 3] as [UInt64]) func aCrashIsMeasured(seed: UInt64) throws {
        let heartbeat: UInt64 = 10_000_000
        let link: UInt64 = 1_000_000
        var probe = try FailoverProbe(
            seed: seed, nodes: 3, tunnels: 60, identifiers: 16, heartbeat: heartbeat, link: link)
        let times = try probe.run()
        #expect((1...3).contains(times.node))
        // The last heartbeat that was heard was sent up to one interval before the crash.
        #expect(times.suspected >= 2 * heartbeat && times.suspected <= 3 * heartbeat + 3 * link)
        #expect(times.suspected < times.offered)
        #expect(times.decided >= times.offered + link && times.inForce >= times.decided + link)
        #expect(times.first >= times.inForce)
        #expect(times.first <= times.inForce + FailoverProbe.stepNanoseconds)
        #expect((1...6).contains(times.identifiers.count))
        #expect(times.tunnels.count >= times.identifiers.count && times.tunnels.count < 60)
        #expect(times.tunnels.last == times.identifiers.last)
    }
}
