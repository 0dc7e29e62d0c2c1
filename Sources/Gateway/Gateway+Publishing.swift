// Leases and checkpoints: the rounds over a node's own identifiers.
//
// A lease says in the store what may be used; a checkpoint tells the other nodes what was accepted.
// Both are batched per identifier, and both keep to a share of the traffic they insure.

import Cluster
import ESP
import Wire

extension Gateway {
    /// Tunnels looked at in one round, so that a round stays short however many there are.
    private static var tunnelsPerRound: Int { 20_000 }
    /// Checkpoints may take one part of this many of the received octets.
    private static var dataPerCheckpointOctet: UInt64 { 80 }
    /// Octets per second of checkpoints that are free, however little data there is.
    private static var freeBytesPerSecond: UInt64 { 100_000 }
    /// One transaction's worth of leases: less than etcd's limit of a request.
    private static var publishBytes: Int { 512 * 1024 }

    /// Looks at the identifiers that moved, a bounded number of tunnels at a time.
    mutating func visitIdentifiers(_ now: UInt64) {
        refillAllowance(now)
        spendAllowance(now)
        var visited = 0
        let count = plane.roles.count
        for _ in 0..<count where visited < Self.tunnelsPerRound {
            let place = publishing.cursor
            publishing.cursor = (place + 1) % count
            guard plane.roles[place] == .owned, isVisitDue(place, now) else { continue }
            visited += 1 + visit(DistributionIdentifier(UInt16(place)), now)
        }
        plane.openWaiting(now)
        keepToPromises(now)
        publish(now)
        reportLoad(now)
    }

    private mutating func refillAllowance(_ now: UInt64) {
        let elapsed = now - min(now, publishing.allowedAt)
        publishing.allowedAt = now
        let more = Int(min(elapsed, 1_000_000_000) * Self.freeBytesPerSecond / 1_000_000_000)
        publishing.allowanceBytes = min(
            publishing.allowanceBytes + more, Int(Self.freeBytesPerSecond) / 20)
    }

    /// What moves all the time is looked at often enough for its rate, and no more often.
    private borrowing func isVisitDue(_ place: Int, _ now: UInt64) -> Bool {
        if plane.isLow[place] { return true }
        let interval = min(50_000_000, plane.book.sizing.receiveHorizonNanoseconds / 20)
        return plane.isDirty[place] && now >= publishing.visitedAt[place] + interval
    }

    /// The free octets go to those who have waited longest, one after the other; the last one may
    /// take more than there is, at the expense of the next.
    private mutating func spendAllowance(_ now: UInt64) {
        var done = 0
        while done < publishing.unpaid.count, publishing.allowanceBytes > 0 {
            let place = publishing.unpaid[done]
            done += 1
            publishing.isUnpaid[place] = false
            if plane.roles[place] == .owned, plane.isDirty[place] {
                _ = visit(DistributionIdentifier(UInt16(place)), isFree: true, now)
            }
        }
        publishing.unpaid.removeFirst(done)
    }

    /// One identifier: which leases run low, and what the others are to be told.
    private mutating func visit(
        _ identifier: DistributionIdentifier, isFree: Bool = false, _ now: UInt64
    ) -> Int {
        let place = Int(identifier.value)
        let elapsed = now - min(now, publishing.visitedAt[place])
        publishing.visitedAt[place] = now
        let isLow = plane.isLow[place]
        plane.isDirty[place] = false
        plane.isLow[place] = false
        var states: [TunnelState] = []
        var dataBytes: UInt64 = 0
        let entries = plane.table.entries(of: identifier)
        for entry in entries {
            let received = plane.table.status(of: entry)
            let sent = plane.table.outbound(of: entry).map { plane.table.status(of: $0).sequence }
            let isUrgent = plane.book.visit(
                entry, sent: sent ?? 0, received: received.sequence, packets: received.packets,
                elapsedNanoseconds: elapsed)
            if isUrgent || isLow { publishing.isWanted[place] = true }
            let ahead = plane.book.bytesAhead(
                entry, received: received.sequence, packets: received.packets,
                bytes: received.bytes)
            if let ahead {
                states.append(plane.state(of: entry, withWindow: plane.isFollowedExactly))
                dataBytes += ahead
            }
        }
        tell(states, dataBytes, of: identifier, isFree: isFree)
        return entries.count
    }

