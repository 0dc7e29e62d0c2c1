// An end that goes on with an old state, and the peer that tells it where things are (RFC 6311).

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

/// One end of a pair, sealing and opening by hand.
private struct Hand {
    let association: IKEAssociation
    let world: IKEEnvironment
    let isLeft: Bool

    init(_ pair: IKEPair, isLeft: Bool) throws {
        association = try #require(pair.end(isLeft: isLeft).established.first)
        world = pair.end(isLeft: isLeft).world
        self.isLeft = isLeft
    }

    func seal(_ payloads: [Payload], id: UInt32 = 0, isResponse: Bool = false) throws -> Flight {
        let message = association.message(
            .informational, id, isResponse: isResponse, payloads)
        let octets = try association.sealed(message, world)[0]
        return Flight(toResponder: isLeft, octets: octets, path: association.path)
    }

    func open(_ flight: Flight) throws -> (id: UInt32, payloads: [Payload]) {
        let protection = try association.protection(sending: false, world)
        return try flight.octets.withUnsafeBytes { octets in
            let parsed = try IKEMessage.read(octets)
            return (parsed.header.messageID, try protection.open(octets, parsed))
        }
    }
}

private func sync(_ nonce: UInt32, _ send: UInt32, _ receive: UInt32) -> Payload {
    .notify(.messageIDSync, nonce.octets + send.octets + receive.octets)
}

extension Flight {
    /// A message of RFC 6311, told by its header; in these tests nothing else has ID 0.
    fileprivate var isSync: Bool { octets[18] == 37 && octets[20..<24].allSatisfy { $0 == 0 } }
}

@Suite struct CounterSyncs {
    private static let second: UInt64 = 1_000_000_000

    private func connected(
        _ adjust: @escaping (inout Connection, Bool) -> Void = { _, _ in }, esp: String? = nil
    ) throws -> IKEPair {
        var configuration = PairConfiguration()
        configuration.adjust = adjust
        configuration.timers = Schedules.timers
        configuration.timers.retransmissionTries = 5
        if let esp { configuration.esp = [esp] }
        let pair = try configuration.pair()
        try pair.connect()
        // Requests of both ends are past 0.
        for isLeft in [true, false] {
            try pair.command(.probe, byLeft: isLeft)
            try pair.deliver()
        }
        return pair
    }

    private func traits(_ pair: IKEPair) -> [PeerTraits] {
        [pair.left, pair.right].compactMap {
            $0.established.first?.traits.intersection([.messageIDSync, .replayCounterSync])
        }
    }

    @Test func bothMustAnnounceIt() throws {
        let both: PeerTraits = [.messageIDSync, .replayCounterSync]
        var pair = try connected()
        #expect(traits(pair) == [both, both])
        try pair.command(.rekey, byLeft: true)
        try pair.deliver()
        #expect(traits(pair) == [both, both])
        try pair.revive(pair.right, Array(pair.right.stored.values))
        #expect(traits(pair) == [both, both])
        for isLeft in [true, false] {
            pair = try connected { connection, isOfLeft in
                if isOfLeft == isLeft { connection.synchronizesCounters = false }
            }
            #expect(traits(pair) == [[], []])
        }
    }

