// Planned moves that do not go as planned, and those that an operator asks for. What would fool us:
// a move that is given up and leaves its owner recording, or with another generation.

import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

private let one = NodeID(1)
private let two = NodeID(2)
private let moving = DistributionIdentifier(0)

// The macros of tests take no calls on values that can't be copied.
extension Node {
    fileprivate var record: AllocationRecord? { gateway.record }
    fileprivate var outgoing: [PlannedMoves.Outgoing] { gateway.moves.outgoing }
    fileprivate var isDemanded: Bool { gateway.balance.isDemanded }
    fileprivate var isRecordFull: Bool { gateway.plane.isRecordFull }
    fileprivate var digestCount: Int { gateway.plane.digests.count }

    // Of identifier 0.
    fileprivate var role: Role { gateway.plane.roles[0] }
    fileprivate var isRecording: Bool { gateway.plane.isRecording[0] }
    fileprivate var isFrozen: Bool { gateway.moves.isFrozen(0) }
}

@Suite struct PlannedMoveTests {
    /// Node 1 of two, which is to hand identifier 0 over to node 2.
    private func owner(
        _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) throws -> (node: Node, record: AllocationRecord) {
        let node = try Node(1, change)
        let first = try Allocation(nodes: [one, two], identifierCount: 16)
        try node.take(first)
        var record = try AllocationRecord(first).refreshed()
        record.successors[0] = two
        node.take(record)
        return (node, record)
    }

    private func ready(
        _ node: Node, _ identifier: DistributionIdentifier = moving, generation: UInt16 = 1,
        from peer: NodeID = two
    ) -> PlannedMoves.Outgoing {
        node.gateway.takeReady(
            .init(identifier: identifier, generation: generation), from: peer, node.clock)
        return node.outgoing[0]
    }

    // MARK: What is not begun

    // An identifier whose entries are not all on the card: its numbers do not begin yet, and what
    // would be handed over are those of the owner before.
    @Test(arguments: [Role.loading, .awaiting, .frozen, .foreign])
    func whatWasNotBegunIsNotHandedOver(role: Role) throws {
        let (node, _) = try owner()
        node.gateway.plane.roles[0] = role
        #expect(ready(node) == .offered)
        node.gateway.plane.roles[0] = .owned
        #expect(ready(node) == .ready(node.clock))
    }

    @Test func onlyTheSuccessorOfThisGenerationIsReady() throws {
        let (node, _) = try owner()
        #expect(ready(node, from: NodeID(3)) == .offered)
        #expect(ready(node, generation: 2) == .offered)
        #expect(ready(node, DistributionIdentifier(1)) == .offered)
        #expect(ready(node, DistributionIdentifier(16)) == .offered)
        #expect(node.outgoing[1...].allSatisfy { $0 == .idle })
        #expect(ready(node) == .ready(node.clock))
    }

    // MARK: What is given up

    @Test func movesThatNobodyAnswersAreGivenUpInTime() {
        let timing = ClusterTiming()
        var moves = PlannedMoves(identifierCount: 5)
        func unanswered(_ now: UInt64, isAll: Bool = false) -> [UInt16] {
            moves.unanswered(timing, isAll: isAll, now).map(\.value)
        }
        #expect(unanswered(.max / 2, isAll: true) == [])
        for place in 1...4 { moves.offer(place, UInt64(place) * 100) }
        // Holding successors are waited for from the offer on; who let go is relieved or not.
        moves.set(2, .ready(1_000_000_000))
        moves.set(3, .frozen(1_000_000_000))
        #expect(unanswered(99 + timing.offerNanoseconds) == [])
        #expect(unanswered(100 + timing.offerNanoseconds) == [1])
        #expect(unanswered(200 + timing.offerNanoseconds) == [1, 2])
        #expect(unanswered(.max / 2) == [1, 2, 4])
        #expect(unanswered(400, isAll: true) == [1, 2, 4])
        for place in [1, 2, 4] { moves.set(place, .idle) }
        #expect(unanswered(.max / 2, isAll: true) == [])
    }

    private func expectGivenUp(_ node: Node, after record: AllocationRecord) throws {
        let next = try #require(node.record)
        #expect(next == (try record.givingUp([moving])) && !next.isMoving)
        #expect(next.allocation.generations == record.allocation.generations)
        #expect(node.outgoing[0] == .idle)
        #expect(!node.isRecording && node.digestCount == 0)
        #expect(node.role == .owned)
    }

