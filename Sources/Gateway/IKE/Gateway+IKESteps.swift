// Steps of IKE SAs: what the endpoint wants done is done after the store has what follows from it.

import Cluster
import Crypto
import ESP
import IKEStub
import Wire

extension Gateway {
    private static var stepRetryNanoseconds: UInt64 { 50_000_000 }
    /// Entries that one transaction takes out; the others follow by themselves.
    private static var removalsMaximum: Int { 48 }

    /// Takes what a call to the endpoint led to: installs pairs, and puts the step on its way.
    mutating func take(_ outcome: IKEOutcome, _ now: UInt64) {
        guard !outcome.involved.isEmpty || !outcome.events.isEmpty else { return }
        noteMembers(outcome.involved)
        var step = IKEStep(
            involved: outcome.involved, events: outcome.events, writes: [], installs: [],
            removals: [], departures: [])
        step.toldUnder = agreedRevision
        var refused: [(spi: SPI, reason: String)] = []
        for event in outcome.events {
            switch event {
            case .install(let child):
                let spi = child.inbound.parameters.spi
                ike?.resources.noteInstalled(spi)
                let order = order(of: spi, replacing: child.replaces)
                ike?.orders[spi] = order
                if isElsewhere(spi) {
                    if hand(child, now) {
                        step.foreign.append(spi)
                    } else {
                        ike?.doomed.append(spi)
                    }
                } else if let reason = installPair(child, now) {
                    refused.append((spi, reason))
                } else {
                    step.installs.append(spi)
                }
                if child.isReadyToSend {
                    step.sending.append((spi, child.replaces))
                } else {
                    ike?.silent.insert(spi)
                }
            case .sendThrough(let spi):
                let old = replaced(by: spi)
                step.sending.append((spi, old))
                guard isElsewhere(spi) else { break }
                if !step.foreign.contains(spi) { step.foreign.append(spi) }
                tellSending(through: spi, insteadOf: old, now)
            case .remove(let spi) where step.removals.count < Self.removalsMaximum:
                step.removals.append(spi)
            default: break
            }
        }
        addWrites(outcome, to: &step, now)
        for case .firstContact(let spi) in outcome.events { endOthers(than: spi, &step) }
        enqueue(step, now)
        for (spi, reason) in refused {
            outputs.append(.event(.refused(spi, reason)))
            deletePair(spi, now)
        }
    }

    /// The peer believes in a pair for which there is no room here.
    mutating func deletePair(_ spi: SPI, _ now: UInt64) {
        guard let endpoint = ike?.endpoint, let owner = endpoint.localSPI(ofChild: spi),
            let outcome = endpoint.command(
                .deleteChild(spi), localSPI: owner, now: now, seconds: secondsSince1970)
        else { return }
        take(outcome, now)
    }

    /// True for a pair that another node owns, or this one when its entries have been read.
    private func isElsewhere(_ spi: SPI) -> Bool {
        let identifier = distribution.identifier(of: spi)
        return !plane.owns(identifier) || plane.roles[Int(identifier.value)] == .awaiting
    }

    /// Hands a pair to the owner of its identifier (the patent's foreign entry).
    private mutating func hand(_ child: NewChild, _ now: UInt64) -> Bool {
        sendForeign(
            SecurityAssociation(copying: child.inbound),
            SecurityAssociation(copying: child.outbound),
            distribution.identifier(of: child.inbound.parameters.spi),
            replacing: child.replaces, sends: child.isReadyToSend, isOfStep: true, now)
    }

    /// Who owns such a pair now has not been told that it sends: the step waits for that again.
    private mutating func tellNewOwners(of place: Int, _ now: UInt64) {
        ike?.steps[place].toldUnder = agreedRevision
        for (spi, old) in ike?.steps[place].sending ?? [] where isElsewhere(spi) {
            ike?.steps[place].foreign.append(spi)
            tellSending(through: spi, insteadOf: old, now)
        }
    }

    private func replaced(by spi: SPI) -> SPI? {
        guard let endpoint = ike?.endpoint, let owner = endpoint.localSPI(ofChild: spi) else {
            return nil
        }
        return endpoint.summary(of: owner)?.children.first { $0.inbound == spi }?.replaces
    }

    /// The owner of a pair's identifier has it in the store, or refuses it.
    mutating func noteForeign(_ spi: SPI, isStored: Bool, _ now: UInt64) {
        guard let place = ike?.steps.firstIndex(where: { $0.foreign.contains(spi) }) else { return }
        ike?.steps[place].foreign.removeAll { $0 == spi }
        if !isStored { deletePair(spi, now) }
        submitSteps(now)
    }

