// Receiving (RFC 4303 §3.4), in the order of the RFC: lengths, replay check, integrity, decryption,
// replay mark, padding, next header, inner packet, ECN, selectors.
//
// Check and mark of the replay window are one step apart with nothing of the same association in
// between, so the second look that parallel engines need before marking is not needed here.

import Crypto
import Wire

extension ESPEngine {
    /// Opens a batch in place. Packets that carry a drop reason already are left alone; the others
    /// need `location` and a `slot` of `slab` that holds an inbound association.
    ///
    /// `nowNanoseconds` is the caller's clock, on which associations were created.
    public mutating func decapsulate(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, slab: borrowing AssociationSlab,
        nowNanoseconds now: UInt64
    ) {
        guard let base = packets.baseAddress else { return }
        let catalogue = slab.catalogue.pointers
        let count = packets.count
        for index in 0..<min(Self.prefetchDistance, count) { Self.prefetch(slab, base + index) }
        for index in 0..<count {
            let packet = base + index
            if index &+ Self.prefetchDistance < count {
                Self.prefetch(slab, packet + Self.prefetchDistance)
            }
            guard packet.pointee.drop == nil else { continue }
            let slot = packet.pointee.slot
            precondition(Int(slot) < slab.capacity)
            let record = slab.records + Int(slot)
            if let reason = open(packet, record, catalogue, now) {
                packet.pointee.drop = reason
                refuse(reason, slot, slab)
            }
        }
    }

    /// nil: the packet is good, and the descriptor names the inner packet.
    ///
    /// Lengths are those of one packet, so wrapping arithmetic can't wrap.
    @inline(__always)
    private mutating func open(
        _ packet: UnsafeMutablePointer<PacketDescriptor>, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64
    ) -> DropReason? {
        let end = Int(packet.pointee.place.end)
        let espOffset = Int(packet.pointee.place.espOffset)
        precondition(end != 0 && end <= packet.pointee.length, "an inbound packet has a location")
        let shape = shapes + Int(record.pointee.transform)
        let esp = packet.pointee.buffer + (packet.pointee.offset &+ espOffset)
        let bodyOffset = ESPLocation.espHeaderBytes &+ Int(shape.pointee.ivBytes)
        let bodyLength = end &- espOffset &- bodyOffset &- Int(shape.pointee.icvBytes)
        guard bodyLength > 0 else { return .truncated }
        guard bodyLength & Int(shape.pointee.alignmentMask) == 0 else { return .ciphertextLength }
        if record.pointee.flags.contains(.hasLifetimes),
            let reason = Self.expiry(record, catalogue, now)
        {
            return reason
        }
        let ring = record.replayRing
        let sequence: UInt64
        switch ring.check(packet.pointee.place.sequence, highest: record.pointee.sequence) {
        case .accept(let full): sequence = full
        case .replayed: return .replayed
        case .tooOld: return .tooOld
        case .sequenceZero: return .sequenceZero
        }
        guard let context = pool.context(for: record, slot: packet.pointee.slot) else {
            return .cryptoFailure
        }
        let body = esp + bodyOffset
        guard Self.openBody(scratch, context, record, shape, esp, bodyOffset, bodyLength, sequence)
        else {
            // The plaintext was written before the tag was known to be wrong.
            body.initializeMemory(as: UInt8.self, repeating: 0, count: bodyLength)
            return .integrity
        }
        // What a successor doesn't know of must not be accepted; that it is authentic tells the
        // owner how far the peer has come, and that it must publish more. Told to be the rare case,
        // the check costs two instructions; as a plain one ten, by the registers it takes.
        if _slowPath(sequence > record.pointee.sequenceLimit) {
            body.initializeMemory(as: UInt8.self, repeating: 0, count: bodyLength)
            return .leaseEnded
        }
        ring.mark(sequence, highest: &record.pointee.sequence)
        let padLength = Int(load8(body, bodyLength &- 2))
        let payloadLength = bodyLength &- 2 &- padLength
        let events = Self.account(record, bytes: max(payloadLength, 0), catalogue, now)
        if !events.isEmpty { packet.pointee.events.formUnion(events) }
        guard payloadLength >= 0,
            Self.isPadding(body + payloadLength, count: padLength, before: payloadLength)
        else { return .padding }
        let nextHeader = load8(body, bodyLength &- 1)
        if nextHeader == IPProtocol.noNextHeader { return .dummy }
        let offset = espOffset &+ bodyOffset
        if record.pointee.flags.contains(.isTransport) {
            return deliverTransport(packet, offset, payloadLength, nextHeader, record, catalogue)
        }
        return deliverTunnel(packet, offset, payloadLength, nextHeader, record, catalogue)
    }

    /// Integrity and decryption; false when the ICV is wrong.
    @inline(__always)
    private static func openBody(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyOffset: Int, _ bodyLength: Int, _ sequence: UInt64
    ) -> Bool {
        guard shape.pointee.kind == .aead else {
            return openOtherBody(
                scratch, context, record, shape, esp, bodyOffset, bodyLength, sequence)
        }
        let body = esp + bodyOffset
        Self.makeNonce(scratch, record, iv: esp + ESPLocation.espHeaderBytes, saltBytes: 4)
        let aad = Self.aad(scratch, record, esp: esp, sequence: sequence)
        return context.pointee.open(
            aad: aad.pointer, aad.count, iv: scratch, 12, data: body, bodyLength,
            tag: body + bodyLength)
    }

