// The encoding of an IKE SA: whole, strict, and on another clock.

import Crypto
import ESP
import Testing
import Wire

@testable import IKEStub

@Suite struct States {
    private static let second: UInt64 = 1_000_000_000

    /// Encodings of IKE SAs in every stage, with offers and collisions in flight.
    static func samples() throws -> [[UInt8]] {
        var samples: [[UInt8]] = []
        var configuration = PairConfiguration()
        configuration.esp = ["aes128gcm16-x25519"]
        configuration.ike = ["aes128-sha256-x25519"]
        let pair = try configuration.pair(seed: 7)
        func collect() {
            samples += pair.left.exported(now: pair.now, seconds: pair.seconds)
            samples += pair.right.exported(now: pair.now, seconds: pair.seconds)
        }
        func carry() throws {
            collect()
            while !pair.wire.isEmpty {
                try pair.deliver(pair.wire.removeFirst())
                collect()
            }
        }
        try pair.initiate()
        try carry()
        for (command, other) in [
            (IKEEndpoint.Command.rekey, IKEEndpoint.Command.rekey),
            (.createChild("net"), .probe),
        ] {
            try pair.command(command, byLeft: true)
            try pair.command(other, byLeft: false)
            try carry()
        }
        for isLeft in [true, false] {
            let spi = try #require(pair.end(isLeft: isLeft).established[0].children.first).inbound
            try pair.command(.rekeyChild(spi), byLeft: isLeft)
            try pair.command(.createChild("net"), byLeft: isLeft)
        }
        try carry()
        for isLeft in [true, false] {
            let states = Array(pair.end(isLeft: isLeft).stored.values)
            try pair.revive(pair.end(isLeft: isLeft), states, mayBeBehind: true, delta: 3)
            collect()
            try pair.tick(at: pair.now)
        }
        try carry()
        return Array(Set(samples)).sorted { $0.lexicographicallyPrecedes($1) }
    }

    private static func decode(
        _ octets: [UInt8], now: UInt64, seconds: Int64
    ) throws(IKEStateFault) -> IKEAssociation {
        let result = octets.withUnsafeBytes { bytes in
            Result { () throws(IKEStateFault) in
                try IKEAssociation.decode(bytes, now: now, seconds: seconds)
            }
        }
        return try result.get()
    }

    @Test func whatIsReadIsWhatWasWritten() throws {
        let samples = try Self.samples()
        #expect(samples.count > 30)
        for sample in samples {
            let now = UInt64(sample[1..<9].reduce(0) { $0 << 8 | UInt64($1) })
            let seconds = Int64(sample[9..<17].reduce(0) { $0 << 8 | UInt64($1) })
            let association = try Self.decode(sample, now: now, seconds: seconds)
            #expect(association.encode(now: now, seconds: seconds).array() == sample)
        }
    }

    @Test func whatIsCutOffIsRefusedWithItsPlace() throws {
        for sample in try Self.samples() {
            for count in sample.indices {
                do throws(IKEStateFault) {
                    _ = try Self.decode(Array(sample[..<count]), now: 0, seconds: 0)
                    Issue.record("\(count) of \(sample.count) octets are accepted")
                } catch {
                    switch error {
                    case .truncated(let place), .malformed(_, let place): #expect(place <= count)
                    default: Issue.record("\(error)")
                    }
                }
            }
            #expect(throws: IKEStateFault.trailing(at: sample.count)) {
                _ = try Self.decode(sample + [0], now: 0, seconds: 0)
            }
        }
    }

    /// Every bit, one after the other: refused, or another IKE SA that an endpoint can work with.
    @Test func damagedStatesDoNoHarm() throws {
        let samples = try Self.samples()
        let configuration = PairConfiguration()
        let pair = try configuration.pair()
        var accepted = 0
        for (index, sample) in samples.enumerated() {
            for place in stride(from: index % 5, to: sample.count, by: 5) {
                var damaged = sample
                damaged[place] ^= 1 << (place % 8)
                let endpoint = IKEEndpoint(pair.left.world, now: pair.now)
                let spi = try? endpoint.adopt(
                    SecretBytes(damaged), generation: .max, now: pair.now, seconds: pair.seconds)
                guard let spi else {
                    #expect(endpoint.count == 0)
                    continue
                }
                accepted += 1
                let now = pair.now + 5000 * Self.second
                _ = endpoint.command(.rekey, localSPI: spi, now: now, seconds: pair.seconds)
                _ = endpoint.advance(to: now, seconds: pair.seconds)
                endpoint.forget(localSPI: spi)
                #expect(endpoint.count == 0)
            }
        }
        #expect(accepted > 0)
    }

    @Test func otherVersionsGenerationsAndDoublesAreRefused() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        let state = try #require(pair.left.exported(now: pair.now, seconds: pair.seconds).first)
        let spi = try #require(pair.left.established.first).localSPI
        func adopt(_ state: [UInt8], _ generation: UInt16) throws(IKEStateFault) {
            _ = try pair.left.endpoint.adopt(
                SecretBytes(state), generation: generation, now: pair.now, seconds: 0)
        }
        #expect(throws: IKEStateFault.known(spi)) { try adopt(state, 2) }
        pair.left.endpoint.forget(localSPI: spi)
        #expect(pair.left.resources.spisTaken == 0)
        #expect(throws: IKEStateFault.generation(1)) { try adopt(state, 1) }
        #expect(throws: IKEStateFault.version(9)) { try adopt([9] + state.dropFirst(), 2) }
        try adopt(state, 2)
        #expect(pair.left.resources.spisTaken == 1)
        pair.expectAgreement()
    }

    /// A state that lay in the store for a while, on a node that has run for another time.
    @Test func timesAreThoseOfTheReadersClock() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        let state = try #require(pair.left.exported(now: pair.now, seconds: pair.seconds).first)
        let old = try #require(pair.left.established.first)
        let rest = old.times.rekey - pair.now
        let now = 77 * Self.second
        var association = try Self.decode(state, now: now, seconds: pair.seconds + 1000)
        #expect(association.times.rekey == now + rest - 1000 * Self.second)
        #expect(association.children[0].end < association.times.end)
        // The world's clock of the reader is behind: nothing has passed.
        association = try Self.decode(state, now: now, seconds: pair.seconds - 5)
        #expect(association.times.rekey == now + rest)
        // Long over.
        association = try Self.decode(state, now: now, seconds: pair.seconds + 1_000_000)
        #expect(association.times.end == 0)
    }

    /// An owner dies when it has answered checks that the store does not know of.
    @Test func missedLivenessChecksAreSkipped() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        for _ in 0..<5 {
            try pair.command(.probe, byLeft: true)
            try pair.deliver()
        }
        try pair.command(.probe, byLeft: true)
        let replayed = try #require(pair.wire.last)
        try pair.deliver()
        try pair.revive(pair.right, Array(pair.right.stored.values))
        try pair.command(.probe, byLeft: true)
        try pair.deliver()
        #expect(pair.left.isIdle)
        // What was missed, replayed, does not set the window back.
        try pair.revive(pair.right, Array(pair.right.stored.values))
        try pair.deliver(replayed)
        pair.wire = []
        try pair.command(.createChild("net"), byLeft: true)
        try pair.deliver()
        #expect(pair.left.children.count == 2)
        pair.expectAgreement()
    }
}
