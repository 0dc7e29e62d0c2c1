import CMallocCounter
import Cluster
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

private let one = NodeID(1)
private let two = NodeID(2)

private func allocation(_ nodes: NodeID...) throws -> Allocation {
    try Allocation(nodes: nodes, identifierCount: 16)
}

@Suite struct GatewayTests {
    @Test func ownsNothingBeforeItsFirstAllocation() throws {
        let node = try Node()
        #expect(node.gateway.allocation == nil)
        #expect(node.receive([strayESP(1), strayESP(0x1234)]) == [.foreign, .foreign])
        #expect(node.gateway.counters.answered == 0 && node.gateway.counters.foreign == 2)
    }

    @Test func placesOfEntries() throws {
        let node = try Node(1)
        try node.take(allocation(one, two))
        let mine = try tunnelSPI(0, 1)
        let others = try tunnelSPI(15, 1)
        #expect(node.place(of: mine) == .own(DistributionIdentifier(0)))
        #expect(
            node.place(of: others) == .foreign(DistributionIdentifier(15), owner: two))
    }

    // Fig. 6B: load, switch, clear. What would fool us: packets lost between the steps, or two
    // owners.
    @Test func plannedMovesLoseNoPacket() throws {
        let old = try Node(1)
        let new = try Node(2)
        let peers = try Peers()
        let before = try allocation(one, two)
        try old.take(before)
        try new.take(before)
        let spi = try tunnelSPI(0, 9)
        let ours = try peers.connect(spi)
        #expect(try old.add(ours) == nil)
        try new.gateway.learn(association(ours), nowNanoseconds: 0)
        #expect(old.receive([try peers.packet(spi).outer]) == [.delivered])

        let next = try before.moving(DistributionIdentifier(0), to: two)
        for checkpoint in old.gateway.checkpoints(of: [DistributionIdentifier(0)]) {
            new.gateway.learn(checkpoint)
        }
        var losing = try old.gateway.prepare(next, nowNanoseconds: 0)
        var gaining = try new.gateway.prepare(next, nowNanoseconds: 0)
        #expect(gaining.loaded == 1 && gaining.gained == 1 && losing.lost == 1)
        #expect(new.session(spi) != nil && old.session(spi) != nil)
        // Loaded, but not served yet.
        let second = try peers.packet(spi).outer
        #expect(new.receive([second]) == [.foreign])
        #expect(old.receive([second]) == [.delivered])
        old.gateway.switchOver()
        new.gateway.switchOver()
        let third = try peers.packet(spi).outer
        #expect(old.receive([third]) == [.foreign] && new.receive([third]) == [.delivered])
        old.gateway.clearLost(&losing, nowNanoseconds: 0)
        new.gateway.clearLost(&gaining, nowNanoseconds: 0)
        #expect(losing.cleared == 1 && old.session(spi) == nil && old.sessionSPIs.isEmpty)
        #expect(new.receive([third]) == [.dropped(.replayed)])
    }

    // A renewed ownership: same node, new generation, window kept.
    @Test func renewalsReopenSessionsUnderTheNewGeneration() throws {
        let node = try Node()
        let peers = try Peers()
        let first = try allocation(one)
        try node.take(first)
        let spi = try tunnelSPI(4, 9)
        #expect(try node.add(peers.connect(spi)) == nil)
        let packet = try peers.packet(spi).outer
        #expect(node.receive([packet]) == [.delivered])
        let before = try #require(node.session(spi))
        try node.take(first.renewing(one))
        let after = try #require(node.session(spi))
        #expect(before != after)
        let generation = try node.gateway.card.status(of: after).ivGeneration
        #expect(generation == 2)
        #expect(node.receive([packet]) == [.dropped(.replayed)])
        #expect(node.receive([try peers.packet(spi).outer]) == [.delivered])
    }

    @Test func staleAllocationsAreRefused() throws {
        let node = try Node()
        let first = try allocation(one, two)
        let second = try first.removing(two)
        try node.take(second)
        #expect(throws: ClusterError.self) { try node.take(first) }
        #expect(node.gateway.allocation == second)
    }

    @Test func fullCardsAreFilledAsRoomAppears() throws {
        let node = try Node { $0.cardCapacity = 2 }
        let peers = try Peers()
        try node.take(allocation(one))
        let spis = try (0..<5 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for (index, spi) in spis.enumerated() {
            let refusal = try node.add(peers.connect(spi))
            #expect(refusal == (index < 2 ? nil : .full(capacity: 2)))
        }
        #expect(node.gateway.entryCount == 5 && node.gateway.sessionCount == 2)
        #expect(node.receive([try peers.packet(spis[2]).outer]) == [.dropped(.cardFull)])
        let isGone = node.remove(spis[0])
        #expect(isGone && node.gateway.entryCount == 4)
        #expect(node.session(spis[2]) != nil, "first come, first served")
        #expect(node.receive([try peers.packet(spis[2]).outer]) == [.delivered])
        #expect(node.receive([try peers.packet(spis[0]).outer]) == [.dropped(.unknownSPI)])
        // One that waits may go too.
        let others = (node.remove(spis[3]), node.remove(spis[1]), node.remove(spis[1]))
        #expect(others == (true, true, false))
        #expect(node.sessionSPIs == [spis[2], spis[4]].sorted())
    }

    // What would fool us: one lost session in a batch of several packets. All of them are lost with
    // it, for one reason, and the next batch finds it healed.
    @Test func lostSessionsHeal() throws {
        let node = try Node()
        let peers = try Peers()
        try node.take(allocation(one))
        let spi = try tunnelSPI(4, 9)
        _ = try node.add(peers.connect(spi))
        let packets = try (0..<5).map { _ in try peers.packet(spi).outer }
        #expect(node.receive([packets[0]]) == [.delivered])
        let session = try #require(node.session(spi))
        node.gateway.inject(.sessionLost(session))
        #expect(node.session(spi) == nil)
        let verdicts = node.receive(Array(packets[1...3]))
        #expect(verdicts == Array(repeating: .dropped(.sessionLost), count: 3))
        #expect(node.receive(Array(packets[1...4])).allSatisfy { $0 == .delivered })
        #expect(node.gateway.cardCounters.lost == 1)
        node.gateway.inject(.reset)
        #expect(node.gateway.sessionCount == 0)
        #expect(node.receive([try peers.packet(spi).outer]) == [.dropped(.sessionLost)])
        #expect(node.receive([try peers.packet(spi).outer]) == [.delivered])
        // What was accepted before the loss is not accepted again.
        for packet in packets { #expect(node.receive([packet]) == [.dropped(.replayed)]) }
    }

    @Test func duplicatesAndForeignersChangeNothing() throws {
        let node = try Node()
        let peers = try Peers()
        try node.take(allocation(one))
        let spi = try tunnelSPI(4, 9)
        let ours = try peers.connect(spi)
        _ = try node.add(ours)
        #expect(throws: CommonTableError.duplicateSPI(spi)) { try node.add(ours) }
        #expect(node.gateway.entryCount == 1 && node.gateway.sessionCount == 1)
        let wasThere = node.remove(try unknown())
        #expect(!wasThere)
    }

    private func unknown() throws -> SPI { try tunnelSPI(9, 99) }

    // A table that is full takes the session back out of the card.
    @Test func failedAddsLeaveNoSession() throws {
        let node = try Node { $0.tableCapacity = 1 }
        let peers = try Peers()
        try node.take(allocation(one))
        let first = try tunnelSPI(1, 1)
        _ = try node.add(peers.connect(first))
        #expect(throws: CommonTableError.full(capacity: 1)) {
            try node.add(peers.connect(tunnelSPI(2, 2)))
        }
        #expect(node.gateway.sessionCount == 1 && node.sessionSPIs == [first])
    }

    // The whole way of a batch, owner filter and table look-ups included, without the heap.
    @Test func receivingAllocatesNothing() throws {
        let node = try Node()
        let peers = try Peers()
        try node.take(allocation(one, two))
        let mine = try tunnelSPI(1, 1)
        _ = try node.add(peers.connect(mine))
        var total: UInt64 = 0
        for round in 0..<40 {
            var batch = try (0..<60).map { _ in try peers.packet(mine).outer }
            batch += [
                strayESP(try tunnelSPI(15, 3).value), strayESP(3),
                strayESP(try tunnelSPI(1, 2).value),
            ]
            node.load(batch)
            let used = UnsafeMutableBufferPointer(rebasing: node.packets[..<batch.count])
            let before = malloc_counter_value()
            node.gateway.receive(used, verdicts: node.verdicts, nowNanoseconds: 0)
            if round > 1 { total += malloc_counter_value() - before }
        }
        #expect(total == 0)
        #expect(node.gateway.counters.delivered == 2400)
    }

    @Test func softLifetimesAreCounted() throws {
        let node = try Node()
        let peers = try Peers()
        try node.take(allocation(one))
        let spi = try tunnelSPI(4, 9)
        var ours = try peers.connect(spi)
        ours.lifetimes.softPackets = 2
        _ = try node.add(ours)
        let batch = try (0..<4).map { _ in try peers.packet(spi).outer }
        #expect(node.receive(batch).allSatisfy { $0 == .delivered })
        #expect(node.gateway.counters.softLifetimes == 1)
    }
}
