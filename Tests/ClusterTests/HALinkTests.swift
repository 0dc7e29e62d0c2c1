// The HA link as its users see it: restarts, replays, losses, and messages of any content.

import Crypto
import TestSupport
import Testing
import Wire

@testable import Cluster

private let (one, two) = (NodeID(1), NodeID(2))

private func clusterSecret(_ octet: UInt8 = 7) throws -> ClusterSecret {
    try ClusterSecret(key: secret(Array(repeating: octet, count: 32)))
}

private func link(_ node: NodeID, _ incarnation: UInt64) throws -> HALink {
    HALink(node: node, incarnation: incarnation, secret: try clusterSecret())
}

/// Nodes 1 and 2, of incarnations 11 and 22, that know each other.
private func pair() throws -> (Box, Box) {
    let (first, second) = (Box(try link(one, 11)), Box(try link(two, 22)))
    first.link.learn(two, incarnation: 22)
    second.link.learn(one, incarnation: 11)
    return (first, second)
}

/// A link in a box, because tuples and macros want copyable values.
private final class Box {
    var link: HALink

    init(_ link: consuming HALink) { self.link = link }

    func open(_ datagram: [UInt8]) -> HALinkMessage? {
        datagram.withUnsafeBytes { link.open($0)?.message }
    }

    /// A datagram to a peer that must be known.
    func seal(_ message: HALinkMessage, to peer: NodeID) throws -> [UInt8] {
        let datagram = link.seal(message, to: peer)
        return try #require(datagram)
    }

    func knows(_ peer: NodeID) -> Bool { link.knows(peer) }
}

private func beat(_ number: UInt64) -> HALinkMessage { .heartbeat(Heartbeat(number: number)) }

private func counter(_ datagram: [UInt8]) -> UInt64 { number(datagram[32..<40]) }

@Suite struct HALinkTests {
    @Test func onlyKnownPeersAreSentToAndHeard() throws {
        let (first, second) = (Box(try link(one, 11)), Box(try link(two, 22)))
        let early = first.link.seal(beat(1), to: two)
        #expect(early == nil)
        #expect(!first.knows(two))
        first.link.learn(two, incarnation: 22)
        #expect(first.knows(two))
        let datagram = try first.seal(beat(1), to: two)
        #expect(second.open(datagram) == nil)
        second.link.learn(one, incarnation: 11)
        let opened = datagram.withUnsafeBytes { second.link.open($0) }
        #expect(opened?.from == one)
        #expect(opened?.message == beat(1))
        #expect(first.link.counters.sent == 1)
        #expect(second.link.counters.received == 1)
        #expect(second.link.counters[.unknownSender] == 1)
    }

    @Test func manyPeersAreKeptApart() throws {
        var random = SeededGenerator()
        let hub = Box(try link(NodeID(500), 1))
        let numbers = (1...64).map { UInt16($0 * 3) }.shuffled(using: &random)
        for number in numbers { hub.link.learn(NodeID(number), incarnation: UInt64(number)) }
        for number in numbers.shuffled(using: &random) {
            let peer = Box(try link(NodeID(number), UInt64(number)))
            peer.link.learn(NodeID(500), incarnation: 1)
            let there = try hub.seal(beat(UInt64(number)), to: NodeID(number))
            let back = try peer.seal(beat(UInt64(number)), to: NodeID(500))
            let heard = peer.open(there)
            #expect(heard == beat(UInt64(number)))
            let answered = back.withUnsafeBytes { hub.link.open($0)?.from }
            #expect(answered == NodeID(number))
        }
        for number in numbers.prefix(30) { hub.link.forget(NodeID(number)) }
        for (index, number) in numbers.enumerated() {
            #expect(hub.knows(NodeID(number)) == (index >= 30))
            #expect(!hub.knows(NodeID(number + 1)))
        }
    }

    @Test func everyChangedBitIsRefused() throws {
        let (first, second) = try pair()
        let datagram = try first.seal(beat(1), to: two)
        for bit in 0..<datagram.count * 8 {
            var changed = datagram
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(second.open(changed) == nil, "bit \(bit)")
        }
        #expect(second.link.counters.received == 0)
        // None of them has used anything up.
        #expect(second.open(datagram) == beat(1))
    }

