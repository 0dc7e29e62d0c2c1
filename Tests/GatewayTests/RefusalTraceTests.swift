// Why packets were refused. What would fool us: a note of another packet than the one that was
// refused (so each has a number, addresses and a length of its own, which the test knows), a flood
// that hides what matters, and notes that cost memory.

import CMallocCounter
import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

@Suite struct RefusalTraceTests {
    private func refusals(of site: Site) -> [[Refusal]] {
        var all: [[Refusal]] = []
        for member in site.cluster.members { all.append(member.gateway.refusals()) }
        return all
    }

    @Test func theOwnerKnowsWhy() throws {
        let site = try Site(nodes: 3)
        let peers = try Peers()
        let spi = SPI(0x5000_0001)
        try site.install(peers.connect(spi))
        let packet = try peers.packet(spi).outer
        #expect(site.show(packet).verdict == .delivered)
        #expect(site.show(packet).verdict == .dropped(.replayed))
        var forged = try peers.packet(spi).outer
        forged[forged.count - 1] ^= 1
        #expect(site.show(forged).verdict == .dropped(.integrity))
        let owner = Int(site.owner(of: spi).value) - 1
        for (place, refusals) in refusals(of: site).enumerated() {
            guard place == owner else {
                #expect(refusals == [], "others have not refused it")
                continue
            }
            #expect(refusals.map(\.reason) == [.replayed, .integrity])
            #expect(refusals.map(\.number) == [1, 2])
            #expect(refusals.map(\.sequence) == [1, 2])
            for refusal in refusals {
                #expect(refusal.isInbound && refusal.spi == spi)
                #expect(refusal.byteCount == UInt32(packet.count))
                packet.withUnsafeBytes { octets in
                    guard let base = octets.baseAddress else { return }
                    #expect(refusal.source == IPAddress(.v4, at: base, 12))
                    #expect(refusal.destination == IPAddress(.v4, at: base, 16))
                }
            }
        }
    }

    @Test func brokenPacketsAreNotedAsFarAsTheyGo() throws {
        let site = try Site(nodes: 1)
        let peers = try Peers()
        let spi = SPI(0x5000_0001)
        try site.install(peers.connect(spi))
        let packet = try peers.packet(spi).outer
        for count in 1..<packet.count {
            // Every length: whatever is refused is noted, and nothing is read beyond the end.
            _ = site.show(Array(packet[..<count]))
        }
        let noted = refusals(of: site)[0]
        #expect(!noted.isEmpty)
        for refusal in noted {
            #expect(refusal.source == nil || refusal.byteCount >= 20)
        }
    }

    /// A flood has its own places, and is noted at a bounded rate.
    @Test func aFloodHidesNothing() {
        var trace = RefusalTrace()
        func note(_ reason: DropReason, _ now: UInt64) -> Bool {
            guard trace.takes(reason, now) else { return false }
            var refusal = Refusal()
            refusal.reason = reason
            refusal.timeNanoseconds = now
            trace.note(refusal)
            return true
        }
        #expect(note(.selector, 1_000_000_000))
        let taken = (0..<100_000).count { note(.unknownSPI, 1_000_000_000 + UInt64($0) * 10_000) }
        // A second of it, at one in a millisecond, after those that came at once.
        #expect((1000...1020).contains(taken))
        let all = trace.refusals(after: 0)
        #expect(all.count == 1 + RefusalTrace.placesPerReason)
        #expect(all.first?.reason == .selector && all.first?.number == 1)
        let newest = Array((trace.lastNumber - 15)...trace.lastNumber)
        #expect(all.dropFirst().map(\.number) == newest)
        #expect(trace.refusals(after: trace.lastNumber - 3).count == 3)
        #expect(trace.refusals(after: trace.lastNumber).isEmpty)
        // A clock that goes back earns nothing, and traps nothing.
        #expect(!note(.unknownSPI, 0))
    }

    @Test func notingTakesNoMemory() throws {
        let node = try Node(1)
        let spi = SPI(0x5000_0001)
        let peers = try Peers()
        _ = try peers.connect(spi)
        let packet = try peers.packet(spi).outer
        packet.withUnsafeBytes { octets in
            var taken: UInt64 = 0
            for time in UInt64(0)..<1000 {
                let before = malloc_counter_value()
                node.gateway.plane.traceReceived(octets, .replayed, time * 1_000_000)
                if time > 0 { taken += malloc_counter_value() - before }
            }
            #expect(taken == 0)
        }
        let noted = node.gateway.lastRefusal
        #expect(noted == 1000)
    }
}
