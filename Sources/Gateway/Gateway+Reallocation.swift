// A new allocation takes force (patent Fig. 6B): lost identifiers are cleared, gained ones are
// loaded and then switched, one by one, so that no packet waits for another identifier's entries.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension Gateway {
    /// Looks at a record of the store. One that can't follow the one in force is refused: it is a
    /// fault of whoever wrote it, and packets go on.
    mutating func consider(_ next: AllocationRecord, _ revision: UInt64, _ now: UInt64) {
        if let record, record == next {
            agreedRevision = revision
            return
        }
        do {
            guard next.allocation.identifierCount == distribution.identifierCount else {
                throw ClusterError.identifierCountDiffers(
                    inForce: distribution.identifierCount,
                    offered: next.allocation.identifierCount)
            }
            let reallocation = try Reallocation(
                of: node, from: record?.allocation, to: next.allocation)
            agreedRevision = revision
            adopt(next, reallocation, now)
        } catch {
            outputs.append(
                .event(
                    .recordRefused(
                        key: StoreKey.allocation.text, reason: "\(error)")))
        }
    }

    private mutating func adopt(
        _ next: AllocationRecord, _ reallocation: Reallocation, _ now: UInt64
    ) {
        let before = record
        noteAdoption(of: next, after: before, now)
        // What stood in the store before this process may name a former life of this node.
        let isFormerLife = before == nil && hadRecordAtStart
        record = next
        plane.overrunGenerations = next.overrunGenerations
        for member in next.allocation.nodes where member != node {
            if membership.link(to: member) == nil { membership.meet(member, nowNanoseconds: now) }
        }
        membership.enter(
            epoch: next.allocation.epoch, members: next.allocation.nodes, isFirst: isFormerLife)
        removableSince = nil
        plane.servingUntil = servingUntil(now)
        var report = ReallocationReport(
            epoch: next.allocation.epoch, node: node, gained: reallocation.gained.count,
            lost: reallocation.lost.count)
        for identifier in reallocation.lost {
            report.cleared += lose(
                identifier, to: next.allocation.owner(of: identifier), now)
        }
        abandonEntries(of: reallocation.lost, keptBy: next.allocation)
        updateContents()
        for identifier in reallocation.gained {
            if next.allocation.isSpent(identifier) {
                retire(identifier, now)
            } else if isFormerLife || isReplaced, configuration.rules.hold(.renewedAfterRestart) {
                isStale[Int(identifier.value)] = true
            } else {
                gain(identifier, from: before, &report, now)
            }
        }
        updateMoves(isNext: next.allocation.epoch == (before?.allocation.epoch ?? 0) + 1, now)
        // What was taken over exactly goes on at full speed, with little left to use; and what was
        // offered to the store on the condition of the record before is offered again.
        publishing.nextAttemptAt = 0
        publish(now)
        report.loaded += plane.openWaiting(now)
        reports.append(report)
        loadSome(now)
    }

    /// Stops serving an identifier. One that this node gains anew keeps its sessions' state: the
    /// table has it.
    private mutating func lose(
        _ identifier: DistributionIdentifier, to owner: NodeID, _ now: UInt64
    ) -> Int {
        let place = Int(identifier.value)
        forgetBeginning(of: identifier)
        loseIKE(identifier)
        plane.roles[place] = .foreign
        isStale[place] = false
        endOutgoing(identifier)
        publishing.isOverrun[place] = false
        publishing.isAllowed[place] = false
        loadingQueue.removeAll { $0 == identifier }
        let closed = plane.closeAll(of: identifier)
        wantKeys(of: identifier)
        if owner == node { return 0 }
        release(identifier, isOwner: false, now)
        return closed
    }

    private mutating func gain(
        _ identifier: DistributionIdentifier, from before: AllocationRecord?,
        _ report: inout ReallocationReport, _ now: UInt64
    ) {
        guard let record else { return }
        let place = Int(identifier.value)
        let generation = record.allocation.generation(of: identifier)
        let former = plane.generations[place]
        let wasOwner = before?.allocation.owner(of: identifier) == node
        if wasOwner, record != proposed {
            // Renewed by another process under this node's number, of which nothing is known.
            isStale[place] = true
            return
        }
        plane.generations[place] = generation
        let isHandedOver = moves.isHandedOver(identifier, generation)
        // Renewed by this very process: nobody else can have served it in between.
        let isRenewed = wasOwner && former == generation - 1 && former != 0
        if mustAwait(identifier) {
            if isHandedOver || !isRenewed { release(identifier, isOwner: false, now) }
            plane.roles[place] = .awaiting
            contents.beginnings[place] = isRenewed && !isHandedOver ? .exact : .byLease
        } else if isHandedOver || isRenewed {
            let named = isHandedOver ? takeNamed(of: identifier) : nil
            beginExactly(identifier, named: named, &report, now)
            gainIKE(identifier, isExact: true)
            release(identifier, isOwner: true, now)
        } else {
            release(identifier, isOwner: false, now)
            plane.roles[place] = .loading
            loadingQueue.append(identifier)
            gainIKE(identifier, isExact: false)
        }
        moves.endIncoming(identifier)
        publishing.isWanted[place] = true
    }

    /// Takes an identifier over with exact state: the sessions begin anew with the table's. Of
    /// tunnels that the old owner did not name (`named`), only leases and checkpoints are known.
    mutating func beginExactly(
        _ identifier: DistributionIdentifier, named: Set<SPI>?,
        _ report: inout ReallocationReport, _ now: UInt64
    ) {
        plane.roles[Int(identifier.value)] = .owned
        var taken = TakenTunnels()
        for entry in plane.table.entries(of: identifier) {
            let spi = plane.table.status(of: entry).spi
            let isExact = named?.contains(spi) ?? true
            taken.note(plane.take(entry, isExact: isExact, now), of: spi)
        }
        report.add(taken)
    }

    /// Another process claims to be this node: whatever this one owns is a former life's from now
    /// on, until it has the node's key again and begins new ownerships.
    mutating func becomeStale(_ now: UInt64) {
        isReplaced = true
        membership.silence()
        guard let allocation = record?.allocation else { return }
        for identifier in allocation.identifiers(of: node) where !allocation.isSpent(identifier) {
            _ = lose(identifier, to: node, now)
            release(identifier, isOwner: false, now)
            isStale[Int(identifier.value)] = true
        }
    }

    /// Loads the next identifiers, a bounded number of tunnels at a time. Packets that come
    /// meanwhile load their own identifier first.
    mutating func loadSome(_ now: UInt64) {
        var loaded = 0
        while loaded < Self.tunnelsPerStep, !loadingQueue.isEmpty {
            let identifier = loadingQueue.removeFirst()
            guard plane.roles[Int(identifier.value)] == .loading else { continue }
            let result = plane.load(identifier, now)
            loaded += result.count + 1
            if !reports.isEmpty { reports[reports.count - 1].add(result) }
        }
        guard loadingQueue.isEmpty, !reports.isEmpty, !plane.roles.contains(.awaiting)
        else { return }
        for report in reports { outputs.append(.event(.reallocated(report))) }
        reports.removeAll()
    }

    /// Packets that come meanwhile wait for one step: some tenths of a millisecond.
    private static var tunnelsPerStep: Int { 512 }
}
