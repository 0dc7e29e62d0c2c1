import TestSupport
import Testing
import Wire

@testable import Cluster

private let identifierCounts = (4...12).map { 1 << $0 }

@Suite struct DistributionTests {
    private let key: CookieKey

    init() throws {
        key = try CookieKey(bytes: 1...20)
    }

    // What would fool us: a hash that only agrees with itself. The kernel filter and the other
    // nodes must compute the same, so the values are pinned; they were computed in Python.
    @Test func hashesArePinned() throws {
        let small = try Distribution(cookieKey: key)
        let large = try Distribution(identifierCount: 4096, cookieKey: key)
        let spis: [(UInt32, UInt16, UInt16)] = [
            (0x1234_5678, 0xF6, 0xF6D), (0, 0, 0), (256, 0x37, 0x377), (0xFFFF_FFFF, 0x61, 0x61C),
        ]
        for (spi, inSmall, inLarge) in spis {
            #expect(small.identifier(of: SPI(spi)).value == inSmall)
            #expect(large.identifier(of: SPI(spi)).value == inLarge)
        }
        let cookies: [(UInt64, UInt16, UInt16)] = [
            (0, 0x11, 0x111), (0x0123_4567_89AB_CDEF, 0xB7, 0xB77), (.max, 0x19, 0x191),
            (1, 0x1E, 0x1E2),
        ]
        for (cookie, inSmall, inLarge) in cookies {
            #expect(small.identifier(ofInitiatorCookie: cookie).value == inSmall)
            #expect(large.identifier(ofInitiatorCookie: cookie).value == inLarge)
        }
        #expect(Distribution.spiMultiplierInverse == 0x0E8B_2F51)
    }

    // What would fool us: an inverse that is right for some counts or some identifiers only.
    @Test(arguments: identifierCounts)
    func spiForEveryIdentifierHasThatIdentifier(count: Int) throws {
        var random = SeededGenerator()
        let distribution = try Distribution(identifierCount: count, cookieKey: key)
        let lowMask = (1 << distribution.hashShift) &- 1 as UInt32
        for value in 0..<count {
            let identifier = DistributionIdentifier(UInt16(value))
            for low in [0, .max, random.next() as UInt32] {
                let spi = distribution.spi(for: identifier, low: low)
                #expect(distribution.identifier(of: spi) == identifier)
                #expect(!spi.isReserved)
                // The low bits are all kept: no two of them share an SPI.
                let kept = spi.value &* Distribution.spiMultiplier & lowMask
                let isAsAsked = kept == low & lowMask
                let wanted = SPI(
                    (UInt32(value) << distribution.hashShift | low & lowMask)
                        &* Distribution.spiMultiplierInverse)
                #expect(isAsAsked || wanted.isReserved)
            }
        }
    }

    @Test(arguments: identifierCounts)
    func everyUsableSPIIsReachable(count: Int) throws {
        var random = SeededGenerator()
        let distribution = try Distribution(identifierCount: count, cookieKey: key)
        for spi in [256, 257, .max]
            + (0..<1000).map({ _ in UInt32.random(in: 256 ... .max, using: &random) })
        {
            let identifier = distribution.identifier(of: SPI(spi))
            let low = spi &* Distribution.spiMultiplier
            #expect(distribution.spi(for: identifier, low: low) == SPI(spi))
        }
    }

    // What would fool us: random low bits practically never meet one of the 256 reserved SPIs.
    @Test(arguments: identifierCounts)
    func reservedSPIsAreReplacedWithinTheirIdentifier(count: Int) throws {
        let distribution = try Distribution(identifierCount: count, cookieKey: key)
        for reserved in 0..<256 as Range<UInt32> {
            let identifier = distribution.identifier(of: SPI(reserved))
            var low = reserved &* Distribution.spiMultiplier
            let spi = distribution.spi(for: identifier, low: low)
            #expect(!spi.isReserved)
            #expect(distribution.identifier(of: spi) == identifier)
            // It is what the next usable low bits give.
            let lowMask = (1 << distribution.hashShift) &- 1 as UInt32
            repeat {
                low &+= 1
            } while SPI(
                (UInt32(identifier.value) << distribution.hashShift | low & lowMask)
                    &* Distribution.spiMultiplierInverse
            ).isReserved
            #expect(distribution.spi(for: identifier, low: low) == spi)
        }
    }

