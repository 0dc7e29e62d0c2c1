// IKE SAs between the store and the endpoint: every node knows the records of all that it may have
// to go on with, and goes on with those of its own identifiers.

import Cluster
import Crypto
import ESP
import IKEStub
import Wire

extension Gateway {
    /// IKE SAs that a node begins to speak for in one tick: some milliseconds' worth.
    private static var arrivalsPerTick: Int { 64 }

    // MARK: From the store

    /// A record of the store: it is kept sealed, and what every node does about it is done.
    mutating func learn(
        _ record: borrowing IKERecord, _ pair: CoordinationPair, _ now: UInt64
    ) {
        let known = ike?.record(record.identifier, record.localSPI)
        // This node's own: entries that other nodes own are here by now, too.
        if pair.modRevision == known?.revision, ike?.homes[record.localSPI] != nil {
            follow(record, since: nil)
        }
        let isAbsent = contents.isAbsent(record.identifier)
        let lacksState = known?.sealed.isEmpty == true && !isAbsent
        let revision = known?.revision ?? 0
        guard pair.modRevision > revision || pair.modRevision == revision && lacksState else {
            return
        }
        follow(record, since: known)
        ike?.setRecord(
            record.identifier, record.localSPI,
            StoredIKE(
                revision: pair.modRevision, sealed: isAbsent ? [] : pair.value,
                peer: record.peer, flow: record.flow, pairs: record.pairs,
                addresses: record.addresses))
        for pair in known?.pairs ?? [] { noteUnclaimed(pair.spi, now) }
        for pair in record.pairs { entries.unclaimed.remove(pair.spi) }
        let isNew = ike?.homes[record.localSPI] == nil
        if isNew, plane.owns(record.identifier) {
            // Another node speaks for it no more, and has told everything.
            let isAwaiting = plane.roles[Int(record.identifier.value)] == .awaiting
            ike?.arrivals.append((record.identifier, record.localSPI, isExact: !isAwaiting))
        }
    }

    /// The tunnels of the table follow what their IKE SA has agreed upon with the peer, in every
    /// node: so a successor's packets take the right path from the first one on.
    private mutating func follow(_ record: borrowing IKERecord, since old: StoredIKE?) {
        let isOwn = ike?.homes[record.localSPI] != nil
        for pair in record.pairs {
            // Who speaks for it does so when its step is carried out.
            if isOwn, plane.owns(distribution.identifier(of: pair.spi)) { continue }
            guard let entry = plane.table.find(pair.spi) else { continue }
            let before = old?.pairs.first { $0.spi == pair.spi }
            if old.map({ $0.flow != record.flow }) ?? true { redirect(pair.spi, record.flow) }
            // It was learnt without a word about the pair that it replaces.
            if plane.table.order(of: entry) != pair.order {
                plane.table.place(entry, order: pair.order, isPreferred: pair.sends)
            } else if pair.sends, before?.sends != true, ike?.begun.contains(pair.spi) != true {
                prefer(pair.spi)
            }
        }
    }

    /// An entry came after the record of its IKE SA.
    mutating func followStored(_ entry: AssociationHandle, _ spi: SPI) {
        guard let (pair, flow) = ike?.stored(spi) else { return }
        redirect(spi, flow)
        plane.table.place(entry, order: pair.order, isPreferred: pair.sends)
    }

    /// A tunnel of an IKE SA whose record is not known, or not yet.
    mutating func noteUnclaimed(_ spi: SPI, _ now: UInt64) {
        guard let ike, ike.stored(spi) == nil else { return }
        entries.unclaimed.note(spi, now)
    }

    /// Clears tunnels that were stored for negotiations whose end the store never saw.
    mutating func clearUnclaimed(_ now: UInt64) {
        if client.isAway(nowNanoseconds: now) { entries.unclaimed.interrupt(now) }
        for _ in 0..<Self.arrivalsPerTick {
            guard let spi = entries.unclaimed.takeLate(now) else { return }
            guard let entry = plane.table.find(spi), plane.book.isStored(entry),
                ike?.stored(spi) == nil
            else { continue }
            // Who does not own it now may do so before the owner has cleared it.
            if plane.owns(distribution.identifier(of: spi)) {
                clear(spi, nowNanoseconds: now)
                outputs.append(.event(.cleared(spi)))
            } else {
                entries.unclaimed.note(spi, now)
            }
        }
    }

