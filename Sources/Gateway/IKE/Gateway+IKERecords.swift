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
        guard pair.modRevision > known?.revision ?? 0 else { return }
        follow(record, since: known)
        ike?.setRecord(
            record.identifier, record.localSPI,
            StoredIKE(
                revision: pair.modRevision, sealed: pair.value, peer: record.peer,
                flow: record.flow,
                pairs: record.pairs, addresses: record.addresses))
        let isNew = ike?.homes[record.localSPI] == nil
        if isNew, plane.owns(record.identifier) {
            ike?.arrivals.append((record.identifier, record.localSPI))
        }
    }

    /// The tunnels of the table follow what their IKE SA has agreed upon with the peer, in every
    /// node: so a successor's packets take the right path from the first one on.
    private mutating func follow(_ record: borrowing IKERecord, since old: StoredIKE?) {
        // Who speaks for it does so when its step is carried out.
        guard ike?.homes[record.localSPI] == nil else { return }
        for pair in record.pairs {
            guard let entry = plane.table.find(pair.spi) else { continue }
            let before = old?.pairs.first { $0.spi == pair.spi }
            if old.map({ $0.flow != record.flow }) ?? true {
                redirect(
                    pair.spi, local: record.flow.local, remote: record.flow.remote,
                    localPort: record.flow.localPort, remotePort: record.flow.remotePort)
            }
            // It was learnt without a word about the pair that it replaces.
            if plane.table.order(of: entry) != pair.order {
                plane.table.place(entry, order: pair.order, isPreferred: pair.sends)
            } else if pair.sends, before?.sends != true {
                prefer(pair.spi)
            }
        }
    }

    /// A record left the store.
    mutating func forget(_ home: DistributionIdentifier, _ localSPI: UInt64, _ revision: UInt64) {
        guard let known = ike?.record(home, localSPI), known.revision < revision else { return }
        ike?.setRecord(home, localSPI, nil)
        // Another node was told that the peer has forgotten it.
        guard ike?.homes[localSPI] == home else { return }
        ike?.endpoint.forget(localSPI: localSPI)
        ike?.leave(localSPI)
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

    /// A message names an IKE SA that this node is about to go on with: now, then.
    mutating func arrive(_ home: DistributionIdentifier, _ localSPI: UInt64, _ now: UInt64) {
        guard ike?.homes[localSPI] == nil, let stored = ike?.record(home, localSPI) else { return }
        adopt(stored, home, localSPI, now)
    }

    mutating func arriveSome(_ now: UInt64) {
        var count = 0
        while count < Self.arrivalsPerTick, let next = ike?.arrivals.first {
            ike?.arrivals.removeFirst()
            let role = plane.roles[Int(next.home.value)]
            guard role == .owned || role == .loading else { continue }
            arrive(next.home, next.localSPI, now)
            count += 1
        }
    }

    private mutating func adopt(
        _ stored: StoredIKE, _ home: DistributionIdentifier, _ localSPI: UInt64, _ now: UInt64
    ) {
        // A step of a former ownership may still be under way.
        guard ike?.isBusy(localSPI) == false, let endpoint = ike?.endpoint else { return }
        let key = StoreKey.ike(home, localSPI)
        do {
            let plain = try openedRecord(stored.sealed, key)
            var record: IKERecord?
            try plain.withUnsafeBytes { bytes throws(RecordError) in
                record = try IKERecord(decoding: bytes)
            }
            guard let record else { preconditionFailure("decoding throws or sets it") }
            let delta = numbersToSkip(home, record.pairs)
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
        guard plane.policy == .strict, ike?.isExact[Int(home.value)] == false else { return 0 }
        var delta: UInt64 = 0
        for pair in pairs {
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
        self.ike?.isExact[Int(identifier.value)] = isExact
        self.ike?.isClosing[Int(identifier.value)] = false
        let spis = ike.records[Int(identifier.value)].keys.sorted()
        self.ike?.arrivals += spis.map { (identifier, $0) }
    }

    /// An identifier is another owner's, or a later life's: its IKE SAs are forgotten, with what
    /// was not in the store.
    mutating func loseIKE(_ identifier: DistributionIdentifier) {
        guard ike != nil else { return }
        ike?.arrivals.removeAll { $0.home == identifier }
        for number in ike?.steps.indices ?? 0..<0 { shorten(number, by: identifier) }
        ike?.steps.removeAll { $0.writes.isEmpty && $0.installs.isEmpty && $0.removals.isEmpty }
        for spi in ike?.members[Int(identifier.value)].sorted() ?? [] {
            ike?.endpoint.forget(localSPI: spi)
            ike?.leave(spi)
        }
        ike?.isClosing[Int(identifier.value)] = false
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
            if let entry = plane.table.find(spi) {
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
                number: self.ike?.nextStep() ?? 0, involved: [spi], events: [], writes: [],
                installs: [], removals: [], departures: [])
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