    @Test(arguments: identifierCounts)
    func identifiersAreUniform(count: Int) throws {
        var random = SeededGenerator()
        let key = try CookieKey(bytes: (0..<20).map { _ in random.next() })
        let distribution = try Distribution(identifierCount: count, cookieKey: key)
        let samples = 0..<16 * count
        let start = random.next() as UInt32
        let chiSquares = [
            chiSquare(count, samples.map { distribution.identifier(of: SPI(start &+ UInt32($0))) }),
            chiSquare(count, samples.map { _ in distribution.identifier(of: SPI(random.next())) }),
            chiSquare(
                count,
                samples.map { _ in
                    distribution.identifier(ofInitiatorCookie: random.next())
                }),
        ]
        // Mean k − 1, variance 2(k − 1): six standard deviations, and for few identifiers a bit
        // more because of the long tail.
        let degrees = Double(count - 1)
        for chiSquare in chiSquares {
            #expect(chiSquare < degrees + 6 * (2 * degrees).squareRoot() + 20)
        }
        // Sequential SPIs do better than chance.
        #expect(chiSquares[0] < degrees)
    }

    // What would fool us: any hash looks uniform on random cookies. Universality is about the
    // worst pair under a random key. The last pair collides under every key if the cookie is
    // hashed in two 32-bit halves with odd multipliers.
    @Test(
        arguments: [
            (0, 1), (0, 1 << 63), (0, .max), (1, 1 << 32), (0x8000, 0x8000_8000),
            (0, 0x8000_0000_8000_0000),
        ] as [(UInt64, UInt64)])
    func chosenCookiesCollideNoMoreThanRandomOnes(first: UInt64, second: UInt64) throws {
        var random = SeededGenerator()
        let trials = 20_000
        var collisions = 0
        for _ in 0..<trials {
            let key = CookieKey(
                multipliers: SIMD4(
                    random.next(), random.next(), random.next(), random.next()),
                offset: random.next())
            let distribution = try Distribution(identifierCount: 16, cookieKey: key)
            if distribution.identifier(ofInitiatorCookie: first)
                == distribution.identifier(ofInitiatorCookie: second)
            {
                collisions += 1
            }
        }
        // One in 16, six standard deviations to either side.
        let expected = Double(trials) / 16
        #expect(abs(Double(collisions) - expected) < 6 * (expected * 15 / 16).squareRoot())
    }

    @Test(arguments: [Int.min, -16, 0, 1, 8, 15, 17, 255, 257, 4095, 8192, .max])
    func impossibleIdentifierCountsAreRefused(count: Int) {
        #expect(throws: ClusterError.identifierCount(count)) {
            try Distribution(identifierCount: count, cookieKey: key)
        }
    }

    @Test func cookieKeyIsReadBigEndianAndStaysHidden() throws {
        #expect(key.multipliers == SIMD4(0x0102_0304, 0x0506_0708, 0x090A_0B0C, 0x0D0E_0F10))
        #expect(key.offset == 0x1112_1314)
        #expect(!"\(try Distribution(cookieKey: key))".contains("\(key.offset)"))
        for length in [0, 19, 21, 64] {
            #expect(throws: ClusterError.cookieKeyLength(bytes: length)) {
                try CookieKey(bytes: repeatElement(0, count: length))
            }
        }
    }

    @Test func nodesAreNumberedFromOne() {
        #expect(NodeID(exactly: 0) == nil)
        #expect(NodeID(exactly: 65_536) == nil)
        #expect(NodeID(exactly: -1) == nil)
        #expect(NodeID(exactly: 65_535)?.value == 65_535)
    }

    // What would fool us: a check that is compiled out, and an SPI of another identifier.
    @Test func callerBugsTrap() async {
        await #expect(processExitsWith: .failure) { _ = NodeID(0) }
        await #expect(processExitsWith: .failure) {
            let distribution = try Distribution(cookieKey: CookieKey(bytes: 1...20))
            _ = distribution.spi(for: DistributionIdentifier(256), low: 0)
        }
    }

    private func chiSquare(_ count: Int, _ identifiers: [DistributionIdentifier]) -> Double {
        var tally = Array(repeating: 0.0, count: count)
        for identifier in identifiers { tally[Int(identifier.value)] += 1 }
        let expected = Double(identifiers.count) / Double(count)
        return tally.reduce(0) { $0 + ($1 - expected) * ($1 - expected) / expected }
    }
}