    private mutating func redirect(_ spi: SPI, _ flow: IKERecord.Flow) {
        redirect(
            spi, local: flow.local, remote: flow.remote, localPort: flow.localPort,
            remotePort: flow.remotePort)
    }

    /// This node is no backup of an identifier any more.
    mutating func shedRecords(of home: DistributionIdentifier) { ike?.shedRecords(of: home) }

    /// A record left the store.
    mutating func forget(_ home: DistributionIdentifier, _ localSPI: UInt64, _ revision: UInt64) {
        guard let known = ike?.record(home, localSPI), known.revision < revision else { return }
        // Another node was told that the peer has forgotten it.
        let isOver = ike?.homes[localSPI] == home
        if isOver {
            ike?.endpoint.forget(localSPI: localSPI)
            ike?.leave(localSPI)
        }
        ike?.setRecord(home, localSPI, nil)
        for pair in known.pairs { noteUnclaimed(pair.spi, tickedAt) }
        guard isOver else { return }
        for number in ike?.steps.indices ?? 0..<0 {
            ike?.steps[number].writes.removeAll { $0.localSPI == localSPI }
        }
        outputs.append(.event(.ikeClosed(localSPI)))
    }

    /// Forgets records of an identifier that the store does not have; `stored`: those that it has.
    mutating func forgetRecords(
        of home: DistributionIdentifier, except stored: Set<UInt64>, through revision: UInt64
    ) {
        guard let records = ike?.records[Int(home.value)] else { return }
        for spi in records.keys.sorted() where !stored.contains(spi) {
            if let known = records[spi], known.revision <= revision {
                ike?.setRecord(home, spi, nil)
            }
        }
    }

    // MARK: Going on with them

    /// A message names an IKE SA that this node is about to go on with: now, then. With it come
    /// the others of its peer, as one may be about to inherit from another.
    mutating func arrive(_ home: DistributionIdentifier, _ localSPI: UInt64, _ now: UInt64) {
        guard let ike, ike.homes[localSPI] == nil, let wanted = ike.record(home, localSPI) else {
            return
        }
        let related = ike.records[Int(home.value)].filter {
            $0.value.peer == wanted.peer && ike.homes[$0.key] == nil
        }
        for (spi, stored) in related.sorted(by: { $0.key < $1.key }) {
            let arrival = ike.arrivals.first { $0.home == home && $0.localSPI == spi }
            adopt(stored, home, spi, isExact: arrival?.isExact ?? false, now)
        }
    }

    mutating func arriveSome(_ now: UInt64) {
        var count = 0
        while count < Self.arrivalsPerTick, let next = ike?.arrivals.first {
            let role = plane.roles[Int(next.home.value)]
            if role == .owned || role == .loading { arrive(next.home, next.localSPI, now) }
            ike?.arrivals.removeFirst()
            count += 1
        }
    }

    private mutating func adopt(
        _ stored: StoredIKE, _ home: DistributionIdentifier, _ localSPI: UInt64, isExact: Bool,
        _ now: UInt64
    ) {
        // A step of a former ownership may still be under way.
        guard ike?.isBusy(localSPI) == false, !stored.sealed.isEmpty,
            let endpoint = ike?.endpoint
        else { return }
        let key = StoreKey.ike(home, localSPI)
        do {
            let plain = try openedRecord(stored.sealed, key)
            var record: IKERecord?
            try plain.withUnsafeBytes { bytes throws(RecordError) in
                record = try IKERecord(decoding: bytes)
            }
            guard let record else { preconditionFailure("decoding throws or sets it") }
            let delta = isExact ? 0 : numbersToSkip(home, record.pairs)
            let generation =
                Int(plane.generations[Int(home.value)]) + Int(record.generationOffset)
            _ = try endpoint.adopt(
                record.state, generation: UInt16(clamping: generation),
                mayBeBehind: delta > 0, delta: delta, now: now, seconds: secondsSince1970)
        } catch {
            outputs.append(.event(.recordRefused(key: key.text, reason: "\(error)")))
            return
        }
        ike?.enter(localSPI, home: home)
        for pair in stored.pairs { ike?.orders[pair.spi] = pair.order }
        guard let summary = endpoint.summary(of: localSPI) else { return }
        for child in summary.children {
            if !child.sends { ike?.silent.insert(child.inbound) }
        }
        outputs.append(.event(.ikeAdopted(localSPI)))
    }

