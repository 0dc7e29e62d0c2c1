// Fooled by: runs that swallow a gap, that forget a number when they join, or that mistake another
// generation's run for their own. The model keeps every number.

import TestSupport
import Testing

@testable import SimKit

@Suite struct LedgerTests {
    private struct Sent: Hashable {
        let tunnel: Int
        let sequence: UInt64
        let generation: UInt16
    }

    private struct Number: Hashable {
        let tunnel: Int
        let sequence: UInt64
    }

    @Test func sequencesAgreeWithASetOfAll() {
        var generator = SeededGenerator()
        for width in [3, 20, 300] as [UInt64] {
            var ledger = SequenceLedger(associations: 3)
            var sent = Set<Sent>()
            var numbers = Set<Number>()
            var position = [UInt64](repeating: 0, count: 3)
            var violations: UInt64 = 0
            for step in 0..<3000 as Range<UInt64> {
                let tunnel = Int(generator.next() % 3)
                // Mostly onwards, sometimes anywhere near.
                position[tunnel] += 1
                let sequence =
                    generator.next() % 4 != 0
                    ? position[tunnel]
                    : position[tunnel] &- min(position[tunnel], generator.next() % width)
                let generation = UInt16(1 + step / 1000 + generator.next() % 2)
                let packet = Sent(tunnel: tunnel, sequence: sequence, generation: generation)
                let isNew = numbers.insert(Number(tunnel: tunnel, sequence: sequence)).inserted
                let isNewNonce = sent.insert(packet).inserted
                let expected: SequenceVerdict =
                    isNew ? .new : isNewNonce ? .sequenceTwice : .nonceTwice
                if !isNew { violations += 1 }
                let verdict = ledger.note(
                    association: tunnel, sequence: sequence, generation: generation)
                #expect(verdict == expected)
            }
            #expect(ledger.violations == violations && ledger.packets == 3000)
            for tunnel in 0..<3 {
                let own = numbers.filter { $0.tunnel == tunnel }.map(\.sequence)
                #expect(ledger.highest(tunnel) == own.max() && ledger.count(tunnel) == own.count)
                for sequence in 0...2000 as ClosedRange<UInt64> {
                    let number = Number(tunnel: tunnel, sequence: sequence)
                    #expect(
                        ledger.hasSent(tunnel, sequence: sequence) == numbers.contains(number))
                }
            }
        }
    }

    @Test func theHandoverOfATunnelIsNoViolation() {
        var ledger = SequenceLedger(associations: 1)
        func note(_ sequence: UInt64, _ generation: UInt16) -> SequenceVerdict {
            ledger.note(association: 0, sequence: sequence, generation: generation)
        }
        #expect(note(1, 1) == .new)
        #expect(note(65, 2) == .new)
        #expect(note(2, 1) == .new, "the old owner goes on below its limit")
        #expect(note(65, 1) == .sequenceTwice)
        #expect(note(65, 1) == .nonceTwice)
        #expect(note(65, 2) == .nonceTwice)
        #expect(note(1 << 48 - 1, 2) == .new)
    }

    @Test func deliveriesAgreeWithASetOfAll() {
        var generator = SeededGenerator()
        var ledger = DeliveryLedger(tunnels: 2)
        var delivered = Set<[UInt64]>()
        var again = [0, 0]
        for step in 0..<6000 as Range<UInt64> {
            let tunnel = Int(generator.next() % 2)
            let isToPeer = generator.next() % 2 == 0
            let serial = step / 4 + generator.next() % 30
            let isNew = delivered.insert([UInt64(tunnel), isToPeer ? 1 : 0, serial]).inserted
            if !isNew { again[tunnel] += 1 }
            let verdict = ledger.note(tunnel: tunnel, isToPeer: isToPeer, serial: serial)
            #expect(verdict == isNew)
        }
        #expect(ledger.count == UInt64(delivered.count))
        #expect(ledger.duplicates == UInt64(again[0] + again[1]))
        for tunnel in 0..<2 {
            #expect(ledger.duplicates(tunnel) == again[tunnel])
            for direction in 0..<2 as Range<UInt64> {
                let own = delivered.filter { $0[0] == UInt64(tunnel) && $0[1] == direction }
                let isToPeer = direction == 1
                #expect(ledger.count(tunnel, isToPeer: isToPeer) == own.count)
                #expect(ledger.highest(tunnel, isToPeer: isToPeer) == own.map { $0[2] }.max())
                for serial in 0...1600 as ClosedRange<UInt64> {
                    let has = ledger.hasDelivered(tunnel, isToPeer: isToPeer, serial: serial)
                    #expect(has == delivered.contains([UInt64(tunnel), direction, serial]))
                }
            }
        }
    }

    @Test func runsJoinWhenTheirGapIsClosed() {
        var generator = SeededGenerator()
        var runs = NumberRuns(lists: 1)
        var numbers = (0..<500).map { UInt64($0) }
        numbers.shuffle(using: &generator)
        for number in numbers {
            let before = runs.insert(number, tag: 4, list: 0)
            #expect(before == nil)
        }
        let again = runs.insert(7, tag: 9, list: 0)
        #expect(again == 4)
        #expect(runs.runCount(0) == 1 && runs.count(0) == 500 && runs.highest(0) == 499)
        // The ends of the number line, where "one more" wraps around.
        var ends = NumberRuns(lists: 1)
        for number in [.max, 0, .max - 1] as [UInt64] {
            let first = ends.insert(number, tag: 0, list: 0)
            let second = ends.insert(number, tag: 0, list: 0)
            #expect(first == nil && second == 0)
        }
        #expect(ends.runCount(0) == 2 && ends.contains(.max, list: 0))
        #expect(!ends.contains(1, list: 0))
    }
}
