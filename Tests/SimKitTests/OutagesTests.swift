// Fooled by: waits that the window's ends cut off, and ranks that are off by one.

import SimKit
import Testing

@Suite struct OutagesTests {
    @Test func theLongestWaitCountsTheEndsOfTheWindow() {
        var outages = Outages(tunnels: 4, from: 1000, until: 2000)
        for time in [500, 1100, 1200, 1500, 1450, 1600, 1990, 2500] as [UInt64] {
            outages.note(tunnel: 0, at: time)
        }
        #expect(outages.longest(of: 0) == 390, "1600 to 1990")
        outages.note(tunnel: 1, at: 1700)
        #expect(outages.longest(of: 1) == 700, "from the begin")
        outages.note(tunnel: 2, at: 1300)
        #expect(outages.longest(of: 2) == 700, "to the end")
        #expect(outages.longest(of: 3) == 1000, "nothing at all")
        let summary = outages.summary
        #expect(summary.tunnels == 4 && summary.median == 700 && summary.maximum == 1000)
        #expect(outages.summary(of: [0]).maximum == 390)
        #expect(outages.summary(of: []) == OutageSummary([]))
    }

    /// The nearest-rank examples of textbooks.
    @Test func percentilesAreNearestRanks() {
        let values: [UInt64] = [15, 20, 35, 40, 50]
        let expected: [(Int, UInt64)] = [
            (0, 15), (50, 15), (200, 15), (201, 20), (300, 20), (400, 20), (500, 35), (1000, 50),
        ]
        for (perMille, value) in expected {
            #expect(OutageSummary.percentile(perMille, of: values) == value)
        }
        let hundred = OutageSummary((1...100).reversed())
        #expect(hundred.median == 50 && hundred.percentile99 == 99 && hundred.maximum == 100)
    }
}