    /// Under `strict` a new owner refuses all numbers that the one before may have accepted: the
    /// peer is asked to leave them out (RFC 6311 §5.2), if it can. 0: nothing is refused.
    private func numbersToSkip(
        _ home: DistributionIdentifier, _ pairs: [IKERecord.Pair]
    ) -> UInt64 {
        guard plane.policy == .strict else { return 0 }
        var delta: UInt64 = 0
        // What others own has not changed its owner.
        for pair in pairs where distribution.identifier(of: pair.spi) == home {
            guard let entry = plane.table.find(pair.spi) else { continue }
            delta = max(delta, plane.book.receiveGap(entry))
        }
        return delta
    }

    /// The peer may have seen numbers of ours that this node does not know of.
    mutating func advance(_ spi: SPI, by delta: UInt64) {
        guard let entry = plane.table.find(spi), let outbound = plane.table.outbound(of: entry)
        else { return }
        let last: UInt64 =
            plane.table.associations.parameters(of: outbound).usesESN ? .max : 0xFFFF_FFFE
        var state = plane.state(of: entry, withWindow: true)
        state.sent = max(state.sent, min(last, state.sent.addingClamped(delta)))
        plane.apply(state)
        // Beyond the lease nothing is sent before it is published.
        let place = Int(distribution.identifier(of: spi).value)
        plane.isDirty[place] = true
        plane.isLow[place] = true
    }

    // MARK: Identifiers that come and go

    /// An identifier is this node's to serve. `isExact`: with all that its owner before had done.
    mutating func gainIKE(_ identifier: DistributionIdentifier, isExact: Bool) {
        guard let ike else { return }
        self.ike?.isClosing[Int(identifier.value)] = false
        let spis = ike.records[Int(identifier.value)].keys.sorted()
        self.ike?.arrivals += spis.map { (identifier, $0, isExact) }
    }

    /// An identifier is another owner's, or a later life's: its IKE SAs are forgotten, with what
    /// was not in the store.
    mutating func loseIKE(_ identifier: DistributionIdentifier) {
        guard ike != nil else { return }
        ike?.arrivals.removeAll { $0.home == identifier }
        var leaving: Set<UInt64> = []
        for number in ike?.steps.indices ?? 0..<0 {
            if isSpokenFor(number, by: identifier) {
                shorten(number, by: identifier)
            } else {
                leaving.formUnion(depart(number, to: identifier))
            }
        }
        ike?.steps.removeAll { $0.writes.isEmpty && $0.installs.isEmpty && $0.removals.isEmpty }
        for spi in ike?.members[Int(identifier.value)].sorted() ?? []
        where !leaving.contains(spi) {
            ike?.endpoint.forget(localSPI: spi)
            ike?.leave(spi)
        }
        ike?.isClosing[Int(identifier.value)] = false
    }

    /// True for a step whose IKE SAs were the identifier's, before it or by it: who owns that now
    /// goes on from what the store has.
    private func isSpokenFor(_ number: Int, by identifier: DistributionIdentifier) -> Bool {
        guard let ike else { return false }
        let step = ike.steps[number]
        var isNew = true
        for spi in step.involved {
            guard let home = ike.homes[spi] else { continue }
            let former = step.writes.first { $0.localSPI == spi && $0.home != home }?.home
            guard former != nil || ike.record(home, spi) != nil else { continue }
            isNew = false
            if former ?? home == identifier { return true }
        }
        return isNew && step.writes.contains { $0.home == identifier }
    }

