// Crash and join of the in-process cluster (patent Fig. 6A, 606 and 607; Fig. 6B on every node).
// The nodes find out, decide and move by themselves; here it is awaited and summed up.

public import Cluster
public import CryptoCardSim
import ESP
import Wire

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
    /// Counts the reallocations, from 1 for the founding. The record in the store may count more
    /// steps: a join takes several.
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
    /// Sessions in its host memory, for want of room on the card.
    public let hostSessions: Int
    /// Entries of its common table.
    public let entries: Int
    /// What it counted.
    public let counters: GatewayCounters
    /// What its card counted.
    public let card: CardCounters
}

extension InProcessCluster {
    /// A node dies at once: its card, its keys and its counters are gone. The survivors notice that
    /// its heartbeats have ended, and take its identifiers over. Throws when it is not alive, or
    /// is the last one.
    ///
    /// `now` is not of the cluster's clock and stands for nothing but itself.
    public func fail(
        _ node: NodeID, nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> ReallocationSummary {
        guard let index = place(of: node) else { throw .unknownNode(node) }
        do {
            _ = try allocation.removing(node)
        } catch {
            throw .allocation(error)
        }
        departed.append(summary(of: members[index], isAlive: false))
        members.remove(at: index)
        let summary = try reallocate(.fail, node)
        if template.backups != nil { tellAll() }
        return summary
    }

    /// A node comes up with empty tables: it reads the common table from the store, is welcomed,
    /// and takes its share of the identifiers over as their owners let go of them. Throws when a
    /// live node has the number.
    ///
    /// `now` is not of the cluster's clock and stands for nothing but itself.
    public func join(
        _ node: NodeID, nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> ReallocationSummary {
        do {
            _ = try allocation.adding(node)
        } catch {
            throw .allocation(error)
        }
        let joiner = try makeMember(node)
        let place = members.firstIndex { $0.node > node } ?? members.endIndex
        members.insert(joiner, at: place)
        let summary = try reallocate(.join, node)
        tellAll()
        return summary
    }

    /// Whoever has just read entries learns exactly how far their owners have come.
    private func tellAll() {
        for member in members { member.gateway.checkpointAll() }
        carry()
    }

    /// All live nodes, by number.
    public func summaries() -> [NodeSummary] { members.map { summary(of: $0, isAlive: true) } }

    private func summary(of member: Member, isAlive: Bool) -> NodeSummary {
        NodeSummary(
            node: member.node, isAlive: isAlive,
            identifiers: allocation.identifiers(of: member.node).count,
            sessions: member.gateway.sessionCount,
            hostSessions: member.gateway.hostSessionCount, entries: member.gateway.entryCount,
            counters: member.gateway.counters, card: member.gateway.cardCounters)
    }

    /// Waits until the nodes have drawn all conclusions from what happened to `node`.
    private func reallocate(
        _ cause: ReallocationSummary.Cause, _ node: NodeID
    ) throws(InProcessClusterError) -> ReallocationSummary {
        let before = allocation
        let nodes = nodes
        news = []
        try settle { members in
            members.allSatisfy { $0.gateway.allocation?.nodes == nodes }
        }
        try takeAllocation()
        reallocations += 1
        let moves: [Reallocation.Move]
        do {
            moves = try Reallocation.moves(from: before, to: allocation)
        } catch {
            throw .allocation(error)
        }
        let reports = members.map { report(of: $0, moves) }
        return ReallocationSummary(
            cause: cause, node: node, epoch: reallocations, moves: moves, reports: reports)
    }

    /// All that one node did in the steps of one reallocation.
    private func report(
        of member: Member, _ moves: [Reallocation.Move]
    ) -> ReallocationReport {
        let node = member.node
        var sum = ReallocationReport(
            epoch: reallocations, node: node, gained: moves.count { $0.to == node },
            lost: moves.count { $0.from == node })
        var isShort = false
        for case .reallocated(let step) in news where step.node == node {
            sum.loaded += step.loaded
            sum.updated += step.updated
            sum.hosted += step.hosted
            sum.cleared += step.cleared
            isShort = isShort || step.hosted > 0 || !step.refusals.isEmpty
        }
        guard isShort else { return sum }
        let taken = member.gateway.placeAgain(gained(by: node, moves), nowNanoseconds: clock)
        (sum.loaded, sum.updated, sum.hosted) = (0, 0, 0)
        sum.add(taken)
        return sum
    }

    /// The tunnels that a node gained, by identifier, the latest first.
    private func gained(by node: NodeID, _ moves: [Reallocation.Move]) -> [SPI] {
        guard let distribution = members.first?.gateway.distribution else { return [] }
        var chains: [[SPI]] = Array(repeating: [], count: allocation.identifierCount)
        for spi in tunnels.reversed() {
            chains[Int(distribution.identifier(of: spi).value)].append(spi)
        }
        return moves.filter { $0.to == node }.flatMap { chains[Int($0.identifier.value)] }
    }
}
