// What the nodes tell each other directly: heartbeats, checkpoints, foreign entries, handovers.

import Cluster
import ESP

extension Gateway {
    /// Seals a message for a peer, if its process is known.
    mutating func tell(_ message: HALinkMessage, to peer: NodeID) {
        guard let datagram = link.seal(message, to: peer) else { return }
        outputs.append(.datagram(to: peer, datagram))
    }

    mutating func handle(_ message: HALinkMessage, from peer: NodeID, _ now: UInt64) {
        switch message {
        case .heartbeat(let heartbeat):
            if heartbeat.flags.contains(.draining) != isDraining(peer) { balance.nextLookAt = 0 }
            membership.note(heartbeat, from: peer, nowNanoseconds: now)
            answerHeartbeat(of: peer, now)
        case .checkpoints(let checkpoints):
            take(checkpoints, from: peer)
        case .foreignEntry(let entry):
            takeForeign(entry, from: peer, now)
        case .foreignEntryAnswer(let answer):
            takeAnswer(answer, now)
        case .moveOffer(let notice):
            for move in notice.moves { takeOffer(move, from: peer, now) }
        case .moveReady(let notice):
            for move in notice.moves { takeReady(move, from: peer, now) }
        case .handover(let handover):
            takeHandover(handover, from: peer, now)
        case .load(let report):
            noteLoads(report, from: peer, now)
        }
    }

    mutating func sendHeartbeats(_ now: UInt64) {
        guard membership.isHeartbeatDue(nowNanoseconds: now) else { return }
        let heartbeats = membership.heartbeats(
            revision: client.revision, flags: heartbeatFlags(now), nowNanoseconds: now)
        for (peer, heartbeat) in heartbeats { tell(.heartbeat(heartbeat), to: peer) }
    }

    private mutating func answerHeartbeat(of peer: NodeID, _ now: UInt64) {
        guard membership.isAnswerDue(to: peer, nowNanoseconds: now) else { return }
        let answer = membership.answer(
            to: peer, revision: client.revision, flags: heartbeatFlags(now), nowNanoseconds: now)
        if let answer { tell(.heartbeat(answer), to: peer) }
    }

    private mutating func heartbeatFlags(_ now: UInt64) -> Heartbeat.Flags {
        var flags: Heartbeat.Flags = []
        if mayPromise(now) {
            flags.insert(.storeAway)
            promisedAt = now
        }
        if !publishing.isOverrunning { flags.insert(.withinLease) }
        if client.isComplete { flags.insert(.tableComplete) }
        if now < plane.servingUntil { flags.insert(.serving) }
        if isLeaving || weights[node] == 0 { flags.insert(.draining) }
        return flags
    }

    /// A node whose decision, or a former life's, may come true yet can't promise to decide
    /// nothing.
    private func mayPromise(_ now: UInt64) -> Bool {
        guard client.isPromising(nowNanoseconds: now) else { return false }
        if !configuration.rules.hold(.promiseKept) { return true }
        return decision == nil && !membership.isSilent && unresolvedEpoch != membership.epoch
    }

    /// How far the owner has come: believed of the owner only, and of one to come whose record has
    /// not been seen yet.
    private mutating func take(_ checkpoints: Checkpoints, from peer: NodeID) {
        let place = Int(checkpoints.identifier.value)
        guard let allocation, place < allocation.identifierCount else { return }
        let known = allocation.generation(of: checkpoints.identifier)
        let isOwner = allocation.owner(of: checkpoints.identifier) == peer
        guard checkpoints.generation > known || (checkpoints.generation == known && isOwner),
            configuration.rules.hold(.windowClosed)
        else { return }
        for state in checkpoints.states
        where distribution.identifier(of: state.spi) == checkpoints.identifier {
            plane.apply(state)
        }
    }
}
