import ESP
import TestSupport
import Testing
import Wire

@testable import CryptoCardSim

@Suite struct CardFaultTests {
    // What would fool us: the session is gone from the list, and its keys stay in memory.
    @Test func lostAndClosedSessionsAreWiped() throws {
        let holder = try CardHolder(capacity: 3)
        let handles = try (1...3).map { try holder.open(parameters(0x1000 + UInt32($0), .inbound)) }
        for spi: UInt32 in 0x1001...0x1003 { _ = holder.receive(try sealed(spi)) }
        try holder.close(handles[0])
        holder.card.inject(.sessionLost(handles[1]))
        for (index, spi) in [(0, 0x1001), (1, 0x1002)] as [(Int, UInt32)] {
            #expect(holder.card.sessions.handle(at: UInt32(index)) == nil)
            #expect(holder.receive(try sealed(spi)).results == [.drop(.unknownSPI)])
        }
        let keyings = holder.card.keyings
        _ = holder.receive(try sealed(0x1003, count: 2).suffix(1))
        #expect(holder.card.keyings <= keyings + 1, "the third is untouched")
        holder.card.inject(.reset)
        #expect(holder.card.count == 0 && holder.handles.isEmpty)
        #expect(holder.card.counters.lost == 2 && holder.card.counters.closed == 1)
        // The same SPI with other keys: no schedule of the old session may be used for it.
        let fresh = try holder.open(parameters(0x1003, .inbound))
        #expect(fresh != handles[2])
        #expect(holder.receive(try sealed(0x1003)).results == [.packet(innerPacket)])
    }

    // The slot's next tenant has other keys; with a schedule left over its packets would not open.
    @Test(arguments: [CardFault.reset, .sessionLost(CardHandle(index: 0, generation: 1))])
    func noKeyIsInherited(fault: CardFault) throws {
        let holder = try CardHolder(capacity: 1)
        _ = try holder.open(parameters(0x1001, .inbound))
        for packet in try sealed(0x1001, count: 4) { _ = holder.receive([packet]) }
        holder.card.inject(fault)
        #expect(holder.card.count == 0)
        _ = try holder.open(parameters(0x1002, .inbound))
        #expect(holder.receive(try sealed(0x1002)).results == [.packet(innerPacket)])
    }

    @Test func stalledCardsAnswerNothing() throws {
        let holder = try CardHolder(capacity: 2)
        let handle = try holder.open(parameters(0x1001, .inbound))
        let sender = try holder.open(parameters(0x2001))
        let packets = try sealed(0x1001, count: 3)
        holder.card.inject(.stalled(untilNanoseconds: 1000))
        #expect(holder.receive([packets[0]], now: 999).results == [.drop(.cardStalled)])
        #expect(holder.send([(innerPacket, sender)], now: 999).results == [.drop(.cardStalled)])
        #expect(errorOf { try holder.open(parameters(0x1002, .inbound), now: 999) } == .stalled)
        #expect(holder.card.counters.packets == 0)
        // Nothing was marked, nothing sent, no number spent.
        #expect(try holder.status(handle).packets == 0 && holder.status(sender).sequence == 0)
        #expect(holder.receive([packets[0]], now: 1000).results == [.packet(innerPacket)])
        holder.card.inject(.stalled(untilNanoseconds: .max))
        #expect(holder.receive([packets[1]], now: 2000).results == [.drop(.cardStalled)])
        holder.card.inject(.reset)
        #expect(holder.receive([packets[1]], now: 2000).results == [.drop(.unknownSPI)])
        _ = try holder.open(parameters(0x1001, .inbound), now: 2000)
        #expect(holder.receive([packets[1]], now: 2000).results == [.packet(innerPacket)])
    }