    /// CCM, GMAC, and the ciphers with a MAC of their own.
    @inline(never)
    private static func openOtherBody(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyOffset: Int, _ bodyLength: Int, _ sequence: UInt64
    ) -> Bool {
        let iv = esp + ESPLocation.espHeaderBytes
        let body = esp + bodyOffset
        let icv = body + bodyLength
        switch shape.pointee.kind {
        case .aead, .ccm:
            Self.makeNonce(scratch, record, iv: iv, saltBytes: 3)
            let aad = Self.aad(scratch, record, esp: esp, sequence: sequence)
            return context.pointee.open(
                aad: aad.pointer, aad.count, iv: scratch, 11, data: body, bodyLength, tag: icv)
        case .gmac:
            Self.makeNonce(scratch, record, iv: iv, saltBytes: 4)
            return Self.withGMACInput(
                record, esp: esp, count: bodyOffset + bodyLength, sequence: sequence
            ) { aad, count in
                context.pointee.open(
                    MessageLayout(
                        aad: aad, aadBytes: count, iv: scratch, ivBytes: 12, data: body,
                        dataBytes: 0, tag: icv))
            }
        case .cbc, .ctr, .null:
            guard
                Self.authenticate(
                    scratch, context, record, esp: esp, count: bodyOffset + bodyLength,
                    sequence: sequence),
                constantTimeEquals(
                    scratch + Self.macOffset, icv, count: Int(shape.pointee.icvBytes))
            else { return false }
            if shape.pointee.kind == .null { return true }
            if shape.pointee.kind == .cbc {
                return context.pointee.run(
                    encrypts: false, iv: iv, data: body, count: bodyLength)
            }
            Self.makeCounterBlock(scratch, record, iv: iv)
            return context.pointee.run(
                encrypts: true, iv: scratch, data: body, count: bodyLength)
        }
    }

    /// RFC 4303 §2.4: the receiver should inspect that padding is 1, 2, 3, … `before`: octets that
    /// stand in front of it.
    @inline(__always)
    private static func isPadding(
        _ base: UnsafeRawPointer, count: Int, before: Int
    ) -> Bool {
        guard count <= 3, before >= 4 else { return isLongPadding(base, count: count) }
        // The four octets that end with the padding; those that belong to it must be the last of
        // 1, 2, 3.
        let bits = UInt32(truncatingIfNeeded: count) &* 8
        let difference = load32(base, count &- 4) ^ (0x0001_0203 &>> (24 &- bits))
        return difference & ((1 &<< bits) &- 1) == 0
    }

    @inline(never)
    private static func isLongPadding(_ base: UnsafeRawPointer, count: Int) -> Bool {
        var difference: UInt8 = 0
        for index in 0..<count {
            difference |= load8(base, index) ^ UInt8(truncatingIfNeeded: index + 1)
        }
        return difference == 0
    }

    /// Tunnel mode: the payload is an IP packet, with TFC padding behind it. `offset`: from the
    /// outer packet's first octet to the payload.
    @inline(__always)
    private func deliverTunnel(
        _ packet: UnsafeMutablePointer<PacketDescriptor>, _ offset: Int, _ payloadLength: Int,
        _ nextHeader: UInt8, _ record: RecordPointer, _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let family: IPAddress.Family
        switch nextHeader {
        case IPProtocol.ipv4: family = .v4
        case IPProtocol.ipv6: family = .v6
        default: return .nextHeader
        }
        let base = packet.pointee.buffer + packet.pointee.offset
        let inner = base + offset
        guard let length = IPPacket.length(at: inner, count: payloadLength, family: family) else {
            return .innerMalformed
        }
        let outerClass = IPPacket.trafficClass(base, packet.pointee.place.family)
        guard TunnelECN.decapsulate(outerClass: outerClass, inner: inner, family: family) else {
            return .ecn
        }
        guard record.admits(inner, count: length, family, catalogue) else { return .selector }
        packet.pointee.offset &+= offset
        packet.pointee.length = length
        return nil
    }

    /// Transport mode: ESP header and IV are cut out of the packet by moving the IP header up to
    /// the payload.
    ///
    ///     | IP header (+ extensions) | [UDP] ESP IV | payload | padding … ICV |
    ///                    | IP header (+ extensions) | payload |
    @inline(never)
    private func deliverTransport(
        _ packet: UnsafeMutablePointer<PacketDescriptor>, _ offset: Int, _ payloadLength: Int,
        _ nextHeader: UInt8, _ record: RecordPointer, _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let location = packet.pointee.place
        let headerLength = Int(location.headerLength)
        let base = packet.pointee.buffer + packet.pointee.offset
        let inner = base + offset - headerLength
        inner.copyMemory(from: base, byteCount: headerLength)
        store8(nextHeader, inner, Int(location.protocolOffset))
        setLength(inner, location.family, headerLength: headerLength, headerLength + payloadLength)
        let length = headerLength + payloadLength
        guard let parsed = try? IPPacket(at: inner, count: length) else { return .innerMalformed }
        guard record.admits(inner, count: length, parsed.family, catalogue) else {
            return .selector
        }
        packet.pointee.offset += offset - headerLength
        packet.pointee.length = length
        return nil
    }
}

/// Writes a packet's length into its header, and an IPv4 header's checksum.
@inline(__always)
func setLength(
    _ base: UnsafeMutableRawPointer, _ family: IPAddress.Family, headerLength: Int, _ length: Int
) {
    guard family == .v4 else {
        store16(UInt16(truncatingIfNeeded: length - IPPacket.ipv6HeaderBytes), base, 4)
        return
    }
    store16(UInt16(truncatingIfNeeded: length), base, 2)
    let fixed = Int(load8(base, 0) & 0x0F) * 4
    store16(0, base, 10)
    store16(checksumFold(checksumSum(base, count: fixed)), base, 10)
}
