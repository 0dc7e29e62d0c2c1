// Fooled by: a hash that forgets the order, or the boundaries between what it was given.

import SimKit
import Testing

@Suite struct TraceHashTests {
    private func hash(_ words: [(UInt64, UInt64)]) -> UInt64 {
        var hash = TraceHash()
        for (a, b) in words { hash.mix(a, b) }
        return hash.value
    }

    @Test func orderAndEveryBitCount() {
        var seen: Set<UInt64> = [
            hash([]), hash([(0, 0)]), hash([(0, 0), (0, 0)]), hash([(1, 2)]), hash([(2, 1)]),
            hash([(1, 2), (3, 4)]), hash([(3, 4), (1, 2)]), hash([(1, 3), (2, 4)]),
        ]
        #expect(seen.count == 8)
        for bit in 0..<64 as Range<UInt64> {
            #expect(seen.insert(hash([(1 << bit, 7)])).inserted)
            #expect(seen.insert(hash([(7, 1 << bit), (1, 1)])).inserted)
        }
    }

    @Test func octetsCountWithTheirNumber() {
        var seen = Set<UInt64>()
        for count in 0..<40 {
            var hash = TraceHash()
            [UInt8](repeating: 0, count: count).withUnsafeBytes { hash.mix($0) }
            #expect(seen.insert(hash.value).inserted)
        }
        for place in 0..<19 {
            var octets = [UInt8](repeating: 0, count: 19)
            octets[place] = 1
            var hash = TraceHash()
            octets.withUnsafeBytes { hash.mix($0) }
            #expect(seen.insert(hash.value).inserted)
        }
    }
}
