// What an operator asks of the cluster through one of its nodes, from the question until it is
// done: planned moves take a while, and the operator wants to know what holds them up.
//
// Whichever node is asked will do: weights are in the store, and every member may plan a move or
// ask for balance (docs/decisions/0015).

internal import Cluster
internal import Gateway

/// An operation under way.
struct ClusterOperation {
    /// What is wanted.
    enum Goal: Equatable {
        /// A node owns nothing, and is given nothing.
        case drain(NodeID)
        /// A node takes this share of the load; nil: the usual one.
        case weight(NodeID, UInt16?)
        /// The load is even.
        case rebalance
        /// An identifier is a member's.
        case move(DistributionIdentifier, NodeID)
    }

    /// How far it is.
    enum Step: Equatable {
        /// Nothing new.
        case waits
        /// Under way; how far.
        case reports(String)
        /// Done; what became of it.
        case isDone(String)
        /// Given up; why, and what to do.
        case fails(String)
    }

    /// Why it can't be begun.
    struct Refusal: Error, Equatable {
        /// What is wrong, and what to do about it.
        let text: String
    }

    /// Between two looks.
    static let lookNanoseconds: UInt64 = 20_000_000
    private static let reportNanoseconds: UInt64 = 1_000_000_000
    /// So long nothing moves before the cluster counts as at rest.
    private static let restNanoseconds: UInt64 = 300_000_000

    let goal: Goal
    private let until: UInt64
    private let seconds: Int
    private var nextLookAt: UInt64
    private var nextReportAt: UInt64
    private var restsSince: UInt64?

    /// Begins it. After `seconds` it is given up; the cluster goes on with what was begun.
    init(
        _ goal: Goal, _ gateway: inout Gateway, seconds: Int, nowNanoseconds now: UInt64
    ) throws(Refusal) {
        self.goal = goal
        self.seconds = seconds
        until = now + UInt64(seconds) * 1_000_000_000
        nextLookAt = now
        nextReportAt = now + Self.reportNanoseconds
        try Self.check(goal, gateway.status(nowNanoseconds: now), gateway)
        switch goal {
        case .drain(let node): gateway.setWeight(0, of: node, nowNanoseconds: now)
        case .weight(let node, let weight):
            gateway.setWeight(weight, of: node, nowNanoseconds: now)
        case .rebalance: gateway.rebalance(nowNanoseconds: now)
        case .move(let identifier, let node):
            do throws(ClusterError) {
                try gateway.move(identifier, to: node, nowNanoseconds: now)
            } catch {
                throw Refusal(text: error.description)
            }
        }
    }

    private static func check(
        _ goal: Goal, _ status: GatewayStatus, _ gateway: borrowing Gateway
    ) throws(Refusal) {
        guard status.epoch > 0 else {
            throw Refusal(
                text: "there is no allocation yet: the first nodes make it as soon as they reach "
                    + "the store; see spindle status")
        }
        func find(_ node: NodeID) throws(Refusal) -> GatewayStatus.Member {
            if let member = status.members.first(where: { $0.node == node }) { return member }
            let known = status.members.map(\.node.description).joined(separator: ", ")
            throw Refusal(text: "there is no node \(node) in the cluster: choose one of \(known)")
        }
        switch goal {
        case .rebalance: break
        case .drain(let node):
            _ = try find(node)
            let takers = status.members.filter {
                $0.node != node && $0.isMember && $0.weight > 0 && !$0.isDraining
            }
            guard !takers.isEmpty else {
                throw Refusal(
                    text: "no other member would take what node \(node) has: start one, or "
                        + "spindle undrain one")
            }
        case .weight(let node, _):
            // One that is gone may have a weight still.
            if gateway.weight(of: node) == 1 { _ = try find(node) }
        case .move(_, let node):
            let member = try find(node)
            guard member.isMember else {
                throw Refusal(
                    text: "node \(node) is not in the allocation now: see spindle status")
            }
            guard member.weight > 0, !member.isDraining else {
                throw Refusal(
                    text: "node \(node) is being drained, and would give it away at once: "
                        + "spindle undrain it first")
            }
        }
    }

