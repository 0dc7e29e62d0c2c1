// What the store tells: entries, leases, members, weights, and the record of who owns what.
// Whatever can't be opened, read or believed is refused with the reason, and service goes on.

import Cluster
import Crypto
import ESP
import Wire

extension Gateway {
    mutating func handle(_ notices: [CoordinationNotice], _ now: UInt64) {
        for notice in notices {
            switch notice {
            case .snapshot(let pairs):
                takeSnapshot(pairs, now)
            case .changes(let changes):
                for change in changes {
                    switch change.kind {
                    case .put(let pair): take(pair, now)
                    case .delete(let key): takeDeletion(of: key, change.revision, now)
                    }
                }
            case .answer(let request, let reply):
                takeAnswer(reply, to: request, now)
            }
        }
    }

    /// Everything in the store at one revision (patent: what a joining node is given). What this
    /// node has and the store has not was cleared while it was not looking.
    private mutating func takeSnapshot(_ pairs: [CoordinationPair], _ now: UInt64) {
        var stored: Set<SPI> = []
        var spoken: [DistributionIdentifier: Set<UInt64>] = [:]
        var present: Set<NodeID> = []
        var allocation: CoordinationPair?
        for pair in pairs {
            switch StoreKey(text: pair.key) {
            case .allocation: allocation = pair
            case .entry(_, let spi): stored.insert(spi)
            case .ike(let home, let localSPI): spoken[home, default: []].insert(localSPI)
            case .member(let member): present.insert(member)
            default: break
            }
        }
        beginSnapshot(allocation)
        for entry in plane.table.entries() where plane.book.isStored(entry) {
            let status = plane.table.status(of: entry)
            // What a read has shown since is newer.
            let through = contents.readThrough[Int(status.distributionIdentifier)]
            guard !stored.contains(status.spi), through <= client.revision else { continue }
            entries.cleared.note(status.spi, now)
            drop(entry, now)
        }
        for place in contents.readThrough.indices
        where contents.readThrough[place] <= client.revision {
            let home = DistributionIdentifier(UInt16(place))
            forgetRecords(of: home, except: spoken[home] ?? [], through: client.revision)
        }
        for key in memberKeys.keys where !present.contains(key.node) {
            memberKeys.noteMissing(key.node, now)
        }
        // What claims entries before those.
        let isSpeaking = ike != nil
        for pair in pairs where isSpeaking {
            if case .ike = StoreKey(text: pair.key) { take(pair, now) }
        }
        for pair in pairs where pair.key != allocation?.key {
            switch StoreKey(text: pair.key) {
            case .entry where !configuration.rules.hold(.snapshotAwaited): continue
            case .ike where isSpeaking: continue
            default: take(pair, now)
            }
        }
        if completeSince == nil { hadRecordAtStart = allocation != nil }
        endSnapshot()
        // Last: what it moves is loaded from what came before.
        if let allocation { take(allocation, now) }
        // A member that was gone before this node came: nobody may be left who saw its key go.
        for member in record?.allocation.nodes ?? []
        where member != node && memberKeys.key(of: member) == nil {
            memberKeys.noteMissing(member, now)
        }
        beginAwaited(now)
        if completeSince == nil { completeSince = now }
    }

    mutating func take(_ pair: CoordinationPair, _ now: UInt64) {
        guard let key = StoreKey(text: pair.key) else {
            outputs.append(
                .event(.recordRefused(key: pair.key, reason: "no such key is known: remove it")))
            return
        }
        guard contents.takes(key, revision: pair.modRevision) else { return }
        if case .allocation = key { recordRevision = pair.modRevision }
        do throws(RecordError) {
            let plain = try openedRecord(pair.value, key)
            try plain.withUnsafeBytes { bytes throws(RecordError) in
                try take(bytes, key, pair, now)
            }
        } catch {
            outputs.append(.event(.recordRefused(key: pair.key, reason: error.description)))
        }
    }

