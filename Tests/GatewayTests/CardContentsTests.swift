// The prior art as a mode: every card holds every tunnel. Fooled by: a takeover that goes on with
// what the card happened to know, so that numbers repeat or a stale window accepts a packet twice;
// a card that serves what it merely holds; a cluster that promises more than every card can take.

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

@Suite struct CardContentsTests {
    private func allocation() throws -> Allocation {
        try Allocation(nodes: [one, two], identifierCount: 16)
    }

    private func node(
        _ number: UInt16, _ contents: CardContents = .allTunnels,
        _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) throws -> Node {
        let node = try Node(number) {
            $0.cardContents = contents
            change(&$0)
        }
        try node.take(allocation())
        return node
    }

    /// Everything about the sessions of a tunnel that packets depend on.
    private struct Sessions: Equatable {
        let received: SequenceCheckpoint
        let sent: SequenceCheckpoint
        let limits: [UInt64]
        let generations: [UInt16]

        init?(_ node: Node, _ tunnel: TwoWay) {
            guard let session = node.session(tunnel.spi),
                let entry = node.gateway.plane.table.find(tunnel.spi),
                let outbound = node.gateway.plane.table.outbound(of: entry)
            else { return nil }
            let sending = node.gateway.plane.outboundSession(outbound)
            guard let received = try? node.gateway.plane.card.checkpoint(of: session),
                let sent = try? node.gateway.plane.card.checkpoint(of: sending)
            else { return nil }
            (self.received, self.sent) = (received, sent)
            limits = [session, sending].compactMap { try? node.gateway.plane.card.limit(of: $0) }
            generations = [session, sending].compactMap {
                try? node.gateway.plane.card.status(of: $0).ivGeneration
            }
        }
    }

