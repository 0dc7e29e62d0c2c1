import Cluster
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

/// A cluster under traffic, with a memory of every packet that was accepted.
private struct Story {
    let site: Site
    let peers: Peers
    var random: SeededGenerator
    var spis: Set<SPI> = []
    /// Accepted once: each of them must be refused for ever.
    var accepted: [[UInt8]] = []
    /// Sealed and held back, to arrive late.
    var held: [(spi: SPI, outer: [UInt8], inner: [UInt8])] = []
    var generations: [UInt16]
    var owners: [NodeID]
    var nextNode: UInt16 = 20

    init(
        nodes: Int, seed: SeededGenerator, _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) throws {
        site = try Site(nodes: nodes, change)
        peers = try Peers()
        random = seed
        generations = site.cluster.allocation.generations
        owners = site.cluster.allocation.owners
    }

    mutating func connect(_ count: Int) throws {
        for _ in 0..<count {
            let number = UInt32.random(in: 0..<1 << 20, using: &random)
            let spi = try tunnelSPI(UInt16.random(in: 0..<16, using: &random), number)
            guard !spis.contains(spi) else { continue }
            let kind = Int.random(in: 0..<8, using: &random)
            try site.install(peers.connect(spi, Transform.kinds[kind], window: 192))
            spis.insert(spi)
        }
    }

    mutating func traffic(_ count: Int) throws {
        for _ in 0..<count {
            guard let spi = spis.sorted().randomElement(using: &random) else { return }
            let packet = try peers.packet(spi)
            if Int.random(in: 0..<5, using: &random) == 0 {
                held.append((spi, packet.outer, packet.inner))
                continue
            }
            deliver(spi, packet.outer, packet.inner)
        }
    }

    mutating func deliver(_ spi: SPI, _ outer: [UInt8], _ inner: [UInt8]) {
        let outcome = site.show(outer)
        #expect(outcome.verdict == .delivered, "no packet is lost")
        #expect(outcome.inner == inner && outcome.node == site.owner(of: spi))
        accepted.append(outer)
    }

    mutating func deliverHeld() {
        for packet in held { deliver(packet.spi, packet.outer, packet.inner) }
        held = []
    }

    func replayEverything() {
        for outer in accepted {
            let verdict = site.show(outer).verdict
            #expect(verdict == .dropped(.replayed) || verdict == .dropped(.tooOld))
        }
    }

    mutating func reallocate() throws {
        let nodes = site.cluster.nodes
        if nodes.count > 1, nodes.count >= 8 || Bool.random(using: &random) {
            let victim = try #require(nodes.randomElement(using: &random))
            let summary = try site.cluster.fail(victim, nowNanoseconds: 0)
            #expect(summary.moves.allSatisfy { $0.from == victim })
        } else {
            nextNode += 1
            let summary = try site.cluster.join(NodeID(nextNode), nowNanoseconds: 0)
            #expect(summary.moves.allSatisfy { $0.to == NodeID(nextNode) })
        }
        let allocation = site.cluster.allocation
        for identifier in owners.indices {
            let hasMoved = allocation.owners[identifier] != owners[identifier]
            let rise = Int(allocation.generations[identifier]) - Int(generations[identifier])
            #expect(rise == (hasMoved ? 1 : 0), "a new owner, a new generation")
        }
        generations = allocation.generations
        owners = allocation.owners
    }
}

@Suite struct FailoverTests {
    // What would fool us: a takeover that works once. Random crashes and joins under traffic with
    // late packets; after each, everything accepted so far is replayed.
    @Test(arguments: [1, 2, 3, 8])
    func nothingIsLostAndNothingAcceptedTwice(nodes: Int) throws {
        var story = try Story(nodes: nodes, seed: SeededGenerator())
        try story.connect(20)
        for step in 0..<14 {
            try story.traffic(14)
            try story.reallocate()
            story.site.expectConsistent(story.spis)
            story.replayEverything()
            story.deliverHeld()
            if step % 5 == 0 { try story.connect(2) }
        }
        story.site.expectConsistent(story.spis)
        let totals = story.site.totals
        #expect(totals.delivered == UInt64(story.accepted.count))
        let refused = totals.drops[.replayed] + totals.drops[.tooOld]
        #expect(totals.drops.total == refused)
    }