    /// Looks how far it is, and says again what got lost.
    mutating func step(_ gateway: inout Gateway, nowNanoseconds now: UInt64) -> Step {
        guard now >= nextLookAt else { return .waits }
        nextLookAt = now + Self.lookNanoseconds
        let status = gateway.status(nowNanoseconds: now)
        let isResting = status.moves == 0
        if !isResting { restsSince = nil } else if restsSince == nil { restsSince = now }
        let hasRested = restsSince.map { now >= $0 + Self.restNanoseconds } ?? false
        if let end = end(&gateway, status, hasRested: hasRested, now) { return end }
        guard now < until else {
            return .fails(
                "not done within \(seconds) s, and the cluster goes on with it: "
                    + hindrance(status, gateway))
        }
        guard now >= nextReportAt else { return .waits }
        nextReportAt = now + Self.reportNanoseconds
        return .reports(hindrance(status, gateway))
    }

    /// nil: it goes on.
    private func end(
        _ gateway: inout Gateway, _ status: GatewayStatus, hasRested: Bool, _ now: UInt64
    ) -> Step? {
        switch goal {
        case .drain(let node):
            guard isWeighed(&gateway, node, 0, now) else { return nil }
            let member = status.members.first { $0.node == node }
            guard (member?.identifiers ?? 0) == 0, (member?.arriving ?? 0) == 0 else { return nil }
            return .isDone("node \(node) has nothing left, and may be stopped")
        case .weight(let node, let weight):
            guard isWeighed(&gateway, node, weight, now), hasRested else { return nil }
            let member = status.members.first { $0.node == node }
            let identifiers = member?.identifiers ?? 0
            // What owns nothing is given its share without being asked for.
            if let member, member.isMember, member.isServing, identifiers == 0 { return nil }
            return .isDone("node \(node) has weight \(weight ?? 1), and \(identifiers) identifiers")
        case .rebalance:
            guard !status.isRebalancing, hasRested else { return nil }
            let shares = status.members.filter(\.isMember)
                .map { "node \($0.node) has \($0.identifiers)" }.joined(separator: ", ")
            return .isDone("the load is as even as it can be: \(shares) identifiers")
        case .move(let identifier, let node):
            if gateway.allocation?.owner(of: identifier) == node {
                return .isDone("identifier \(identifier) is node \(node)'s")
            }
            guard status.wishes == 0, hasRested else { return nil }
            return .fails(
                "the move was given up: node \(node) did not get ready; see the link to it in "
                    + "spindle status, and the log of node \(node)")
        }
    }

    /// True when the store has the weight; one that got lost is written again.
    private func isWeighed(
        _ gateway: inout Gateway, _ node: NodeID, _ weight: UInt16?, _ now: UInt64
    ) -> Bool {
        if gateway.weight(of: node) == weight ?? 1 { return true }
        if !gateway.isWritingWeight(of: node) {
            gateway.setWeight(weight, of: node, nowNanoseconds: now)
        }
        return false
    }

    /// In one line: what there is to wait for.
    private func hindrance(_ status: GatewayStatus, _ gateway: borrowing Gateway) -> String {
        if status.isStoreAway { return "the store does not answer: nothing moves until it does" }
        if status.isFenced { return "this node does not serve, and decides nothing" }
        let silent = status.members.filter { $0.isMember && $0.link == .silent }.map(\.node)
        if let node = silent.first { return "node \(node) is not heard" }
        if case .drain(let node) = goal {
            let left = gateway.identifierStatuses().filter { $0.owner == node }
            let stuck = left.count { $0.generation >= Allocation.lastGeneration }
            return "node \(node) has \(left.count) identifiers left, "
                + (stuck == 0 ? "" : "\(stuck) of which can't move any more, ")
                + "\(status.moves) under way"
        }
        if status.moves > 0 { return "\(status.moves) identifiers are on their way" }
        return "no member has begun the next moves yet"
    }
}

extension ClusterOperation.Goal: CustomStringConvertible {
    /// As in a line of the log.
    var description: String {
        switch self {
        case .drain(let node): "node \(node) drained"
        case .weight(let node, let weight): "weight \(weight ?? 1) for node \(node)"
        case .rebalance: "the load even"
        case .move(let identifier, let node): "identifier \(identifier) at node \(node)"
        }
    }
}