    // The other way to take over loads the entry; the result must be the same to the last bit.
    @Test(arguments: [TakeoverPolicy.learn, .strict], [false, true])
    func aTakeoverInPlaceIsAsGoodAsLoading(policy: TakeoverPolicy, wasOwner: Bool) throws {
        let tunnel = try TwoWay(0, 5)
        var results: [Sessions] = []
        let packets = try (0..<8).map { _ in try tunnel.packet() }
        for contents in CardContents.allCases {
            let node = try node(2, contents) { $0.takeoverPolicy = policy }
            try node.learn(tunnel)
            #expect((node.session(tunnel.spi) != nil) == (contents == .allTunnels))
            var next = try allocation()
            if wasOwner {
                // It served the tunnel before, and lost it again.
                next = try next.moving(moving, to: two)
                try node.take(next)
                for _ in 0..<5 { _ = node.send(tunnel) }
                _ = node.receive([packets[0], packets[2]])
                next = try next.moving(moving, to: one)
                try node.take(next)
                #expect((node.session(tunnel.spi) != nil) == (contents == .allTunnels))
                #expect(node.receive([packets[6]]) == [.foreign] && node.send(tunnel) == nil)
            }
            // Less than its lease of 1024 allows, so that the lease decides.
            node.follow(tunnel, sent: 900, received: 4)
            next = try next.moving(moving, to: two)
            let report = try node.take(next)
            let isUpdated = contents == .allTunnels
            #expect(report.updated == (isUpdated ? 1 : 0) && report.loaded == (isUpdated ? 0 : 1))
            results.append(try #require(Sessions(node, tunnel)))
            let verdicts = node.receive(Array(packets[..<4]))
            #expect(verdicts.allSatisfy { $0 == .dropped(.replayed) || $0 == .dropped(.tooOld) })
            let numbers = TwoWay.numbers(try #require(node.send(tunnel)))
            #expect(numbers.sequence > 1024)
            #expect(numbers.generation == next.generation(of: moving))
        }
        #expect(results.count == 2 && results[0] == results[1])
    }

    // A window that the card kept from its own time as owner knows less than the old owner told.
    @Test func staleWindowsAndNumbersAreGone() throws {
        let node = try node(2)
        let tunnel = try TwoWay(0, 5)
        try node.learn(tunnel)
        let first = try allocation().moving(moving, to: two)
        try node.take(first)
        let packets = try (0..<6).map { _ in try tunnel.packet() }
        #expect(node.receive([packets[0]]) == [.delivered])
        let own = TwoWay.numbers(try #require(node.send(tunnel)))
        let away = try first.moving(moving, to: one)
        #expect(try node.take(away).cleared == 0)
        node.follow(tunnel, sent: UInt64(own.sequence) + 700, received: 4)
        try node.take(away.moving(moving, to: two))
        for packet in packets[..<4] { #expect(node.receive([packet]) == [.dropped(.replayed)]) }
        #expect(node.receive([packets[4]]) == [.delivered])
        let next = TwoWay.numbers(try #require(node.send(tunnel)))
        #expect(next.sequence > own.sequence + 700 && next.generation > own.generation)
    }

    @Test func everyCardHoldsEveryTunnelAndOneNodeServesIt() throws {
        let site = try Site(nodes: 3) { $0.cardContents = .allTunnels }
        let peers = try Peers()
        let spis = try (0..<12 as Range<UInt32>).map { try tunnelSPI(UInt16($0), $0 + 1) }
        for spi in spis { try site.install(peers.connect(spi)) }
        func expectAll(_ spis: [SPI]) {
            for member in site.cluster.members {
                #expect(member.gateway.sessionSPIs() == spis.sorted())
                #expect(member.gateway.sessionFault() == nil)
            }
        }
        expectAll(spis)
        for spi in spis {
            let verdicts = site.showEach(try peers.packet(spi).outer).map(\.verdict)
            #expect(verdicts.count { $0 == .delivered } == 1)
            #expect(verdicts.count { $0 == .foreign } == 2)
        }
        let owner = try #require(site.cluster.place(of: site.owner(of: spis[7])))
        let isGone = site.cluster.members[owner].gateway.clear(
            spis[7], nowNanoseconds: site.cluster.clock)
        site.cluster.carry()
        #expect(isGone)
        let left = spis.filter { $0 != spis[7] }
        expectAll(left)
        let summary = try site.cluster.fail(two, nowNanoseconds: 0)
        expectAll(left)
        #expect(summary.reports.allSatisfy { $0.loaded == 0 && $0.cleared == 0 })
        #expect(summary.reports.reduce(0) { $0 + $1.updated } > 0)
        _ = try site.cluster.join(NodeID(9), nowNanoseconds: 0)
        expectAll(left)
        for spi in left { #expect(site.show(try peers.packet(spi).outer).verdict == .delivered) }
    }

    // The other nodes' tunnels take the room: that is what the two structures are for.
    @Test func aFullCardIsAFullCluster() throws {
        for contents in CardContents.allCases {
            let node = try node(2, contents) {
                $0.cardCapacity = 4
                $0.whenFull = .refuse
            }
            for number in 1...2 as ClosedRange<UInt32> { try node.learn(TwoWay(0, number)) }
            let own = try TwoWay(15, 9)
            let refusal = try node.add(own)
            guard contents == .allTunnels else {
                #expect(refusal == nil)
                #expect(try node.serves(own))
                continue
            }
            #expect(refusal?.contains("every card holds all tunnels") == true)
            #expect(node.gateway.entryCount == 2 && node.gateway.sessionCount == 4)
        }
    }

    // Two owners take the last place at one moment: the store's order decides, and who came too
    // late has promised nothing yet.
    @Test func theLastPlaceIsGivenOnce() throws {
        let node = try node(2) {
            $0.cardCapacity = 4
            $0.whenFull = .refuse
        }
        try node.learn(TwoWay(0, 1))
        let (own, other) = (try TwoWay(15, 9), try TwoWay(0, 2))
        node.gateway.establish(
            inbound: try association(own.inbound), outbound: try association(own.outbound),
            nowNanoseconds: node.clock)
        #expect(node.gateway.tableSPIs().contains(own.spi))
        // The other owner's entry comes into the store first.
        try node.learn(other)
        #expect(!node.news.contains(.established(own.spi)))
        #expect(node.news.contains { if case .refused(own.spi, _) = $0 { true } else { false } })
        #expect(!node.gateway.tableSPIs().contains(own.spi))
        #expect(node.session(other.spi) != nil && node.gateway.sessionFault() == nil)
        // It is out of the store, too, and a request that comes late does not bring it back.
        #expect(try node.add(own)?.contains("choose another, or wait") == true)
    }

    @Test func aResetCardIsFilledAgain() throws {
        let node = try node(2)
        let tunnels = try [TwoWay(0, 1), TwoWay(0, 2)]
        for tunnel in tunnels { try node.learn(tunnel) }
        let own = try TwoWay(15, 3)
        _ = try node.add(own)
        node.gateway.inject(.reset)
        #expect(node.sessionSPIs.isEmpty)
        node.tick()
        #expect(node.sessionSPIs == (tunnels + [own]).map(\.spi).sorted())
        #expect(try node.serves(own))
        for tunnel in tunnels { #expect(node.receive([try tunnel.packet()]) == [.foreign]) }
    }
}