    // The same where tables hold less. What would fool us: a takeover by a node that holds
    // nothing, or one that knows an old window.
    @Test(arguments: [1, 2, nil], [true, false])
    func tablesThatHoldLessLoseNothing(backups: Int?, holdsOwn: Bool) throws {
        var story = try Story(nodes: 4, seed: SeededGenerator()) {
            $0.backups = backups
            $0.tableHoldsOwn = holdsOwn
        }
        try story.connect(20)
        for _ in 0..<14 {
            try story.traffic(14)
            try story.reallocate()
            story.site.expectConsistent(story.spis)
            story.replayEverything()
            story.deliverHeld()
        }
        #expect(story.site.totals.delivered == UInt64(story.accepted.count))
    }

    // What would fool us: the loser closes its session, and a key schedule or a record stays.
    @Test func keysLeaveWithTheirTunnels() throws {
        let site = try Site(nodes: 2)
        let peers = try Peers()
        let spis = try (0..<16 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for spi in spis { try site.install(peers.connect(spi)) }
        for spi in spis { #expect(site.show(try peers.packet(spi).outer).verdict == .delivered) }
        let first = site.cluster.members[0]
        let before = first.gateway.sessionSPIs()
        let summary = try site.cluster.join(NodeID(3), nowNanoseconds: 0)
        let moved = Set(summary.moves.map(\.identifier))
        let gone = before.filter { moved.contains(site.distribution.identifier(of: $0)) }
        #expect(!gone.isEmpty)
        for spi in gone {
            #expect(first.gateway.session(for: spi) == nil)
            #expect(!first.gateway.sessionSPIs().contains(spi))
        }
        let loser = try #require(summary.reports.first { $0.node == NodeID(1) })
        #expect(loser.cleared == gone.count && loser.loaded == 0 && loser.gained == 0)
        let joiner = try #require(summary.reports.first { $0.node == NodeID(3) })
        #expect(joiner.loaded == moved.count && joiner.refused == 0 && joiner.lost == 0)
        #expect(joiner.gained == moved.count)
        #expect(first.gateway.cardCounters.closed == UInt64(gone.count))
        for spi in spis { #expect(site.show(try peers.packet(spi).outer).verdict == .delivered) }
    }

    // What would fool us: sessions that fit nowhere are forgotten, or push out others.
    @Test func smallCardsRefuseClearlyAndLoadLater() throws {
        let site = try Site(nodes: 2) { $0.cardCapacity = 10 }
        let peers = try Peers()
        let spis = try (0..<16 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for spi in spis { try site.install(peers.connect(spi)) }
        // Eight each; then one node must take all sixteen into ten places.
        let summary = try site.cluster.fail(NodeID(1), nowNanoseconds: 0)
        let report = try #require(summary.reports.first)
        #expect(report.loaded == 2 && report.refused == 6)
        site.expectConsistent(Set(spis), cardsHaveRoom: false)
        var served: Set<SPI> = []
        for spi in spis {
            let packet = try peers.packet(spi)
            let outcome = site.show(packet.outer)
            if outcome.verdict == .delivered {
                served.insert(spi)
            } else {
                #expect(outcome.verdict == .dropped(.cardFull))
            }
        }
        #expect(served.count == 10 && served == Set(site.cluster.members[0].gateway.sessionSPIs()))
        // A second node brings room: its share is loaded there, the rest here.
        _ = try site.cluster.join(NodeID(5), nowNanoseconds: 0)
        site.expectConsistent(Set(spis))
        for spi in spis { #expect(site.show(try peers.packet(spi).outer).verdict == .delivered) }
    }

    // What would fool us: idle tunnels of a low identifier that take the places of those in use.
    @Test func tunnelsInUseComeFirstOnSmallCards() throws {
        let site = try Site(nodes: 2) { $0.cardCapacity = 8 }
        let peers = try Peers()
        let spis = try (0..<16 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0) }
        for spi in spis { try site.install(peers.connect(spi)) }
        // Of node 1's, only the last three carry anything; node 2 gives three places up.
        for spi in spis[5..<8] { _ = site.show(try peers.packet(spi).outer) }
        for spi in spis[8..<11] {
            let place = try #require(site.cluster.place(of: NodeID(2)))
            let member = site.cluster.members[place]
            let isCleared = member.gateway.clear(spi, nowNanoseconds: site.cluster.clock)
            #expect(isCleared)
            site.cluster.carry()
        }
        let summary = try site.cluster.fail(NodeID(1), nowNanoseconds: 0)
        let report = try #require(summary.reports.first)
        #expect(report.loaded == 3 && report.refusals.map(\.spi) == Array(spis[..<5]))
        #expect(
            site.cluster.members[0].gateway.sessionSPIs() == (spis[5..<8] + spis[11...]).sorted())
        for spi in spis[5..<8] {
            #expect(site.show(try peers.packet(spi).outer).verdict == .delivered)
        }
    }

    // A newcomer takes over what it has never owned and no packet has come for since it joined.
    @Test func newcomersKnowTheWindowsOfAllTunnels() throws {
        let site = try Site(nodes: 1)
        let peers = try Peers()
        let spi = try tunnelSPI(0, 7)
        try site.install(peers.connect(spi))
        let packets = try (0..<10).map { _ in try peers.packet(spi).outer }
        for packet in packets where packet != packets[4] { _ = site.show(packet) }
        _ = try site.cluster.join(NodeID(2), nowNanoseconds: 0)
        #expect(site.owner(of: spi) == NodeID(1), "it stayed where it was")
        _ = try site.cluster.fail(NodeID(1), nowNanoseconds: 0)
        for (index, packet) in packets.enumerated() {
            let expected: PacketVerdict = index == 4 ? .delivered : .dropped(.replayed)
            #expect(site.show(packet).verdict == expected)
        }
    }

    // The edge of the window travels: what was skipped before the crash may still come after it.
    @Test func latePacketsPassOnceAfterTheCrash() throws {
        let site = try Site(nodes: 3)
        let peers = try Peers()
        let spi = try tunnelSPI(0, 7)
        try site.install(peers.connect(spi))
        let packets = try (0..<100).map { _ in try peers.packet(spi).outer }
        for index in stride(from: 0, to: 100, by: 2) { _ = site.show(packets[index]) }
        _ = try site.cluster.fail(site.owner(of: spi), nowNanoseconds: 0)
        for (index, packet) in packets.enumerated() {
            // Number 99 (index 98) was the last; 64 numbers are inside.
            let expected: PacketVerdict =
                index <= 98 - 64
                ? .dropped(.tooOld)
                : index.isMultiple(of: 2) ? .dropped(.replayed) : .delivered
            #expect(site.show(packet).verdict == expected, "packet \(index)")
        }
    }

    // Dropped but authentic packets move the window too, and the successor must know it.
    @Test func authenticDropsAreNotReplayableAfterTheCrash() throws {
        let site = try Site(nodes: 2)
        let spi = try tunnelSPI(0, 7)
        let peers = try Peers()
        try site.install(peers.connect(spi, .plain))
        let dummy = try craftESP(spi.value, sequence: 5, body: paddedBody([1, 2], next: 59))
        #expect(site.show(dummy).verdict == .dropped(.dummy))
        _ = try site.cluster.fail(site.owner(of: spi), nowNanoseconds: 0)
        #expect(site.show(dummy).verdict == .dropped(.replayed))
    }

    // Through many owners, the same life: hard lifetimes count on.
    @Test func lifetimesSurviveTakeovers() throws {
        let site = try Site(nodes: 3)
        let peers = try Peers()
        let spi = try tunnelSPI(0, 7)
        let ours = try peers.connect(spi) { $0.lifetimes.hardPackets = 4 }
        // The peer itself would stop at four.
        var unlimited = ours
        unlimited.lifetimes = Lifetimes()
        let sender = try Peers()
        _ = try sender.connect(spi)
        try site.install(ours)
        for step in 0..<6 {
            let verdict = site.show(try sender.packet(spi).outer).verdict
            #expect(verdict == (step < 4 ? .delivered : .dropped(.lifetimePackets)))
            if step == 1 || step == 2 {
                _ = try site.cluster.fail(site.owner(of: spi), nowNanoseconds: 0)
            }
        }
    }
}
