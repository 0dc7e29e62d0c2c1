// Planned moves, as owner and as successor (design: planned moves lose no packet).
//
//     owner A                                         successor B
//       │  record names B as successor of d               │
//       │── moveOffer(d): "I record what I send" ────────▶│ loads d, holds d's packets
//       │◀──────────────────────────── moveReady(d) ──────│
//       │  a little later: A lets go, holds d's packets   │
//       │── handover(d): numbers, windows, digests ──────▶│ compares, offers the next record
//       │◀═══════ the store: d is B's, next generation ══▶│ serves, handles what it held
//
// Every packet that A did not handle came to B after B had begun to hold. What B holds and A has
// handled, B's window (inbound) or A's digests (outbound) tell.

import Cluster
import Wire

/// The state of all planned moves that concern one node.
struct PlannedMoves {
    enum Outgoing: Equatable {
        case idle
        /// Recording, and telling the successor so.
        case offered
        /// The successor holds packets since then.
        case ready(UInt64)
        /// Let go since then.
        case frozen(UInt64)
    }

    struct Incoming {
        var generation: UInt16 = 0
        var isReady = false
        var parts: UInt16 = 0
        var partsSeen: Set<UInt16> = []
        var digests: [UInt64] = []
        /// Of tunnels that the store has not told of yet.
        var early: [TunnelState] = []
        /// Tunnels whose exact state has come.
        var named: Set<SPI> = []

        var isComplete: Bool { parts > 0 && partsSeen.count == Int(parts) }
    }

    /// By identifier.
    private(set) var outgoing: [Outgoing]
    /// How many of them are not idle.
    private var outgoingCount = 0
    /// By identifier: since when it has been offered.
    private var offeredAt: [UInt64]
    /// By identifier.
    var incoming: [Incoming]
    /// By identifier: what was handed over, to be told again.
    var handovers: [[Handover]]
    /// When offers and handovers are told again.
    var nextTellingAt = UInt64.max

    init(identifierCount: Int) {
        outgoing = Array(repeating: .idle, count: identifierCount)
        offeredAt = Array(repeating: 0, count: identifierCount)
        incoming = Array(repeating: Incoming(), count: identifierCount)
        handovers = Array(repeating: [], count: identifierCount)
    }

    mutating func offer(_ place: Int, _ now: UInt64) {
        offeredAt[place] = now
        set(place, .offered)
    }

    mutating func set(_ place: Int, _ move: Outgoing) {
        if outgoing[place] != .idle { outgoingCount -= 1 }
        if move != .idle { outgoingCount += 1 }
        outgoing[place] = move
    }

    /// True when the ownership `generation` begins with the exact state of the one before.
    func isHandedOver(_ identifier: DistributionIdentifier, _ generation: UInt16) -> Bool {
        let move = incoming[Int(identifier.value)]
        return move.isComplete && move.generation + 1 == generation
    }

    mutating func endIncoming(_ identifier: DistributionIdentifier) {
        incoming[Int(identifier.value)] = Incoming()
    }

    /// Identifiers of which `node` is the successor and has all it needs.
    func readyToCommit(
        _ record: AllocationRecord, _ node: NodeID, rules: Rules
    ) -> [DistributionIdentifier] {
        record.successors.indices.compactMap { place in
            guard record.successors[place] == node else { return nil }
            let move = incoming[place]
            let identifier = DistributionIdentifier(UInt16(place))
            guard move.generation == record.allocation.generation(of: identifier) else {
                return nil
            }
            let isComplete = rules.hold(.handoverAwaited) ? move.isComplete : move.isReady
            return isComplete ? identifier : nil
        }
    }

    /// True when the successor has been holding packets for long enough.
    func mayLetGo(_ place: Int, _ timing: ClusterTiming, _ now: UInt64) -> Bool {
        guard case .ready(let since) = outgoing[place] else { return false }
        return now >= since + timing.holdNanoseconds
    }

    func isFrozen(_ place: Int) -> Bool {
        if case .frozen = outgoing[place] { true } else { false }
    }

    /// Identifiers that were let go and are not relieved.
    func overdue(_ timing: ClusterTiming, _ now: UInt64) -> [DistributionIdentifier] {
        guard outgoingCount > 0 else { return [] }
        return outgoing.indices.compactMap { place in
            guard case .frozen(let since) = outgoing[place],
                now >= since + timing.reliefNanoseconds
            else { return nil }
            return DistributionIdentifier(UInt16(place))
        }
    }

    /// Identifiers whose successors are not ready in time: they may not hear this node, or wait for
    /// the store. `isAll`: no more can be recorded, so none may wait any longer.
    func unanswered(
        _ timing: ClusterTiming, isAll: Bool, _ now: UInt64
    ) -> [DistributionIdentifier] {
        guard outgoingCount > 0 else { return [] }
        return outgoing.indices.compactMap { place in
            switch outgoing[place] {
            case .idle, .frozen: return nil
            case .offered, .ready: break
            }
            guard isAll || now >= offeredAt[place] + timing.offerNanoseconds else { return nil }
            return DistributionIdentifier(UInt16(place))
        }
    }

    func nextDeadline(_ timing: ClusterTiming) -> UInt64 {
        guard outgoingCount > 0 else { return nextTellingAt }
        var deadline = nextTellingAt
        for move in outgoing {
            if case .ready(let since) = move {
                deadline = min(deadline, since + timing.holdNanoseconds)
            }
        }
        return deadline
    }
}
