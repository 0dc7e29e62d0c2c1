// What a node tells of itself and of the cluster. What would fool us: figures that repeat what the
// node believes, rather than what is (so they are compared with the store's allocation, with what
// was installed, and with what was done to the nodes); states that are over before anybody looks
// (so they are looked at in each step).

import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

extension InProcessCluster {
    /// What each live node says now, by node.
    fileprivate var statuses: [GatewayStatus] {
        members.map { $0.gateway.status(nowNanoseconds: clock) }
    }

    /// Lets time pass until the links have been healthy for long.
    fileprivate func rest() throws {
        let end = clock + 1_000_000_000
        try settle { [self] _ in clock >= end }
    }
}

@Suite struct StatusTests {
    private static let spis = (UInt32(1)..<25).map { SPI($0 &* 0x9E37_79B1) }

    private func site(_ nodes: Int) throws -> Site {
        let site = try Site(nodes: nodes)
        let peers = try Peers()
        for spi in Self.spis { try site.install(peers.connect(spi)) }
        try site.cluster.rest()
        return site
    }

    @Test func allNodesTellOfOneCluster() throws {
        let site = try site(3)
        let statuses = site.cluster.statuses
        #expect(statuses.map(\.node) == [NodeID(1), NodeID(2), NodeID(3)])
        for status in statuses {
            let own = site.cluster.allocation.identifiers(of: status.node).map { $0 }
            #expect(status.epoch == site.cluster.allocation.epoch)
            #expect(status.identifierCount == 16 && status.roles.owned == own.count)
            #expect(status.roles.loading == 0 && status.roles.awaiting == 0)
            #expect(status.roles.frozen == 0 && status.roles.holding == 0)
            #expect(status.tunnels == Self.spis.count)
            let mine = Self.spis.count { site.owner(of: $0) == status.node }
            #expect(status.sessions == mine, "these tunnels only receive")
            #expect(status.lowestGeneration == 1 && status.highestGeneration == 1)
            #expect(!status.isFenced && !status.isStoreAway && status.isComplete)
            #expect(status.servingLeftNanoseconds <= 300_000_000)
            #expect(status.moves == 0 && status.movesAway == 0 && status.wishes == 0)
            #expect(status.revision == site.cluster.store.revision)
            #expect(status.members.map(\.node) == statuses.map(\.node))
            for member in status.members {
                let owned = site.cluster.allocation.identifiers(of: member.node).map { $0 }
                #expect(member.isMember && member.isPresent && member.isServing)
                #expect(member.identifiers == owned.count && member.arriving == 0)
                #expect(member.weight == 1 && !member.isSuspect && !member.isDraining)
                #expect(member.link == (member.node == status.node ? nil : .healthy))
                #expect(member.lag == 0 && member.revision == status.revision)
            }
        }
        let incarnations = Set(statuses.map(\.incarnation))
        #expect(incarnations.count == 3 && incarnations.allSatisfy { $0.count == 16 })
    }

    @Test func identifiersSumUp() throws {
        let site = try site(3)
        for member in site.cluster.members {
            let lines = member.gateway.identifierStatuses()
            #expect(lines.map(\.identifier) == Array(0..<16))
            #expect(lines.reduce(0) { $0 + $1.tunnels } == Self.spis.count)
            for line in lines {
                let identifier = DistributionIdentifier(line.identifier)
                #expect(line.owner == site.cluster.allocation.owner(of: identifier))
                #expect(line.successor == nil && line.packets == 0)
            }
        }
    }

