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
    /// Two nodes, and a tunnel of identifier 0 at the first.
    private struct Pair {
        let old: Node
        let new: Node
        let peers: Peers
        let before: Allocation
        let spi: SPI

        init() throws {
            old = try Node(1)
            new = try Node(2)
            peers = try Peers()
            before = try Allocation(nodes: [one, two], identifierCount: 16)
            try old.take(before)
            try new.take(before)
            spi = try tunnelSPI(0, 9)
            let ours = try peers.connect(spi)
            #expect(try old.add(ours) == nil)
            try new.gateway.learn(association(ours), nowNanoseconds: 0)
        }

        /// The old owner's progress, as it is published.
        func publish() throws {
            let checkpoint = old.gateway.checkpoint(of: spi)
            new.gateway.learn(try #require(checkpoint))
        }
    }

    // A session loaded early is a snapshot: packets that the old owner accepts before the switch
    // must not be accepted again after it.
    @Test func preloadedSessionsFollowTheOldOwner() throws {
        let pair = try Pair()
        let next = try pair.before.moving(moving, to: two)
        _ = try pair.new.gateway.prepare(next, nowNanoseconds: 0)
        _ = try pair.old.gateway.prepare(next, nowNanoseconds: 0)
        let packet = try pair.peers.packet(pair.spi).outer
        #expect(pair.old.receive([packet]) == [.delivered])
        try pair.publish()
        pair.old.gateway.switchOver()
        pair.new.gateway.switchOver()
        #expect(pair.new.receive([packet]) == [.dropped(.replayed)])
        #expect(pair.new.receive([try pair.peers.packet(pair.spi).outer]) == [.delivered])
    }

    @Test func entriesLearnedWhilePreparedAreLoadedToo() throws {
        let pair = try Pair()
        let next = try pair.before.moving(moving, to: two)
        _ = try pair.new.gateway.prepare(next, nowNanoseconds: 0)
        let late = try tunnelSPI(0, 77)
        let ours = try pair.peers.connect(late)
        try pair.new.gateway.learn(association(ours), nowNanoseconds: 0)
        #expect(pair.new.session(late) != nil)
        pair.new.gateway.switchOver()
        #expect(pair.new.receive([try pair.peers.packet(late).outer]) == [.delivered])
    }

    // Two quick changes: the first is prepared and never switched to.
    @Test func supersededPreparationLeavesNoForeignKeys() throws {
        let pair = try Pair()
        let first = try pair.before.moving(moving, to: two)
        let second = try first.moving(moving, to: one)
        _ = try pair.new.gateway.prepare(first, nowNanoseconds: 0)
        #expect(pair.new.session(pair.spi) != nil)
        try pair.new.take(second)
        let isOwner = pair.new.gateway.owns(moving)
        #expect(!isOwner)
        #expect(pair.new.session(pair.spi) == nil && pair.new.sessionSPIs.isEmpty)
    }

    @Test func preparingTwiceLoadsOnceUnderTheLaterGeneration() throws {
        let pair = try Pair()
        let first = try pair.before.moving(moving, to: two)
        let second = try first.moving(moving, to: one).moving(moving, to: two)
        _ = try pair.new.gateway.prepare(first, nowNanoseconds: 0)
        let report = try pair.new.take(second)
        #expect(report.loaded == 1 && report.refused == 0)
        let session = try #require(pair.new.session(pair.spi))
        let status = try pair.new.gateway.card.status(of: session)
        #expect(status.ivGeneration == second.generation(of: moving))
    }

    // Refusals name the tunnel; those that find room after the clearing are none.
    @Test func refusalsAtATakeoverNameTheTunnel() throws {
        let new = try Node(2) { $0.cardCapacity = 1 }
        let peers = try Peers()
        let before = try Allocation(nodes: [one, two], identifierCount: 16)
        try new.take(before)
        let spis = try [tunnelSPI(0, 1), tunnelSPI(0, 2)]
        for spi in spis {
            try new.gateway.learn(association(peers.connect(spi)), nowNanoseconds: 0)
        }
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
