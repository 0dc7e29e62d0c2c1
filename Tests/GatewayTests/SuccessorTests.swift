// Tunnels that live: successors take over the sending, peers move.

import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

@Suite struct SuccessorTests {
    private func makeNode() throws -> Node {
        let node = try Node(1)
        try node.take(Allocation(nodes: [NodeID(1)], identifierCount: 16))
        return node
    }

    // What would fool us: SPIs decide who sends, and the successor's happens to be the better one;
    // hence successors with higher and with lower SPIs.
    @Test func theOldTunnelSendsUntilTheNewOneMay() throws {
        var isLower: Set<Bool> = []
        for number: UInt32 in 1...8 where number != 4 {
            let node = try makeNode()
            let old = try TwoWay(0, 4)
            let new = try TwoWay(0, number, flow: 4)
            isLower.insert(new.spi < old.spi)
            #expect(try node.add(old) == nil)
            #expect(try node.serves(old))
            #expect(try node.add(new, replacing: old.spi) == nil)
            #expect(try node.serves(old), "before the peer is ready, the old one sends")
            #expect(try node.receive([new.packet()]) == [.delivered], "both receive")
            node.gateway.prefer(new.spi)
            #expect(try node.serves(new))
            #expect(try node.receive([old.packet()]) == [.delivered])
            // A successor that goes leaves the sending to the one that is there.
            node.gateway.clear(new.spi, nowNanoseconds: node.clock)
            #expect(try node.serves(old))
        }
        #expect(isLower == [true, false])
    }

    // What would fool us: of three generations the first is preferred, as it was asked for first.
    @Test func theLastSuccessorSends() throws {
        let node = try makeNode()
        let first = try TwoWay(0, 1)
        let second = try TwoWay(0, 2, flow: 1)
        let third = try TwoWay(0, 3, flow: 1)
        #expect(try node.add(first) == nil)
        #expect(try node.add(second, replacing: first.spi) == nil)
        node.gateway.prefer(second.spi)
        #expect(try node.add(third, replacing: second.spi) == nil)
        #expect(try node.serves(second))
        node.gateway.prefer(third.spi)
        #expect(try node.serves(third))
        node.gateway.clear(first.spi, nowNanoseconds: node.clock)
        node.gateway.clear(second.spi, nowNanoseconds: node.clock)
        #expect(try node.serves(third))
        let counts = [first, third].map { node.gateway.packetCounts(of: $0.spi)?.sent }
        #expect(counts == [nil, 2])
    }

    // What would fool us: the table knows the new address and the card does not; or the IPv4
    // header's checksum, part of which is kept ready, is of the old addresses.
    @Test func packetsFollowThePeer() throws {
        let node = try makeNode()
        let tunnel = try TwoWay(0, 1, inUDP: true)
        #expect(try node.add(tunnel) == nil)
        #expect(try node.serves(tunnel))
        let remote = IPAddress(v4: 0xCB00_7109)
        node.gateway.redirect(
            tunnel.spi, local: tunnel.outbound.source, remote: remote, localPort: 4500,
            remotePort: 61_000)
        let outer = try #require(node.send(tunnel))
        #expect(Array(outer[16..<20]) == [203, 0, 113, 9])
        #expect(outer[20..<24] == [0x11, 0x94, 0xEE, 0x48])
        #expect(naiveChecksum(outer[..<20]) == 0)
        #expect(tunnel.accepts(outer))
        #expect(try node.receive([tunnel.packet()]) == [.delivered])
        let found = node.gateway.status(of: tunnel.spi)
        let status = try #require(found)
        #expect(status.outbound?.destination == remote && status.inbound.source == remote)
        #expect(status.outbound?.udp?.destination == 61_000)
        #expect(status.inbound.udp?.source == 61_000)
        #expect(status.sent?.packets == 2 && status.received.packets == 2)
    }
}