    /// The octets of a record of the store.
    borrowing func openedRecord(
        _ sealed: [UInt8], _ key: StoreKey
    ) throws(RecordError) -> SecretBytes {
        // `withUnsafeBytes` can't return what can't be copied, and throws nothing typed.
        var plain: SecretBytes?
        var failure = RecordError.forged
        sealed.withUnsafeBytes { octets in
            do throws(RecordError) {
                plain = try seal.open(octets, key: key)
            } catch {
                failure = error
            }
        }
        guard let plain else { throw failure }
        return plain
    }

    private mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ key: StoreKey, _ pair: CoordinationPair,
        _ now: UInt64
    ) throws(RecordError) {
        switch key {
        case .allocation:
            consider(try AllocationRecord(decoding: bytes), pair.modRevision, now)
        case .member(let member):
            noteMember(member, try MemberRecord(decoding: bytes), now)
        case .weight(let member):
            weights[member] = try WeightRecord(decoding: bytes).weight
            balance.nextLookAt = 0
        case .lease(let identifier):
            let record = try LeaseRecord(decoding: bytes)
            guard record.identifier == identifier else { return }
            for lease in record.leases
            where distribution.identifier(of: lease.spi) == identifier {
                guard let entry = plane.table.find(lease.spi) else { continue }
                plane.book.note(lease, generation: record.generation, of: entry)
            }
        case .entry(let identifier, let spi):
            let tunnel = try TunnelRecord(decoding: bytes)
            // A record says itself where it belongs, and that must be its place.
            guard tunnel.identifier == identifier, tunnel.inbound.parameters.spi == spi,
                distribution.identifier(of: spi) == identifier
            else { throw .misplaced }
            learn(tunnel, spi, pair, now)
        case .ike(let identifier, let localSPI):
            guard ike != nil else { return }
            let record = try IKERecord(decoding: bytes)
            guard record.identifier == identifier, record.localSPI == localSPI,
                Int(identifier.value) < distribution.identifierCount
            else { throw .misplaced }
            learn(record, pair, now)
        }
    }

    private mutating func takeDeletion(of text: String, _ revision: UInt64, _ now: UInt64) {
        let key = StoreKey(text: text)
        if case .entry(_, let spi) = key { entries.cleared.note(spi, now) }
        if let key, !contents.takes(key, revision: revision) { return }
        switch key {
        case .entry(let identifier, let spi):
            contents.noteGone(spi, of: identifier, through: revision)
            if let entry = plane.table.find(spi) { drop(entry, now) }
        case .ike(let identifier, let localSPI)
        where Int(identifier.value) < distribution.identifierCount:
            contents.noteGone(speaker: localSPI, of: identifier, through: revision)
            forget(identifier, localSPI, revision)
        case .member(let member):
            memberKeys.noteMissing(member, now)
        case .weight(let member):
            weights[member] = nil
            balance.nextLookAt = 0
        case .allocation:
            // No node does that. What is in force is written again.
            recordRevision = 0
        default:
            break
        }
    }

    private mutating func noteMember(_ member: NodeID, _ key: MemberRecord, _ now: UInt64) {
        let isOther = memberKeys.note(member, key)
        if member == node {
            if key.incarnation != incarnation { becomeStale(now) } else { isReplaced = false }
            return
        }
        guard isOther else { return }
        link.learn(member, incarnation: key.incarnation)
        membership.meet(member, nowNanoseconds: now)
    }

    private mutating func takeAnswer(
        _ reply: CoordinationReply, to request: UInt64, _ now: UInt64
    ) {
        if decision?.request == request {
            finishDecision(reply)
        } else if publishing.request == request {
            finishPublishing(reply, now)
        } else if finishWeight(reply, request) {
            return
        } else if contents.isReading(request) {
            finishReading(reply, request, now)
        } else if !finishStep(reply, request, now) {
            finishEntry(reply, request, now)
        }
    }
}