    /// Keeps the books of who is in the endpoint, and whose they are.
    private mutating func noteMembers(_ involved: [UInt64]) {
        guard let ike else { return }
        for spi in involved {
            guard let initiatorSPI = ike.endpoint.initiatorSPI(of: spi) else {
                self.ike?.leave(spi)
                continue
            }
            guard self.ike?.homes[spi] == nil else { continue }
            var home = distribution.identifier(ofInitiatorCookie: initiatorSPI)
            if !plane.owns(home) || ike.endpoint.isEntangled(spi) {
                // Made here by the peer's rekeying: its predecessor's owner speaks for it yet.
                let homes = self.ike?.homes ?? [:]
                home = involved.lazy.compactMap { homes[$0] }.first ?? home
            }
            self.ike?.enter(spi, home: home)
        }
    }

    /// nil: the pair is in both tables, and its entry goes to the store with its step.
    private mutating func installPair(_ child: NewChild, _ now: UInt64) -> String? {
        let identifier = distribution.identifier(of: child.inbound.parameters.spi)
        let refusal = install(
            SecurityAssociation(copying: child.inbound),
            SecurityAssociation(copying: child.outbound), identifier, replacing: child.replaces,
            origin: nil, isOfStep: true, now)
        return refusal?.text
    }

    // MARK: Writes

    private mutating func addWrites(
        _ outcome: IKEOutcome, to step: inout IKEStep, _ now: UInt64
    ) {
        for spi in outcome.changed { addWrite(of: spi, to: &step, now) }
        // What is gone leaves the store, whether or not it was worth a record.
        for spi in outcome.involved where !outcome.changed.contains(spi) {
            if ike?.homes[spi] == nil {
                addDeletions(of: spi, to: &step)
            } else {
                ike?.unsaved.insert(spi)
            }
        }
    }

    /// Puts the state of an IKE SA as it is now on its way to the store.
    mutating func addWrite(of spi: UInt64, to step: inout IKEStep, _ now: UInt64) {
        guard let endpoint = ike?.endpoint, let home = ike?.homes[spi],
            let summary = endpoint.summary(of: spi),
            let state = endpoint.export(localSPI: spi, now: now, seconds: secondsSince1970)
        else { return addDeletions(of: spi, to: &step) }
        let cookie = distribution.identifier(ofInitiatorCookie: summary.initiatorSPI)
        let isFree = cookie != home && !endpoint.isEntangled(spi)
        let newHome = isFree ? cookie : home
        if isFree {
            addDeletions(of: spi, to: &step)
            ike?.enter(spi, home: newHome)
            if !plane.owns(newHome) { step.departures.append(spi) }
        }
        let pairs = storedPairs(summary)
        let record = IKERecord(
            identifier: newHome, localSPI: spi,
            generationOffset: generationOffset(of: spi, in: newHome), peer: peerDigest(summary),
            flow: IKERecord.Flow(summary.path),
            pairs: pairs,
            addresses: summary.hasOwnVirtualAddress ? [] : summary.virtualAddresses, state: state)
        let key = StoreKey.ike(newHome, spi)
        let nonce = makeNonce()
        let sealed = record.encode().withUnsafeBytes { seal.seal($0, key: key, nonce: nonce) }
        ike?.unsaved.remove(spi)
        step.writes.append(
            IKEWrite(
                home: newHome, localSPI: spi,
                value: StoredIKE(
                    revision: 0, sealed: sealed, peer: record.peer, flow: record.flow,
                    pairs: record.pairs,
                    addresses: record.addresses)))
    }

    /// What makes the generation of every owner to come higher than all that were in use.
    private borrowing func generationOffset(
        of spi: UInt64, in home: DistributionIdentifier
    ) -> Int32 {
        let used = Int32(ike?.endpoint.generation(of: spi) ?? 0)
        if plane.owns(home) { return used - Int32(plane.generations[Int(home.value)]) }
        return used + 1 - Int32(record?.allocation.generation(of: home) ?? 1)
    }

