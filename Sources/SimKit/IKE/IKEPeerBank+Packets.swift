// The packets of peers that speak IKE: those of ``PeerBank``, through whichever pair is in use.

import ESP
import Wire

extension IKEPeerBank {
    /// Writes the next inner packet of a peer's user at `offset` of `buffer` and seals it, with
    /// `ESPOverhead` around it; returns where the outer packet lies. Nil: no pair can send.
    /// Precondition: as for ``PeerBank``.
    func seal(
        _ peer: Int, into buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int,
        payloadBytes: Int, now: UInt64
    ) -> (offset: Int, length: Int)? {
        let end = peers[peer]
        guard let spi = end.senders.last, let pair = end.pair(inbound: spi) else { return nil }
        let length = InnerPacket.length(payloadBytes: payloadBytes)
        var descriptor = PacketDescriptor(
            buffer: buffer, capacity: capacity, offset: offset, length: length)
        InnerPacket.write(
            InnerLabel(tunnel: peer, isToPeer: false, serial: serials[peer] &+ 1),
            source: Self.hostAddress(of: peer), destination: PeerBank.serverAddress,
            into: buffer + offset, payloadBytes: payloadBytes)
        descriptor.slot = pair.sends.index
        batch.initializeElement(at: 0, to: descriptor)
        engine.encapsulate(batch, slab: slab, nowNanoseconds: now)
        guard batch[0].drop == nil else { return nil }
        serials[peer] &+= 1
        return (batch[0].offset, batch[0].length)
    }

    /// Writes at `buffer` what a server in the protected net sends to a peer's user; returns its
    /// length. Precondition: as for ``PeerBank``.
    func innerPacket(
        toPeer peer: Int, serial: UInt64, into buffer: UnsafeMutableRawPointer, payloadBytes: Int
    ) -> Int {
        InnerPacket.write(
            InnerLabel(tunnel: peer, isToPeer: true, serial: serial),
            source: PeerBank.serverAddress, destination: Self.hostAddress(of: peer), into: buffer,
            payloadBytes: payloadBytes)
        return InnerPacket.length(payloadBytes: payloadBytes)
    }

    /// Takes an ESP packet that a gateway sent, in place.
    func open(
        _ buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int, length: Int, now: UInt64
    ) -> PeerVerdict {
        var descriptor = PacketDescriptor(
            buffer: buffer, capacity: capacity, offset: offset, length: length)
        switch OuterPacket.classify(at: buffer + offset, count: length) {
        case .esp(let location): descriptor.location = location
        case .fragment: return .dropped(.fragment)
        case .malformed(.truncated): return .dropped(.truncated)
        default: return .dropped(.malformed)
        }
        guard let spi = descriptor.location?.spi, let number = register[spi]?.peer,
            let pair = peers[number].pair(inbound: spi)
        else { return .dropped(.unknownSPI) }
        descriptor.slot = pair.receives.index
        batch.initializeElement(at: 0, to: descriptor)
        engine.decapsulate(batch, slab: slab, nowNanoseconds: now)
        if let reason = batch[0].drop { return .dropped(reason) }
        let label = InnerPacket.read(batch[0].packet)
        hear(spi, peers[number], now: now)
        guard let label, label.isToPeer, label.tunnel == number else {
            return .misdelivered(tunnel: number)
        }
        return .delivered(tunnel: number, serial: label.serial)
    }

    /// Reads off an outer packet what a gateway used for it; nil when it is no ESP packet for these
    /// peers, or its IV does not hold the sequence number. Also of associations that their peer
    /// does not have yet, or any more.
    func inspect(_ packet: UnsafeRawBufferPointer) -> SentPacket? {
        guard let base = packet.baseAddress,
            case .esp(let location) = OuterPacket.classify(at: base, count: packet.count),
            let entry = register[location.spi]
        else { return nil }
        let body = Int(location.espOffset) + ESPLocation.espHeaderBytes
        guard body + 8 <= Int(location.end) else { return nil }
        let iv = load64(base, body)
        let sequence = iv & (1 << 48 - 1)
        guard UInt32(truncatingIfNeeded: sequence) == location.sequence else { return nil }
        return SentPacket(
            tunnel: entry.peer, association: entry.association, sequence: sequence,
            generation: UInt16(truncatingIfNeeded: iv >> 48))
    }

    /// True for an ESP packet of a gateway's through a pair that its peer had and has no more.
    func isForgotten(_ packet: UnsafeRawBufferPointer) -> Bool {
        guard let base = packet.baseAddress,
            case .esp(let location) = OuterPacket.classify(at: base, count: packet.count),
            let entry = register[location.spi]
        else { return false }
        return peers[entry.peer].pair(inbound: location.spi) == nil
    }
}