    /// A step of an IKE SA that this node still speaks for leads to an identifier that is another
    /// node's now: IKE SAs go there with it, and pairs. Returns those IKE SAs.
    private mutating func depart(_ number: Int, to identifier: DistributionIdentifier) -> [UInt64] {
        guard var step = ike?.steps[number] else { return [] }
        let leaving = step.writes.filter { $0.home == identifier && $0.value != nil }
            .map(\.localSPI)
        let pairs = step.installs.filter { distribution.identifier(of: $0) == identifier }
        guard !leaving.isEmpty || !pairs.isEmpty else { return [] }
        step.request = nil
        step.departures += leaving.filter { !step.departures.contains($0) }
        for spi in pairs {
            let began = step.sending.first { $0.spi == spi }
            if handOver(spi, replacing: began?.replaced, sends: began != nil) {
                step.foreign.append(spi)
            }
        }
        step.installs.removeAll { pairs.contains($0) }
        ike?.steps[number] = step
        return leaving
    }

    /// Takes out of a step what was to be done for a lost identifier. What is left ends IKE SAs of
    /// other identifiers.
    private mutating func shorten(_ number: Int, by identifier: DistributionIdentifier) {
        guard var step = ike?.steps[number],
            step.writes.contains(where: { $0.home == identifier })
                || step.installs.contains(where: { distribution.identifier(of: $0) == identifier })
        else { return }
        step.request = nil
        step.events.removeAll { event in
            if case .remove(let spi) = event {
                return distribution.identifier(of: spi) == identifier
            }
            if case .closed = event { return false }
            return true
        }
        // New IKE SAs that nobody was told of.
        for write in step.writes where write.value != nil && write.home != identifier {
            guard ike?.record(write.home, write.localSPI) == nil else { continue }
            ike?.endpoint.forget(localSPI: write.localSPI)
            ike?.leave(write.localSPI)
        }
        let records = ike?.records ?? []
        step.writes.removeAll { write in
            write.home == identifier
                || write.value != nil && records[Int(write.home.value)][write.localSPI] == nil
        }
        for spi in step.installs {
            entries.adding.removeAll { $0.spi == spi }
            if let entry = plane.table.find(spi), !plane.book.isStored(entry) {
                plane.close(entry)
                plane.table.remove(entry)
            }
        }
        step.installs = []
        step.removals.removeAll { distribution.identifier(of: $0) == identifier }
        ike?.steps[number] = step
    }

    /// Messages that waited for an identifier's owner: this node acts on them, or lets them go.
    mutating func releaseMessages(
        of identifier: DistributionIdentifier, isOwner: Bool, _ now: UInt64
    ) {
        let messages = ike?.takeHeld { $0.identifier == identifier } ?? []
        guard isOwner else { return }
        for message in messages { act(on: message, now) }
    }

    // MARK: Handing over

    /// A successor holds the identifier's messages: everything that it does not know yet goes to
    /// the store, and nothing more is begun.
    mutating func closeIKE(_ identifier: DistributionIdentifier, _ now: UInt64) {
        guard let ike, !ike.isClosing[Int(identifier.value)] else { return }
        self.ike?.isClosing[Int(identifier.value)] = true
        for spi in ike.members[Int(identifier.value)].sorted() {
            ike.endpoint.hold(spi)
            guard ike.unsaved.contains(spi) else { continue }
            var step = IKEStep(
                involved: [spi], events: [], writes: [], installs: [], removals: [],
                departures: [])
            addWrite(of: spi, to: &step, now)
            enqueue(step, now)
        }
    }

    /// True when the store has everything of the identifier.
    func isIKEClosed(_ identifier: DistributionIdentifier) -> Bool {
        guard let ike else { return true }
        return ike.isClosing[Int(identifier.value)] && !ike.isBusy(identifier)
    }

    /// The identifier is not handed over after all.
    mutating func reopenIKE(_ identifier: DistributionIdentifier, _ now: UInt64) {
        guard ike?.isClosing[Int(identifier.value)] == true else { return }
        ike?.isClosing[Int(identifier.value)] = false
        for spi in ike?.members[Int(identifier.value)].sorted() ?? []
        where ike?.isBusy(spi) == false {
            ike?.endpoint.release(spi, now: now)
        }
    }
}