    @Test func failedKeyingsCostTheirPackets() throws {
        let holder = try CardHolder(capacity: 1)
        let handle = try holder.open(parameters(0x1001, .inbound))
        let packets = try sealed(0x1001, count: 3)
        holder.card.inject(.keyingFails(count: 2))
        let results = holder.receive(packets).results
        #expect(results == [.drop(.cryptoFailure), .drop(.cryptoFailure), .packet(innerPacket)])
        #expect(try holder.drops(handle)[.cryptoFailure] == 2)
        #expect(holder.card.drops[.cryptoFailure] == 2)
    }

    // Counters of sessions go with them, the card's stay.
    @Test func dropsOfClosedSessionsStayInTheTotal() throws {
        let holder = try CardHolder(capacity: 1)
        let first = try holder.open(parameters(0x1001, .inbound))
        let packet = try sealed(0x1001)
        _ = holder.receive(packet + packet)
        #expect(try holder.drops(first)[.replayed] == 1)
        let second = try holder.replace(first, parameters(0x1002, .inbound))
        #expect(try holder.drops(second).total == 0 && holder.card.drops[.replayed] == 1)
    }
}

@Suite struct CardTimingTests {
    private let timing = CardTiming(
        latencyNanoseconds: 1000, packetNanoseconds: 100, kibibyteNanoseconds: 512,
        queueNanosecondsMaximum: 500)

    /// Work on packets of this card: the octets counted are those that come out.
    private func work(_ packets: Int) -> UInt64 {
        UInt64(packets) * 100 + UInt64(packets * innerPacket.count) * 512 / 1024
    }

    @Test func withoutTimingEverythingIsDoneAtOnce() throws {
        let holder = try CardHolder(capacity: 1)
        _ = try holder.open(parameters(0x1001, .inbound))
        #expect(holder.receive(try sealed(0x1001), now: 77).doneAt == 77)
        #expect(holder.receive([], now: 78).doneAt == 78)
    }

    @Test func completionFollowsTheQueue() throws {
        let holder = try CardHolder(capacity: 1, timing: timing)
        _ = try holder.open(parameters(0x1001, .inbound))
        let packets = try sealed(0x1001, count: 6)
        // An idle card: work, then latency.
        #expect(holder.receive(Array(packets[..<2]), now: 50).doneAt == 50 + work(2) + 1000)
        // A busy one: behind the first batch.
        #expect(holder.receive([packets[2]], now: 60).doneAt == 50 + work(2) + work(1) + 1000)
        // Idle again: the queue does not look back.
        #expect(holder.receive([packets[3]], now: 9000).doneAt == 9000 + work(1) + 1000)
    }

    @Test func fullQueuesRefuseWholeBatches() throws {
        let holder = try CardHolder(capacity: 1, timing: timing)
        let handle = try holder.open(parameters(0x1001, .inbound))
        let packets = try sealed(0x1001, count: 12)
        #expect(holder.receive(Array(packets[..<6]), now: 0).results.count == 6)
        let busyUntil = work(6)
        #expect(busyUntil > 500)
        let early = holder.receive(Array(packets[6..<8]), now: busyUntil - 501)
        #expect(early.results == [.drop(.cardBusy), .drop(.cardBusy)])
        #expect(early.doneAt == busyUntil - 501)
        #expect(try holder.status(handle).packets == 6 && holder.card.counters.packets == 6)
        // As much work waiting as is allowed.
        let late = holder.receive(Array(packets[6..<8]), now: busyUntil - 500)
        #expect(late.results == [.packet(innerPacket), .packet(innerPacket)])
        #expect(late.doneAt == busyUntil + work(2) + 1000)
    }

    @Test func resetsForgetTheQueue() throws {
        let holder = try CardHolder(capacity: 1, timing: timing)
        _ = try holder.open(parameters(0x1001, .inbound))
        _ = holder.receive(try sealed(0x1001, count: 10), now: 0)
        #expect(holder.receive(try sealed(0x1001), now: 0).results == [.drop(.cardBusy)])
        holder.card.inject(.reset)
        _ = try holder.open(parameters(0x1001, .inbound))
        #expect(holder.receive(try sealed(0x1001), now: 0).results == [.packet(innerPacket)])
    }
}
