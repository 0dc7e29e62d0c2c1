// Crash and join of the in-process cluster (patent Fig. 6A, 606 and 607; Fig. 6B on every node).

public import Cluster
public import CryptoCardSim
import ESP

/// What a reallocation did, in the whole cluster.
public struct ReallocationSummary: Sendable {
    /// The patent's grounds for it (Fig. 6A).
    public enum Cause: String, Sendable {
        /// A node died (606).
        case fail
        /// A node came up or is new (607).
        case join
    }

    /// Why.
    public let cause: Cause
    /// Who died or joined.
    public let node: NodeID
    /// The epoch that took force.
    public let epoch: UInt64
    /// Identifiers that changed their owner.
    public let moves: [Reallocation.Move]
    /// What each live node did, by node number.
    public let reports: [ReallocationReport]
}

/// One node at one moment.
public struct NodeSummary: Sendable {
    /// Who.
    public let node: NodeID
    /// False after a crash: the figures are those of the moment before.
    public let isAlive: Bool
    /// Distribution identifiers it owns.
    public let identifiers: Int
    /// Sessions of its card.
    public let sessions: Int
    /// Entries of its common table.
    public let entries: Int
    /// What it counted.
    public let counters: GatewayCounters
    /// What its card counted.
    public let card: CardCounters
}

extension InProcessCluster {
    /// A node dies at once: its card, its keys and its counters are gone. The survivors take its
    /// identifiers over. Throws when it is not alive, or is the last one.
    public func fail(
        _ node: NodeID, nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> ReallocationSummary {
        guard let index = members.firstIndex(where: { $0.gateway.node == node }) else {
            throw .unknownNode(node)
        }
        let next: Allocation
        do {
            next = try allocation.removing(node)
        } catch {
            throw .allocation(error)
        }
        departed.append(summary(of: members[index], isAlive: false))
        members.remove(at: index)
        return try reallocate(to: next, cause: .fail, node: node, now)
    }

    /// A node comes up with empty tables: it takes a snapshot of the common table, and only then
    /// its share of the identifiers, whose owners hand over their counters before the switch.
    /// Throws when a live node has the number.
    public func join(
        _ node: NodeID, nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> ReallocationSummary {
        let next: Allocation
        do {
            next = try allocation.adding(node)
        } catch {
            throw .allocation(error)
        }
        let joiner = makeMember(node)
        if let teacher = members.first {
            do {
                try teacher.gateway.snapshot(to: &joiner.gateway)
            } catch {
                throw .table(error)
            }
        }
        members.append(joiner)
        members.sort { $0.gateway.node < $1.gateway.node }
        return try reallocate(to: next, cause: .join, node: node, now)
    }

    /// All live nodes, by number.
    public func summaries() -> [NodeSummary] { members.map { summary(of: $0, isAlive: true) } }

    private func summary(of member: Member, isAlive: Bool) -> NodeSummary {
        NodeSummary(
            node: member.gateway.node, isAlive: isAlive,
            identifiers: allocation.identifiers(of: member.gateway.node).count,
            sessions: member.gateway.sessionCount, entries: member.gateway.entryCount,
            counters: member.gateway.counters, card: member.gateway.cardCounters)
    }

    /// The order that loses nothing: counters are handed over, all gaining nodes load, all filters
    /// switch, the losing nodes clear.
    private func reallocate(
        to next: Allocation, cause: ReallocationSummary.Cause, node: NodeID, _ now: UInt64
    ) throws(InProcessClusterError) -> ReallocationSummary {
        do {
            let moves = try Reallocation.moves(from: allocation, to: next)
            let moving = moves.map(\.identifier)
            handOver(moving)
            var reports: [ReallocationReport] = []
            for member in members {
                reports.append(try member.gateway.prepare(next, nowNanoseconds: now))
            }
            // Once more: what the old owners accepted while the new ones loaded.
            handOver(moving)
            for member in members { member.gateway.switchOver() }
            for (index, member) in members.enumerated() {
                member.gateway.clearLost(&reports[index], nowNanoseconds: now)
            }
            allocation = next
            return ReallocationSummary(
                cause: cause, node: node, epoch: next.epoch, moves: moves, reports: reports)
        } catch {
            throw .allocation(error)
        }
    }

    /// The owners' counters of identifiers that are about to move go to every node.
    private func handOver(_ identifiers: [DistributionIdentifier]) {
        for owner in members {
            for checkpoint in owner.gateway.checkpoints(of: identifiers) {
                for member in members { member.gateway.learn(checkpoint) }
            }
        }
    }
}