    /// Packets are counted once, by their owner, also across a report of loads.
    @Test func packetsAreCountedByIdentifier() throws {
        let site = try Site(nodes: 2)
        let peers = try Peers()
        let spi = SPI(0x5000_0001)
        try site.install(peers.connect(spi))
        for round in 1...3 {
            for _ in 0..<7 { #expect(site.show(try peers.packet(spi).outer).verdict == .delivered) }
            try site.cluster.rest()
            let place = Int(site.distribution.identifier(of: spi).value)
            var counts: [UInt64] = []
            for member in site.cluster.members {
                counts.append(member.gateway.identifierStatuses()[place].packets)
            }
            #expect(counts.sorted() == [0, UInt64(7 * round)])
        }
    }

    @Test func aDeadNodeIsSuspectedAndThenGone() throws {
        let site = try site(3)
        // Who hears nothing for the detection time suspects all others, and may not serve.
        let later = site.cluster.clock + 400_000_000
        for member in site.cluster.members {
            let status = member.gateway.status(nowNanoseconds: later)
            #expect(status.isFenced)
            for other in status.members where other.node != status.node {
                #expect(other.link == .silent && other.isSuspect && other.isMember)
                #expect((other.silenceNanoseconds ?? 0) >= 300_000_000)
            }
        }
        _ = try site.cluster.fail(NodeID(2), nowNanoseconds: 0)
        try site.cluster.rest()
        for status in site.cluster.statuses {
            let left = status.members.filter(\.isMember)
            #expect(left.map(\.node) == [NodeID(1), NodeID(3)])
            #expect(left.reduce(0) { $0 + $1.identifiers } == 16)
            #expect(status.members.filter(\.isPresent).map(\.node) == left.map(\.node))
            #expect(status.highestGeneration == 2, "what came from the dead node began anew")
        }
    }

    @Test func aDrainedNodeHasNothing() throws {
        let site = try site(3)
        let first = site.cluster.members[0]
        first.gateway.setWeight(0, of: NodeID(2), nowNanoseconds: site.cluster.clock)
        let isWriting = first.gateway.isWritingWeight(of: NodeID(2))
        #expect(isWriting)
        var underWay = 0
        try site.cluster.settle { members in
            let statuses = site.cluster.statuses
            underWay = max(underWay, statuses.map(\.moves).max() ?? 0)
            return members[1].gateway.status(nowNanoseconds: site.cluster.clock).roles.owned == 0
        }
        try site.cluster.rest()
        let isStillWriting = first.gateway.isWritingWeight(of: NodeID(2))
        #expect(!isStillWriting)
        for status in site.cluster.statuses {
            let drained = try #require(status.members.first { $0.node == NodeID(2) })
            #expect(drained.weight == 0 && drained.isDraining && drained.identifiers == 0)
            #expect(drained.isMember && drained.isServing)
            #expect(status.members.reduce(0) { $0 + $1.identifiers } == 16)
        }
        let drained = site.cluster.statuses[1]
        #expect(drained.roles.owned == 0 && drained.sessions == 0)
        #expect(drained.tunnels == Self.spis.count, "it still backs them")
        #expect(drained.lowestGeneration == 0 && drained.highestGeneration == 0)
        // And back.
        site.cluster.members[2].gateway.setWeight(
            nil, of: NodeID(2), nowNanoseconds: site.cluster.clock)
        try site.cluster.settle { _ in site.cluster.statuses[1].roles.owned >= 5 }
        #expect(site.cluster.statuses.allSatisfy { $0.members[1].weight == 1 })
    }

    /// A node that serves nothing says so, whatever it owns.
    @Test func aNodeWithoutVotesIsFenced() throws {
        let node = try Node(1)
        try node.take(Allocation(nodes: [NodeID(1), NodeID(2)], identifierCount: 16))
        node.mayServe = false
        node.settle()
        let status = node.gateway.status(nowNanoseconds: node.clock)
        #expect(status.isFenced && status.servingLeftNanoseconds == 0 && status.roles.owned == 8)
        let itself = try #require(status.members.first { $0.node == NodeID(1) })
        let other = try #require(status.members.first { $0.node == NodeID(2) })
        #expect(!itself.isServing && other.link != .healthy && other.isMember)
    }
}
