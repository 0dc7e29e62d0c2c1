// Fooled by: a cluster that never gets as far as what is measured.

import Cluster
import Gateway
import SimKit
import Testing

@Suite struct ControlClusterTests {
    private func agreed(at node: ControlCluster.Node?) -> Allocation? {
        node?.gateway.allocation
    }

    /// Two members died, one of them for good, before any process was there to see it.
    @Test func aMemberThatNobodySawGoIsTakenOver() throws {
        let cluster = try ControlCluster(seed: 3, identifiers: 16)
        let members = [NodeID(1), NodeID(2)]
        let allocation = try Allocation(nodes: members, identifierCount: 16)
        cluster.write(AllocationRecord(allocation))
        try cluster.start(0)
        cluster.run(until: cluster.now + 1_000_000_000)
        let found = try #require(agreed(at: cluster.nodes[0]))
        #expect(found.nodes == [NodeID(1)], "the key has been absent for 2 D")
        #expect(found.identifiers(of: NodeID(1)).count == 16)
    }

    /// Its key is there, if late: nobody takes it out.
    @Test func aMemberThatComesBackInTimeStays() throws {
        let cluster = try ControlCluster(seed: 3, identifiers: 16)
        let members = [NodeID(1), NodeID(2)]
        cluster.write(AllocationRecord(try Allocation(nodes: members, identifierCount: 16)))
        try cluster.start(0)
        cluster.run(until: cluster.now + 20_000_000)
        try cluster.start(1)
        cluster.run(until: cluster.now + 3_000_000_000)
        for node in cluster.nodes {
            let found = try #require(agreed(at: node))
            #expect(found.nodes == members)
            #expect(found.epoch > 1, "both have renewed what their former lives owned")
        }
    }

    @Test func aFoundedClusterSendsItsHeartbeatsAndNoMore() throws {
        let cluster = try ControlCluster(seed: 5, identifiers: 16)
        for number in 0..<3 { try cluster.start(number) }
        cluster.run(until: cluster.now + 2_000_000_000)
        for node in cluster.nodes {
            #expect(agreed(at: node)?.nodes.count == 3)
        }
        let before = cluster.figures
        cluster.run(until: cluster.now + 1_000_000_000)
        let figures = cluster.figures.since(before)
        // 3 · 2 links, 100 heartbeats a second, and one report of load each.
        #expect((600...620).contains(figures.datagrams))
        #expect(figures.storeWrites == 0)
    }
}
