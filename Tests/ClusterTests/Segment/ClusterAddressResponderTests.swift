// Answers for the cluster addresses.
//
// What would fool us: nobody answers, or everybody (so three nodes hear each question here, and one
// must speak); an answer that only we understand (Linux is asked in the live tests).

import TestSupport
import Testing
import Wire

@testable import Cluster

private let shared = MACAddress(0x0312_3456_789A)
private let asker = MACAddress(0x0200_0000_0011)

@Suite struct ClusterAddressResponderTests {
    private let distribution: Distribution
    private let allocation: Allocation
    private var nodes: [ClusterAddressResponder]

    init() throws {
        distribution = try Distribution(cookieKey: CookieKey(bytes: 1...20))
        allocation = try Allocation(
            nodes: [NodeID(1), NodeID(2), NodeID(3)], identifierCount: 256)
        let distribution = distribution
        nodes = (1...3).map { number in
            ClusterAddressResponder(
                distribution: distribution, front: segmentFront, shared: shared,
                own: MACAddress(0x0200_0000_0100 + number))
        }
    }

    /// What every node makes of a frame.
    private mutating func hear(_ frame: [UInt8], at now: UInt64 = 0) -> [ResponderAction] {
        nodes.indices.map { index in
            frame.withUnsafeBytes { bytes in
                nodes[index].receive(bytes, nowNanoseconds: now) { identifier in
                    allocation.owner(of: identifier) == NodeID(UInt16(index + 1))
                }
            }
        }
    }

    private func replies(_ actions: [ResponderAction]) -> [[UInt8]] {
        actions.compactMap { action in
            guard case .reply(let frame) = action else { return nil }
            return frame
        }
    }

    private func request(
        for target: String, from address: MACAddress = asker, sender: String = "10.77.0.9"
    ) throws -> [UInt8] {
        ARPMessage(
            isRequest: true, senderMAC: address, sender: try #require(IPAddress(sender)),
            targetMAC: MACAddress(0), target: try #require(IPAddress(target))
        ).frame(to: .broadcast, from: address)
    }

    @Test mutating func oneNodeAnswersEachAsker() throws {
        var answered = Set<UInt64>()
        for number in 0..<200 {
            let station = MACAddress(0x0200_0000_1000 + UInt64(number))
            let frames = replies(hear(try request(for: "10.77.0.1", from: station)))
            #expect(frames.count == 1)
            let frame = try #require(frames.first)
            let reply = try #require(frame.withUnsafeBytes { ARPMessage(frame: $0) })
            #expect(!reply.isRequest && reply.senderMAC == shared && reply.targetMAC == station)
            #expect("\(reply.sender) \(reply.target)" == "10.77.0.1 10.77.0.9")
            let ends = frame.withUnsafeBytes { bytes in
                bytes.baseAddress.map { (MACAddress(at: $0, 0), MACAddress(at: $0, 6)) }
            }
            // A group address as a frame's source would confuse every switch.
            #expect(ends?.0 == station && ends?.1.isGroup == false)
            if let source = ends?.1 { answered.insert(source.value) }
        }
        #expect(answered.count == 3, "the work is shared")
        // A probe, which has no address yet, gets an answer, too.
        #expect(replies(hear(try request(for: "10.77.0.1", sender: "0.0.0.0"))).count == 1)
        #expect(replies(hear(try request(for: "10.77.0.2"))).isEmpty)
        #expect(replies(hear(try request(for: "10.77.0.1", from: shared))).isEmpty)
    }

    @Test mutating func solicitationsAreAnswered() throws {
        let target = try #require(IPAddress("fd77::1"))
        let group = NeighborMessage.solicitedNodeGroup(of: target)
        for source in ["fd77::9", "::"] {
            let solicitation = NeighborMessage(
                isSolicitation: true, source: try #require(IPAddress(source)), destination: group,
                target: target, linkAddress: source == "::" ? nil : asker)
            let frames = replies(
                hear(solicitation.frame(to: MACAddress(group: group), from: asker)))
            #expect(frames.count == 1)
            let frame = try #require(frames.first)
            let reply = try #require(frame.withUnsafeBytes { NeighborMessage(frame: $0) })
            #expect(!reply.isSolicitation && reply.target == target)
            #expect(reply.linkAddress == shared && reply.overrides && !reply.isRouter)
            #expect(reply.isSolicited == (source != "::"))
            #expect("\(reply.destination)" == (source == "::" ? "ff02::1" : "fd77::9"))
        }
    }