    @Test func aSuccessorThatIsNotReadyInTimeIsForgotten() throws {
        let (node, record) = try owner { $0.timing.offerNanoseconds = 0 }
        try expectGivenUp(node, after: record)
        let patient = try owner()
        patient.node.tick()
        #expect(patient.node.record == patient.record)
        #expect(patient.node.outgoing[0] == .offered)
    }

    // MARK: What is recorded

    @Test func sentPacketsAreRecordedUpToABound() throws {
        let (node, _) = try owner()
        let tunnel = try TwoWay(0, 1)
        #expect(try node.add(tunnel) == nil)
        #expect(node.send(tunnel) != nil && node.digestCount == 1)
        let room = DataPlane.digestsMaximum - 2
        node.gateway.plane.digests += Array(repeating: (moving, 0), count: room)
        #expect(!node.isRecordFull)
        #expect(node.send(tunnel) != nil && node.isRecordFull)
        // No packet is refused for it.
        #expect(node.send(tunnel) != nil)
        #expect(node.digestCount == DataPlane.digestsMaximum)
    }

    // A handover that does not tell of every packet would let the successor send one twice.
    @Test(arguments: [true, false]) func afterAFullRecordNothingIsHandedOver(isFull: Bool) throws {
        let (node, record) = try owner { $0.timing.holdNanoseconds = 0 }
        let count = DataPlane.digestsMaximum - (isFull ? 0 : 1)
        node.gateway.plane.digests = Array(repeating: (moving, 0), count: count)
        #expect(ready(node) == .ready(node.clock))
        node.gateway.stepMoves(node.clock)
        #expect(node.isFrozen == !isFull)
        node.tick()
        if isFull {
            try expectGivenUp(node, after: record)
        } else {
            #expect(node.record == record && node.isFrozen)
        }
    }
}

@Suite struct BalanceOnDemandTests {
    /// Node 2, which owns 11 of 16 identifiers of equal cost. Node 1 owns the others, serves, and
    /// is lower: else it would decide.
    private func heavy(movesMaximum: Int) throws -> Node {
        let node = try Node(2) { $0.balancing.movesMaximum = movesMaximum }
        try node.take(
            Allocation(
                epoch: 1, nodes: [one, two],
                owners: Array(repeating: one, count: 5) + Array(repeating: two, count: 11),
                generations: Array(repeating: 1, count: 16)))
        // Node 1 vouches for it.
        _ = node.gateway.membership.heartbeats(revision: 0, flags: [], nowNanoseconds: node.clock)
        node.gateway.membership.note(
            Heartbeat(number: 1, echo: 1, grant: 1, epoch: 1, flags: [.serving, .tableComplete]),
            from: one, nowNanoseconds: node.clock)
        return node
    }

    // By itself it would wait for load reports, for the imbalance to last, and for node 1.
    @Test(arguments: [(32, 3), (3, 3), (2, 2)])
    func anOperatorGetsBalanceAtOnce(movesMaximum: Int, moves: Int) throws {
        let node = try heavy(movesMaximum: movesMaximum)
        let before = try #require(node.record)
        node.tick()
        #expect(node.record == before)
        node.gateway.rebalance(nowNanoseconds: node.clock)
        node.settle()
        let record = try #require(node.record)
        #expect(record.allocation.owners == before.allocation.owners, "moves are only planned")
        #expect(record.successors[..<5].allSatisfy { $0 == nil })
        #expect(record.successors.compactMap(\.self) == Array(repeating: one, count: moves))
        // What was cut off goes on when these moves are over.
        #expect(node.isDemanded == (moves < 3))
    }

    @Test func whatIsBalancedStays() throws {
        let node = try heavy(movesMaximum: 32)
        let even = try Allocation(nodes: [one, two], identifierCount: 16)
        let record = AllocationRecord(
            try Allocation(
                epoch: 2, nodes: [one, two], owners: even.owners,
                generations: Array(repeating: 2, count: 16)))
        node.take(record)
        node.gateway.rebalance(nowNanoseconds: node.clock)
        node.settle()
        #expect(node.record == record && !node.isDemanded)
    }
}
