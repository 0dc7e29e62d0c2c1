import TestSupport
import Testing
import Wire

@testable import CryptoCardSim
@testable import ESP

@Suite struct CryptoCardTests {
    /// What the card should hold, kept in dictionaries.
    private struct Model {
        var sessions: [CardHandle: AssociationParameters] = [:]
        var gone: [CardHandle] = []
        var counters = (opened: UInt64(0), closed: UInt64(0), full: UInt64(0), lost: UInt64(0))
        var peak = 0

        func holder(of spi: UInt32) -> CardHandle? {
            sessions.first { $0.value.spi.value == spi && $0.value.direction == .inbound }?.key
        }

        mutating func opened(_ handle: CardHandle, _ parameters: AssociationParameters) {
            sessions[handle] = parameters
            counters.opened += 1
            peak = max(peak, sessions.count)
        }

        mutating func closed(_ handle: CardHandle) {
            sessions[handle] = nil
            gone.append(handle)
        }

        /// Handles in a fixed order, so that a seed repeats.
        var handles: [CardHandle] { sessions.keys.sorted { $0.index < $1.index } }
    }

    // What would fool us: a card that is right while it only fills, or only empties.
    @Test(arguments: [1, 2, 5])
    func agreesWithDictionaries(capacity: Int) throws {
        var random = SeededGenerator()
        let holder = try CardHolder(capacity: capacity)
        var model = Model()
        for _ in 0..<1_500 {
            let wanted = parameters(
                0x1001 + UInt32.random(in: 0..<8, using: &random),
                Int.random(in: 0..<4, using: &random) == 0 ? .outbound : .inbound)
            let old = model.handles.randomElement(using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4: open(holder, &model, wanted)
            case 4..<6:
                guard let old else { continue }
                try holder.close(old)
                model.closed(old)
                model.counters.closed += 1
            case 6..<8: replace(holder, &model, old, wanted)
            case 8:
                guard let old, Int.random(in: 0..<3, using: &random) == 0 else { continue }
                holder.card.inject(.sessionLost(old))
                model.closed(old)
                model.counters.lost += 1
            default:
                guard Int.random(in: 0..<20, using: &random) == 0 else { continue }
                holder.card.inject(.reset)
                model.counters.lost += UInt64(model.sessions.count)
                for handle in model.handles { model.closed(handle) }
            }
            expectEqual(holder, model)
        }
        #expect(model.counters.full > 10 && model.counters.lost > 10 && model.gone.count > 100)
    }

    private func open(
        _ holder: CardHolder, _ model: inout Model, _ wanted: AssociationParameters
    ) {
        let isDuplicate = wanted.direction == .inbound && model.holder(of: wanted.spi.value) != nil
        let isFull = model.sessions.count == holder.card.capacity
        let expected: CardError? =
            isDuplicate
            ? .duplicateSPI(wanted.spi) : isFull ? .full(capacity: holder.card.capacity) : nil
        if !isDuplicate && isFull { model.counters.full += 1 }
        let error = errorOf {
            let handle = try holder.open(wanted)
            #expect(model.sessions[handle] == nil && !model.gone.contains(handle))
            model.opened(handle, wanted)
        }
        #expect(error == expected)
    }

    private func replace(
        _ holder: CardHolder, _ model: inout Model, _ old: CardHandle?,
        _ wanted: AssociationParameters
    ) {
        guard let old else { return }
        let other = wanted.direction == .inbound ? model.holder(of: wanted.spi.value) : nil
        let isDuplicate = other != nil && other != old
        let error = errorOf {
            let handle = try holder.replace(old, wanted)
            #expect(handle != old && !model.gone.contains(handle))
            model.closed(old)
            model.counters.closed += 1
            model.opened(handle, wanted)
        }
        #expect(error == (isDuplicate ? .duplicateSPI(wanted.spi) : nil))
    }

