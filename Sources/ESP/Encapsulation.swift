// Sending (RFC 4303 §3.3): selectors, lifetimes, sequence number, padding, IV, encryption and ICV,
// outer header.

import Crypto
import Wire

extension ESPEngine {
    /// Seals a batch in place. Packets that carry a drop reason already are left alone; the others
    /// need a `slot` of `slab` that holds an outbound association, and `ESPOverhead` around them
    /// (plus TFC padding behind).
    ///
    /// `fixedIV` replaces the generated IV of every packet; it is for known answers only, since
    /// using one twice under a counter mode gives the key away.
    public mutating func encapsulate(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, slab: borrowing AssociationSlab,
        nowNanoseconds now: UInt64, fixedIV: UnsafeRawBufferPointer? = nil
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
            if let reason = seal(&packets[index], record, catalogue, now, fixedIV) {
                packets[index].drop = reason
                refuse(reason, slot, slab)
            }
        }
    }

    /// nil: the packet is sealed, and the descriptor names the outer packet.
    @inline(__always)
    private mutating func seal(
        _ packet: inout PacketDescriptor, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64,
        _ fixedIV: UnsafeRawBufferPointer?
    ) -> DropReason? {
        let shape = shapes + Int(record.pointee.transform)
        let headers = UnsafePointer(catalogue.profiles + Int(record.pointee.profile))
        var plan = SealPlan()
        if let reason = makePlan(&plan, &packet, record, headers, catalogue) { return reason }
        if record.pointee.flags.contains(.hasLifetimes),
            let reason = Self.expiry(record, catalogue, now)
        {
            return reason
        }
        guard record.pointee.sequence < record.pointee.sequenceLimit else {
            return .sequenceExhausted
        }
        let mask = Int(shape.pointee.alignmentMask)
        let tfc = max(
            0, packet.isDummy ? 0 : Int(headers.pointee.headers.tfcBytes) - plan.payloadLength)
        let payloadLength = plan.payloadLength + tfc
        let padLength = (mask &+ 1 &- (payloadLength &+ 2) & mask) & mask
        let bodyLength = payloadLength + padLength + 2
        let ivBytes = Int(shape.pointee.ivBytes)
        let usesUDP = record.pointee.flags.contains(.usesUDP)
        let espBytes = ESPLocation.espHeaderBytes + ivBytes
        let insertBytes = espBytes + (usesUDP ? 8 : 0)
        let total =
            plan.headerLength + insertBytes + bodyLength + Int(shape.pointee.icvBytes)
        guard total <= plan.totalMaximum else { return .packetTooBig }
        let body = packet.buffer + plan.payloadOffset
        precondition(
            plan.payloadOffset >= insertBytes + plan.headerLength
                && plan.payloadOffset + bodyLength + Int(shape.pointee.icvBytes)
                    <= packet.capacity,
            "no room around the packet: see ESPOverhead")
        guard let context = pool.context(for: record, slot: packet.slot) else {
            return .cryptoFailure
        }
        let sequence = record.pointee.sequence &+ 1
        record.pointee.sequence = sequence
        if tfc > 0 {
            (body + plan.payloadLength).initializeMemory(as: UInt8.self, repeating: 0, count: tfc)
        }
        Self.writeTrailer(body + payloadLength, padLength, plan.nextHeader)
        if plan.isTransport {
            // The IP header moves forward, out of the way of UDP and ESP header.
            (body - insertBytes - plan.headerLength)
                .copyMemory(from: body - plan.headerLength, byteCount: plan.headerLength)
        }
        let esp = body - espBytes
        store32(record.pointee.spi, esp, 0)
        store32(UInt32(truncatingIfNeeded: sequence), esp, 4)
        guard sealBody(context, record, shape, esp, bodyLength, sequence, fixedIV) else {
            return .cryptoFailure
        }
        packet.offset = plan.payloadOffset - insertBytes - plan.headerLength
        packet.length = total
        writeHeaders(packet.buffer + packet.offset, plan, record, headers, total, sequence)
        packet.events.formUnion(
            Self.account(record, bytes: plan.payloadLength, catalogue, now))
        return nil
    }

    /// 1, 2, 3, … then pad length and next header (RFC 4303 §2.4).
    @inline(__always)
    private static func writeTrailer(
        _ base: UnsafeMutableRawPointer, _ padLength: Int, _ nextHeader: UInt8
    ) {
        var index = 0
        while index < padLength {
            store8(UInt8(truncatingIfNeeded: index + 1), base, index)
            index += 1
        }
        store8(UInt8(truncatingIfNeeded: padLength), base, padLength)
        store8(nextHeader, base, padLength + 1)
    }

    /// IV, encryption, ICV.
    @inline(__always)
    private func sealBody(
        _ context: UnsafeMutablePointer<KeyedContext>, _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyLength: Int, _ sequence: UInt64, _ fixedIV: UnsafeRawBufferPointer?
    ) -> Bool {
        let iv = esp + ESPLocation.espHeaderBytes
        let ivBytes = Int(shape.pointee.ivBytes)
        let body = iv + ivBytes
        let icv = body + bodyLength
        // RFC 6054 §3: the owner's generation keeps the counters of two owners apart.
        let counter = UInt64(record.pointee.ivGeneration) << 48 | sequence & (1 << 48 - 1)
        if let fixedIV {
            precondition(fixedIV.count == ivBytes)
            UnsafeMutableRawBufferPointer(start: iv, count: ivBytes).copyMemory(from: fixedIV)
        } else if ivBytes == 8 {
            store64(counter, iv, 0)
        }
        switch shape.pointee.kind {
        case .aead, .ccm:
            let saltBytes = shape.pointee.kind == .ccm ? 3 : 4
            makeNonce(record, iv: iv, saltBytes: saltBytes)
            let aad = aad(record, esp: esp, sequence: sequence)
            return context.pointee.seal(
                MessageLayout(
                    aad: aad.pointer, aadBytes: aad.count, iv: scratch, ivBytes: saltBytes + 8,
                    data: body, dataBytes: bodyLength, tag: icv))
        case .gmac:
            makeNonce(record, iv: iv, saltBytes: 4)
            return withGMACInput(
                record, esp: esp, count: 8 + ivBytes + bodyLength, sequence: sequence
            ) { aad, count in
                context.pointee.seal(
                    MessageLayout(
                        aad: aad, aadBytes: count, iv: scratch, ivBytes: 12, data: body,
                        dataBytes: 0, tag: icv))
            }
        case .cbc, .ctr, .null:
            guard
                encrypt(
                    context, record, shape.pointee.kind, iv, bodyLength, counter, sequence,
                    hasFixedIV: fixedIV != nil),
                authenticate(
                    context, record, esp: esp, count: 8 + ivBytes + bodyLength,
                    sequence: sequence)
            else { return false }
            icv.copyMemory(
                from: scratch + Self.macOffset, byteCount: Int(shape.pointee.icvBytes))
            return true
        }
    }

    /// CBC's IV must be unpredictable (RFC 3602 §3): it is the encryption of a block that never
    /// repeats under the key (NIST SP 800-38A Appendix C), which costs one block and no randomness.
    @inline(__always)
    private func encrypt(
        _ context: UnsafeMutablePointer<KeyedContext>, _ record: RecordPointer,
        _ kind: TransformShape.Kind, _ iv: UnsafeMutableRawPointer, _ bodyLength: Int,
        _ counter: UInt64, _ sequence: UInt64, hasFixedIV: Bool
    ) -> Bool {
        switch kind {
        case .cbc where hasFixedIV:
            return context.pointee.run(encrypts: true, iv: iv, data: iv + 16, count: bodyLength)
        case .cbc:
            store64(counter, iv, 0)
            store64(sequence, iv, 8)
            return context.pointee.run(
                encrypts: true, iv: scratch + Self.zeroOffset, data: iv, count: 16 + bodyLength)
        case .ctr:
            makeCounterBlock(record, iv: iv)
            return context.pointee.run(
                encrypts: true, iv: scratch, data: iv + 8, count: bodyLength)
        default:
            return true
        }
    }
}
