// Entries that the common table does not hold, read from the store when they are needed: those of
// identifiers that this node becomes owner, successor or backup of, and the keys of tunnels that
// were on the card only (docs/decisions/0014).
//
// The watch goes on meanwhile. A read may be ahead of it or behind it: an entry's revision tells
// which of the two is newer.

package import Cluster
import Crypto
import CryptoCardSim
import ESP
package import Wire

extension Gateway {
    /// True when a node must hold the entries of an identifier; of all, before there is a record.
    func isHolder(_ peer: NodeID, of identifier: DistributionIdentifier) -> Bool {
        record?.isHolder(peer, of: identifier, backups: configuration.backups) ?? true
    }

    // MARK: What is to be held

    /// Brings the table to what the record in force asks of this node: entries that are no longer
    /// its to hold leave it, and their keys are wiped; others are to be read.
    mutating func updateContents() {
        guard let record, configuration.backups != nil else { return }
        for place in contents.states.indices {
            let identifier = DistributionIdentifier(UInt16(place))
            let isKept = record.isHolder(node, of: identifier, backups: configuration.backups)
            if isKept, contents.states[place] == .absent {
                contents.states[place] = .wanted
                contents.want(identifier)
            } else if !isKept, contents.states[place] != .absent {
                forget(identifier)
            }
        }
        plane.isWhole = contents.isWhole
    }

    private mutating func forget(_ identifier: DistributionIdentifier) {
        for entry in plane.table.entries(of: identifier) {
            plane.close(entry)
            plane.table.remove(entry)
        }
        shedRecords(of: identifier)
        contents.cancel(identifier)
        contents.states[Int(identifier.value)] = .absent
        contents.readThrough[Int(identifier.value)] = 0
        plane.lacksKeys[Int(identifier.value)] = false
    }

    /// Sessions of an identifier were closed: keys that only they had are to be read.
    mutating func wantKeys(of identifier: DistributionIdentifier) {
        guard !configuration.tableHoldsOwn else { return }
        let isComplete = plane.table.entries(of: identifier).allSatisfy {
            plane.table.hasKeys($0)
        }
        guard !isComplete else { return }
        contents.states[Int(identifier.value)] = .wanted
        contents.want(identifier)
    }

    /// True when an ownership can't begin before entries have been read.
    func mustAwait(_ identifier: DistributionIdentifier) -> Bool {
        !contents.isHeld(identifier) && configuration.rules.hold(.entriesRead)
    }

    /// An ownership ends. One that never began tells nothing about where the next one begins.
    mutating func forgetBeginning(of identifier: DistributionIdentifier) {
        let place = Int(identifier.value)
        if plane.roles[place] == .loading || contents.beginnings[place] == .byLease {
            plane.generations[place] = 0
        }
        contents.beginnings[place] = nil
    }

    // MARK: Everything at once

    /// A snapshot is about to be taken: of it, what is to be held under the record in force or the
    /// one that it brings. Reads under way are older, unless they have shown more already.
    mutating func beginSnapshot(_ allocation: CoordinationPair?) {
        guard contents.isSelective || !configuration.tableHoldsOwn else { return }
        let coming = allocation.flatMap { allocationRecord(in: $0) }
        let backups = configuration.backups
        for place in contents.states.indices {
            guard contents.readThrough[place] <= client.revision else { continue }
            let identifier = DistributionIdentifier(UInt16(place))
            contents.readThrough[place] = 0
            contents.cancel(identifier)
            let isKept = [record, coming].contains {
                $0?.isHolder(node, of: identifier, backups: backups) ?? (backups == nil)
            }
            if isKept, contents.states[place] == .absent { contents.states[place] = .wanted }
        }
    }

    private func allocationRecord(in pair: CoordinationPair) -> AllocationRecord? {
        guard let plain = try? openedRecord(pair.value, .allocation) else { return nil }
        let record = try? plain.withUnsafeBytes { bytes throws(RecordError) in
            try AllocationRecord(decoding: bytes)
        }
        guard let record, record.allocation.identifierCount == contents.states.count else {
            return nil
        }
        return record
    }

