// What would fool us: books that count a packet as lost because its arrival was read before its
// departure; an outage that begins at the fault and not with the last packet before; one that ends
// with the records; copies of a packet that was booked out; an owner taken from the wrong way. A
// second computation, from the list of all packets, must give the same figures.

import Testing
import TestSupport

@testable import Lab

@Suite struct TrafficLedgerTests {
    private static let millisecond: UInt64 = 1_000_000

    private static func sent(_ number: UInt32, at time: UInt64, tunnel: Int = 0) -> TrafficRecord {
        TrafficRecord(.sent, .up, tunnel: tunnel, number: number, sent: time * millisecond)
    }

    private static func received(
        _ number: UInt32, sent: UInt64, at time: UInt64, node: Int = 1, tunnel: Int = 0
    ) -> TrafficRecord {
        TrafficRecord(
            .received, .up, tunnel: tunnel, number: number, sent: sent * millisecond,
            received: time * millisecond, node: node)
    }

    private static func ledger(_ records: [TrafficRecord]) -> TrafficLedger {
        var ledger = TrafficLedger(tunnels: 2, silence: 50 * millisecond)
        for record in records { ledger.note(record) }
        return ledger
    }

    /// A packet each 10 ms; those from 100 to 140 ms are lost; the node changes.
    @Test func anOutageReachesFromTheLastPacketToTheNext() {
        var records: [TrafficRecord] = []
        for number in 0..<30 as Range<UInt32> {
            let time = UInt64(number) * 10 + 10
            records.append(Self.sent(number, at: time))
            guard !(100...140).contains(time) else { continue }
            records.append(
                Self.received(number, sent: time, at: time + 1, node: time < 100 ? 2 : 3))
        }
        let ledger = Self.ledger(records)
        let figures = ledger.figures(
            0, .up, from: 95 * Self.millisecond, until: 300 * Self.millisecond)
        #expect(figures.sent == 20)
        #expect(figures.lost == 5)
        #expect(figures.outage == 60 * Self.millisecond)
        #expect(figures.twice == 0 && figures.late == 0)
        #expect(figures.latencyMedian == Self.millisecond)
        #expect(ledger.owners[0].map(\.node) == [2, 3])
        #expect(ledger.owner(of: 0) == 3)
        #expect(ledger.silences.map(\.from) == [91 * Self.millisecond])
        #expect(ledger.silences.map(\.until) == [151 * Self.millisecond])
        // The other way and the other tunnel have nothing of it: silent all the time.
        let other = ledger.figures(1, .up, from: 0, until: 300 * Self.millisecond)
        #expect(other.sent == 0 && other.outage == 300 * Self.millisecond)
    }

    @Test func aSilenceThatDoesNotEndCounts() {
        let ledger = Self.ledger([
            Self.sent(0, at: 10), Self.received(0, sent: 10, at: 11), Self.sent(1, at: 20),
        ])
        let figures = ledger.figures(0, .up, from: 0, until: 500 * Self.millisecond)
        #expect(figures.outage == 489 * Self.millisecond)
        #expect(figures.lost == 1)
    }

    @Test func copiesAndOvertakenPacketsAreCounted() {
        var ledger = Self.ledger([
            Self.received(1, sent: 20, at: 21), Self.received(0, sent: 10, at: 22),
            Self.sent(0, at: 10), Self.sent(1, at: 20), Self.received(1, sent: 20, at: 30),
        ])
        let figures = ledger.figures(0, .up, from: 0, until: 100 * Self.millisecond)
        #expect(figures.sent == 2 && figures.lost == 0)
        #expect(figures.twice == 1)
        #expect(figures.late == 1)
        _ = ledger.settle(before: .max, width: Self.millisecond)
        ledger.note(Self.received(1, sent: 20, at: 40))
        #expect(ledger.copiesOfSettled == 1, "a copy must not be forgotten with its packet")
    }

    @Test func whatComesOutOfTheWrongTunnelIsNoPacketOfIt() {
        let ledger = Self.ledger([
            TrafficRecord(.stray, .down, tunnel: 0, number: 0, sent: 0, received: 5),
            Self.received(0, sent: 1, at: 2, tunnel: 7),
        ])
        #expect(ledger.strays == 2)
        #expect(ledger.figures(0, .up, from: 0, until: .max).sent == 0)
    }

    /// Lost, doubled and reordered at random, read in another order than it happened.
    @Test func figuresAgreeWithAListOfAllPackets() {
        var generator = SeededGenerator()
        for _ in 0..<20 { compareWithAList(&generator) }
    }

    private func compareWithAList(_ generator: inout SeededGenerator) {
        var departures: [TrafficRecord] = []
        var arrivals: [TrafficRecord] = []
        for number in 0..<200 as Range<UInt32> {
            let time = UInt64(number) * 10 + 10
            departures.append(Self.sent(number, at: time))
            for _ in 0..<[0, 1, 1, 1, 2][Int.random(in: 0...4, using: &generator)] {
                let delay = UInt64.random(in: 1...40, using: &generator)
                arrivals.append(Self.received(number, sent: time, at: time + delay))
            }
        }
        arrivals.sort { $0.received < $1.received }
        let ledger = Self.ledger(arrivals + departures)
        let (begin, end) = (500 * Self.millisecond, 1500 * Self.millisecond)
        let figures = ledger.figures(0, .up, from: begin, until: end)
        let window = departures.filter { $0.sent >= begin && $0.sent < end }
        let copies = window.map { packet in arrivals.count { $0.number == packet.number } }
        #expect(figures.sent == window.count)
        #expect(figures.lost == copies.count { $0 == 0 })
        #expect(figures.twice == copies.reduce(0) { $0 + max(0, $1 - 1) })
        var firsts: [UInt32: UInt64] = [:]
        for arrival in arrivals {
            firsts[arrival.number] = firsts[arrival.number] ?? arrival.received
        }
        let times = firsts.values.filter { $0 < end }.sorted()
        let gaps = zip(times, times.dropFirst() + [end]).filter { $1 >= begin }.map { $1 - $0 }
        #expect(figures.outage == gaps.max())
    }

    @Test func slicesHaveEveryPacketOnce() {
        var ledger = Self.ledger(
            (0..<100 as Range<UInt32>).flatMap { number in
                let time = UInt64(number) * 10 + 10
                let sent = Self.sent(number, at: time)
                return number % 10 == 0
                    ? [sent] : [sent, Self.received(number, sent: time, at: time + 2)]
            })
        let first = ledger.settle(before: 500 * Self.millisecond, width: 100 * Self.millisecond)
        let second = ledger.settle(before: .max, width: 100 * Self.millisecond)
        let all = first + second
        #expect(all.reduce(0) { $0 + $1.sent } == 100)
        #expect(all.reduce(0) { $0 + $1.lost } == 10)
        #expect(all.allSatisfy { $0.latencyMaximum == 2 * Self.millisecond })
    }
}
