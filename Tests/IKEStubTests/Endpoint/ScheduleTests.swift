// Both ends do what they like while the wire loses, doubles and reorders: when it is quiet again,
// they must agree.

import Crypto
import Testing
import Wire

@testable import IKEStub

/// Chooses what happens next.
private struct Dice {
    private var source: SeededSource

    init(_ seed: UInt64) { source = SeededSource(seed &* 7919 &+ 13) }

    mutating func below(_ bound: Int) -> Int { Int(source.uint64() % UInt64(bound)) }
    mutating func isTrue(percent: Int) -> Bool { below(100) < percent }
}

private struct Chaos {
    var dice: Dice
    var loss = 20
    var doubles = 10
    /// Commands beside rekeying.
    var deletes = true

    mutating func step(_ pair: IKEPair) throws {
        switch dice.below(10) {
        case 0...5: try carry(pair)
        case 6, 7:
            let next = [pair.left, pair.right].compactMap(\.endpoint.deadline).min() ?? pair.now
            let soon = pair.now + UInt64(dice.below(3_000_000_000))
            try pair.tick(at: max(pair.now, min(next, soon)))
        case 8: try pair.exchangePackets()
        default: try command(pair)
        }
    }

    private mutating func carry(_ pair: IKEPair) throws {
        guard !pair.wire.isEmpty else { return }
        let index = dice.isTrue(percent: 70) ? 0 : dice.below(pair.wire.count)
        let flight =
            dice.isTrue(percent: doubles) ? pair.wire[index] : pair.wire.remove(at: index)
        if dice.isTrue(percent: 100 - loss) { try pair.deliver(flight) }
    }

    private mutating func command(_ pair: IKEPair) throws {
        let byLeft = dice.isTrue(percent: 50)
        let end = pair.end(isLeft: byLeft)
        let spis = end.established.first?.children.map(\.inbound) ?? []
        let spi = spis.isEmpty ? nil : spis[dice.below(spis.count)]
        switch dice.below(deletes ? 12 : 6) {
        case 0...3: if let spi { try pair.command(.rekeyChild(spi), byLeft: byLeft) }
        case 4: try pair.command(.rekey, byLeft: byLeft)
        case 5: try pair.command(.probe, byLeft: byLeft)
        case 6, 7: try pair.command(.createChild("net"), byLeft: byLeft)
        case 8, 9: if let spi { try pair.command(.deleteChild(spi), byLeft: byLeft) }
        case 10: if dice.isTrue(percent: 30) { try pair.command(.delete, byLeft: byLeft) }
        default: if dice.isTrue(percent: 30) { try pair.initiate(byLeft: byLeft) }
        }
    }
}

@Suite struct Schedules {
    static let timers: IKETimers = {
        var timers = IKETimers()
        timers.rekeyIKE = 3000 * 1_000_000_000
        timers.rekeyChild = 1000 * 1_000_000_000
        timers.rekeyJitter = 0
        timers.retransmissionTries = 12
        timers.retransmissionBase = 120
        return timers
    }()

    private func quiet(_ pair: IKEPair) throws {
        for _ in 0..<40 {
            try pair.deliver()
            try pair.advance(seconds: 10)
            try pair.exchangePackets()
            if pair.left.isIdle, pair.right.isIdle, pair.wire.isEmpty { break }
        }
        pair.revival = .never
        // Until an end that believes in what the other has closed has asked.
        try pair.advance(seconds: 200)
        try pair.exchangePackets()
    }

    @Test(arguments: Revival.all)
    func endsAgreeWhenQuietReturns(revival: Revival) throws {
        for seed in 1...revival.seeds {
            var configuration = PairConfiguration()
            configuration.timers = Self.timers
            configuration.esp = seed % 2 == 0 ? ["aes128gcm16"] : ["aes128gcm16-x25519"]
            let pair = try configuration.pair(seed: seed)
            pair.revival = revival
            try pair.connect()
            var chaos = Chaos(dice: Dice(seed))
            for _ in 0..<200 { try chaos.step(pair) }
            try quiet(pair)
            pair.expectAgreement("seed \(seed)")
        }
    }

    /// While pairs and IKE SAs are rekeyed by both ends, whatever is sent can be decrypted.
    @Test(arguments: Revival.all)
    func rekeyingLosesNoPacket(revival: Revival) throws {
        for seed in 1...revival.seeds {
            var configuration = PairConfiguration()
            configuration.timers = Self.timers
            let pair = try configuration.pair(seed: seed)
            pair.revival = revival
            try pair.connect()
            var chaos = Chaos(dice: Dice(seed))
            chaos.deletes = false
            for step in 0..<200 {
                try chaos.step(pair)
                let faults = pair.senderFaults()
                #expect(faults.isEmpty, "seed \(seed), step \(step): \(faults)")
                if !faults.isEmpty { return }
            }
            try quiet(pair)
            pair.expectAgreement("seed \(seed)")
            #expect(pair.left.children.count == 1 && pair.left.established.count == 1)
        }
    }
}
