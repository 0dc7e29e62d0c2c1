// The last ownership of an identifier, and the one after it. What would fool us: an identifier that
// is used up but has no tunnel, a tunnel that is still served by the card though the table lost it.

import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

private let one = NodeID(1)
private let two = NodeID(2)
private let worn = DistributionIdentifier(0)

@Suite struct GenerationTests {
    /// Identifier 0 is in its last ownership, by node 1; node 1 owns all but the last four.
    private func before(_ generation: UInt16 = Allocation.lastGeneration) throws -> Allocation {
        var generations = Array(repeating: 3 as UInt16, count: 16)
        generations[0] = generation
        return try Allocation(
            epoch: 90_000, nodes: [one, two], owners: (0..<16).map { $0 < 12 ? one : two },
            generations: generations)
    }

    private func removing(_ node: NodeID, from allocation: Allocation) throws -> AllocationRecord {
        try AllocationRecord(allocation).removing(
            [node], mayHaveOverrun: { _ in false }, rules: Rules())
    }

    @Test func aCrashClearsWhatCannotBeServedAndServesTheRest() throws {
        let heir = try Node(2)
        let peers = try Peers()
        let allocation = try before()
        heir.take(AllocationRecord(allocation))
        let (lost, kept) = (try tunnelSPI(0, 9), try tunnelSPI(1, 9))
        try heir.learn(peers.connect(lost))
        try heir.learn(peers.connect(kept))
        let next = try removing(one, from: allocation)
        let report = try #require(heir.take(next))
        #expect(report.gained == 12 && report.loaded == 1)
        #expect(heir.news.contains(.generationsSpent(worn, cleared: 1)))
        #expect(heir.session(lost) == nil && heir.session(kept) != nil)
        // Gone from the table and, as the store's watch tells, from the store.
        #expect(heir.gateway.tableSPIs() == [kept])
        heir.gateway.tick(nowNanoseconds: heir.clock)
        heir.settle()
        #expect(heir.gateway.entries.clearing.isEmpty)
        let verdicts = heir.receive(
            [try peers.packet(lost).outer, try peers.packet(kept).outer])
        #expect(verdicts == [.dropped(.unknownSPI), .delivered])
        // A new tunnel is refused with the reason, and one of another identifier is not.
        let refusal = try #require(try heir.add(peers.connect(tunnelSPI(0, 10))))
        #expect(refusal.contains("used up"))
        #expect(try heir.add(peers.connect(tunnelSPI(2, 10))) == nil)
        // What comes late from the store is cleared too.
        try heir.learn(peers.connect(tunnelSPI(0, 11)))
        #expect(try heir.session(tunnelSPI(0, 11)) == nil)
        #expect(try !heir.gateway.tableSPIs().contains(tunnelSPI(0, 11)))
    }

    @Test func theLastOwnershipIsServedAndWarnedOf() throws {
        let heir = try Node(2)
        let peers = try Peers()
        let allocation = try before(Allocation.lastGeneration - 1)
        heir.take(AllocationRecord(allocation))
        let spi = try tunnelSPI(0, 9)
        try heir.learn(peers.connect(spi))
        heir.take(try removing(one, from: allocation))
        #expect(heir.news.contains(.generationsLow(worn, left: 0)))
        #expect(heir.receive([try peers.packet(spi).outer]) == [.delivered])
    }

    @Test func theOwnerOfOneThatIsUsedUpMayChange() throws {
        let node = try Node(2)
        let peers = try Peers()
        let allocation = try before(.max)
        node.take(AllocationRecord(allocation))
        let spi = try tunnelSPI(0, 9)
        try node.learn(peers.connect(spi))
        #expect(!node.gateway.owns(worn) && node.gateway.tableSPIs() == [spi])
        node.take(try removing(one, from: allocation))
        #expect(node.news.contains(.generationsSpent(worn, cleared: 1)))
        #expect(node.gateway.tableSPIs().isEmpty && node.sessionSPIs.isEmpty)
        // Its own renewal ends nothing and begins nothing.
        let record = node.gateway.record
        let next = try #require(record).renewing(two)
        node.take(next)
        #expect(!node.gateway.isStale.contains(true))
    }
}

@Suite struct BalanceTests {
    private let all = (0..<16).map { DistributionIdentifier(UInt16($0)) }