    private borrowing func peerDigest(_ summary: IKESummary) -> UInt64 {
        let text = summary.connection + "\0" + (summary.remoteIdentity ?? "").lowercased()
        let digest = Array(text.utf8).withUnsafeBytes { Hash.sha256.digest($0) }
        return digest[..<8].reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The peer has forgotten its other IKE SAs: what other nodes have of them leaves the store,
    /// and so those nodes.
    private mutating func endOthers(than spi: UInt64, _ step: inout IKEStep) {
        guard let ike, let summary = ike.endpoint.summary(of: spi) else { return }
        let peer = peerDigest(summary)
        let own = Set(summary.children.map(\.inbound))
        for (place, records) in ike.records.enumerated() {
            let home = DistributionIdentifier(UInt16(place))
            let others = records.filter {
                $0.value.peer == peer && $0.key != spi && ike.homes[$0.key] == nil
            }
            for (other, stored) in others.sorted(by: { $0.key < $1.key }) {
                guard !step.writes.contains(where: { $0.localSPI == other }) else { continue }
                step.writes.append(IKEWrite(home: home, localSPI: other, value: nil))
                let pairs = stored.pairs.map(\.spi).filter {
                    !own.contains($0) && !step.removals.contains($0)
                }
                step.removals += pairs.prefix(max(0, Self.removalsMaximum - step.removals.count))
            }
        }
    }

    private mutating func storedPairs(_ summary: IKESummary) -> [IKERecord.Pair] {
        var pairs: [IKERecord.Pair] = []
        for child in summary.children.prefix(IKERecord.listMaximum) {
            let order = order(of: child.inbound, replacing: child.replaces)
            ike?.orders[child.inbound] = order
            pairs.append(
                IKERecord.Pair(
                    spi: child.inbound, sends: child.sends && child.isCurrent, order: order))
        }
        return pairs
    }

    /// What another node owns may have come here without a word about what it replaces.
    private borrowing func order(of spi: SPI, replacing old: SPI?) -> UInt64 {
        if let known = ike?.orders[spi] ?? old.flatMap({ ike?.orders[$0] }) { return known }
        for candidate in [old, spi] {
            if let entry = candidate.flatMap({ plane.table.find($0) }),
                let order = plane.table.order(of: entry)
            {
                return order
            }
        }
        return UInt64(spi.value)
    }

    /// Takes an IKE SA out of the store, wherever it stands or is about to stand.
    private mutating func addDeletions(of spi: UInt64, to step: inout IKEStep) {
        guard let ike else { return }
        var homes: Set<DistributionIdentifier> = []
        for place in ike.records.indices where ike.records[place][spi] != nil {
            homes.insert(DistributionIdentifier(UInt16(place)))
        }
        for earlier in ike.steps {
            for write in earlier.writes where write.localSPI == spi && write.value != nil {
                homes.insert(write.home)
            }
        }
        for home in homes.sorted(by: { $0.value < $1.value }) {
            step.writes.append(IKEWrite(home: home, localSPI: spi, value: nil))
        }
    }

    // MARK: On the way

    /// Carries a step out at once that nothing must wait for, else puts it in line.
    mutating func enqueue(_ step: IKEStep, _ now: UInt64) {
        let isFree =
            step.writes.isEmpty && step.installs.isEmpty && step.removals.isEmpty
            && step.foreign.isEmpty
            && !step.involved.contains { ike?.isBusy($0) == true }
        guard !isFree else { return carryOut(step, now) }
        var step = step
        if !configuration.rules.hold(.ikeStored) {
            carryOut(step, now)
            step.events = []
        }
        for spi in step.involved { ike?.endpoint.hold(spi) }
        ike?.steps.append(step)
        submitSteps(now)
    }

    /// Sends every step that waits for no other.
    mutating func submitSteps(_ now: UInt64) {
        guard ike?.steps.isEmpty == false else { return }
        var ahead: Set<UInt64> = []
        var number = 0
        while let step = ike?.steps[safe: number] {
            let isFirst = ahead.isDisjoint(with: step.involved)
            ahead.formUnion(step.involved)
            let isDue =
                now >= step.triedAt + Self.stepRetryNanoseconds || step.triedAt == 0
                || step.triedUnder != agreedRevision
            if isFirst, step.request == nil, step.foreign.isEmpty, isDue,
                step.toldUnder != agreedRevision
            {
                tellNewOwners(of: number, now)
            }
            if isFirst, step.request == nil, isDue, ike?.steps[number].foreign.isEmpty == true {
                guard let transaction = transaction(of: step) else {
                    // Nothing is left to be stored.
                    finish(at: number, revision: nil, now)
                    ahead = []
                    number = 0
                    continue
                }
                let request = client.submit(.transaction(transaction), nowNanoseconds: now)
                ike?.steps[number].request = request
                ike?.steps[number].triedAt = now
                ike?.steps[number].triedUnder = agreedRevision
            }
            number += 1
        }
    }

    private mutating func transaction(of step: IKEStep) -> CoordinationTransaction? {
        var conditions = [
            CoordinationTransaction.Condition(
                key: StoreKey.allocation.text, modRevision: agreedRevision)
        ]
        var operations: [CoordinationTransaction.Operation] = []
        for spi in step.installs {
            // What is there came with a try whose outcome was unknown.
            guard let entry = plane.table.find(spi), !plane.book.isStored(entry) else { continue }
            let key = StoreKey.entry(distribution.identifier(of: spi), spi)
            conditions.append(.init(key: key.text, modRevision: 0))
            let value = sealedEntry(entry, key, isNegotiated: true)
            operations.append(.put(key: key.text, value: value, lease: nil))
        }
        for write in step.writes {
            let key = StoreKey.ike(write.home, write.localSPI).text
            let known = ike?.record(write.home, write.localSPI)
            conditions.append(.init(key: key, modRevision: known?.revision ?? 0))
            if let value = write.value {
                operations.append(.put(key: key, value: value.sealed, lease: nil))
            } else if known != nil {
                operations.append(.delete(key: key))
            }
        }
        for spi in step.removals {
            let key = StoreKey.entry(distribution.identifier(of: spi), spi)
            operations.append(.delete(key: key.text))
        }
        return operations.isEmpty
            ? nil : CoordinationTransaction(conditions: conditions, operations: operations)
    }

    /// The store's answer to a step; false: the request is none of a step.
    mutating func finishStep(
        _ reply: CoordinationReply, _ request: UInt64, _ now: UInt64
    ) -> Bool {
        guard let place = ike?.steps.firstIndex(where: { $0.request == request }) else {
            return false
        }
        ike?.steps[place].request = nil
        if case .committed(let revision) = reply { finish(at: place, revision: revision, now) }
        return true
    }

    private mutating func finish(at place: Int, revision: UInt64?, _ now: UInt64) {
        guard let step = ike?.steps.remove(at: place) else { return }
        if let revision {
            for write in step.writes {
                let key = StoreKey.ike(write.home, write.localSPI)
                if var value = write.value, contents.takes(key, revision: revision) {
                    value.revision = revision
                    ike?.setRecord(write.home, write.localSPI, value)
                    for pair in value.pairs { entries.unclaimed.remove(pair.spi) }
                } else {
                    contents.noteGone(
                        speaker: write.localSPI, of: write.home, through: revision)
                    ike?.setRecord(write.home, write.localSPI, nil)
                }
            }
            for spi in step.installs { noteStored(spi, revision: revision) }
        }
        for spi in step.departures {
            ike?.endpoint.forget(localSPI: spi)
            ike?.leave(spi)
        }
        carryOut(step, now)
        for spi in step.involved where ike?.isBusy(spi) == false { resume(spi, now) }
    }

    /// Goes on with an IKE SA whose step is in the store: messages that came meanwhile are acted
    /// upon.
    private mutating func resume(_ spi: UInt64, _ now: UInt64) {
        if let home = ike?.homes[spi], ike?.isClosing[Int(home.value)] == false {
            ike?.endpoint.release(spi, now: now)
        }
        let messages = ike?.takeHeld { $0.localSPI == spi } ?? []
        for message in messages { act(on: message, now) }
    }

    mutating func act(on message: HeldMessage, _ now: UInt64) {
        message.octets.withUnsafeBytes {
            receive(message: $0, path: message.path, nowNanoseconds: now)
        }
    }

    // MARK: Carrying out

    private mutating func carryOut(_ step: IKEStep, _ now: UInt64) {
        for (spi, old) in step.sending { letSend(spi, insteadOf: old, now) }
        for event in step.events {
            switch event {
            case .send(let datagrams, let path):
                for datagram in datagrams { outputs.append(.message(datagram, path)) }
            case .keepalive(let path): outputs.append(.keepalive(path))
            case .install, .sendThrough: break
            case .advanceSequence(let spi, let delta): advance(spi, by: delta)
            case .linger(let spi): outputs.append(.event(.lingering(spi)))
            case .remove(let spi):
                removePair(spi, isStored: step.removals.contains(spi), now)
            case .redirect(let spi, let path):
                redirect(
                    spi, local: path.local, remote: path.remote, localPort: path.localPort,
                    remotePort: path.remotePort)
            // What of it is another node's business went with the step.
            case .firstContact: break
            case .established(let localSPI): outputs.append(.event(.ikeEstablished(localSPI)))
            case .closed(let localSPI): outputs.append(.event(.ikeClosed(localSPI)))
            case .report(let report): outputs.append(.report(report))
            }
        }
    }

    /// `isStored`: its entry has left the store already.
    private mutating func removePair(_ spi: SPI, isStored: Bool, _ now: UInt64) {
        ike?.silent.remove(spi)
        ike?.orders[spi] = nil
        if !isStored {
            clear(spi, nowNanoseconds: now)
        } else {
            entries.cleared.note(spi, now)
            entries.clearedHere.note(spi, now)
            if let entry = plane.table.find(spi) { drop(entry, now) }
        }
        outputs.append(.event(.cleared(spi)))
    }
}

extension Array {
    fileprivate subscript(safe index: Int) -> Element? { index < count ? self[index] : nil }
}

extension IKERecord.Flow {
    init(_ path: IKEPath) {
        self.init(
            local: path.local, remote: path.remote, localPort: path.localPort,
            remotePort: path.remotePort)
    }
}
