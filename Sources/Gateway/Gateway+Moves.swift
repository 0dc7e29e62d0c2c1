// Planned moves: offers, readiness, handover, and the packets held meanwhile.

import Cluster
import ESP
import Wire

extension Gateway {
    /// Begins and ends moves as the record in force says. `isNext`: no record before it was missed.
    /// Else a move may have ended and begun again meanwhile, and its owner has recorded nothing of
    /// what was held before.
    mutating func updateMoves(isNext: Bool, _ now: UInt64) {
        guard let record else { return }
        for (place, successor) in record.successors.enumerated() {
            let identifier = DistributionIdentifier(UInt16(place))
            let isOwner = record.allocation.owner(of: identifier) == node && !isStale[place]
            if isOwner { updateOutgoing(identifier, to: successor, now) }
            if successor != node || !isNext { giveUpIncoming(identifier, isOwner: isOwner, now) }
        }
    }

    private mutating func updateOutgoing(
        _ identifier: DistributionIdentifier, to successor: NodeID?, _ now: UInt64
    ) {
        let place = Int(identifier.value)
        if successor != nil {
            guard moves.outgoing[place] == .idle else { return }
            moves.offer(place, now)
            plane.isRecording[place] = true
            // What this node has sent already may reach the successor a little later.
            let time = now + configuration.timing.holdNanoseconds
            moves.nextTellingAt = min(max(moves.nextTellingAt, time), time)
            return
        }
        // Whoever was to relieve this node is gone. A generation whose state was handed over is
        // not gone on with: another successor could take the old state for the new one.
        if moves.isFrozen(place) {
            moves.set(place, .frozen(0))
        } else {
            endOutgoing(identifier)
        }
    }

    private mutating func giveUpIncoming(
        _ identifier: DistributionIdentifier, isOwner: Bool, _ now: UInt64
    ) {
        let place = Int(identifier.value)
        guard moves.incoming[place].isReady else { return }
        moves.endIncoming(identifier)
        if isOwner { return }
        plane.roles[place] = .foreign
        _ = plane.closeAll(of: identifier)
        release(identifier, isOwner: false, now)
    }

    /// The owner records nothing any more; if it had let go, the new record tells what follows.
    mutating func endOutgoing(_ identifier: DistributionIdentifier) {
        let place = Int(identifier.value)
        guard moves.outgoing[place] != .idle else { return }
        moves.set(place, .idle)
        reopenIKE(identifier, tickedAt)
        moves.handovers[place] = []
        plane.isRecording[place] = false
        plane.digests.removeAll { $0.identifier == identifier }
    }

    /// Tells again what may have been lost, and lets go of what a successor is ready for.
    mutating func stepMoves(_ now: UInt64) {
        guard let record, moves.nextDeadline(configuration.timing) <= now else { return }
        var offers: [(peer: NodeID, move: MoveNotice.Move)] = []
        var isMoving = false
        let isTelling = now >= moves.nextTellingAt
        for place in moves.outgoing.indices where moves.outgoing[place] != .idle {
            isMoving = true
            let identifier = DistributionIdentifier(UInt16(place))
            guard let successor = record.successors[place] else { continue }
            let generation = record.allocation.generation(of: identifier)
            let isOffered = moves.outgoing[place] == .offered
            if isOffered, isTelling {
                offers.append((successor, .init(identifier: identifier, generation: generation)))
            } else if moves.mayLetGo(place, configuration.timing, now), !publishing.isOverrunning,
                !client.isPromising(nowNanoseconds: now), !plane.isRecordFull,
                isIKEClosed(identifier)
            {
                // Numbers beyond the lease are in nobody's book: they are published first. And
                // without the store, nobody could relieve this node, nor it go on.
                moves.set(place, .frozen(now))
                if configuration.rules.hold(.frozenAfterHandover) {
                    plane.roles[place] = .frozen
                }
                handOver(identifier, to: successor)
            } else if moves.isFrozen(place), isTelling {
                handOver(identifier, to: successor)
            }
        }
        for peer in Set(offers.map(\.peer)).sorted() {
            let notices = MoveNotice.split(offers.filter { $0.peer == peer }.map(\.move))
            for notice in notices { tell(.moveOffer(notice), to: peer) }
        }
        if isTelling {
            moves.nextTellingAt =
                isMoving ? now + configuration.timing.heartbeatNanoseconds : .max
        }
    }

    /// A successor loads the identifier's tunnels, holds its packets and says so.
    mutating func takeOffer(_ move: MoveNotice.Move, from peer: NodeID, _ now: UInt64) {
        let place = Int(move.identifier.value)
        guard let record, place < record.successors.count, record.successors[place] == node,
            record.allocation.owner(of: move.identifier) == peer,
            record.allocation.generation(of: move.identifier) == move.generation,
            // Who may not end the move must not let its owner begin to wait for that.
            client.isComplete, mayDecide(now),
            contents.isHeld(move.identifier) || !configuration.rules.hold(.entriesRead)
        else { return }
        if !moves.incoming[place].isReady || moves.incoming[place].generation != move.generation {
            moves.incoming[place] = PlannedMoves.Incoming(
                generation: move.generation, isReady: true)
            plane.generations[place] = move.generation + 1
            for entry in plane.table.entries(of: move.identifier) {
                // What finds no room now may find some when the move is complete.
                _ = plane.open(entry, now)
            }
            plane.roles[place] = .holding
        }
        tell(.moveReady(MoveNotice(moves: [move])), to: peer)
    }

