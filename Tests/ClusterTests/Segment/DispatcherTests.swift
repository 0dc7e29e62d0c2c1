// A dispatcher gives every frame to its owner.

import TestSupport
import Testing
import Wire

@testable import Cluster

@Suite struct DispatcherTests {
    @Test func framesGoToTheirOwners() throws {
        var random = SeededGenerator()
        let distribution = try Distribution(cookieKey: CookieKey(bytes: random.bytes(20)))
        let nodes = [NodeID(1), NodeID(2), NodeID(7)]
        let allocation = try Allocation(nodes: nodes, identifierCount: 256)
        // Node 7 told nobody where it is.
        let places = [
            NodeID(1): MACAddress(0x0200_0000_0001), NodeID(2): MACAddress(0x0200_0000_0002),
        ]
        let own = MACAddress(0x0200_0000_00AA)
        var dispatcher = Dispatcher(distribution: distribution, front: segmentFront, own: own)
        var packets = SegmentPackets(
            distribution: distribution, front: segmentFront, random: random)
        var before = SegmentPackets.frame(packets.next().octets, to: own)
        before.withUnsafeMutableBytes { #expect(dispatcher.dispatch($0) != .forward(NodeID(1))) }
        dispatcher.follow(allocation, addresses: places)
        #expect(dispatcher.nodes == [NodeID(1), NodeID(2)])
        for _ in 0..<2000 {
            let packet = packets.next()
            let frame = SegmentPackets.frame(packet.octets, to: own)
            var sent = frame
            let verdict = sent.withUnsafeMutableBytes { dispatcher.dispatch($0) }
            #expect(sent[12...] == frame[12...], "only the addresses change")
            switch packet.share {
            case .nobody: #expect(verdict == .drop(.nobody) && sent == frame)
            case .everyone:
                // Discovery that is not valid is nobody's to answer.
                #expect(verdict == .everyone && sent == frame)
            case .owner(let identifier):
                let owner = allocation.owner(of: identifier)
                guard let place = places[owner] else {
                    #expect(verdict == .drop(.noOwner) && sent == frame)
                    continue
                }
                #expect(verdict == .forward(owner))
                let ends = sent.withUnsafeBytes { bytes in
                    bytes.baseAddress.map { [MACAddress(at: $0, 0), MACAddress(at: $0, 6)] }
                }
                #expect(ends == [place, own])
            }
        }
        var stray = SegmentPackets.frame(packets.next().octets, to: MACAddress(0x0200_0000_00BB))
        stray.withUnsafeMutableBytes { bytes in
            #expect(dispatcher.dispatch(bytes) == .drop(.otherStation))
        }
        var question = ARPMessage(
            isRequest: true, senderMAC: own, sender: IPAddress(v4: 1), targetMAC: MACAddress(0),
            target: IPAddress(v4: 2)
        ).frame(to: .broadcast, from: own)
        question.withUnsafeMutableBytes { #expect(dispatcher.dispatch($0) == .local) }
    }
}
