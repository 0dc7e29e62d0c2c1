// What happens between the steps of a reallocation, where packets and other reallocations come in.

import Cluster
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

private let one = NodeID(1)
private let two = NodeID(2)
private let moving = DistributionIdentifier(0)

@Suite struct TakeoverTests {
    /// Node 2, which knows a tunnel of identifier 0; node 1 owns it.
    private struct Heir {
        let node: Node
        let peers: Peers
        let before: Allocation
        let spi: SPI

        init() throws {
            node = try Node(2)
            peers = try Peers()
            before = try Allocation(nodes: [one, two], identifierCount: 16)
            try node.take(before)
            spi = try tunnelSPI(0, 9)
            try node.learn(peers.connect(spi))
        }

        /// Node 1 has offered the identifier, and this node has loaded it.
        func prepare() throws {
            var successors: [NodeID?] = Array(repeating: nil, count: 16)
            successors[0] = two
            let next = try before.refreshed()
            node.take(
                try AllocationRecord(
                    allocation: next, successors: successors,
                    overrunGenerations: Array(repeating: 0, count: 16)))
            node.offer(moving, generation: 1, from: one)
            #expect(node.gateway.isHolding(moving) && node.session(spi) != nil)
        }
    }

    // A session loaded early is a snapshot: packets that the old owner accepts before the switch
    // must not be accepted again after it.
    @Test func preloadedSessionsFollowTheOldOwner() throws {
        let site = try Site(nodes: 1)
        let peers = try Peers()
        let spi = try tunnelSPI(15, 9)
        try site.install(peers.connect(spi))
        var early: [[UInt8]] = []
        let last = DistributionIdentifier(15)
        try site.join(two) {
            guard site.cluster.members.contains(where: { $0.gateway.isHolding(last) }) else {
                return
            }
            let packet = try peers.packet(spi).outer
            let verdicts = site.showEach(packet).map(\.verdict)
            if verdicts == [.delivered, .held] { early.append(packet) }
        }
        #expect(!early.isEmpty && site.owner(of: spi) == two)
        for packet in early { #expect(site.show(packet).verdict == .dropped(.replayed)) }
        #expect(site.show(try peers.packet(spi).outer).verdict == .delivered)
    }

    @Test func entriesLearnedWhilePreparedAreLoadedToo() throws {
        let heir = try Heir()
        try heir.prepare()
        let late = try tunnelSPI(0, 77)
        try heir.node.learn(heir.peers.connect(late))
        #expect(heir.node.session(late) != nil)
        try heir.node.take(heir.before.refreshed().moving(moving, to: two))
        #expect(heir.node.receive([try heir.peers.packet(late).outer]) == [.delivered])
    }

    // Two quick changes: the move is prepared, and then given up.
    @Test func supersededPreparationLeavesNoForeignKeys() throws {
        let heir = try Heir()
        try heir.prepare()
        try heir.node.take(heir.before.refreshed().refreshed())
        let isOwner = heir.node.gateway.owns(moving)
        #expect(!isOwner && !heir.node.gateway.isHolding(moving))
        #expect(heir.node.session(heir.spi) == nil && heir.node.sessionSPIs.isEmpty)
    }

    // The old owner dies while this node is prepared: what was loaded early is of another time.
    @Test func preparingTwiceLoadsOnceUnderTheLaterGeneration() throws {
        let heir = try Heir()
        try heir.prepare()
        let packets = try (0..<3).map { _ in try heir.peers.packet(heir.spi).outer }
        // The owner came as far as packet 2 and told so.
        heir.node.follow(SequenceCheckpoint(spi: heir.spi, sequence: 2, packets: 2, bytes: 100))
        let next = try heir.before.refreshed().removing(one)
        let report = try heir.node.take(next)
        #expect(report.loaded == 1 && report.refused == 0)
        let session = try #require(heir.node.session(heir.spi))
        let status = try heir.node.gateway.plane.card.status(of: session)
        #expect(status.ivGeneration == next.generation(of: moving))
        let limit = try heir.node.gateway.plane.card.limit(of: session)
        #expect(limit > 4096, "the limits of the new ownership, not of the one prepared")
        #expect(
            heir.node.receive(packets) == [.dropped(.replayed), .dropped(.replayed), .delivered])
    }

    // Refusals name the tunnel; those that find room after the clearing are none.
    @Test func refusalsAtATakeoverNameTheTunnel() throws {
        let new = try Node(2) { $0.cardCapacity = 1 }
        let peers = try Peers()
        let before = try Allocation(nodes: [one, two], identifierCount: 16)
        try new.take(before)
        let spis = try [tunnelSPI(0, 1), tunnelSPI(0, 2)]
        for spi in spis { try new.learn(peers.connect(spi)) }
        let report = try new.take(before.moving(moving, to: two))
        #expect(report.loaded == 1 && report.refused == 1)
        let refusal = try #require(report.refusals.first)
        #expect(spis.contains(refusal.spi) && new.session(refusal.spi) == nil)
        #expect(refusal.reason.contains("full"))
    }
}

@Suite struct PolicyTests {
    // Jittered lifetimes make a new policy for each association: they must not add up for ever.
    @Test func policiesLeaveWithTheirLastUser() throws {
        let holder = try CardHolder(capacity: 2)
        for round in 0..<70_000 {
            var parameters = parameters(0x2000, .inbound, .gcm)
            parameters.lifetimes.softBytes = UInt64(round) + 1
            let handle = try holder.open(parameters)
            try holder.card.close(handle)
        }
        #expect(holder.card.count == 0)
    }
}