    /// All entries and leases of a snapshot have been taken.
    mutating func endSnapshot() {
        for place in contents.states.indices
        where contents.states[place] == .wanted && contents.readThrough[place] <= client.revision {
            contents.states[place] = .held
            plane.lacksKeys[place] = false
        }
        plane.isWhole = contents.isWhole
    }

    // MARK: One identifier

    /// Asks the store for what is missing.
    mutating func readEntries(_ now: UInt64) {
        if plane.isLackingKeys {
            plane.isLackingKeys = false
            for place in plane.lacksKeys.indices where plane.lacksKeys[place] {
                contents.want(DistributionIdentifier(UInt16(place)))
            }
        }
        giveUpHeld(now)
        guard contents.isReadWanted, now >= contents.nextAttemptAt, client.isComplete else {
            return
        }
        let roles = plane.roles
        while let identifier = contents.next(isUrgent: { roles[Int($0.value)] == .awaiting }) {
            let place = Int(identifier.value)
            guard contents.states[place] == .wanted || plane.lacksKeys[place] else { continue }
            let prefix = StoreKey.entries(of: identifier)
            let request = client.submit(.read(prefix: prefix), nowNanoseconds: now)
            contents.begin(.init(identifier: identifier, request: request, isOfLeases: false))
        }
    }

    /// While the store does not answer, no packet waits for it: it would be too old in the end.
    private mutating func giveUpHeld(_ now: UInt64) {
        guard !plane.held.packets.isEmpty, client.isAway(nowNanoseconds: now) else { return }
        for place in plane.roles.indices where plane.roles[place] == .awaiting {
            release(DistributionIdentifier(UInt16(place)), isOwner: false, now)
        }
    }

    mutating func finishReading(_ reply: CoordinationReply, _ request: UInt64, _ now: UInt64) {
        guard let reading = contents.end(request) else { return }
        let identifier = reading.identifier
        let place = Int(identifier.value)
        guard case .pairs(let pairs, let revision) = reply else {
            contents.want(identifier)
            contents.nextAttemptAt = now + configuration.timing.heartbeatNanoseconds
            return
        }
        if reading.isOfLeases {
            for pair in pairs { take(pair, now) }
            contents.states[place] = .held
            plane.isWhole = contents.isWhole
            beginAwaited(identifier, now)
        } else {
            plane.lacksKeys[place] = false
            takeEntries(pairs, at: revision, reading, now)
            guard contents.states[place] == .wanted else { return }
            let key = StoreKey.lease(identifier).text
            let request = client.submit(.read(prefix: key), nowNanoseconds: now)
            contents.begin(.init(identifier: identifier, request: request, isOfLeases: true))
        }
    }

    /// All entries of an identifier as they stood at a revision. What the table has of a later one
    /// stays, and what was cleared later stays away.
    private mutating func takeEntries(
        _ pairs: [CoordinationPair], at revision: UInt64, _ reading: TableContents.Reading,
        _ now: UInt64
    ) {
        let identifier = reading.identifier
        // Entries that were read before may have lost their keys since.
        contents.readThrough[Int(identifier.value)] = 0
        var stored: Set<SPI> = []
        var spoken: Set<UInt64> = []
        for pair in pairs {
            if case .ike(identifier, let localSPI) = StoreKey(text: pair.key),
                reading.goneSpeakers[localSPI] ?? 0 < pair.modRevision
            {
                spoken.insert(localSPI)
                take(pair, now)
            }
        }
        for pair in pairs {
            guard case .entry(identifier, let spi) = StoreKey(text: pair.key),
                reading.gone[spi] ?? 0 < pair.modRevision
            else { continue }
            stored.insert(spi)
            if !isComplete(spi, pair) { take(pair, now) }
        }
        for entry in plane.table.entries(of: identifier) where plane.book.isStored(entry) {
            if plane.book.storedRevision(entry) <= revision,
                !stored.contains(plane.table.status(of: entry).spi)
            {
                drop(entry, now)
            }
        }
        forgetRecords(of: identifier, except: spoken, through: revision)
        contents.readThrough[Int(identifier.value)] = revision
    }