    mutating func takeReady(_ move: MoveNotice.Move, from peer: NodeID, _ now: UInt64) {
        let place = Int(move.identifier.value)
        guard let record, place < record.successors.count, record.successors[place] == peer,
            record.allocation.generation(of: move.identifier) == move.generation,
            // What this node has not begun itself it can't hand over.
            moves.outgoing[place] == .offered, plane.roles[place] == .owned
        else { return }
        moves.set(place, .ready(now))
        closeIKE(move.identifier, now)
    }

    /// Everything that a successor must know, in as many datagrams as it takes.
    private mutating func handOver(_ identifier: DistributionIdentifier, to peer: NodeID) {
        guard let record else { return }
        let states = plane.table.entries(of: identifier).map {
            plane.state(of: $0, withWindow: true)
        }
        let digests = plane.digests.filter { $0.identifier == identifier }.map(\.digest)
        // Told again as it was: parts of two tellings may arrive mixed.
        let place = Int(identifier.value)
        if moves.handovers[place].isEmpty {
            moves.handovers[place] = Handover.split(
                identifier: identifier,
                generation: record.allocation.generation(of: identifier), states: states,
                sentDigests: digests)
        }
        for message in moves.handovers[place] { tell(.handover(message), to: peer) }
    }

    mutating func takeHandover(_ handover: Handover, from peer: NodeID, _ now: UInt64) {
        let place = Int(handover.identifier.value)
        guard let record, place < record.successors.count, record.successors[place] == node,
            record.allocation.owner(of: handover.identifier) == peer,
            moves.incoming[place].isReady,
            moves.incoming[place].generation == handover.generation,
            handover.generation == record.allocation.generation(of: handover.identifier)
        else { return }
        moves.incoming[place].parts = handover.parts
        guard moves.incoming[place].partsSeen.insert(handover.part).inserted else { return }
        for state in handover.states
        where distribution.identifier(of: state.spi) == handover.identifier {
            if plane.table.find(state.spi) == nil {
                moves.incoming[place].early.append(state)
            } else {
                applyExactly(state)
                moves.incoming[place].named.insert(state.spi)
            }
        }
        moves.incoming[place].digests += handover.sentDigests
    }

    /// What may be a replay at the old owner may be one at the new owner.
    private mutating func applyExactly(_ state: TunnelState) {
        plane.apply(state)
        guard state.exposedThrough != 0, let entry = plane.table.find(state.spi) else { return }
        plane.book.expose(entry, through: state.exposedThrough)
    }

    /// The tunnels of a complete handover whose exact state is known. Those that were set up just
    /// before have come from the store by now, as the record that ends the move came after them.
    mutating func takeNamed(of identifier: DistributionIdentifier) -> Set<SPI> {
        let place = Int(identifier.value)
        for state in moves.incoming[place].early where plane.table.find(state.spi) != nil {
            applyExactly(state)
            moves.incoming[place].named.insert(state.spi)
        }
        moves.incoming[place].early = []
        return moves.incoming[place].named
    }

    /// Ends the holding of packets: the owner handles them, anyone else lets them go.
    mutating func release(
        _ identifier: DistributionIdentifier, isOwner: Bool, _ now: UInt64
    ) {
        releaseMessages(of: identifier, isOwner: isOwner, now)
        let packets = plane.held.take(identifier)
        guard !packets.isEmpty else { return }
        guard isOwner else {
            plane.counters.heldForeign += UInt64(packets.count)
            return
        }
        plane.servingUntil = max(plane.servingUntil, servingUntil(now))
        var sent = moves.incoming[Int(identifier.value)].digests
        for packet in packets {
            if !packet.isOuter, configuration.rules.hold(.heldCompared),
                let place = sent.firstIndex(of: packet.digest)
            {
                sent.remove(at: place)
                plane.counters.heldForeign += 1
                continue
            }
            handle(packet, now)
        }
    }

    /// Handles one packet as if it came now.
    private mutating func handle(_ packet: HeldPacket, _ now: UInt64) {
        let room = ESPOverhead.headroom + packet.octets.count + ESPOverhead.tailroom
        let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 16)
        defer { memory.deallocate() }
        let offset = ESPOverhead.headroom
        (memory + offset).copyMemory(from: packet.octets, byteCount: packet.octets.count)
        let packets = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)
        let verdicts = UnsafeMutableBufferPointer<PacketVerdict>.allocate(capacity: 1)
        defer {
            packets.deallocate()
            verdicts.deallocate()
        }
        packets.initializeElement(
            at: 0,
            to: PacketDescriptor(
                buffer: memory, capacity: room, offset: offset, length: packet.octets.count))
        verdicts.initializeElement(at: 0, to: .other)
        if packet.isOuter {
            plane.receive(packets, verdicts: verdicts, now: now, packetTime: now)
        } else {
            plane.send(packets, verdicts: verdicts, now: now, packetTime: now)
        }
        let (verdict, descriptor) = (verdicts[0], packets[0])
        switch verdict {
        case .delivered where packet.isOuter: outputs.append(.inner(Array(descriptor.packet)))
        case .delivered: outputs.append(.outer(Array(descriptor.packet)))
        case .dropped(let reason) where reason == .replayed || reason == .tooOld:
            // The old owner had it.
            plane.counters.drops[reason] -= 1
            plane.counters.heldForeign += 1
        case .dropped(let reason): plane.counters.heldDrops[reason] += 1
        case .held: break
        // Its tunnel was cleared meanwhile.
        case .foreign, .ike, .natKeepalive, .other: plane.counters.heldForeign += 1
        }
    }
}
