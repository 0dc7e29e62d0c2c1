// A new owner at any moment, with all that the store has: nothing is lost, whatever was under way.
// And how far pairs go on afterwards (RFC 6311 §5.2).

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

@Suite struct Takeovers {
    /// What is under way when the owner dies.
    enum Work: CaseIterable {
        case rekeyChild, createChild, deleteChild, rekeyIKE, rekeyChildTwice, everything

        func begin(_ pair: IKEPair, byLeft: Bool) throws {
            let end = pair.end(isLeft: byLeft)
            let spi = try #require(end.children.keys.first)
            switch self {
            case .rekeyChild: try pair.command(.rekeyChild(spi), byLeft: byLeft)
            case .createChild: try pair.command(.createChild("net"), byLeft: byLeft)
            case .deleteChild: try pair.command(.deleteChild(spi), byLeft: byLeft)
            case .rekeyIKE: try pair.command(.rekey, byLeft: byLeft)
            case .rekeyChildTwice:
                try pair.command(.rekeyChild(spi), byLeft: byLeft)
                let other = try #require(pair.end(isLeft: !byLeft).children.keys.first)
                try pair.command(.rekeyChild(other), byLeft: !byLeft)
            case .everything:
                try pair.command(.createChild("net"), byLeft: byLeft)
                try pair.command(.rekeyChild(spi), byLeft: byLeft)
                try pair.command(.rekey, byLeft: byLeft)
                try pair.command(.createChild("net"), byLeft: !byLeft)
            }
        }

        var pairs: ClosedRange<Int> {
            switch self {
            case .rekeyChild, .rekeyIKE, .rekeyChildTwice: 1...1
            case .createChild: 2...2
            case .deleteChild: 0...0
            case .everything: 3...3
            }
        }
    }

    private func quiet(_ pair: IKEPair) throws {
        for _ in 0..<40 {
            try pair.deliver()
            try pair.advance(seconds: 10)
            try pair.exchangePackets()
            if pair.left.isIdle, pair.right.isIdle, pair.wire.isEmpty { break }
        }
        try pair.advance(seconds: 100)
    }

    /// After every number of messages, with the messages on the wire or without them.
    @Test(arguments: Work.allCases, [true, false])
    func betweenAnyTwoMessages(work: Work, isLeft: Bool) throws {
        for byLeft in [true, false] {
            for isLost in [true, false] {
                var cut = 0
                while try takeOver(work, isLeft, after: cut, byLeft: byLeft, isLost: isLost) {
                    cut += 1
                }
                #expect(cut > 1)
            }
        }
    }

    /// False: everything was over before.
    private func takeOver(
        _ work: Work, _ isLeft: Bool, after cut: Int, byLeft: Bool, isLost: Bool
    ) throws -> Bool {
        var configuration = PairConfiguration()
        configuration.timers = Schedules.timers
        let pair = try configuration.pair(seed: UInt64(cut + 1))
        try pair.connect()
        try work.begin(pair, byLeft: byLeft)
        for _ in 0..<cut {
            guard !pair.wire.isEmpty else { return false }
            try pair.deliver(pair.wire.removeFirst())
        }
        if isLost { pair.wire = [] }
        let end = pair.end(isLeft: isLeft)
        let states = end.stored.sorted { $0.key < $1.key }.map(\.value)
        try pair.revive(end, states, mayBeBehind: true, delta: 10)
        try quiet(pair)
        let about: Comment = "\(work), \(isLeft), \(byLeft), \(isLost), after \(cut)"
        pair.expectAgreement(about.rawValue)
        #expect(pair.left.isIdle && pair.right.isIdle, about)
        #expect(work.pairs.contains(pair.left.children.count), about)
        return true
    }