    /// True when the node has the tunnel with its keys, so that the record need not be opened.
    private borrowing func isComplete(_ spi: SPI, _ pair: CoordinationPair) -> Bool {
        guard let entry = plane.table.find(spi),
            plane.book.storedRevision(entry) >= pair.modRevision
        else { return false }
        if plane.table.hasKeys(entry) { return true }
        let role = plane.roles[Int(distribution.identifier(of: spi).value)]
        return (role == .owned || role == .frozen) && plane.hasSessions(entry)
    }

    /// Gives a tunnel of the table its keys again, if they are nowhere in this node. False: the
    /// record is of another tunnel.
    mutating func refill(
        _ entry: AssociationHandle, _ tunnel: borrowing TunnelRecord, _ now: UInt64
    ) -> Bool {
        guard !plane.table.hasKeys(entry) else {
            plane.shedKeys(of: entry)
            return true
        }
        let role = plane.roles[Int(tunnel.identifier.value)]
        let isOwn = role == .owned || role == .frozen
        if isOwn, plane.hasSessions(entry) { return true }
        guard
            plane.table.restoreKeys(
                of: entry, inbound: tunnel.inbound, outbound: tunnel.outbound)
        else { return false }
        // The entry has followed the card, so the session goes on with its exact numbers.
        if isOwn, plane.reload(entry, now) != nil { plane.waiting.append(entry) }
        if role == .holding { _ = plane.reload(entry, now) }
        return true
    }

    // MARK: Ownerships that waited

    /// Begins those whose entries have come with a snapshot.
    mutating func beginAwaited(_ now: UInt64) {
        for place in plane.roles.indices where plane.roles[place] == .awaiting {
            beginAwaited(DistributionIdentifier(UInt16(place)), now)
        }
    }

    /// Takes an identifier over whose entries are there now, and handles what was held for it.
    private mutating func beginAwaited(_ identifier: DistributionIdentifier, _ now: UInt64) {
        let place = Int(identifier.value)
        guard plane.roles[place] == .awaiting, contents.isHeld(identifier),
            let beginning = contents.beginnings[place]
        else { return }
        contents.beginnings[place] = nil
        var report = ReallocationReport(
            epoch: membership.epoch, node: node, gained: 0, lost: 0)
        switch beginning {
        case .exact:
            beginExactly(identifier, named: nil, &report, now)
        case .byLease:
            report.add(plane.load(identifier, now))
        }
        gainIKE(identifier, isExact: beginning == .exact)
        if !reports.isEmpty {
            reports[reports.count - 1].loaded += report.loaded
            reports[reports.count - 1].updated += report.updated
            reports[reports.count - 1].hosted += report.hosted
            reports[reports.count - 1].refusals += report.refusals
        }
        publishing.isWanted[place] = true
        release(identifier, isOwner: true, now)
        loadSome(now)
    }

    // MARK: For checkers

    /// The store's revision that the table follows.
    package var storeRevision: UInt64 { client.revision }

    /// True when all entries of the identifier are in the table.
    package func isHeld(_ identifier: DistributionIdentifier) -> Bool {
        contents.isHeld(identifier)
    }

    /// True while packets of the identifier wait for its entries.
    package func isAwaiting(_ identifier: DistributionIdentifier) -> Bool {
        plane.roles[Int(identifier.value)] == .awaiting
    }

    /// Own tunnels of the store that are on the card, but have octets of their keys in the table.
    package borrowing func tunnelsWithKeysTwice() -> [SPI] {
        plane.table.entries().filter { entry in
            let identifier = plane.table.status(of: entry).distributionIdentifier
            guard plane.roles[Int(identifier)] == .owned, plane.book.isStored(entry),
                plane.isOnCard(entry)
            else { return false }
            return !plane.table.keysAreZero(of: entry)
        }.map { plane.table.status(of: $0).spi }
    }

    /// Tunnels whose keys are neither in the table nor on the card.
    package borrowing func tunnelsWithoutKeys() -> [SPI] {
        plane.table.entries().filter { entry in
            !plane.table.hasKeys(entry) && !plane.isOnCard(entry)
        }.map { plane.table.status(of: $0).spi }
    }
}