    /// Sends checkpoints if the traffic since the last ones pays for them, or if they are free.
    private mutating func tell(
        _ states: [TunnelState], _ dataBytes: UInt64, of identifier: DistributionIdentifier,
        isFree: Bool
    ) {
        guard !states.isEmpty else { return }
        let place = Int(identifier.value)
        let peers = membership.links.map(\.node).filter {
            link.knows($0) && isHolder($0, of: identifier)
        }
        guard !peers.isEmpty else {
            // Who comes later is told then.
            plane.isDirty[place] = !membership.links.isEmpty
            return
        }
        let messages = Checkpoints.split(
            identifier: identifier, generation: plane.generations[place], states: states)
        let bytes = (messages.count * 80 + states.count * 20) * peers.count
        if UInt64(bytes) * Self.dataPerCheckpointOctet > dataBytes {
            let isFree = isFree || publishing.unpaid.isEmpty && publishing.allowanceBytes > 0
            guard isFree else {
                plane.isDirty[place] = true
                publishing.noteUnpaid(place)
                return
            }
            publishing.allowanceBytes -= bytes
        }
        for peer in peers {
            for message in messages { tell(.checkpoints(message), to: peer) }
        }
        for state in states {
            guard let entry = plane.table.find(state.spi) else { continue }
            plane.book.noteTold(
                entry, received: state.received, packets: state.receivedPackets,
                bytes: state.receivedBytes)
        }
    }

    // MARK: Leases

    /// Publishes leases of all identifiers that want some, in one transaction.
    mutating func publish(_ now: UInt64) {
        guard publishing.request == nil, now >= publishing.nextAttemptAt, record != nil,
            !client.isAway(nowNanoseconds: now)
        else { return }
        var operations: [CoordinationTransaction.Operation] = []
        var bytes = 0
        for place in publishing.isWanted.indices where publishing.isWanted[place] {
            guard operations.count < CoordinationTransaction.operationsMaximum,
                bytes < Self.publishBytes
            else { break }
            publishing.isWanted[place] = false
            guard plane.roles[place] == .owned || plane.roles[place] == .frozen else { continue }
            let record = leases(of: DistributionIdentifier(UInt16(place)))
            guard !record.leases.isEmpty else {
                // Without a tunnel there is nothing to publish, and nothing beyond a lease.
                publishing.isAllowed[place] = false
                publishing.isOverrun[place] = false
                continue
            }
            let key = StoreKey.lease(record.identifier)
            let value = Self.sealed(record.encode(), key, seal, &random)
            operations.append(.put(key: key.text, value: value, lease: nil))
            bytes += value.count
            publishing.underWay.append(record)
        }
        guard !operations.isEmpty else { return }
        // Only the owner under the record in force may say what may be used.
        publishing.revision = agreedRevision
        publishing.request = client.submit(
            .transaction(
                CoordinationTransaction(
                    conditions: [
                        .init(key: StoreKey.allocation.text, modRevision: agreedRevision)
                    ], operations: operations)),
            nowNanoseconds: now)
    }

    private borrowing func leases(of identifier: DistributionIdentifier) -> LeaseRecord {
        var leases: [TunnelLease] = []
        for entry in plane.table.entries(of: identifier) where plane.book.isStored(entry) {
            let status = plane.table.status(of: entry)
            let sent = plane.table.outbound(of: entry).map { plane.table.status(of: $0).sequence }
            leases.append(
                plane.book.lease(
                    of: entry, spi: status.spi, sent: sent ?? 0, received: status.sequence,
                    isOverrun: publishing.isOverrun[Int(identifier.value)]))
        }
        leases.sort { $0.spi < $1.spi }
        return LeaseRecord(
            identifier: identifier, generation: plane.generations[Int(identifier.value)],
            leases: leases)
    }

