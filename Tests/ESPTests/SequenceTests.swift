import TestSupport
import Testing
import Wire

@testable import ESP

/// The IV of a sealed packet over IPv4.
private func iv(_ outer: [UInt8], _ bytes: Int) -> [UInt8] { Array(outer[28..<28 + bytes]) }

@Suite struct SequenceTests {
    @Test func numbersCountFromOne() throws {
        let tunnel = try Tunnel()
        for expected in 1...20 as ClosedRange<UInt32> {
            let outer = try tunnel.seal(IPv4Packet().bytes)
            #expect(number(outer[24..<28]) == expected)
        }
    }

    // The last number is used, the one after it never: it would begin again at 0 (RFC 4303 §3.3.3).
    @Test(arguments: Transform.kinds)
    func numbersRunOut(_ transform: Transform) throws {
        let counterLimit: UInt64 = 1 << 48 - 1
        let cases: [(usesESN: Bool, last: UInt64)] = [
            (false, UInt64(UInt32.max)), (true, transform.ivBytes == 8 ? counterLimit : .max),
        ]
        for (usesESN, last) in cases {
            let tunnel = try Tunnel(transform) {
                $0.usesESN = usesESN
                $0.firstSequence = last - 2
            }
            for step in 0..<3 as Range<UInt64> {
                let outer = try tunnel.seal(IPv4Packet().bytes)
                #expect(number(outer[24..<28]) == UInt32(truncatingIfNeeded: last - 2 + step))
                #expect(tunnel.open(outer).drop == nil)
            }
            for _ in 0..<3 {
                let drop = tunnel.sender.seal(IPv4Packet().bytes, tunnel.out).drop
                #expect(drop == .sequenceExhausted)
            }
            #expect(tunnel.sender.status(tunnel.out).sequence == last)
            #expect(tunnel.sender.drops(tunnel.out)[.sequenceExhausted] == 3)
        }
    }

    // A first number beyond what a counter's IV can carry: no packet at all, no wrapped IV.
    @Test func extendedNumbersBeyondTheCounterAreRefused() throws {
        let tunnel = try Tunnel {
            $0.usesESN = true
            $0.firstSequence = 1 << 48
        }
        let drop = tunnel.sender.seal(IPv4Packet().bytes, tunnel.out).drop
        #expect(drop == .sequenceExhausted)
    }

    // RFC 6054 §3, docs/decisions/0004: generation (16 bits), then sequence number (48 bits).
    @Test(
        arguments: Transform.kinds.filter { $0.ivBytes == 8 }, [0, 1, 0x8001, 0xFFFF] as [UInt16])
    func counterIVs(_ transform: Transform, generation: UInt16) throws {
        for first: UInt64 in [1, 1 << 32 - 2, 1 << 40, 1 << 48 - 5] {
            let usesESN = first + 4 > UInt32.max
            let tunnel = try Tunnel(transform, generation: generation) {
                $0.usesESN = usesESN
                $0.firstSequence = first
            }
            for sequence in first..<first + 4 {
                let outer = try tunnel.seal(IPv4Packet().bytes)
                #expect(iv(outer, 8) == bigEndian(generation) + bigEndian(sequence)[2...])
            }
        }
    }

    // What would fool us: IVs that differ within one ownership, and repeat in the next. All IVs of
    // several owners of one association, each starting where it believes the numbers stand.
    @Test(arguments: Transform.kinds.filter { $0.ivBytes > 0 })
    func noIVRepeats(_ transform: Transform) throws {
        var seen: Set<[UInt8]> = []
        var count = 0
        for generation in 1...4 as ClosedRange<UInt16> {
            // The worst case: every owner begins at the same number.
            let tunnel = try Tunnel(transform, generation: generation)
            for _ in 0..<60 {
                seen.insert(iv(try tunnel.seal(IPv4Packet().bytes), transform.ivBytes))
                count += 1
            }
        }
        #expect(seen.count == count)
    }

    // RFC 3602 §3: unpredictable. What would fool us: the counter block itself, sent in the clear,
    // or the same IVs under another key.
    @Test(arguments: [128, 192, 256])
    func cbcIVsAreEncryptedCounters(bits: Int) throws {
        let transform = Transform.find(.aesCBC, bits, .hmacSHA256)
        let tunnel = try Tunnel(transform, generation: 5)
        let other = try Tunnel(transform, generation: 5) { $0.spi = SPI(0x1002) }
        var last: [UInt8] = []
        for sequence in 1...300 as ClosedRange<UInt64> {
            let outer = try tunnel.seal(IPv4Packet().bytes)
            let here = iv(outer, 16)
            let counter = bigEndian(5 << 48 | sequence) + bigEndian(sequence)
            #expect(here != counter && !contains(outer, counter))
            #expect(here != iv(try other.seal(IPv4Packet().bytes), 16))
            // Far from the one before: about half of 128 bits differ.
            let distance = zip(here, last).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount }
            #expect(last.isEmpty || distance > 25)
            last = here
        }
    }

    @Test func fixedIVsAreSentAsTheyAre() throws {
        for transform in Transform.kinds where transform.ivBytes > 0 {
            let tunnel = try Tunnel(transform)
            let wanted = (0..<transform.ivBytes).map { UInt8($0 + 0xA0) }
            let sealed = tunnel.sender.seal(IPv4Packet().bytes, tunnel.out, fixedIV: wanted)
            let outer = try #require(sealed.bytes)
            #expect(iv(outer, wanted.count) == wanted)
            #expect(tunnel.open(outer).bytes == IPv4Packet().bytes)
        }
    }
}