    private func expectEqual(_ holder: CardHolder, _ model: Model) {
        #expect(holder.handles == model.handles && holder.card.count == model.sessions.count)
        for spi: UInt32 in 0x1001...0x1008 { #expect(holder.session(spi) == model.holder(of: spi)) }
        for (handle, wanted) in model.sessions {
            let status = try? holder.status(handle)
            #expect(status?.spi == wanted.spi && status?.direction == wanted.direction)
        }
        let counters = holder.card.counters
        #expect(counters.opened == model.counters.opened)
        #expect(counters.closed == model.counters.closed)
        #expect(counters.refusedFull == model.counters.full)
        #expect(counters.lost == model.counters.lost && counters.peak == model.peak)
        for handle in model.gone.suffix(3) {
            #expect(errorOf { try holder.status(handle) } == .staleHandle(handle))
        }
    }

    // The patent's bounded store: two places, ten tunnels. Eight hear why, two work.
    @Test func capacityTwoRefusesEightOfTenClearly() throws {
        let holder = try CardHolder(capacity: 2)
        var refusals = 0
        for spi: UInt32 in 0x1001...0x100A {
            guard let error = errorOf({ try holder.open(parameters(spi, .inbound)) }) else {
                continue
            }
            #expect(error == .full(capacity: 2))
            #expect(error.description.contains("full (2 of 2 sessions)"))
            refusals += 1
        }
        #expect(refusals == 8 && holder.card.counters.refusedFull == 8)
        #expect(holder.card.count == 2 && holder.card.counters.peak == 2)
        for spi: UInt32 in 0x1001...0x100A {
            let isIn = spi <= 0x1002
            let result = holder.receive(try sealed(spi)).results
            #expect(result == [isIn ? .packet(innerPacket) : .drop(.unknownSPI)])
        }
    }

    @Test func staleHandlesAreRefusedEverywhere() throws {
        let holder = try CardHolder(capacity: 2)
        let stale = try holder.open(parameters(0x1001))
        try holder.close(stale)
        // Its place has a new tenant.
        let tenant = try holder.open(parameters(0x1002))
        #expect(tenant.index == stale.index && tenant != stale)
        let expected = CardError.staleHandle(stale)
        #expect(errorOf { try holder.close(stale) } == expected)
        #expect(errorOf { try holder.status(stale) } == expected)
        #expect(errorOf { try holder.drops(stale) } == expected)
        #expect(errorOf { try holder.card.checkpoint(of: stale) } == expected)
        #expect(errorOf { try holder.replace(stale, parameters(0x1003)) } == expected)
        holder.card.inject(.sessionLost(stale))
        #expect(holder.send([(innerPacket, stale)]).results == [.drop(.sessionLost)])
        // The tenant noticed nothing of it, and a card's numbers never stand for nothing.
        #expect(try holder.status(tenant).sequence == 0 && holder.card.counters.lost == 0)
        let nowhere = CardHandle(index: 7, generation: 1)
        #expect(errorOf { try holder.status(nowhere) } == .staleHandle(nowhere))
        #expect(holder.send([(innerPacket, nowhere)]).results == [.drop(.sessionLost)])
    }

    @Test func inboundSessionsDoNotSend() throws {
        let holder = try CardHolder(capacity: 1)
        let inbound = try holder.open(parameters(0x1001, .inbound))
        #expect(holder.send([(innerPacket, inbound)]).results == [.drop(.sessionLost)])
    }

    @Test func outboundSPIsAreThePeersChoice() throws {
        // Two peers may choose one number, and it may be one of ours.
        let holder = try CardHolder(capacity: 3)
        let inbound = try holder.open(parameters(0x1001, .inbound))
        let one = try holder.open(parameters(0x1001))
        let two = try holder.open(parameters(0x1001))
        #expect(holder.session(0x1001) == inbound)
        try holder.close(one)
        #expect(holder.session(0x1001) == inbound)
        let results = holder.send([(innerPacket, two)]).results
        guard case .packet(let outer) = results[0] else {
            Issue.record("not sent")
            return
        }
        #expect(holder.receive([outer]).results == [.packet(innerPacket)])
    }

    @Test func replaceWorksOnAFullCard() throws {
        let holder = try CardHolder(capacity: 1)
        let old = try holder.open(parameters(0x1001, .inbound))
        let new = try holder.replace(old, parameters(0x1002, .inbound))
        #expect(holder.session(0x1001) == nil && holder.session(0x1002) == new)
        #expect(holder.receive(try sealed(0x1002)).results == [.packet(innerPacket)])
        // A rekey may keep the SPI: fresh window, fresh counters.
        let again = try holder.replace(new, parameters(0x1002, .inbound))
        #expect(try holder.status(again).packets == 0)
        #expect(holder.receive(try sealed(0x1002)).results == [.packet(innerPacket)])
        #expect(holder.card.counters.opened == 3 && holder.card.counters.closed == 2)
        #expect(holder.card.counters.refusedFull == 0)
    }

    @Test func failedReplaceLeavesTheOld() throws {
        let catalogue = AssociationCatalogue()
        let holder = try CardHolder(capacity: 2, catalogue: catalogue)
        let first = try holder.open(parameters(0x1001, .inbound))
        let second = try holder.open(parameters(0x1002, .inbound))
        #expect(
            errorOf { try holder.replace(first, parameters(0x1002, .inbound)) }
                == .duplicateSPI(SPI(0x1002)))
        holder.card.inject(.stalled(untilNanoseconds: 100))
        #expect(errorOf { try holder.replace(first, parameters(0x1003, .inbound)) } == .stalled)
        holder.card.inject(.stalled(untilNanoseconds: 0))
        // The catalogue takes no policy more.
        var other = parameters(0x1003, .inbound)
        for number in 1..<AssociationCatalogue.profilesMaximum {
            other.lifetimes.softPackets = UInt64(number)
            let profile = AssociationProfile(lifetimes: other.lifetimes, headers: other.headers)
            #expect(catalogue.intern(profile) != nil)
        }
        other.lifetimes.softPackets = .max - 1
        #expect(errorOf { try holder.replace(first, other) } == .tooManyProfiles)
        #expect(errorOf { try holder.open(other) } == .full(capacity: 2))
        try holder.close(second)
        #expect(errorOf { try holder.open(other) } == .tooManyProfiles)
        #expect(holder.session(0x1001) == first && holder.card.count == 1)
        #expect(holder.receive(try sealed(0x1001)).results == [.packet(innerPacket)])
    }

