// What a node knows of its neighbors, and whom it believes.
//
// What would fool us: a forger who is believed because nobody else spoke.

import TestSupport
import Testing
import Wire

@testable import Cluster

private let second: UInt64 = 1_000_000_000

@Suite struct NeighborTableTests {
    private let router = IPAddress(v4: 0x0A4D_00FE)
    private let right = MACAddress(0x0200_0000_0001)
    private let forged = MACAddress(0x0200_0000_0666)
    private var table = NeighborTable(capacity: 8)

    private mutating func answer(
        _ address: MACAddress, at now: UInt64, isAnswer: Bool = true
    ) -> Bool {
        table.learn(router, at: address, isAnswer: isAnswer, nowNanoseconds: now)
    }

    @Test mutating func aNeighborIsAskedForAndFound() {
        #expect(table.resolve(router, nowNanoseconds: 0) == .pending)
        #expect(table.resolve(router, nowNanoseconds: 1) == .pending)
        #expect(table.takeQuestions() == [NeighborQuestion(address: router, destination: nil)])
        let isFound = answer(right, at: 2)
        #expect(isFound)
        #expect(table.resolve(router, nowNanoseconds: 3) == .address(right))
        #expect(table.takeQuestions().isEmpty)
        // After its time it is asked itself, and used meanwhile.
        #expect(table.resolve(router, nowNanoseconds: 31 * second) == .address(right))
        #expect(table.takeQuestions() == [NeighborQuestion(address: router, destination: right)])
    }

    @Test mutating func whoeverDoesNotAnswerIsGivenUpAndTriedAgain() {
        _ = table.resolve(router, nowNanoseconds: 0)
        for round in 1...2 {
            #expect(table.takeQuestions().count == 1)
            table.tick(nowNanoseconds: UInt64(round) * second)
        }
        #expect(table.takeQuestions().count == 1)
        #expect(table.nextDeadline == 3 * second)
        table.tick(nowNanoseconds: 3 * second)
        #expect(table.takeQuestions().isEmpty)
        #expect(table.resolve(router, nowNanoseconds: 3 * second) == .unreachable)
        #expect(table.resolve(router, nowNanoseconds: 6 * second) == .pending)
        #expect(table.takeQuestions().count == 1)
    }

    @Test mutating func forgersAreNotBelieved() {
        // What nobody asked for makes no entry.
        let isFound = answer(forged, at: 0)
        #expect(!isFound && table.count == 0)
        _ = table.resolve(router, nowNanoseconds: 0)
        _ = table.takeQuestions()
        // Not an answer to us, no address of a station, or nobody's.
        for (address, isAnswer) in [
            (forged, false), (MACAddress.broadcast, true), (MACAddress(0x0100_5E00_0001), true),
            (MACAddress(0), true),
        ] {
            let isFound = answer(address, at: 1, isAnswer: isAnswer)
            #expect(!isFound && table.resolve(router, nowNanoseconds: 1) == .pending)
        }
        _ = answer(right, at: 2)
        // A contradiction: the neighbor that is known is asked, and stays in use.
        for isAnswer in [true, false] {
            let isFound = answer(forged, at: 3, isAnswer: isAnswer)
            #expect(!isFound)
        }
        #expect(table.resolve(router, nowNanoseconds: 4) == .address(right))
        #expect(table.takeQuestions() == [NeighborQuestion(address: router, destination: right)])
        let isForgerFound = answer(forged, at: 5)
        #expect(!isForgerFound)
        let isRightFound = answer(right, at: 6)
        #expect(isRightFound)
        #expect(table.resolve(router, nowNanoseconds: 7) == .address(right))
        #expect(table.unasked == 8)
    }

    // A router that got a new card: the old address is silent, so all are asked.
    @Test mutating func newCardsAreFound() {
        _ = table.resolve(router, nowNanoseconds: 0)
        _ = answer(right, at: 0)
        let new = MACAddress(0x0200_0000_0002)
        _ = answer(new, at: 1, isAnswer: false)
        #expect(table.resolve(router, nowNanoseconds: 2) == .address(right))
        for round in 1...3 { table.tick(nowNanoseconds: UInt64(round) * second + 2) }
        #expect(table.takeQuestions().last == NeighborQuestion(address: router, destination: nil))
        let isFound = answer(new, at: 4 * second)
        #expect(isFound)
        #expect(table.resolve(router, nowNanoseconds: 4 * second) == .address(new))
    }

    @Test mutating func theTableIsBounded() {
        for number in 0..<8 {
            #expect(
                table.resolve(IPAddress(v4: UInt32(number)), nowNanoseconds: second) == .pending)
        }
        #expect(table.resolve(router, nowNanoseconds: second + 1) == .tableFull)
        // One that nobody used for a while makes room.
        #expect(table.resolve(router, nowNanoseconds: 3 * second) == .pending)
        #expect(table.count == 8)
        table.tick(nowNanoseconds: 700 * second)
        #expect(table.count == 0)
    }
}