    /// Windows of the peer as (send, receive), a request of the other end, and the answer: RFC
    /// 6311 A.1, and its §5.1. A.2 and A.3 answer what §5.1 has the peer drop; so do we.
    @Test(
        arguments: [
            ([5, 0], [0, 5], [5, 0]), ([2, 4], [4, 5], [5, 4]), ([2, 4], [9, 1], [2, 9]),
            ([2, 4], [4, 2], [2, 4]), ([4, 5], [2, 3], []), ([2, 4], [2, 5], []),
            ([2, 4], [0xFFFF_0000, 5], []), ([2, 4], [9, 0xFFFF_0000], []),
        ] as [([UInt32], [UInt32], [UInt32])])
    func windowsMoveToTheHigherNumbers(own: [UInt32], asked: [UInt32], answer: [UInt32]) throws {
        let pair = try connected()
        let hand = try Hand(pair, isLeft: true)
        let peer = try #require(pair.right.established.first)
        peer.requests.nextID = own[0]
        peer.responses.nextID = own[1]
        try pair.deliver(hand.seal([sync(0x0102_0304, asked[0], asked[1])]))
        guard !answer.isEmpty else {
            #expect(pair.wire.isEmpty && peer.requests.nextID == own[0])
            #expect(peer.responses.nextID == own[1])
            return
        }
        let (id, payloads) = try hand.open(try #require(pair.wire.first))
        #expect(id == 0 && pair.wire.count == 1)
        #expect(payloads == [sync(0x0102_0304, answer[0], answer[1])])
        #expect(peer.requests.nextID == answer[0] && peer.responses.nextID == answer[1])
    }

    @Test func nothingElseMayStandBesideIt() throws {
        let pair = try connected()
        let hand = try Hand(pair, isLeft: true)
        let short = Payload.notify(.messageIDSync, [UInt8](repeating: 0xF, count: 11))
        for payloads in [
            [sync(1, 50, 50), .notify(.initialContact)], [sync(1, 50, 50), sync(1, 50, 50)],
            [sync(1, 50, 50), .delete(.ike)], [short], [],
        ] {
            try pair.deliver(hand.seal(payloads))
            #expect(pair.wire.isEmpty && pair.right.established.count == 1)
        }
        // Nor may a stranger say it.
        var forged = try hand.seal([sync(1, 50, 50)])
        forged.octets[forged.octets.count - 1] ^= 1
        try pair.deliver(forged)
        #expect(pair.wire.isEmpty)
        try pair.deliver(hand.seal([sync(1, 50, 50)]))
        #expect(pair.wire.count == 1)
    }

    /// The owner of one end goes on for a while after its last write, and dies.
    private func fallBehind(_ pair: IKEPair, isLeft: Bool) throws -> [[UInt8]] {
        let states = Array(pair.end(isLeft: isLeft).stored.values)
        for _ in 0..<5 {
            try pair.command(.probe, byLeft: true)
            try pair.command(.probe, byLeft: false)
            try pair.deliver()
        }
        // Something with a content, so that nothing could have been missed.
        let other = try Hand(pair, isLeft: !isLeft)
        let id = other.association.requests.nextID
        other.association.requests.nextID += 1
        try pair.deliver(other.seal([.notify(.additionalTSPossible)], id: id))
        pair.wire = []
        return states
    }

    @Test(arguments: [true, false])
    func anOldStateIsMended(isLeft: Bool) throws {
        // What would happen without: requests below the peer's window are never answered.
        var pair = try connected()
        var states = try fallBehind(pair, isLeft: isLeft)
        try pair.revive(pair.end(isLeft: isLeft), states)
        try pair.command(.probe, byLeft: isLeft)
        try pair.deliver()
        try pair.advance(seconds: 60)
        #expect(pair.end(isLeft: isLeft).count(.peerSilent) == 1)

        pair = try connected()
        states = try fallBehind(pair, isLeft: isLeft)
        let end = pair.end(isLeft: isLeft)
        try pair.revive(end, states, mayBeBehind: true)
        #expect(end.endpoint.deadline ?? .max <= pair.now)
        try pair.tick(at: pair.now)
        #expect(pair.wire.count == 1 && pair.wire[0].isSync)
        try pair.deliver()
        #expect(end.count(.synchronized) == 1)
        #expect(pair.end(isLeft: !isLeft).count(.synchronized) == 1)
        for byLeft in [true, false] {
            try pair.command(.createChild("net"), byLeft: byLeft)
            try pair.deliver()
        }
        #expect(pair.left.children.count == 3 && pair.left.isIdle && pair.right.isIdle)
        pair.expectAgreement()
    }

    /// What only an established IKE SA can ask is not read as the state of another one, which would
    /// never come to ask.
    @Test func whoHasASuccessorAsksNothing() throws {
        let pair = try connected()
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true)
        let association = try #require(pair.left.established.first)
        for isSent in [false, true] {
            if isSent { try pair.tick(at: pair.now) }
            for stage in [IKEAssociation.Stage.established, .replaced] {
                association.stage = stage
                let state = association.encode(now: pair.now, seconds: pair.seconds)
                let endpoint = IKEEndpoint(pair.left.world, now: pair.now)
                var fault: IKEStateFault?
                do throws(IKEStateFault) {
                    _ = try endpoint.adopt(
                        state, generation: .max, now: pair.now, seconds: pair.seconds)
                } catch {
                    fault = error
                }
                if case .malformed(.synchronization, _) = fault {
                    #expect(stage == .replaced)
                } else {
                    #expect(stage == .established && fault == nil)
                }
            }
            association.stage = .established
        }
    }