    @Test mutating func echoesAreAnsweredByOne() throws {
        for text in ["10.77.0.1", "fd77::1"] {
            let address = try #require(IPAddress(text))
            var message: [UInt8] = [0, 0, 0, 0, 0x12, 0x34, 0, 7] + octets("are you there?")
            let packet: [UInt8]
            if address.family == .v4 {
                message[0] = 8
                message.replaceSubrange(2..<4, with: bigEndian(naiveChecksum(message)))
                var whole = IPv4Packet(payload: message)
                whole.options = [1, 1, 1, 1]
                whole.transport = 1
                whole.destination = UInt32(address.low)
                packet = whole.bytes
            } else {
                message[0] = 128
                var whole = IPv6Packet(payload: message)
                whole.transport = 58
                whole.destination = (address.high, address.low)
                let sum =
                    whole.bytes[8..<40] + [0, 0, 0, UInt8(message.count), 0, 0, 0, 58] + message
                whole.payload.replaceSubrange(2..<4, with: bigEndian(naiveChecksum(sum)))
                packet = whole.bytes
            }
            let frames = replies(hear(SegmentPackets.frame(packet, to: shared)))
            #expect(frames.count == 1)
            let reply = Array(try #require(frames.first).dropFirst(14))
            let header = address.family == .v4 ? 20 : 40
            #expect(Array(reply[(header + 4)...]) == Array(message[4...]))
            #expect(reply[header] == (address.family == .v4 ? 0 : 129))
            if address.family == .v4 {
                #expect(naiveChecksum(reply[..<20]) == 0 && naiveChecksum(reply[20...]) == 0)
                #expect(Array(reply[12..<16]) == Array(packet[16..<20]))
                #expect(Array(reply[16..<20]) == Array(packet[12..<16]))
            } else {
                let pseudo = reply[8..<40] + [0, 0, 0, UInt8(message.count), 0, 0, 0, 58]
                let sum = pseudo + reply[40...]
                #expect(naiveChecksum(sum) == 0 && reply[8..<24] == packet[24..<40])
            }
            // What is damaged is not answered.
            var damaged = SegmentPackets.frame(packet, to: shared)
            damaged[damaged.count - 1] ^= 1
            #expect(replies(hear(damaged)).isEmpty)
        }
    }

    // RFC 5227 §2.4: told at once, defended once in ten seconds.
    @Test mutating func whoeverClaimsAnAddressIsNamed() throws {
        let claim = try request(for: "10.77.0.1", sender: "10.77.0.1")
        let address = try #require(IPAddress("10.77.0.1"))
        let conflict = ResponderAction.conflict(
            AddressConflict(address: address, claimant: asker))
        for round in 0..<10 {
            #expect(
                hear(claim, at: UInt64(round) * 100_000_000) == [conflict, conflict, conflict])
        }
        #expect(nodes.allSatisfy { $0.counters.conflicts == 10 })
        #expect(announcements(at: 1_000_000_000).filter { $0[12...13] == [8, 6] }.count == 2)
        #expect(announcements(at: 9_000_000_000).isEmpty)
        let target = try #require(IPAddress("fd77::1"))
        let advertisement = NeighborMessage(
            isSolicitation: false, source: target, destination: NeighborMessage.allNodes,
            target: target, linkAddress: asker)
        let frame = advertisement.frame(
            to: MACAddress(group: NeighborMessage.allNodes), from: asker)
        #expect(
            hear(frame, at: 11_000_000_000).first
                == .conflict(AddressConflict(address: target, claimant: asker)))
        #expect(announcements(at: 11_000_000_000).count == 4)
    }

    /// What all nodes say when their time has come.
    private mutating func announcements(at now: UInt64) -> [[UInt8]] {
        nodes.indices.flatMap { index in
            nodes[index].tick(nowNanoseconds: now) { identifier in
                allocation.owner(of: identifier) == NodeID(UInt16(index + 1))
            }
        }
    }

    @Test mutating func everyAddressIsAnnouncedThreeTimes() throws {
        for index in nodes.indices { nodes[index].announce(nowNanoseconds: 5) }
        #expect(nodes.allSatisfy { $0.nextDeadline == 5 })
        for round in 0..<3 {
            let frames = announcements(at: 5 + UInt64(round) * 1_000_000_000)
            #expect(frames.count == segmentFront.addresses.count)
            for frame in frames {
                frame.withUnsafeBytes { bytes in
                    if let message = ARPMessage(frame: bytes) {
                        #expect(message.sender == message.target && message.senderMAC == shared)
                    } else {
                        let message = NeighborMessage(frame: bytes)
                        #expect(message?.linkAddress == shared && message?.overrides == true)
                    }
                }
                // None of them is a conflict to the others.
                #expect(hear(frame).allSatisfy { $0 == .none })
            }
        }
        #expect(announcements(at: .max).isEmpty)
        #expect(nodes.allSatisfy { $0.nextDeadline == .max })
    }

    @Test mutating func floodsAreBounded() throws {
        let question = try request(for: "10.77.0.1")
        var count = 0
        for step in 0..<100_000 {
            count += replies(hear(question, at: UInt64(step) * 10_000)).count
        }
        // One second: a second's worth, and what may come at once.
        #expect((1000...1256).contains(count), "\(count)")
        #expect(nodes.reduce(0) { $0 + $1.counters.limited } == 100_000 - UInt64(count))
    }
}

@Suite struct SharedAddressTests {
    @Test func bothFormsAreGroupAddressesOfTheCluster() throws {
        let own = try ClusterSecret(key: secret(Array(repeating: 7, count: 32)))
        let other = try ClusterSecret(key: secret(Array(repeating: 8, count: 32)))
        for form in SharedAddressForm.allCases {
            let address = own.sharedAddress(form)
            let foreign = other.sharedAddress(form)
            #expect(address.isGroup && address != foreign)
            #expect(address.isLocal == (form == .local))
        }
        let multicast = own.sharedAddress(.multicast)
        #expect("\(multicast)".hasPrefix("01:00:5e:"))
    }
}
