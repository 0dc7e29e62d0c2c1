import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

@Suite struct ClusterTrafficTests {
    // What would fool us: two nodes that both deliver, or a node that delivers what another owns.
    @Test(arguments: [1, 2, 3, 8])
    func everyPacketIsHandledByItsOwner(nodes: Int) throws {
        var random = SeededGenerator()
        let site = try Site(nodes: nodes)
        let peers = try Peers()
        var spis: [SPI] = []
        for number in 0..<60 as Range<UInt32> {
            let spi = try tunnelSPI(UInt16(number % 16), number)
            let ours = try peers.connect(spi, Transform.kinds[Int(number) % 8])
            let node = try #require(site.cluster.nodes.randomElement(using: &random))
            let result = try site.install(ours, by: node)
            #expect(result.owner == site.owner(of: spi) && result.refusal == nil)
            spis.append(spi)
        }
        site.expectConsistent(Set(spis))
        var handled: [NodeID: UInt64] = [:]
        let count = 300
        for _ in 0..<count {
            let spi = try #require(spis.randomElement(using: &random))
            let packet = try peers.packet(spi)
            let outcome = site.show(packet.outer)
            #expect(outcome.verdict == .delivered && outcome.inner == packet.inner)
            #expect(outcome.node == site.owner(of: spi))
            handled[site.owner(of: spi), default: 0] += 1
        }
        for summary in site.cluster.summaries() {
            let mine = handled[summary.node, default: 0]
            #expect(summary.counters.delivered == mine && summary.counters.answered == mine)
            #expect(summary.counters.foreign == UInt64(count) - mine)
            #expect(summary.counters.drops.total == 0)
            #expect(summary.entries == spis.count && summary.isAlive)
        }
    }

    // All kinds of packets, good and bad: every one is counted once, or nowhere by rule.
    @Test(arguments: [1, 2, 3, 8])
    func countersAddUp(nodes: Int) throws {
        var random = SeededGenerator()
        let site = try Site(nodes: nodes)
        let peers = try Peers()
        let spis = try (0..<20 as Range<UInt32>).map { try tunnelSPI(UInt16($0 % 16), $0) }
        for spi in spis { try site.install(peers.connect(spi)) }
        var counts = GatewayCounters()
        var shown: UInt64 = 0
        for round in 0..<600 {
            // A node dies and one joins on the way.
            if round == 300, nodes > 1 {
                _ = try site.cluster.fail(site.cluster.nodes[0], nowNanoseconds: 0)
            }
            if round == 400 { _ = try site.cluster.join(NodeID(40), nowNanoseconds: 0) }
            let spi = try #require(spis.randomElement(using: &random))
            let bytes = try anyPacket(peers, spi, &random)
            shown += 1
            switch site.show(bytes).verdict {
            case .delivered: counts.delivered += 1
            case .dropped(let reason): counts.drops[reason] += 1
            case .ike: counts.ike += 1
            case .natKeepalive, .other: shown -= 1
            case .foreign, .held: Issue.record("nobody's packet")
            }
        }
        let totals = site.totals
        #expect(totals.delivered == counts.delivered && totals.ike == counts.ike)
        #expect(totals.drops == counts.drops && totals.answered == shown)
        #expect(counts.delivered > 50 && counts.ike > 10 && counts.drops.nonzero.count >= 5)
    }

    private func anyPacket(
        _ peers: Peers, _ spi: SPI, _ random: inout SeededGenerator
    ) throws -> [UInt8] {
        var good = try peers.packet(spi).outer
        switch Int.random(in: 0..<12, using: &random) {
        case 0:
            good[good.count - 1] ^= 1
            return good
        case 1: return strayESP(UInt32.random(in: 0..<256, using: &random))
        case 2: return strayESP(UInt32.random(in: 256 ... .max, using: &random))
        case 3: return Array(good.dropLast())
        case 4:
            var fragment = IPv4Packet(payload: Array(0..<60))
            fragment.transport = 50
            fragment.fragment = 0x2000
            return fragment.bytes
        case 5: return datagram(500, ikeMessage(initiator: random.next() | 1))
        case 6: return datagram(4500, [0, 0, 0, 0] + ikeMessage(initiator: random.next() | 1))
        case 7: return datagram(4500, [0xFF])
        case 8: return datagram(53, [1, 2, 3])
        default: return good
        }
    }

    private func datagram(_ port: UInt16, _ body: [UInt8]) -> [UInt8] {
        IPv4Packet(payload: udpDatagram(from: port, to: port, body)).bytes
    }

    @Test(arguments: [1, 2, 3, 8])
    func reservedSPIsAreDroppedOnce(nodes: Int) throws {
        let site = try Site(nodes: nodes)
        for value in 0..<256 as Range<UInt32> {
            let outcome = site.show(strayESP(value))
            #expect(outcome.verdict == .dropped(.reservedSPI))
            #expect(outcome.node == site.owner(of: SPI(value)))
        }
        #expect(site.totals.drops[.reservedSPI] == 256 && site.totals.answered == 256)
    }