    /// RFC 6311 §8.1: what the owner before has answered could pass for new.
    @Test func replayedRequestsAreNotActedUpon() throws {
        let pair = try connected()
        let states = Array(pair.left.stored.values)
        var captured: [Flight] = []
        pair.passes = { flight in
            if !flight.toResponder { captured.append(flight) }
            return true
        }
        try pair.command(.createChild("net"), byLeft: false)
        try pair.deliver()
        try pair.revive(pair.left, states, mayBeBehind: true)
        pair.passes = { _ in true }
        for isAsked in [false, true] {
            if isAsked { try pair.tick(at: pair.now) }
            let installed = pair.left.count(.childCreated)
            for flight in captured { try pair.deliver(flight) }
            #expect(pair.left.count(.childCreated) == installed)
            #expect(pair.left.established.first?.children.count == 1)
        }
        try pair.deliver()
        #expect(pair.left.count(.synchronized) == 1)
        for flight in captured { try pair.deliver(flight) }
        #expect(pair.left.established.first?.children.count == 1)
    }

    /// An owner takes over from the same old state as one before it, which had asked already.
    @Test func everyOwnerAsksForAnotherID() throws {
        let pair = try connected()
        let states = try fallBehind(pair, isLeft: true)
        var asked: [UInt32] = []
        for _ in 0..<3 {
            try pair.revive(pair.left, states, mayBeBehind: true)
            try pair.tick(at: pair.now)
            try pair.deliver()
            asked.append(try #require(pair.left.established.first).requests.nextID)
        }
        #expect(pair.left.count(.synchronized) == 3 && asked == asked.sorted())
        #expect(Set(asked).count == 3)
        // With the question in the store, it is gone on with, or put anew.
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true)
        try pair.tick(at: pair.now)
        let first = pair.wire.removeLast()
        try pair.revive(pair.left, Array(pair.left.stored.values))
        try pair.advance(seconds: 5)
        #expect(pair.left.count(.synchronized) == 4)
        try pair.deliver(first)
        pair.wire = []
        try pair.command(.probe, byLeft: true)
        try pair.deliver()
        #expect(pair.left.isIdle && pair.left.established.count == 1)
    }

    /// Some of the first messages are lost; in the end it is given up without a word, and all is as
    /// it was.
    @Test(arguments: [0, 1, 2, 3, 100])
    func messagesAreLost(count: Int) throws {
        let pair = try connected()
        let states =
            count < 100 ? try fallBehind(pair, isLeft: true) : Array(pair.left.stored.values)
        var rest = count
        var seen: Set<[UInt8]> = []
        pair.passes = { flight in
            guard flight.isSync else { return true }
            seen.insert(flight.octets)
            rest -= 1
            return rest < 0
        }
        try pair.revive(pair.left, states, mayBeBehind: true)
        try pair.advance(seconds: 25)
        #expect(pair.left.count(.synchronized) == (count < 100 ? 1 : 0))
        #expect(seen.count == (count < 100 ? 2 : 1))
        #expect(!pair.left.reports.contains { $0.level == .warning })
        try pair.command(.createChild("net"), byLeft: true)
        try pair.deliver()
        #expect(pair.left.children.count == 2 && pair.left.isIdle)
        pair.expectAgreement()
    }