    @Test func aRestartedPeerIsAnotherPeer() throws {
        let (first, second) = try pair()
        let old = try first.seal(beat(1), to: two)
        let reborn = Box(try link(one, 12))
        reborn.link.learn(two, incarnation: 22)
        let new = try reborn.seal(beat(1), to: two)
        #expect(counter(old) == counter(new))
        #expect(old[40...] != new[40...])

        second.link.learn(one, incarnation: 12)
        #expect(second.open(old) == nil)
        #expect(second.link.counters[.staleIncarnation] == 1)
        #expect(second.open(new) == beat(1))
    }

    // What would fool us: a session that is forgotten and met again under the same key. Its
    // counters must go on in both directions, whatever came between.
    @Test func noCounterRepeatsUnderOneKey() throws {
        var random = SeededGenerator()
        let (first, second) = try pair()
        var sent: Set<[UInt64]> = []
        var accepted: [[UInt8]] = []
        var incarnation: UInt64 = 22
        for _ in 0..<400 {
            switch UInt8.random(in: 0..<6, using: &random) {
            case 0: first.link.forget(two)
            case 1: second.link.forget(one)
            case 2:
                incarnation = UInt64.random(in: 20..<25, using: &random)
            default: break
            }
            first.link.learn(two, incarnation: incarnation)
            second.link.learn(one, incarnation: 11)
            let datagram = try first.seal(beat(1), to: two)
            #expect(sent.insert([incarnation, counter(datagram)]).inserted)
            if second.open(datagram) != nil { accepted.append(datagram) }
            for old in accepted.suffix(20) { #expect(second.open(old) == nil) }
        }
        #expect(accepted.count > 20)
    }

    @Test func endedSessionsAreForgottenInOrder() throws {
        let (first, second) = try pair()
        let datagram = try first.seal(beat(1), to: two)
        #expect(second.open(datagram) != nil)
        for incarnation in 0..<UInt64(HALink.endedMaximum) - 1 {
            second.link.learn(one, incarnation: 1000 + incarnation)
        }
        second.link.learn(one, incarnation: 11)
        #expect(second.open(datagram) == nil)
        #expect(second.link.counters[.replayed] == 1)
    }

    // A set of numbers is the oracle of the window.
    @Test func lossAndReorderingMatchASet() throws {
        var random = SeededGenerator()
        let (first, second) = try pair()
        let datagrams = try (0..<4000).map { _ in try first.seal(beat(1), to: two) }
        var seen: Set<Int> = []
        var highest = -1
        for step in 0..<6000 {
            let near = min(step / 2, 3999)
            let index = max(0, near - Int.random(in: 0..<1300, using: &random))
            let isNew = !seen.contains(index) && index > highest - HALinkSession.windowBits
            #expect((second.open(datagrams[index]) != nil) == isNew)
            if isNew {
                seen.insert(index)
                highest = max(highest, index)
            }
        }
    }

    @Test func anyOctetsAreRefused() throws {
        var random = SeededGenerator()
        let (first, second) = try pair()
        let good = try first.seal(beat(1), to: two)
        for _ in 0..<3000 {
            let count = Int.random(in: 0...1500, using: &random)
            var octets = random.bytes(count)
            let kept = min(Int.random(in: 0...40, using: &random), count)
            octets.replaceSubrange(0..<kept, with: good[0..<kept])
            #expect(second.open(octets) == nil)
        }
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        let opened = second.link.open(nothing)
        #expect(opened == nil)
        let refused = HALinkRefusal.allCases.reduce(0) { $0 + second.link.counters[$1] }
        #expect(refused == 3001)
    }

    @Test func refusalsAreExplained() {
        let texts = HALinkRefusal.allCases.map(\.explanation)
        #expect(Set(texts).count == texts.count)
        #expect(texts.allSatisfy { $0.contains(":") && !$0.contains("\n") })
    }
}

@Suite struct HALinkSplitTests {
    private func states(_ count: Int, _ random: inout SeededGenerator) -> [TunnelState] {
        (0..<count).map { index in
            var numbers: [UInt64] = []
            for _ in 0..<7 {
                let shift = UInt64.random(in: 0..<64, using: &random)
                numbers.append(random.next() >> shift)
            }
            let words = [0, 0, 2, 4, 128].randomElement(using: &random) ?? 0
            var window: [UInt64] = []
            for _ in 0..<words { window.append(random.next()) }
            return TunnelState(
                spi: SPI(UInt32(index)), sent: numbers[0], sentPackets: numbers[1],
                sentBytes: numbers[2], received: numbers[3], receivedPackets: numbers[4],
                receivedBytes: numbers[5], exposedThrough: numbers[6], window: window)
        }
    }