    // Copies of common-table entries bring counters and window with them.
    @Test func openingACopyGoesOnWhereTheEntryStood() throws {
        let catalogue = AssociationCatalogue()
        let one = try CardHolder(capacity: 2, catalogue: catalogue)
        let packets = try sealed(0x1001, count: 3)
        let handle = try one.open(parameters(0x1001, .inbound))
        _ = one.receive([packets[0], packets[1]])
        let two = try CardHolder(capacity: 1, catalogue: catalogue)
        let copy = try two.card.open(copying: handle, from: one.card.sessions, ivGeneration: 3)
        #expect(try two.status(copy).packets == 2 && two.status(copy).ivGeneration == 3)
        #expect(
            two.receive(packets).results
                == [.drop(.replayed), .drop(.replayed), .packet(innerPacket)])
        #expect(
            errorOf {
                try two.card.open(copying: handle, from: one.card.sessions, ivGeneration: 3)
            } == .duplicateSPI(SPI(0x1001)))
    }

    @Test func errorTextIsOneLineThatSaysWhatToDo() {
        let errors: [CardError] = [
            .full(capacity: 2), .duplicateSPI(SPI(256)), .stalled, .tooManyProfiles,
            .staleHandle(CardHandle(index: 1, generation: 2)),
        ]
        for error in errors {
            #expect(!error.description.contains("\n") && error.description.contains(":"))
        }
    }
}
