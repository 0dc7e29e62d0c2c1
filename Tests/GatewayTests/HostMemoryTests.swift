// Tunnels without room on the card, served from host memory. Fooled by: a session that is active in
// both stores and counts twice, a move to the card that forgets the window or a number, keys that
// stay in host memory when their identifier is lost, and tunnels that are merely counted as served.

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

@Suite struct HostMemoryTests {
    private func node(
        _ number: UInt16 = 1, sessions: Int, _ owners: [NodeID] = [one]
    ) throws -> Node {
        let node = try Node(number) {
            $0.cardCapacity = sessions
            $0.whenFull = .serveFromHost
        }
        try node.take(Allocation(nodes: owners, identifierCount: 16))
        return node
    }

    private func tunnels(_ count: UInt32, of identifiers: UInt16 = 16) throws -> [TwoWay] {
        try (0..<count).map { try TwoWay(UInt16($0) % identifiers, $0 + 1) }
    }

    private func expectOnePlaceEach(_ node: Node, _ tunnels: [TwoWay]) {
        #expect(node.gateway.sessionFault() == nil)
        let places = node.gateway.sessionSPIs() + node.gateway.hostSPIs()
        #expect(places.sorted() == tunnels.map(\.spi).sorted(), "each tunnel has one place")
    }