    private func fits(_ message: HALinkMessage) throws {
        let octets = message.encode()
        #expect(octets.count <= HALink.messageMaximum)
        #expect(try octets.withUnsafeBytes { try HALinkMessage(decoding: $0) } == message)
    }

    @Test(arguments: [0, 1, 2, 50, 500])
    func checkpointsComeWholeAndInOrder(count: Int) throws {
        var random = SeededGenerator()
        let all = states(count, &random)
        let messages = Checkpoints.split(
            identifier: DistributionIdentifier(9), generation: 3, states: all)
        #expect(messages.flatMap(\.states) == all)
        #expect(messages.allSatisfy { $0.identifier.value == 9 && $0.generation == 3 })
        #expect(messages.isEmpty == all.isEmpty)
        for message in messages { try fits(.checkpoints(message)) }
        // No datagram is wasted: the first state of the next one would not have fitted.
        for (message, next) in zip(messages, messages.dropFirst()) {
            var fuller = message
            fuller.states.append(next.states[0])
            #expect(HALinkMessage.checkpoints(fuller).encode().count > HALink.messageMaximum)
        }
    }

    @Test(arguments: [0, 1, 60, 500], [0, 1, 166, 167, 1000])
    func handoversComeWholeAndNumbered(stateCount: Int, digestCount: Int) throws {
        var random = SeededGenerator()
        let all = states(stateCount, &random)
        var digests: [UInt64] = []
        for _ in 0..<digestCount { digests.append(random.next()) }
        let messages = Handover.split(
            identifier: DistributionIdentifier(4095), generation: 1, states: all,
            sentDigests: digests)
        #expect(messages.flatMap(\.states) == all)
        #expect(messages.flatMap(\.sentDigests) == digests)
        #expect(messages.map(\.part) == (0..<UInt16(messages.count)).map { $0 })
        #expect(messages.allSatisfy { Int($0.parts) == messages.count })
        for message in messages { try fits(.handover(message)) }
    }

    @Test(arguments: [0, 1, 134, 135, 335, 336, 4096])
    func movesAndLoadsComeWholeAndAscending(count: UInt16) throws {
        var random = SeededGenerator()
        let identifiers = (0..<count).map { DistributionIdentifier($0) }
        let shuffled = identifiers.shuffled(using: &random)
        let moves = MoveNotice.split(
            shuffled.map { MoveNotice.Move(identifier: $0, generation: $0.value + 1) })
        #expect(moves.flatMap(\.moves).map(\.identifier) == identifiers)
        for notice in moves { try fits(.moveOffer(notice)) }
        let loads = LoadReport.split(
            shuffled.map {
                LoadReport.Load(identifier: $0, packetsPerSecond: .max, tunnels: .max)
            })
        #expect(loads.flatMap(\.loads).map(\.identifier) == identifiers)
        for report in loads { try fits(.load(report)) }
    }

    // One value has one encoding: whatever is accepted is what would be sent.
    @Test func whatIsAcceptedIsCanonical() throws {
        var random = SeededGenerator()
        let messages: [HALinkMessage] = [
            beat(3), .foreignEntryAnswer(ForeignEntryAnswer(request: 1, code: .duplicate)),
            .checkpoints(
                Checkpoints(
                    identifier: DistributionIdentifier(1), generation: 1,
                    states: states(3, &random))),
            .handover(
                Handover(
                    identifier: DistributionIdentifier(1), generation: 1, part: 0, parts: 1,
                    states: states(2, &random), sentDigests: [1, 2])),
        ]
        var accepted = 0
        for _ in 0..<20000 {
            guard var octets = messages.randomElement(using: &random)?.encode() else { return }
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                octets[Int.random(in: 0..<min(octets.count, 80), using: &random)] =
                    UInt8.random(in: 0...255, using: &random)
            }
            guard let message = try? octets.withUnsafeBytes({ try HALinkMessage(decoding: $0) })
            else { continue }
            accepted += 1
            #expect(message.encode() == octets)
        }
        #expect(accepted > 1000)
    }
}