    @Test func aPeerWithoutItIsNotAsked() throws {
        let pair = try connected { $0.synchronizesCounters = $1 }
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true, delta: 5)
        var syncs = 0
        pair.passes = { flight in
            if flight.isSync { syncs += 1 }
            return true
        }
        try pair.advance(seconds: 100)
        #expect(syncs == 0 && pair.left.isIdle && pair.left.established.count == 1)
        // And who was not told that we know it is not heard.
        try pair.deliver(Hand(pair, isLeft: true).seal([sync(1, 50, 50)]))
        #expect(pair.wire.isEmpty)
    }

    @Test func replaysChangeNothing() throws {
        let pair = try connected()
        let states = try fallBehind(pair, isLeft: true)
        try pair.revive(pair.left, states, mayBeBehind: true, delta: 7)
        try pair.tick(at: pair.now)
        let question = pair.wire.removeFirst()
        try pair.deliver(question)
        let answer = pair.wire.removeFirst()
        let peer = try #require(pair.right.established.first)
        let windows = [peer.requests.nextID, peer.responses.nextID]
        let spi = try #require(pair.right.children.keys.first)
        #expect(pair.right.advances == [spi: 7])
        // The question, at another place: the same answer goes there, twice in a second at most.
        var replayed = question
        replayed.path.local = ipv4("198.51.100.66")
        for _ in 0..<5 { try pair.deliver(replayed) }
        #expect(pair.wire.count == 1 && pair.wire[0].octets == answer.octets)
        #expect(pair.wire[0].path.remote == ipv4("198.51.100.66"))
        pair.now += Self.second
        try pair.deliver(replayed)
        #expect(pair.wire.count == 2)
        pair.wire = []
        // The answer, and again.
        try pair.deliver(answer)
        pair.wire = []
        let own = try #require(pair.left.established.first).requests.nextID
        try pair.deliver(answer)
        #expect(try #require(pair.left.established.first).requests.nextID == own)
        #expect([peer.requests.nextID, peer.responses.nextID] == windows)
        #expect(pair.right.advances == [spi: 7] && pair.right.redirects.isEmpty)
        // The new owner uses what it got: nobody else gets it.
        try pair.advance(seconds: 3)
        #expect(pair.left.isIdle)
        pair.now += Self.second
        try pair.deliver(replayed)
        #expect(pair.wire.isEmpty)
        // After another change of owner the question of the one before is old.
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true)
        try pair.tick(at: pair.now)
        try pair.deliver()
        pair.now += Self.second
        try pair.deliver(replayed)
        #expect(pair.wire.isEmpty && pair.left.count(.synchronized) == 2)
    }

    @Test func answersMustFit() throws {
        let pair = try connected()
        try pair.command(.createChild("net"), byLeft: false)
        try pair.deliver()
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true)
        try pair.tick(at: pair.now)
        pair.wire = []
        let hand = try Hand(pair, isLeft: false)
        guard case .sent(let request) = pair.left.established.first?.sync.stage else {
            return #expect(Bool(false))
        }
        let (nonce, send, receive) = (
            request.content.nonce, request.content.sendID, request.content.receiveID
        )
        let old = try #require(pair.left.established.first).requests.nextID
        for payloads in [
            [sync(nonce ^ 1, receive, send)], [sync(nonce, receive, send - 1)],
            [sync(nonce, receive - 1, send)], [sync(nonce, .max, send)],
            [sync(nonce, receive, send), .notify(.replayCounterSync, UInt32(9).octets)], [],
        ] {
            try pair.deliver(hand.seal(payloads, isResponse: true))
            #expect(pair.left.established.first?.requests.nextID == old)
        }
        #expect(pair.left.established.first?.sync.isWaiting == true)
        try pair.deliver(hand.seal([sync(nonce, receive + 3, send + 4)], isResponse: true))
        #expect(pair.left.established.first?.requests.nextID == send + 4)
        #expect(pair.left.established.first?.responses.nextID == receive + 3)
    }

    /// RFC 6311 A.4: both ends change their owners, and each asks the other.
    @Test(arguments: 0..<16)
    func bothEndsTakeOverAtOnce(order: Int) throws {
        let pair = try connected()
        let left = Array(pair.left.stored.values)
        let right = try fallBehind(pair, isLeft: false)
        try pair.revive(pair.left, left, mayBeBehind: true)
        try pair.revive(pair.right, right, mayBeBehind: true)
        try pair.tick(at: pair.now)
        #expect(pair.wire.count == 2 && pair.wire.allSatisfy(\.isSync))
        for bit in 0..<4 where !pair.wire.isEmpty {
            let place = order >> bit & 1
            try pair.deliver(pair.wire.remove(at: min(place, pair.wire.count - 1)))
        }
        try pair.deliver()
        try pair.advance(seconds: 20)
        for byLeft in [true, false] {
            try pair.command(.createChild("net"), byLeft: byLeft)
            try pair.deliver()
        }
        #expect(pair.left.children.count == 3 && pair.left.isIdle && pair.right.isIdle)
        pair.expectAgreement()
    }
}
