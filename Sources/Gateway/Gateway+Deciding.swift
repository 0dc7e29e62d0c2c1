// What this node proposes to the store. Every proposal is the next record, offered with
// compare-and-swap on the one in force, so that of two nodes with different minds one has to think
// again (patent Fig. 6A, 604…607).

import Cluster
import ESP

extension Gateway {
    /// A proposal under way.
    struct Decision {
        let request: UInt64
        let epoch: UInt64
    }

    mutating func decide(_ now: UInt64) {
        guard decision == nil, client.isComplete, let completeSince,
            mayDecide(now), now >= nextDecisionAt
        else { return }
        guard let record else {
            // A record that this node can't read is some other cluster's, or a newer version's.
            if recordRevision == 0 { found(since: completeSince, now) }
            return
        }
        var absent: [NodeID] = []
        guard let next = proposal(on: record, absent: &absent, now) else { return }
        propose(next, absent: absent, now)
    }

    /// A node that told others it decides nothing keeps quiet until they can't count on it any
    /// more.
    func mayDecide(_ now: UInt64) -> Bool {
        guard configuration.rules.hold(.promiseKept) else { return true }
        return !client.isPromising(nowNanoseconds: now)
            && now >= promisedAt + configuration.timing.detectionNanoseconds
    }

    /// `absent`: members whose keys must still be missing when the store decides.
    private mutating func propose(_ next: AllocationRecord, absent: [NodeID], _ now: UInt64) {
        let value = Self.sealed(next.encode(), .allocation, seal, &random)
        let request = client.submit(
            .transaction(
                CoordinationTransaction(
                    conditions: [
                        .init(key: StoreKey.allocation.text, modRevision: recordRevision)
                    ]
                        + absent.map { .init(key: StoreKey.member($0).text, modRevision: 0) },
                    operations: [
                        .put(key: StoreKey.allocation.text, value: value, lease: nil)
                    ])),
            nowNanoseconds: now)
        proposed = next
        decision = Decision(request: request, epoch: membership.epoch)
        nextDecisionAt = now + configuration.timing.heartbeatNanoseconds / 10
    }

    mutating func finishDecision(_ reply: CoordinationReply) {
        switch reply {
        case .conflict, .failed(.unavailable): break
        // Until the watch has shown what became of it, this node can't promise anything.
        default: unresolvedEpoch = decision?.epoch
        }
        decision = nil
    }

    /// The first record of a cluster: all that have come within a short time, in equal parts.
    private mutating func found(since start: UInt64, _ now: UInt64) {
        let present = memberKeys.present
        guard now >= start + 2 * configuration.timing.healthyNanoseconds, present.first == node,
            client.sessionUntil > now,
            let allocation = try? Allocation(
                nodes: present, identifierCount: distribution.identifierCount)
        else { return }
        propose(AllocationRecord(allocation), absent: [], now)
    }

    /// The most urgent change that this node may make; nil: all is well.
    private mutating func proposal(
        on record: AllocationRecord, absent: inout [NodeID], _ now: UInt64
    ) -> AllocationRecord? {
        // What the store holds can't be believed: what is in force is written over it.
        if recordRevision != agreedRevision { return try? record.refreshed() }
        if let next = removal(on: record, absent: &absent, now) { return next }
        guard record.allocation.nodes.contains(node) else { return nil }
        if isStale.contains(true) { return try? record.renewing(node) }
        let complete = moves.readyToCommit(record, node, rules: configuration.rules)
        if !complete.isEmpty {
            return try? record.committing(complete, to: node, rules: configuration.rules)
        }
        let overdue = moves.overdue(configuration.timing, now)
        if !overdue.isEmpty { return try? record.cancelling(overdue) }
        let unanswered = moves.unanswered(
            configuration.timing, isAll: plane.isRecordFull, now)
        if !unanswered.isEmpty { return try? record.givingUp(unanswered) }
        if membership.wantsNewEpoch(nowNanoseconds: now) { return try? record.refreshed() }
        guard now < plane.servingUntil, !record.isMoving else { return nil }
        if let next = wish(on: record) { return next }
        guard balance.isDemanded || membership.isLowest(nowNanoseconds: now) else { return nil }
        return stewardship(on: record, now)
    }

    /// Takes out who is dead: suspected by so many that it can't serve, or without a session.
    private mutating func removal(
        on record: AllocationRecord, absent: inout [NodeID], _ now: UInt64
    ) -> AllocationRecord? {
        var dead = membership.removable(nowNanoseconds: now)
        for member in record.allocation.nodes where member != node && !dead.contains(member) {
            if hasNoSession(member, record, now) {
                dead.append(member)
                absent.append(member)
            }
        }
        guard !dead.isEmpty else {
            removableSince = nil
            return nil
        }
        let since = removableSince ?? now
        removableSince = since
        // Who comes first decides; the others come to its help a little later each.
        let wait = UInt64(membership.rank(nowNanoseconds: now)) * 3_000_000
        guard now >= since + wait else {
            absent = []
            return nil
        }
        // A newcomer that is no member needs a share of its own first.
        let load = clusterLoad
        let base =
            record.allocation.nodes.contains(node)
            ? record : try? record.adding(node, load, .byCount)
        guard let base else { return nil }
        let membership = membership
        return try? base.removing(
            dead.sorted(), load: load, backups: configuration.backups,
            mayHaveOverrun: { membership.link(to: $0)?.mayHaveOverrun ?? true },
            rules: configuration.rules)
    }

    /// True when the member's key is gone, and with it every right to serve that it had: unless
    /// all other members promised it to decide nothing, and this node is one of them and has not.
    private func hasNoSession(
        _ member: NodeID, _ record: AllocationRecord, _ now: UInt64
    ) -> Bool {
        guard client.sessionUntil > now,
            let since = memberKeys.key(of: member)?.missingSince,
            now >= since + 2 * configuration.timing.detectionNanoseconds,
            now >= (completeSince ?? now) + 2 * configuration.timing.detectionNanoseconds
        else { return false }
        // A stranger has promised nothing: it may replace a lone member only.
        return record.allocation.nodes.contains(node) || record.allocation.nodes.count == 1
    }

    /// What one node does for all: welcomes newcomers, and gives every node its share.
    private mutating func stewardship(
        on record: AllocationRecord, _ now: UInt64
    ) -> AllocationRecord? {
        let allocation = record.allocation
        for candidate in memberKeys.present
        where !allocation.nodes.contains(candidate) && !isDraining(candidate) {
            if membership.isWelcome(candidate, nowNanoseconds: now) {
                return welcome(candidate, record)
            }
        }
        return balance(record, now)
    }
}