    mutating func finishPublishing(_ reply: CoordinationReply, _ now: UInt64) {
        publishing.request = nil
        let records = publishing.underWay
        publishing.underWay = []
        guard case .committed = reply else {
            // What was published after all does no harm: it allows more than is used.
            for record in records { publishing.isWanted[Int(record.identifier.value)] = true }
            // Where moves follow each other, the next record may be here already.
            let isLate = publishing.revision != agreedRevision
            publishing.nextAttemptAt =
                isLate ? now : now + configuration.timing.heartbeatNanoseconds
            if isLate { publish(now) }
            return
        }
        for record in records { grant(record) }
    }

    private mutating func grant(_ record: LeaseRecord) {
        let place = Int(record.identifier.value)
        guard plane.generations[place] == record.generation,
            plane.roles[place] == .owned || plane.roles[place] == .frozen
        else { return }
        for lease in record.leases {
            guard let entry = plane.table.find(lease.spi), plane.book.isStored(entry) else {
                continue
            }
            plane.book.note(lease, generation: record.generation, of: entry)
            let published = plane.book.published(entry)
            plane.grant(entry, send: published.send, receive: published.receive)
        }
        // The store may have been so slow that more is in use already than it was told.
        let isWithin = plane.table.entries(of: record.identifier).allSatisfy { entry in
            let sent = plane.table.outbound(of: entry).map { plane.table.status(of: $0).sequence }
            return plane.book.isWithinLease(
                entry, sent: sent ?? 0, received: plane.table.status(of: entry).sequence)
        }
        publishing.isAllowed[place] = false
        publishing.isOverrun[place] = !isWithin
        if !isWithin { publishing.isWanted[place] = true }
    }

    // MARK: While the store is away

    /// Owners go on beyond their leases while all other members promise to decide nothing, and
    /// stop at their leases again when the promises end.
    private mutating func keepToPromises(_ now: UInt64) {
        let isPromised = now < membership.promisedUntil
        guard isPromised || publishing.isAllowed.contains(true) else { return }
        for place in plane.roles.indices where plane.roles[place] == .owned {
            if isPromised, publishing.isWanted[place], !publishing.isAllowed[place],
                client.isAway(nowNanoseconds: now)
            {
                overrun(DistributionIdentifier(UInt16(place)))
            } else if !isPromised, publishing.isAllowed[place] {
                publishing.isAllowed[place] = false
                publishing.isWanted[place] = true
                allow(DistributionIdentifier(UInt16(place)), isBeyondLease: false)
            }
        }
    }

    private mutating func overrun(_ identifier: DistributionIdentifier) {
        let place = Int(identifier.value)
        let entries = plane.table.entries(of: identifier)
        // A successor reckons with an overrun of a lease that this ownership has published itself.
        let isPublished = entries.allSatisfy {
            plane.book.generation($0) == plane.generations[place]
        }
        guard isPublished else { return }
        publishing.isAllowed[place] = true
        publishing.isOverrun[place] = true
        allow(identifier, isBeyondLease: true)
    }

    private mutating func allow(_ identifier: DistributionIdentifier, isBeyondLease: Bool) {
        let sizing = plane.book.sizing
        for entry in plane.table.entries(of: identifier) where plane.book.isStored(entry) {
            let published = plane.book.published(entry)
            let (send, receive) =
                isBeyondLease ? (sizing.sendAllowance, sizing.receiveAllowance) : (0, 0)
            plane.grant(
                entry, send: published.send.addingClamped(send),
                receive: published.receive.addingClamped(receive))
        }
    }
}