    @Test func tunnelsBeyondTheCardAreServed() throws {
        // Five sessions: the third tunnel finds half of its room, and takes none.
        let node = try node(sessions: 5)
        let tunnels = try tunnels(6)
        for tunnel in tunnels { #expect(try node.add(tunnel) == nil) }
        #expect(node.gateway.sessionCount == 4 && node.gateway.hostSessionCount == 8)
        expectOnePlaceEach(node, tunnels)
        for round in 1...3 as ClosedRange<UInt32> {
            for tunnel in tunnels {
                let packet = try tunnel.packet()
                #expect(node.receive([packet, packet]) == [.delivered, .dropped(.replayed)])
                let outer = try #require(node.send(tunnel))
                #expect(tunnel.accepts(outer) && TwoWay.numbers(outer) == (round, 1))
            }
        }
        // Three packets and three replays in, three out, for each of four tunnels.
        #expect(node.gateway.counters.hostPackets == 36)
        #expect(node.gateway.counters.delivered == 18 && node.gateway.counters.sealed == 18)
        #expect(node.gateway.counters.drops[.cardFull] == 0)
    }

    @Test func aMoveToTheCardKeepsEverything() throws {
        let node = try node(sessions: 2)
        let tunnels = try tunnels(2)
        for tunnel in tunnels { _ = try node.add(tunnel) }
        let hosted = tunnels[1]
        #expect(node.gateway.hostSPIs() == [hosted.spi])
        let packets = try (0..<6).map { _ in try hosted.packet() }
        for place in [0, 1, 3, 5] { #expect(node.receive([packets[place]]) == [.delivered]) }
        let sent = try (0..<4).map { _ in try #require(node.send(hosted)) }
        let before = try #require(node.hosted(hosted))
        let isGone = node.remove(tunnels[0].spi)
        #expect(isGone && node.gateway.hostSessionCount == 0)
        expectOnePlaceEach(node, [hosted])
        let session = try #require(node.session(hosted.spi))
        let received = try node.gateway.plane.card.checkpoint(of: session)
        let limit = try node.gateway.plane.card.limit(of: session)
        #expect(received == before.received && limit == before.limit)
        let count = node.gateway.counters.hostPackets
        for place in [0, 1, 3, 5] {
            #expect(node.receive([packets[place]]) == [.dropped(.replayed)])
        }
        for place in [2, 4] { #expect(node.receive([packets[place]]) == [.delivered]) }
        let next = try #require(node.send(hosted))
        #expect(sent.map { TwoWay.numbers($0).sequence } == [1, 2, 3, 4])
        #expect(TwoWay.numbers(next) == (5, TwoWay.numbers(sent[0]).generation))
        #expect(sent.allSatisfy(hosted.accepts) && hosted.accepts(next))
        #expect(node.gateway.counters.hostPackets == count, "the card serves it now")
    }

    // Leases are granted to sessions in host memory too: else they stop at their first limit.
    @Test func hostedTunnelsGetNewLeases() throws {
        let node = try node(sessions: 2)
        let tunnels = try tunnels(2)
        for tunnel in tunnels { _ = try node.add(tunnel) }
        let limit = try #require(node.hosted(tunnels[1])).sendLimit
        for number in 1...UInt32(limit) + 50 {
            let outer = try #require(node.send(tunnels[1]))
            #expect(TwoWay.numbers(outer).sequence == number)
            if number % 64 == 0 { node.tick() }
        }
        let raised = try #require(node.hosted(tunnels[1])).sendLimit
        #expect(raised > limit)
    }

    @Test func takeoversUseHostMemoryAndLossesClearIt() throws {
        let node = try node(2, sessions: 2, [one, two])
        let mine = try (1...3 as ClosedRange<UInt32>).map { try TwoWay(0, $0) }
        for tunnel in mine { try node.learn(tunnel) }
        #expect(node.gateway.hostSessionCount == 0, "a foreign tunnel has no place here")
        for tunnel in mine { node.follow(tunnel, sent: 7, received: 3) }
        let before = try Allocation(nodes: [one, two], identifierCount: 16)
        let gained = try before.moving(DistributionIdentifier(0), to: two)
        let report = try node.take(gained)
        #expect(report.loaded == 1 && report.hosted == 2 && report.refused == 0)
        expectOnePlaceEach(node, mine)
        for tunnel in mine {
            let packets = try (0..<4).map { _ in try tunnel.packet() }
            #expect(node.receive(Array(packets[..<3])).allSatisfy { $0 == .dropped(.replayed) })
            #expect(node.receive([packets[3]]) == [.delivered])
            let numbers = TwoWay.numbers(try #require(node.send(tunnel)))
            // The old owner's entry let it use 1024.
            #expect(numbers.sequence > 1024)
            #expect(numbers.generation == gained.generation(of: DistributionIdentifier(0)))
        }
        let lost = try node.take(gained.moving(DistributionIdentifier(0), to: one))
        #expect(lost.cleared == 3)
        expectOnePlaceEach(node, [])
        #expect(node.gateway.sessionCount == 0 && node.gateway.hostSessionCount == 0)
    }

    // A card that loses all it had makes room for those that had none; both go on.
    @Test func cardResetsAndStallsLeaveHostedTunnelsAlone() throws {
        let node = try node(sessions: 2)
        let tunnels = try tunnels(2)
        for tunnel in tunnels { _ = try node.add(tunnel) }
        let early = try tunnels.map { try $0.packet() }
        for packet in early { #expect(node.receive([packet]) == [.delivered]) }
        node.gateway.inject(.stalled(untilNanoseconds: 500))
        #expect(node.receive([try tunnels[0].packet()], now: 10) == [.dropped(.cardStalled)])
        #expect(node.receive([try tunnels[1].packet()], now: 10) == [.delivered])
        node.gateway.inject(.reset)
        #expect(try node.serves(tunnels[1]))
        #expect(node.receive([try tunnels[0].packet()]) == [.dropped(.sessionLost)])
        #expect(try node.serves(tunnels[0]))
        for packet in early { #expect(node.receive([packet]) == [.dropped(.replayed)]) }
        node.tick()
        expectOnePlaceEach(node, tunnels)
        #expect(node.gateway.sessionCount == 2 && node.gateway.hostSessionCount == 2)
    }

    // Everything at once, against sets of what was sent and accepted.
    @Test func anyOrderOfThingsKeepsOnePlaceAndEveryNumber() throws {
        var random = SeededGenerator()
        let node = try node(sessions: 6)
        var alive: [TwoWay] = []
        var used: [SPI: Set<UInt32>] = [:]
        var seen: [(packet: [UInt8], spi: SPI)] = []
        var accepted = 0
        var next: UInt32 = 0
        var allocation = try Allocation(nodes: [one], identifierCount: 16)
        for _ in 0..<1500 {
            switch Int.random(in: 0..<20, using: &random) {
            case 0...2 where alive.count < 9:
                next += 1
                let tunnel = try TwoWay(UInt16(next % 16), next)
                #expect(try node.add(tunnel) == nil)
                alive.append(tunnel)
            case 3 where !alive.isEmpty:
                let place = Int.random(in: alive.indices, using: &random)
                let spi = alive.remove(at: place).spi
                let isGone = node.remove(spi)
                #expect(isGone)
                seen.removeAll { $0.spi == spi }
            case 4: node.gateway.inject(.reset)
            case 5:
                node.gateway.inject(
                    .bounded(more: Int.random(in: 0..<3, using: &random), untilNanoseconds: .max))
            case 6: node.gateway.inject(.bounded(more: 0, untilNanoseconds: 0))
            case 7:
                // An ownership that is renewed goes on under the next generation.
                allocation = try allocation.renewing(one)
                try node.take(allocation)
            case 8: node.tick()
            case 9...13:
                guard let tunnel = alive.randomElement(using: &random) else { continue }
                let packet = try tunnel.packet()
                guard node.receive([packet]) == [.delivered] else { continue }
                seen.append((packet, tunnel.spi))
                accepted += 1
            case 14:
                guard let old = seen.randomElement(using: &random) else { continue }
                #expect(node.receive([old.packet]) != [.delivered])
            default:
                guard let tunnel = alive.randomElement(using: &random),
                    let outer = node.send(tunnel)
                else { continue }
                #expect(tunnel.accepts(outer))
                let isNew = used[tunnel.spi, default: []]
                    .insert(TwoWay.numbers(outer).sequence).inserted
                #expect(isNew)
            }
            #expect(node.gateway.sessionFault() == nil)
        }
        #expect(node.gateway.counters.hostPackets > 50 && accepted > 50)
        node.gateway.inject(.bounded(more: 0, untilNanoseconds: 0))
        for tunnel in alive {
            if try !node.serves(tunnel) { #expect(try node.serves(tunnel)) }
        }
        node.tick()
        expectOnePlaceEach(node, alive)
    }

    @Test func theHostPathAllocatesNothing() throws {
        let node = try node(sessions: 1)
        let tunnel = try TwoWay(1, 1)
        _ = try node.add(tunnel)
        var total: UInt64 = 0
        for round in 0..<20 {
            let batch = try (0..<40).map { _ in try tunnel.packet() }
            node.load(batch)
            let used = UnsafeMutableBufferPointer(rebasing: node.packets[..<batch.count])
            let before = malloc_counter_value()
            node.gateway.receive(used, verdicts: node.verdicts, nowNanoseconds: node.clock)
            if round > 1 { total += malloc_counter_value() - before }
        }
        #expect(total == 0)
        #expect(node.gateway.counters.delivered == 800)
        #expect(node.gateway.counters.hostPackets == 800)
    }

    // Packets in use come to the card first, also when host memory takes the rest.
    @Test func clustersInOneProcessServeFromHostMemory() throws {
        let site = try Site(nodes: 2) {
            $0.cardCapacity = 2
            $0.whenFull = .serveFromHost
        }
        let peers = try Peers()
        let spis = try (0..<6 as Range<UInt32>).map { try tunnelSPI(UInt16($0) % 2 * 15, $0 + 1) }
        for spi in spis { #expect(try site.install(peers.connect(spi)).refusal == nil) }
        let early = try spis.map { try peers.packet($0).outer }
        for packet in early[..<4] { #expect(site.show(packet).verdict == .delivered) }
        let summary = try site.cluster.fail(two, nowNanoseconds: 0)
        let report = try #require(summary.reports.first)
        #expect(report.loaded + report.hosted == 3 && report.refused == 0)
        for packet in early[..<4] { #expect(site.show(packet).verdict == .dropped(.replayed)) }
        for packet in early[4...] { #expect(site.show(packet).verdict == .delivered) }
        #expect(site.cluster.summaries().map(\.hostSessions) == [4])
    }
}

extension Node {
    /// How far the sessions of a tunnel in host memory have come; nil: it has none there.
    fileprivate func hosted(
        _ tunnel: TwoWay
    ) -> (received: SequenceCheckpoint, limit: UInt64, sendLimit: UInt64)? {
        guard let entry = gateway.plane.table.find(tunnel.spi),
            let outbound = gateway.plane.table.outbound(of: entry),
            let session = gateway.plane.host.session(for: tunnel.spi),
            let received = try? gateway.plane.host.checkpoint(of: session),
            let limit = try? gateway.plane.host.limit(of: session),
            let sendLimit = try? gateway.plane.host.limit(
                of: gateway.plane.hostOutboundSession(outbound))
        else { return nil }
        return (received, limit, sendLimit)
    }
}