    /// A peer that has replaced the pair, and knows nothing of ours any more, is busy for ever: it
    /// gets a new pair.
    @Test(arguments: [true, false])
    func aPeerThatDoesNotRekeyGetsANewPair(knowsPair: Bool) throws {
        var configuration = PairConfiguration()
        configuration.timers = Schedules.timers
        let pair = try configuration.pair()
        try pair.connect()
        let old = try #require(pair.left.children.keys.first)
        try pair.command(.rekeyChild(old), byLeft: true)
        pair.wire = []
        let peer = try #require(pair.right.established.first)
        // It has answered that, and more.
        peer.responses.nextID += 3
        peer.responses.last = []
        if knowsPair {
            peer.children[0].stage = .replaced
        } else {
            let child = peer.children.removeFirst()
            pair.right.remove(child.inbound)
            pair.right.world.resources.release(child.inbound)
        }
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true)
        try quiet(pair)
        #expect(pair.left.children.count == 1 && pair.left.children[old] == nil)
        pair.expectAgreement()
    }

    private func advances(
        _ esp: String, _ delta: UInt64, adjust: (IKEPair) -> Void = { _ in }
    ) throws -> IKEPair {
        var configuration = PairConfiguration()
        configuration.esp = [esp]
        let pair = try configuration.pair()
        try pair.connect()
        try pair.command(.createChild("net"), byLeft: true)
        try pair.deliver()
        adjust(pair)
        try pair.revive(
            pair.left, Array(pair.left.stored.values), mayBeBehind: true, delta: delta)
        try pair.tick(at: pair.now)
        try pair.deliver()
        return pair
    }

    @Test func allPairsOfThePeerGoOn() throws {
        for (esp, delta, expected) in [
            ("aes128gcm16", 77, 77), ("aes128gcm16", 1 << 40, 0xFFFF_FFFF),
            ("aes128gcm16-esn", 1 << 40, 1 << 40),
        ] as [(String, UInt64, UInt64)] {
            let pair = try advances(esp, delta)
            #expect(pair.right.advances.count == 2 && pair.left.advances.isEmpty)
            #expect(pair.right.advances.values.allSatisfy { $0 == expected })
            // Numbers of 32 bits would soon be used up: new keys at once.
            try pair.advance(seconds: 6)
            let isFar = expected == 0xFFFF_FFFF
            #expect(pair.right.count(.childRekeyed) == (isFar ? 2 : 0))
            #expect(pair.left.count(.synchronized) == 1)
            pair.expectAgreement()
        }
        let none = try advances("aes128gcm16", 0)
        #expect(none.right.advances.isEmpty && none.left.count(.synchronized) == 1)
    }

    /// RFC 6311 §6.4: the field has one size for all pairs. Where they differ, it is not sent.
    @Test func mixedPairsCannotBeAdvanced() throws {
        var configuration = PairConfiguration()
        configuration.esp = ["aes128gcm16-esn"]
        let pair = try configuration.pair()
        try pair.connect()
        configuration.esp = ["aes128gcm16"]
        for isLeft in [true, false] {
            pair.end(isLeft: isLeft).world.configuration = try configuration.connection(
                isLeft: isLeft)
        }
        try pair.command(.createChild("net"), byLeft: true)
        try pair.deliver()
        #expect(Set(pair.left.established[0].children.map(\.suite.usesESN)).count == 2)
        try pair.revive(pair.left, Array(pair.left.stored.values), mayBeBehind: true, delta: 5)
        try pair.tick(at: pair.now)
        try pair.deliver()
        #expect(pair.right.advances.isEmpty && pair.left.count(.synchronized) == 1)
    }

    /// RFC 6311 §5, case 2: with a peer that knows the one notification only, by a request of the
    /// ordinary kind.
    @Test func countersAlone() throws {
        let pair = try advances("aes128gcm16", 9) { pair in
            for end in [pair.left, pair.right] {
                guard let association = end.established.first else { continue }
                association.traits.remove(.messageIDSync)
                end.stored[association.localSPI] = end.state(
                    of: association.localSPI, now: pair.now, seconds: pair.seconds)
            }
        }
        #expect(pair.right.advances.count == 2 && pair.left.isIdle)
        #expect(pair.right.advances.values.allSatisfy { $0 == 9 })
        #expect(pair.left.count(.synchronized) == 0)
        // Of the other size it means nothing.
        let association = try #require(pair.left.established.first)
        let message = association.message(
            .informational, association.requests.nextID, isResponse: false,
            [.notify(.replayCounterSync, UInt64(9).octets)])
        association.requests.nextID += 1
        let octets = try association.sealed(message, pair.left.world)[0]
        try pair.deliver(Flight(toResponder: true, octets: octets, path: IKEPair.path))
        #expect(pair.wire.count == 1 && pair.right.advances.values.allSatisfy { $0 == 9 })
    }

    /// Whoever was not told that we know it does not move numbers.
    @Test func countersOfAStrangerTongue() throws {
        var configuration = PairConfiguration()
        configuration.adjust = { connection, _ in connection.synchronizesCounters = false }
        let pair = try configuration.pair()
        try pair.connect()
        let association = try #require(pair.left.established.first)
        let message = association.message(
            .informational, association.requests.nextID, isResponse: false,
            [.notify(.replayCounterSync, UInt32(9).octets)])
        let octets = try association.sealed(message, pair.left.world)[0]
        try pair.deliver(Flight(toResponder: true, octets: octets, path: IKEPair.path))
        #expect(pair.wire.count == 1 && pair.right.advances.isEmpty)
    }
}
