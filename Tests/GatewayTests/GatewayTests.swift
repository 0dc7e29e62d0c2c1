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

    // What would fool us: a foreign entry that is kept here, with its keys, or that goes nowhere.
    @Test func foreignEntriesGoToTheirOwner() throws {
        let node = try Node(1)
        let peers = try Peers()
        try node.take(allocation(one, two))
        let (mine, others) = (try tunnelSPI(0, 1), try tunnelSPI(15, 1))
        #expect(try node.add(peers.connect(mine)) == nil)
        #expect(try node.add(peers.connect(others)) == nil)
        #expect(node.sessionSPIs == [mine] && node.gateway.tableSPIs() == [mine])
        #expect(node.news.isEmpty, "neither established nor refused")
        #expect(node.gateway.entries.foreign.map(\.spi) == [others])
        // The identifier comes here before its owner has answered: the next try ends here.
        try node.take(allocation(one, two).removing(two))
        for _ in 0..<100 where !node.gateway.entries.foreign.isEmpty {
            node.gateway.tellForeign(at: 0, node.clock)
            node.gateway.pump(node.clock)
            node.settle()
        }
        #expect(node.news.contains(.established(others)))
        #expect(node.sessionSPIs == [mine, others].sorted())
    }

    // What would fool us: a sealed record is believed whatever it says, and its identifier is an
    // index. It may be of a cluster with more identifiers, or stand at another tunnel's place.
    @Test func misplacedEntriesAreRefused() throws {
        let node = try Node(1)
        let peers = try Peers()
        try node.take(allocation(one, two))
        let (spi, other) = (try tunnelSPI(0, 1), try tunnelSPI(0, 2))
        let wanted = try peers.connect(spi)
        let far = DistributionIdentifier(4095)
        let zero = DistributionIdentifier(0)
        for (key, identifier) in [
            (StoreKey.entry(far, spi), far), (.entry(zero, spi), far), (.entry(far, spi), zero),
            (.entry(zero, other), zero),
        ] {
            try node.learn(wanted, under: key, identifier: identifier)
            let refusals = node.news.filter {
                $0 == .recordRefused(key: key.text, reason: RecordError.misplaced.description)
            }
            #expect(refusals.count == 1 && node.gateway.tableSPIs().isEmpty)
        }
        try node.learn(wanted)
        #expect(node.gateway.tableSPIs() == [spi])
    }

    // What would fool us: the number before the first is 2^64 - 1 for an association whose extended
    // numbers are used up.
    @Test func usedUpEntriesAreTaken() throws {
        let node = try Node(1)
        let peers = try Peers()
        try node.take(allocation(one, two))
        let (mine, others) = (try tunnelSPI(0, 1), try tunnelSPI(15, 1))
        for spi in [mine, others] {
            var wanted = try peers.connect(spi)
            wanted.usesESN = true
            var slab = AssociationSlab(capacity: 1, catalogue: AssociationCatalogue())
            let used = try slab.insert(
                association(wanted), distributionIdentifier: 0, ivGeneration: 1)
            slab.apply(
                SequenceCheckpoint(spi: spi, sequence: .max, packets: 1, bytes: 1), to: used)
            let usedUp = slab.association(of: used)
            let first = usedUp.parameters.firstSequence
            #expect(first == 0)
            node.learn(usedUp)
        }
        #expect(node.gateway.tableSPIs() == [mine, others].sorted())
    }

    // What would fool us: numbers of an ownership that another process under the same number had
    // begun and used, taken for this one's.
    @Test func renewalsByAnotherProcessAreRenewedAgain() throws {
        let node = try Node(1)
        let first = try allocation(one, two)
        try node.take(first)
        node.take(AllocationRecord(try first.renewing(one)), isOwn: false)
        let record = node.gateway.record
        let now = try #require(record?.allocation)
        #expect(now.epoch == 3 && now.generation(of: DistributionIdentifier(0)) == 3)
        #expect(record?.overrunGenerations[0] == 3)
        let isOwner = node.gateway.owns(DistributionIdentifier(0))
        #expect(isOwner)
    }

    // Fig. 6B under traffic. What would fool us: a packet that is lost while both nodes hold the
    // tunnel, or handled by both.
    @Test func plannedMovesLoseNoPacket() throws {
        let site = try Site(nodes: 1)
        let peers = try Peers()
        let spis = try (0..<16 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for spi in spis { try site.install(peers.connect(spi)) }
        var shown: [[UInt8]] = []
        var delivered: [[UInt8]] = []
        var verdicts: Set<Int> = []
        try site.join(two) {
            for spi in spis {
                let packet = try peers.packet(spi)
                shown.append(packet.inner)
                let answers = site.showEach(packet.outer)
                delivered += answers.filter { $0.verdict == .delivered }.map(\.inner)
                let handlers = answers.count { $0.verdict == .delivered }
                let holders = answers.count { $0.verdict == .held }
                #expect(handlers <= 1 && handlers + holders >= 1, "handled once, or held")
                verdicts.insert(handlers * 2 + holders)
            }
        }
        delivered += site.cluster.released
        #expect(Set(delivered) == Set(shown) && delivered.count == shown.count)
        #expect(verdicts.contains(3), "some packets came while both nodes had them")
        site.expectConsistent(Set(spis))
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
        let generation = try node.gateway.plane.card.status(of: after).ivGeneration
        #expect(generation == 2)
        #expect(node.receive([packet]) == [.dropped(.replayed)])
        #expect(node.receive([try peers.packet(spi).outer]) == [.delivered])
    }

    // What the store holds can't be right: what is in force goes on, and is written over it.
    @Test func staleAllocationsAreRefused() throws {
        let node = try Node()
        let first = try allocation(one, two)
        let second = try first.removing(two)
        try node.take(second)
        let report = node.take(AllocationRecord(first))
        #expect(report?.gained == 0 && report?.lost == 0 && report?.epoch == second.epoch + 1)
        let isRefused = node.news.contains {
            if case .recordRefused("spindle/allocation", _) = $0 { true } else { false }
        }
        #expect(isRefused)
        #expect(node.gateway.allocation?.owners == second.owners)
        #expect(node.gateway.allocation?.generations == second.generations)
    }

    @Test func fullCardsAreFilledAsRoomAppears() throws {
        let node = try Node { $0.cardCapacity = 2 }
        let peers = try Peers()
        try node.take(allocation(one))
        let spis = try (0..<5 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for (index, spi) in spis.enumerated() {
            let refusal = try node.add(peers.connect(spi))
            let expected = index < 2 ? nil : CardError.full(capacity: 2).description
            #expect(refusal == expected)
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

    // The other way to treat a full card: the peer is told, and nothing stays.
    @Test func fullCardsRefuseNewTunnelsWithoutATrace() throws {
        let node = try Node {
            $0.cardCapacity = 1
            $0.whenFull = .refuse
        }
        let peers = try Peers()
        try node.take(allocation(one))
        let (first, second) = (try tunnelSPI(1, 1), try tunnelSPI(2, 2))
        #expect(try node.add(peers.connect(first)) == nil)
        #expect(try node.add(peers.connect(second)) == CardError.full(capacity: 1).description)
        #expect(node.gateway.tableSPIs() == [first] && node.sessionSPIs == [first])
        #expect(node.receive([try peers.packet(second).outer]) == [.dropped(.unknownSPI)])
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
        #expect(try node.add(ours) == CommonTableError.duplicateSPI(spi).description)
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
        let refusal = try node.add(peers.connect(tunnelSPI(2, 2)))
        #expect(refusal == CommonTableError.full(capacity: 1).description)
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
            node.gateway.receive(used, verdicts: node.verdicts, nowNanoseconds: node.clock)
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