@Suite struct LifetimeTests {
    private let inner = IPv4Packet(payload: Array(repeating: 1, count: 80)).bytes

    /// A tunnel that only one end of which has limits, and how to move one packet through that end.
    private func limited(
        _ direction: Direction, _ change: (inout AssociationParameters) -> Void
    ) throws -> (Tunnel, (_ now: UInt64) throws -> Processed) {
        let plain = try Tunnel()
        let bounded = try Tunnel(.gcm, mode: .tunnel, change)
        if direction == .outbound {
            return (bounded, { bounded.sender.seal(inner, bounded.out, now: $0) })
        }
        return (
            bounded,
            { bounded.receiver.open(try plain.seal(inner), bounded.into, now: $0) }
        )
    }

    @Test(arguments: [Direction.inbound, .outbound])
    func softLifetimesAreToldOnce(direction: Direction) throws {
        let (_, byPackets) = try limited(direction) { $0.lifetimes.softPackets = 3 }
        let told = try (0..<6).map { _ in try byPackets(0).events.contains(.softLifetime) }
        #expect(told == [false, false, true, false, false, false])

        let (_, byBytes) = try limited(direction) { $0.lifetimes.softBytes = 201 }
        let toldBytes = try (0..<5).map { _ in try byBytes(0).events.contains(.softLifetime) }
        #expect(toldBytes == [false, false, true, false, false])

        let (_, byTime) = try limited(direction) {
            $0.lifetimes.softNanoseconds = 1000
            $0.createdNanoseconds = 500
        }
        let times: [UInt64] = [0, 500, 1499, 1500, 1501, 5000]
        let toldTime = try times.map { try byTime($0).events.contains(.softLifetime) }
        #expect(toldTime == [false, false, false, true, false, false])
    }

    @Test(arguments: [Direction.inbound, .outbound])
    func hardLifetimesRefuse(direction: Direction) throws {
        let (one, byPackets) = try limited(direction) { $0.lifetimes.hardPackets = 2 }
        let drops = try (0..<4).map { _ in try byPackets(0).drop }
        #expect(drops == [nil, nil, .lifetimePackets, .lifetimePackets])
        expectCounted(one, direction, .lifetimePackets, 2)

        let (two, byBytes) = try limited(direction) { $0.lifetimes.hardBytes = 200 }
        let dropsBytes = try (0..<3).map { _ in try byBytes(0).drop }
        #expect(dropsBytes == [nil, nil, .lifetimeBytes])
        expectCounted(two, direction, .lifetimeBytes, 1)

        let (three, byTime) = try limited(direction) {
            $0.lifetimes.hardNanoseconds = 1000
            $0.createdNanoseconds = 500
        }
        // A clock that went back does not end an association.
        let times: [UInt64] = [0, 1499, 1500, .max]
        let dropsTime = try times.map { try byTime($0).drop }
        #expect(dropsTime == [nil, nil, .lifetimeTime, .lifetimeTime])
        expectCounted(three, direction, .lifetimeTime, 2)
    }

    private func expectCounted(
        _ tunnel: Tunnel, _ direction: Direction, _ reason: DropReason, _ count: UInt64
    ) {
        let station = direction == .inbound ? tunnel.receiver : tunnel.sender
        let handle = direction == .inbound ? tunnel.into : tunnel.out
        #expect(station.drops(handle)[reason] == count && station.drops(handle).total == count)
    }

    // A refused packet is not counted as life, and a forged one does not use it up.
    @Test func onlyGoodPacketsCount() throws {
        let tunnel = try Tunnel {
            $0.lifetimes.hardPackets = 2
            $0.lifetimes.softPackets = 2
        }
        let good = try tunnel.seal(inner)
        var forged = good
        forged[forged.count - 1] ^= 1
        for _ in 0..<10 { #expect(tunnel.open(forged).drop == .integrity) }
        #expect(tunnel.open(good).drop == nil)
        for _ in 0..<10 { #expect(tunnel.open(good).drop == .replayed) }
        #expect(tunnel.receiver.status(tunnel.into).packets == 1)
        #expect(tunnel.receiver.status(tunnel.into).bytes == 100)
        #expect(tunnel.open(try tunnel.seal(inner)).events == .softLifetime)
    }
}