    /// Node 1 alone decides, as no one else is there to; node 2 is a name.
    private func steward(
        _ change: (inout LoadBalancing) -> Void = { _ in }
    ) throws -> Node {
        var balancing = LoadBalancing()
        balancing.persistenceNanoseconds = 0
        balancing.intervalNanoseconds = 0
        change(&balancing)
        let node = try Node(1) { $0.balancing = balancing }
        node.take(
            AllocationRecord(try Allocation(nodes: [one, two], identifierCount: 16)))
        return node
    }

    private func tell(_ node: Node, _ rate: (Int) -> UInt32, from peer: NodeID) {
        let owned = node.gateway.allocation?.identifiers(of: peer) ?? []
        node.gateway.noteLoads(
            LoadReport(
                loads: owned.map {
                    .init(
                        identifier: $0, packetsPerSecond: rate(Int($0.value)), tunnels: 1)
                }), from: peer, node.clock)
    }

    private func plan(_ node: Node) throws -> AllocationRecord? {
        node.gateway.balance.nextLookAt = 0
        let record = node.gateway.record
        return node.gateway.balance(try #require(record), node.clock)
    }

    @Test func loadMovesNeedAllReports() throws {
        let node = try steward()
        tell(node, { _ in 10_000 }, from: one)
        #expect(try plan(node) == nil, "node 2 has told nothing")
        tell(node, { _ in 100 }, from: two)
        let next = try #require(try plan(node))
        #expect(next.successors.contains(two) && !next.successors.contains(one))
        #expect(node.gateway.packetsPerSecond(of: all[0]) == 10_000)
    }

    @Test func otherNodesLoadsAreTheirOwnersToTell() throws {
        let node = try steward()
        tell(node, { _ in 100 }, from: one)
        tell(node, { _ in 100 }, from: two)
        let lie = LoadReport(
            loads: [.init(identifier: all[0], packetsPerSecond: 1 << 30, tunnels: 1)])
        node.gateway.noteLoads(lie, from: two, node.clock)
        #expect(node.gateway.packetsPerSecond(of: all[0]) == 100)
        #expect(try plan(node) == nil)
    }

    @Test func movesWaitForTheirTime() throws {
        let node = try steward {
            $0.persistenceNanoseconds = 300_000_000
            $0.intervalNanoseconds = 1 << 50
        }
        for peer in [one, two] { tell(node, { $0 < 8 ? 10_000 : 100 }, from: peer) }
        #expect(try plan(node) == nil, "not at the first look")
        node.gateway.balance.imbalancedSince = 0
        node.gateway.balance.movedAt = node.clock - 5
        #expect(try plan(node) == nil, "not so soon after the last move")
        node.gateway.balance.movedAt = nil
        node.gateway.balance.imbalancedSince = node.clock - 300_000_000
        #expect(try plan(node) != nil)
    }

    @Test func drainsDoNotWait() throws {
        let node = try steward { $0.intervalNanoseconds = 1 << 50 }
        node.gateway.weights = [one: 0]
        let next = try #require(try plan(node))
        #expect(next.successors.count { $0 == two } == 8)
        #expect(node.gateway.balance.proposedForLoad == 0)
    }

    @Test func anOperatorMayMoveOneIdentifier() throws {
        let node = try steward()
        let unknown = DistributionIdentifier(99)
        #expect(throws: ClusterError.nodeUnknown(NodeID(9))) {
            try node.gateway.move(all[3], to: NodeID(9), nowNanoseconds: node.clock)
        }
        #expect(throws: ClusterError.identifierUnknown(unknown, count: 16)) {
            try node.gateway.move(unknown, to: two, nowNanoseconds: node.clock)
        }
        node.gateway.balance.wishes = [(all[3], two, 0), (all[12], two, 0)]
        let inForce = node.gateway.record
        let record = try #require(inForce)
        let wanted = node.gateway.wish(on: record)
        let next = try #require(wanted)
        #expect(next.successors[3] == two && next.successors.compactMap(\.self).count == 1)
        // Another member's decision may come first: it is wished for again, but not for ever.
        var tries = 1
        while let again = node.gateway.wish(on: record) {
            #expect(again.successors == next.successors)
            tries += 1
        }
        #expect(tries == 8)
        // Node 2 has the other one already.
        #expect(node.gateway.balance.wishes.isEmpty)
    }
}
