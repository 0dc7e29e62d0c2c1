// Fooled by: order that holds only without jitter, faults that shift each other's draws, rates that
// are off by a factor.

import SimKit
import Testing

@Suite struct LinkModelTests {
    @Test func keepsTheOrderUnlessAskedNotTo() {
        var random = SimulationRandom(seed: 1)
        var link = LinkModel(delayNanoseconds: 1000, jitterNanoseconds: 50_000)
        link.duplicatePerMillion = 200_000
        link.lossPerMillion = 100_000
        var latest: UInt64 = 0
        for number in 0..<20_000 as Range<UInt64> {
            let now = number * 700
            if number == 5000 { link.heldUntil = 5_000_000 }
            if number == 9000 { link.delayNanoseconds = 0 }
            let (first, second) = link.arrivals(sentAt: now, &random)
            if let first {
                #expect(first >= latest && first >= now + link.delayNanoseconds)
                latest = first
                if (5000..<7142).contains(number) { #expect(first >= 5_000_000) }
            }
            if let second {
                #expect(second >= latest && first != nil)
                latest = second
            }
        }
    }

    @Test func reorderedPacketsAreOvertakenWithinTheBound() {
        var random = SimulationRandom(seed: 2)
        var link = LinkModel(delayNanoseconds: 1000, jitterNanoseconds: 100)
        link.reorderPerMillion = 100_000
        var overtaken = 0
        var latest: UInt64 = 0
        for number in 0..<20_000 as Range<UInt64> {
            let now = number * 10_000
            guard let arrival = link.arrivals(sentAt: now, &random).first else {
                Issue.record("a packet was lost")
                return
            }
            #expect(arrival <= now + 1100 + 10 * 100 + 5_000_000)
            if arrival > now + 1100 { overtaken += 1 } else { latest = max(latest, arrival) }
            #expect(latest <= now + 1100, "a late packet must not hold up the others")
        }
        #expect((1800...2200).contains(overtaken))
    }

    @Test func theCopyOfAPacketIsTheSecondToArrive() {
        var random = SimulationRandom(seed: 5)
        var link = LinkModel(delayNanoseconds: 1000, jitterNanoseconds: 100)
        link.reorderPerMillion = 500_000
        link.duplicatePerMillion = 1_000_000
        var spread = 0
        for number in 0..<1000 as Range<UInt64> {
            let (first, second) = link.arrivals(sentAt: number * 10_000, &random)
            guard let first, let second else {
                Issue.record("a packet was lost")
                return
            }
            #expect(first <= second)
            if first < second { spread += 1 }
        }
        #expect(spread > 500)
    }

    @Test func ratesAreThoseAskedFor() {
        var random = SimulationRandom(seed: 3)
        var link = LinkModel()
        link.lossPerMillion = 20_000
        link.duplicatePerMillion = 50_000
        var lost = 0
        var twice = 0
        for number in 0..<100_000 as Range<UInt64> {
            let (first, second) = link.arrivals(sentAt: number, &random)
            if first == nil { lost += 1 }
            if second != nil { twice += 1 }
        }
        #expect((1780...2220).contains(lost))
        #expect((4550...5250).contains(twice))
        link.lossPerMillion = 1_000_000
        let arrived = (0..<1000).filter { link.arrivals(sentAt: $0, &random).first != nil }
        #expect(arrived.isEmpty)
        link.lossPerMillion = 0
        link.isCut = true
        let cut = link.arrivals(sentAt: 1_000_000, &random)
        #expect(cut == (nil, nil))
    }

    @Test func lossDoesNotShiftTheDelaysOfOthers() {
        var calm = LinkModel(delayNanoseconds: 10, jitterNanoseconds: 1000)
        var lossy = calm
        lossy.lossPerMillion = 300_000
        var first = SimulationRandom(seed: 4)
        var second = first
        for number in 0..<1000 as Range<UInt64> {
            let now = number * 10_000
            let kept = calm.arrivals(sentAt: now, &first).first
            if let arrival = lossy.arrivals(sentAt: now, &second).first {
                #expect(arrival == kept)
            }
        }
        #expect(first == second)
    }
}