    // What would fool us: packets whose identifier can't be read are everybody's, or nobody's.
    @Test(arguments: [1, 2, 3, 8])
    func unreadablePacketsHaveOneOwner(nodes: Int) throws {
        let site = try Site(nodes: nodes)
        let owner = site.cluster.allocation.owner(of: DistributionIdentifier(0))
        var fragment = IPv4Packet(payload: Array(0..<60))
        fragment.transport = 50
        fragment.fragment = 0x2000
        let cut = Array(strayESP(0x1234).dropLast())
        var wrong = strayESP(0x1234)
        wrong[0] = 0x44
        for (packet, reason) in [
            (fragment.bytes, DropReason.fragment), (cut, .truncated), (wrong, .malformed),
        ] {
            let outcome = site.show(packet)
            #expect(outcome.verdict == .dropped(reason) && outcome.node == owner)
        }
        #expect(site.totals.answered == 3)
    }

    @Test(arguments: [1, 2, 3, 8])
    func ikeMessagesBelongToTheOwnerOfTheirCookie(nodes: Int) throws {
        var random = SeededGenerator()
        let site = try Site(nodes: nodes)
        var handlers: Set<NodeID> = []
        for _ in 0..<200 {
            let cookie = random.next() | 1
            // All messages of an IKE SA have the initiator's cookie, whoever sends them.
            let identifier = site.distribution.identifier(ofInitiatorCookie: cookie)
            for responder: UInt64 in [0, 77] {
                let message = ikeMessage(initiator: cookie, responder: responder)
                let packet = IPv4Packet(payload: udpDatagram(from: 500, to: 500, message))
                let outcome = site.show(packet.bytes)
                #expect(outcome.verdict == .ike)
                #expect(outcome.node == site.cluster.allocation.owner(of: identifier))
                handlers.insert(outcome.node ?? NodeID(99))
            }
        }
        #expect(site.totals.ike == 400 && handlers.count == nodes)
    }

    @Test func refusedCommandsChangeNothing() throws {
        let site = try Site(nodes: 2)
        let peers = try Peers()
        let spi = try tunnelSPI(3, 1)
        let ours = try peers.connect(spi)
        try site.install(ours)
        #expect(throws: InProcessClusterError.self) { try site.install(ours) }
        #expect(throws: InProcessClusterError.self) { try site.install(ours, by: NodeID(9)) }
        #expect(throws: InProcessClusterError.self) {
            try site.cluster.join(NodeID(2), nowNanoseconds: 0)
        }
        #expect(throws: InProcessClusterError.self) {
            try site.cluster.fail(NodeID(9), nowNanoseconds: 0)
        }
        site.expectConsistent([spi])
        _ = try site.cluster.fail(NodeID(1), nowNanoseconds: 0)
        #expect(throws: InProcessClusterError.self) {
            try site.cluster.fail(NodeID(2), nowNanoseconds: 0)
        }
        #expect(site.cluster.nodes == [NodeID(2)] && site.cluster.departed.count == 1)
        site.expectConsistent([spi])
        #expect(site.show(try peers.packet(spi).outer).verdict == .delivered)
    }

    // What would fool us: an entry that fits no datagram of the HA link, and one whose numbers
    // have almost come to their end. Both go to their owners all the same.
    @Test func unusualEntriesReachTheirOwner() throws {
        let site = try Site(nodes: 3)
        let peers = try Peers()
        let (wide, late) = (try tunnelSPI(15, 1), try tunnelSPI(14, 2))
        let ranges = try (0..<200 as Range<UInt32>).map { number in
            let address = IPAddress(v4: 0x0A00_0000 + number * 2)
            return try #require(TrafficSelector(first: address, last: address))
        }
        var wideOnes = try peers.connect(wide)
        wideOnes.selectors.destination = ranges + wideOnes.selectors.destination
        let lateOnes = try peers.connect(late, Transform.kinds[5]) {
            $0.usesESN = true
            $0.firstSequence = .max - 1
        }
        for ours in [wideOnes, lateOnes] {
            let result = try site.install(ours, by: NodeID(1))
            #expect(result.owner == NodeID(3) && result.refusal == nil)
        }
        site.expectConsistent([wide, late])
        #expect(site.show(try peers.packet(late).outer).verdict == .delivered)
        _ = try site.cluster.fail(NodeID(3), nowNanoseconds: 0)
        #expect(site.show(try peers.packet(late).outer).verdict == .delivered)
        site.expectConsistent([wide, late])
    }

    @Test func fullTablesRefuseOnEveryNode() throws {
        let site = try Site(nodes: 3) { $0.tableCapacity = 4 }
        let peers = try Peers()
        let spis = try (0..<5 as Range<UInt32>).map { try tunnelSPI(UInt16($0 * 3), $0) }
        for spi in spis[..<4] { try site.install(peers.connect(spi)) }
        #expect(throws: InProcessClusterError.self) {
            try site.install(peers.connect(spis[4]))
        }
        site.expectConsistent(Set(spis[..<4]))
    }
}
