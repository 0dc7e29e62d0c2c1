// Fooled by: a generator that is not the published one, a biased range, streams that shift.

import Testing

@testable import SimKit

@Suite struct RandomStreamTests {
    /// From the reference implementation's state 1, 2, 3, 4.
    @Test func xoshiroGivesThePublishedNumbers() {
        var random = SimulationRandom(state: (1, 2, 3, 4))
        let expected: [UInt64] = [
            11520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360,
            607_988_272_756_665_600, 16_172_922_978_634_559_625, 8_476_171_486_693_032_832,
            10_595_114_339_597_558_777, 2_904_607_092_377_533_576,
        ]
        #expect(expected.indices.map { _ in random.next() } == expected)
    }

    @Test func splitMixGivesThePublishedNumbers() {
        var state: UInt64 = 0
        #expect(SimulationRandom.splitMix(&state) == 0xE220_A839_7B1D_CDAF)
        #expect(SimulationRandom.splitMix(&state) == 0x6E78_9E6A_A1B9_65F4)
        #expect(SimulationRandom.splitMix(&state) == 0x06C4_5D18_8009_454F)
    }

    @Test func rangesAreMetEvenlyAndNeverLeft() {
        var random = SimulationRandom(seed: 7)
        var seen = [Int](repeating: 0, count: 10)
        for _ in 0..<100_000 { seen[Int(random.below(10))] += 1 }
        // Five standard deviations (95) around 10 000.
        #expect(seen.allSatisfy { (9525...10_475).contains($0) }, "\(seen)")
        let narrow = Set((0..<1000).map { _ in random.between(5, 7) })
        #expect(narrow == [5, 6, 7])
        let single = random.between(9, 9)
        #expect(single == 9)
        // A bound just above a power of two is where modulo and multiplication are biased most.
        let bound: UInt64 = 1 << 63 + 1
        let low = (0..<20_000).filter { _ in random.below(bound) < bound / 2 }.count
        #expect((9600...10_400).contains(low))
        let wide = (0..<1000).filter { _ in random.between(0, .max) > .max / 2 }.count
        #expect((420...580).contains(wide))
    }

    @Test func chancesAreExactAtTheirEnds() {
        var random = SimulationRandom(seed: 8)
        for _ in 0..<1000 {
            let always = random.chance(3, in: 3)
            let never = random.chance(0, in: 3)
            #expect(always && !never)
        }
        let hits = (0..<90_000).filter { _ in random.chance(1, in: 3) }.count
        #expect((29_300...30_700).contains(hits))
    }

    @Test func forksDependOnSeedAndLabelOnly() {
        let fresh = SimulationRandom(seed: 42)
        var used = fresh
        for _ in 0..<17 { _ = used.next() }
        #expect(fresh.fork(3) == used.fork(3))
        var firsts = Set<UInt64>()
        for seed in 0..<50 as Range<UInt64> {
            let root = SimulationRandom(seed: seed)
            for label in 0..<50 as Range<UInt64> {
                var fork = root.fork(label)
                #expect(firsts.insert(fork.next()).inserted)
                var deeper = root.fork(label).fork(label)
                #expect(firsts.insert(deeper.next()).inserted)
            }
        }
    }
}
