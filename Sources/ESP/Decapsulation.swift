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
        let catalogue = slab.catalogue.pointers
        for index in 0..<min(Self.prefetchDistance, packets.count) {
            Self.prefetch(slab, packets[index])
        }
        for index in packets.indices {
            if index + Self.prefetchDistance < packets.count {
                Self.prefetch(slab, packets[index + Self.prefetchDistance])
            }
            guard packets[index].drop == nil else { continue }
            let slot = packets[index].slot
            precondition(Int(slot) < slab.capacity)
            let record = slab.records + Int(slot)
            if let reason = open(&packets[index], record, catalogue, now) {
                packets[index].drop = reason
                refuse(reason, slot, slab)
            }
        }
    }

    /// nil: the packet is good, and the descriptor names the inner packet.
    @inline(__always)
    private mutating func open(
        _ packet: inout PacketDescriptor, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64
    ) -> DropReason? {
        guard let location = packet.location else {
            preconditionFailure("an inbound packet needs its location")
        }
        precondition(Int(location.end) <= packet.length)
        let shape = shapes + Int(record.pointee.transform)
        let base = packet.buffer + packet.offset
        let esp = base + Int(location.espOffset)
        let bodyOffset = ESPLocation.espHeaderBytes + Int(shape.pointee.ivBytes)
        let bodyLength =
            Int(location.end) - Int(location.espOffset) - bodyOffset
            - Int(shape.pointee.icvBytes)
        guard bodyLength > 0 else { return .truncated }
        guard bodyLength & Int(shape.pointee.alignmentMask) == 0 else { return .ciphertextLength }
        if record.pointee.flags.contains(.hasLifetimes),
            let reason = Self.expiry(record, catalogue, now)
        {
            return reason
        }
        let ring = record.replayRing
        let sequence: UInt64
        switch ring.check(location.sequence, highest: record.pointee.sequence) {
        case .accept(let full): sequence = full
        case .replayed: return .replayed
        case .tooOld: return .tooOld
        case .sequenceZero: return .sequenceZero
        }
        guard let context = pool.context(for: record, slot: packet.slot) else {
            return .cryptoFailure
        }
        let body = esp + bodyOffset
        guard openBody(context, record, shape, esp, bodyOffset, bodyLength, sequence) else {
            // The plaintext was written before the tag was known to be wrong.
            body.initializeMemory(as: UInt8.self, repeating: 0, count: bodyLength)
            return .integrity
        }
        ring.mark(sequence, highest: &record.pointee.sequence)
        let padLength = Int(load8(body, bodyLength - 2))
        let payloadLength = bodyLength - 2 - padLength
        packet.events.formUnion(
            Self.account(record, bytes: max(payloadLength, 0), catalogue, now))
        guard payloadLength >= 0, Self.isPadding(body + payloadLength, count: padLength) else {
            return .padding
        }
        let nextHeader = load8(body, bodyLength - 1)
        if nextHeader == IPProtocol.noNextHeader { return .dummy }
        if record.pointee.flags.contains(.isTransport) {
            return deliverTransport(
                &packet, location, body - base, payloadLength, nextHeader, record, catalogue)
        }
        return deliverTunnel(
            &packet, location, body - base, payloadLength, nextHeader, record, catalogue)
    }

    /// Integrity and decryption; false when the ICV is wrong.
    @inline(__always)
    private func openBody(
        _ context: UnsafeMutablePointer<KeyedContext>, _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyOffset: Int, _ bodyLength: Int, _ sequence: UInt64
    ) -> Bool {
        let iv = esp + ESPLocation.espHeaderBytes
        let body = esp + bodyOffset
        let icv = body + bodyLength
        switch shape.pointee.kind {
        case .aead, .ccm:
            let saltBytes = shape.pointee.kind == .ccm ? 3 : 4
            makeNonce(record, iv: iv, saltBytes: saltBytes)
            let aad = aad(record, esp: esp, sequence: sequence)
            return context.pointee.open(
                MessageLayout(
                    aad: aad.pointer, aadBytes: aad.count, iv: scratch, ivBytes: saltBytes + 8,
                    data: body, dataBytes: bodyLength, tag: icv))
        case .gmac:
            makeNonce(record, iv: iv, saltBytes: 4)
            return withGMACInput(
                record, esp: esp, count: bodyOffset + bodyLength, sequence: sequence
            ) { aad, count in
                context.pointee.open(
                    MessageLayout(
                        aad: aad, aadBytes: count, iv: scratch, ivBytes: 12, data: body,
                        dataBytes: 0, tag: icv))
            }
        case .cbc, .ctr, .null:
            guard
                authenticate(
                    context, record, esp: esp, count: bodyOffset + bodyLength,
                    sequence: sequence),
                constantTimeEquals(
                    scratch + Self.macOffset, icv, count: Int(shape.pointee.icvBytes))
            else { return false }
            if shape.pointee.kind == .null { return true }
            if shape.pointee.kind == .cbc {
                return context.pointee.run(
                    encrypts: false, iv: iv, data: body, count: bodyLength)
            }
            makeCounterBlock(record, iv: iv)
            return context.pointee.run(
                encrypts: true, iv: scratch, data: body, count: bodyLength)
        }
    }

    /// RFC 4303 §2.4: the receiver should inspect that padding is 1, 2, 3, …
    @inline(__always)
    private static func isPadding(_ base: UnsafeRawPointer, count: Int) -> Bool {
        var difference: UInt8 = 0
        var index = 0
        while index < count {
            difference |= load8(base, index) ^ UInt8(truncatingIfNeeded: index + 1)
            index += 1
        }
        return difference == 0
    }

    /// Tunnel mode: the payload is an IP packet, with TFC padding behind it.
    @inline(__always)
    private func deliverTunnel(
        _ packet: inout PacketDescriptor, _ location: ESPLocation, _ offset: Int,
        _ payloadLength: Int, _ nextHeader: UInt8, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let family: IPAddress.Family
        switch nextHeader {
        case IPProtocol.ipv4: family = .v4
        case IPProtocol.ipv6: family = .v6
        default: return .nextHeader
        }
        let base = packet.buffer + packet.offset
        let inner = base + offset
        guard let parsed = try? IPPacket(at: inner, count: payloadLength), parsed.family == family
        else { return .innerMalformed }
        let outerClass = IPPacket.trafficClass(base, location.family)
        guard TunnelECN.decapsulate(outerClass: outerClass, inner: inner, family: family) else {
            return .ecn
        }
        guard record.admits(parsed, inner, catalogue) else { return .selector }
        packet.offset += offset
        packet.length = parsed.totalLength
        return nil
    }

    /// Transport mode: ESP header and IV are cut out of the packet by moving the IP header up to the
    /// payload.
    ///
    ///     | IP header (+ extensions) | [UDP] ESP IV | payload | padding … ICV |
    ///                    | IP header (+ extensions) | payload |
    @inline(never)
    private func deliverTransport(
        _ packet: inout PacketDescriptor, _ location: ESPLocation, _ offset: Int,
        _ payloadLength: Int, _ nextHeader: UInt8, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let headerLength = Int(location.headerLength)
        let base = packet.buffer + packet.offset
        let inner = base + offset - headerLength
        inner.copyMemory(from: base, byteCount: headerLength)
        store8(nextHeader, inner, Int(location.protocolOffset))
        setLength(inner, location.family, headerLength: headerLength, headerLength + payloadLength)
        guard let parsed = try? IPPacket(at: inner, count: headerLength + payloadLength) else {
            return .innerMalformed
        }
        guard record.admits(parsed, inner, catalogue) else { return .selector }
        packet.offset += offset - headerLength
        packet.length = headerLength + payloadLength
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
