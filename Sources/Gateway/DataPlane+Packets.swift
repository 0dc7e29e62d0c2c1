// The packet path of a node: classify, owner filter, card, bookkeeping. Nothing here allocates for
// a packet of an identifier that is simply owned.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    // MARK: Receiving

    /// Opens packets of the untrusted side in place: those of its own identifiers, and no others
    /// (patent Fig. 2, 202 and 204).
    mutating func receive(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        verdicts: UnsafeMutableBufferPointer<PacketVerdict>, now: UInt64, packetTime: UInt64
    ) {
        var count = 0
        for index in packets.indices {
            verdicts[index] = sort(&packets[index], now)
            if verdicts[index] == .delivered {
                batch.initializeElement(at: count, to: packets[index])
                origins[count] = index
                count += 1
            } else if case .dropped(let reason) = verdicts[index] {
                traceReceived(packets[index].packet, reason, now)
            }
        }
        let mine = UnsafeMutableBufferPointer(rebasing: batch[..<count])
        card.receive(mine, nowNanoseconds: packetTime)
        for place in 0..<count {
            let index = origins[place]
            if let reason = mine[place].drop, reason.isOfCard {
                let packet = UnsafeMutableBufferPointer(rebasing: mine[place...place])
                if !receiveOnHost(packet, packetTime), reason == .unknownSPI {
                    mine[place].drop = explainMiss(mine[place], now)
                }
            }
            let outer = packets[index].offset
            if let reason = mine[place].drop {
                verdicts[index] = .dropped(reason)
                traceReceived(packets[index].packet, reason, now)
            }
            packets[index] = mine[place]
            if packets[index].events.contains(.softLifetime) {
                noteSoftLifetime(packets[index].location?.spi)
            }
            noteReceived(packets[index])
            if followsPeers { follow(packets[index], outer: outer) }
        }
        for index in packets.indices { tally(verdicts[index], isInbound: true) }
    }

    /// Classifies a packet and applies the owner filter; `delivered` means: for the card.
    private mutating func sort(
        _ packet: inout PacketDescriptor, _ now: UInt64
    ) -> PacketVerdict {
        guard let base = packet.packet.baseAddress else { return .other }
        switch OuterPacket.classify(at: base, count: packet.length) {
        case .esp(let location):
            let identifier = distribution.identifier(of: location.spi)
            if let verdict = admit(identifier, packet, isOuter: true, now) { return verdict }
            if location.spi.isReserved { return .dropped(.reservedSPI) }
            packet.location = location
            packet.drop = nil
            packet.events = []
            return .delivered
        case .ike(let header):
            let identifier = distribution.identifier(ofInitiatorCookie: header.initiatorCookie)
            return roles[Int(identifier.value)] == .foreign ? .foreign : .ike
        case .natKeepalive:
            return .natKeepalive
        case .other:
            return .other
        case .fragment:
            return ownsUnassigned ? .dropped(.fragment) : .foreign
        case .malformed(let error):
            return ownsUnassigned
                ? .dropped(error == .truncated ? .truncated : .malformed) : .foreign
        }
    }

    /// nil: the identifier is this node's to serve now.
    @inline(__always)
    private mutating func admit(
        _ identifier: DistributionIdentifier, _ packet: PacketDescriptor, isOuter: Bool,
        _ now: UInt64
    ) -> PacketVerdict? {
        let role = roles[Int(identifier.value)]
        if role == .foreign { return .foreign }
        if role == .owned, now < servingUntil { return nil }
        return admitRarely(role, identifier, packet, isOuter: isOuter, now)
    }

    @inline(never)
    private mutating func admitRarely(
        _ role: Role, _ identifier: DistributionIdentifier, _ packet: PacketDescriptor,
        isOuter: Bool, _ now: UInt64
    ) -> PacketVerdict? {
        switch role {
        case .owned, .loading:
            guard now < servingUntil else { return .dropped(.notServing) }
            if role == .loading { _ = load(identifier, now) }
            return nil
        case .awaiting:
            // Who owned it before serves it no more, so nobody else handles the packet.
            let isHeld = now < servingUntil && hold(packet, identifier, isOuter: isOuter)
            return isHeld ? .held : .dropped(.notServing)
        case .holding, .frozen:
            return hold(packet, identifier, isOuter: isOuter) ? .held : .foreign
        case .foreign:
            return .foreign
        }
    }

    private mutating func hold(
        _ packet: PacketDescriptor, _ identifier: DistributionIdentifier, isOuter: Bool
    ) -> Bool {
        guard rules.hold(.packetsHeld) else { return false }
        let isKept = held.append(
            HeldPacket(
                identifier: identifier, isOuter: isOuter, octets: Array(packet.packet),
                digest: isOuter ? 0 : packetDigest(packet.packet)))
        if !isKept { counters.holdOverflows += 1 }
        return isKept
    }

    /// The node's own entry follows the card, so that a session which the card loses is loaded
    /// again with the window it had, and never accepts a packet twice.
    private mutating func noteReceived(_ packet: PacketDescriptor) {
        guard let location = packet.location, packet.drop != .unknownSPI,
            let entry = table.find(location.spi)
        else { return }
        if let session = card.session(for: location.spi) {
            table.updateStates { associations in
                try? card.copyState(of: session, to: entry, in: &associations)
            }
        } else if let session = host.session(for: location.spi) {
            table.updateStates { associations in
                try? host.copyState(of: session, to: entry, in: &associations)
            }
        } else {
            return
        }
        let identifier = Int(distribution.identifier(of: location.spi).value)
        isDirty[identifier] = true
        let received = table.status(of: entry).sequence
        if packet.drop == nil, book.noteAccepted(entry, received: received, window: 4096) {
            counters.exposed += 1
        }
        if packet.drop == .leaseEnded {
            book.noteMissed(entry, low: location.sequence, received: received)
        }
        packetCounts[identifier] &+= 1
        if packet.drop == .leaseEnded || isRunningLow(entry) { isLow[identifier] = true }
    }

    private borrowing func inboundSPI(tableSlot: UInt32) -> SPI? {
        guard let outbound = table.associations.handle(at: tableSlot),
            let entry = table.inbound(of: outbound)
        else { return nil }
        return table.status(of: entry).spi
    }

    /// New keys are due: whoever speaks for the tunnel is asked.
    @inline(never)
    private mutating func noteSoftLifetime(_ spi: SPI?) {
        counters.softLifetimes += 1
        if let spi, followsPeers { worn.append(spi) }
    }

    /// Where a peer is whose packets come in UDP: the newest one tells (RFC 7296 §2.23). `outer`:
    /// its offset before it was opened in place, which leaves the outer headers as they were.
    private mutating func follow(_ packet: PacketDescriptor, outer: Int) {
        guard packet.drop == nil, let location = packet.location, location.isUDPEncapsulated,
            // In transport mode the outer header is the packet's own.
            packet.offset > outer + Int(location.espOffset),
            let entry = table.find(location.spi),
            UInt32(truncatingIfNeeded: table.status(of: entry).sequence) == location.sequence
        else { return }
        let base = UnsafeRawPointer(packet.buffer) + outer
        let source = IPAddress(location.family, at: base, location.family == .v4 ? 12 : 8)
        let port = load16(base, Int(location.espOffset) - 8)
        let digest =
            (source.high &* 0x9E37_79B9_7F4A_7C15 ^ source.low) &* 0xD6E8_FEB8_6659_FD93
            ^ UInt64(port)
        let slot = Int(entry.index)
        if slot < sources.count, sources[slot] == digest { return }
        guard let outbound = table.outbound(of: entry) else { return }
        let parameters = table.associations.parameters(of: outbound)
        if parameters.destination != source || parameters.udp?.destination != port {
            if moved.last?.spi != location.spi { moved.append((location.spi, source, port)) }
        } else {
            while sources.count <= slot { sources.append(0) }
            sources[slot] = digest
        }
    }

    private borrowing func isRunningLow(_ entry: AssociationHandle) -> Bool {
        let sent = table.outbound(of: entry).map { table.status(of: $0).sequence } ?? 0
        return book.isLow(entry, sent: sent, received: table.status(of: entry).sequence)
    }

    /// Why the card had no session for an owned packet. A session that the card lost is loaded
    /// again, so that the next packet finds it.
    private mutating func explainMiss(_ packet: PacketDescriptor, _ now: UInt64) -> DropReason {
        guard let location = packet.location, let entry = table.find(location.spi) else {
            return .unknownSPI
        }
        return explain(reload(entry, now))
    }

    private func explain(_ refusal: CardError?) -> DropReason {
        switch refusal {
        // A duplicate: an earlier packet of the batch had it loaded.
        case nil, .duplicateSPI, .keysWiped, .staleHandle: .sessionLost
        case .stalled: .cardStalled
        case .full, .tooManyProfiles: .cardFull
        }
    }

    // MARK: Sending

    /// Seals packets of the protected side in place: those whose tunnels are its own.
    mutating func send(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        verdicts: UnsafeMutableBufferPointer<PacketVerdict>, now: UInt64, packetTime: UInt64
    ) {
        var count = 0
        for index in packets.indices {
            verdicts[index] = choose(&packets[index], now)
            if verdicts[index] == .delivered {
                batch.initializeElement(at: count, to: packets[index])
                origins[count] = index
                count += 1
            } else if case .dropped(let reason) = verdicts[index] {
                traceSent(packets[index].packet, reason, spi: nil, now)
            }
        }
        let mine = UnsafeMutableBufferPointer(rebasing: batch[..<count])
        card.send(mine, nowNanoseconds: packetTime)
        for place in 0..<count {
            let index = origins[place]
            let tableSlot = packets[index].slot
            if let reason = mine[place].drop, reason.isOfCard {
                let packet = UnsafeMutableBufferPointer(rebasing: mine[place...place])
                if !sendOnHost(packet, tableSlot: tableSlot, packetTime),
                    reason == .sessionLost
                {
                    mine[place].drop = missedSession(tableSlot, now)
                }
            }
            if let reason = mine[place].drop {
                verdicts[index] = .dropped(reason)
                let spi = inboundSPI(tableSlot: tableSlot)
                traceSent(packets[index].packet, reason, spi: spi, now)
            }
            packets[index] = mine[place]
            if packets[index].events.contains(.softLifetime) {
                noteSoftLifetime(inboundSPI(tableSlot: tableSlot))
            }
            noteSent(packets[index], tableSlot: tableSlot)
        }
        for index in packets.indices { tally(verdicts[index], isInbound: false) }
    }

    /// Finds the tunnel of an inner packet and applies the owner filter. The slot of the table is
    /// left in `slot`, until the card puts its own there.
    private mutating func choose(
        _ packet: inout PacketDescriptor, _ now: UInt64
    ) -> PacketVerdict {
        guard let entry = table.findOutbound(covering: packet.packet) else {
            // A node that does not hold every tunnel can't say that nobody has it.
            return ownsUnassigned && isWhole ? .dropped(.noAssociation) : .foreign
        }
        let identifier = DistributionIdentifier(
            table.status(of: entry).distributionIdentifier)
        if let verdict = admit(identifier, packet, isOuter: false, now) { return verdict }
        if isRecording[Int(identifier.value)], !isRecordFull {
            digests.append((identifier, packetDigest(packet.packet)))
        }
        packet.slot = entry.index
        packet.handle = outboundSession(entry)
        packet.drop = nil
        packet.events = []
        return .delivered
    }

    /// True for a packet of the protected side whose tunnel is another node's; it is counted.
    mutating func isForeign(_ packet: UnsafeRawBufferPointer) -> Bool {
        guard let entry = table.findOutbound(covering: packet),
            roles[Int(table.status(of: entry).distributionIdentifier)] == .foreign
        else { return false }
        counters.foreign += 1
        return true
    }

    private mutating func missedSession(
        _ tableSlot: UInt32, _ now: UInt64
    ) -> DropReason {
        guard let entry = table.associations.handle(at: tableSlot),
            let inbound = table.inbound(of: entry)
        else { return .noAssociation }
        return explain(reload(inbound, now))
    }

    private mutating func noteSent(_ packet: PacketDescriptor, tableSlot: UInt32) {
        guard let outbound = table.associations.handle(at: tableSlot),
            let entry = table.inbound(of: outbound)
        else { return }
        let session = outboundSession(outbound)
        let isOnCard = card.holds(session)
        let hostSession = isOnCard ? session : hostOutboundSession(outbound)
        table.updateStates { associations in
            if isOnCard {
                try? card.copyState(of: session, to: outbound, in: &associations)
            } else {
                try? host.copyState(of: hostSession, to: outbound, in: &associations)
            }
        }
        let identifier = Int(table.status(of: entry).distributionIdentifier)
        isDirty[identifier] = true
        packetCounts[identifier] &+= 1
        if packet.drop == .leaseEnded || isRunningLow(entry) { isLow[identifier] = true }
        // A refused packet is as it was: the successor may send it.
        if packet.drop != nil, isRecording[identifier] {
            let digest = packetDigest(packet.packet)
            if let place = digests.lastIndex(where: { $0.digest == digest }) {
                digests.remove(at: place)
            }
        }
    }
}

extension DropReason {
    /// The card had no session or took no batch: the packet's session may be in the host's memory.
    @inline(__always)
    fileprivate var isOfCard: Bool {
        switch self {
        case .unknownSPI, .sessionLost, .cardStalled, .cardBusy: true
        default: false
        }
    }
}
