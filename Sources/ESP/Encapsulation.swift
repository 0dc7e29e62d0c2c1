// Sending (RFC 4303 §3.3): selectors, lifetimes, sequence number, padding, IV, encryption and ICV,
// outer header.

import Crypto
import Wire

extension ESPEngine {
    /// Seals a batch in place. Packets that carry a drop reason already are left alone; the others
    /// need a `slot` of `slab` that holds an outbound association, and `ESPOverhead` around them
    /// (plus TFC padding behind).
    public mutating func encapsulate(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, slab: borrowing AssociationSlab,
        nowNanoseconds now: UInt64
    ) {
        encapsulate(packets, slab: slab, nowNanoseconds: now, fixedIV: nil)
    }

    /// The same with an IV that replaces the generated one of every packet. For known answers only:
    /// using one twice under a counter mode gives the key away.
    package mutating func encapsulate(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>, slab: borrowing AssociationSlab,
        nowNanoseconds now: UInt64, fixedIV: UnsafeRawBufferPointer?
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
            if let reason = seal(packet, record, catalogue, now, fixedIV) {
                let exact = reason == .sequenceExhausted ? Self.limitReached(record) : reason
                packet.pointee.drop = exact
                refuse(exact, slot, slab)
            }
        }
    }

    /// nil: the packet is sealed, and the descriptor names the outer packet.
    ///
    /// Tunnel mode is laid out in line; the other plans go out of line, so that their values don't
    /// cost the usual packet registers.
    @inline(__always)
    private mutating func seal(
        _ packet: UnsafeMutablePointer<PacketDescriptor>, _ record: RecordPointer,
        _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64,
        _ fixedIV: UnsafeRawBufferPointer?
    ) -> DropReason? {
        let policy = UnsafePointer(catalogue.policies + Int(record.pointee.profile))
        if packet.pointee.isDummy || record.pointee.flags.contains(.isTransport) {
            return sealOther(packet, record, policy, catalogue, now, fixedIV)
        }
        var plan = SealPlan()
        if let reason = Self.planTunnel(&plan, packet, record, policy, catalogue) { return reason }
        return carryOut(plan, packet, record, catalogue, now, fixedIV)
    }

    @inline(never)
    private mutating func sealOther(
        _ packet: UnsafeMutablePointer<PacketDescriptor>, _ record: RecordPointer,
        _ policy: UnsafePointer<PacketPolicy>, _ catalogue: AssociationCatalogue.Pointers,
        _ now: UInt64, _ fixedIV: UnsafeRawBufferPointer?
    ) -> DropReason? {
        var plan = SealPlan()
        if packet.pointee.isDummy {
            Self.planDummy(&plan, packet, record, policy)
        } else if let reason = Self.planTransport(&plan, packet, record, policy, catalogue) {
            return reason
        }
        return carryOut(plan, packet, record, catalogue, now, fixedIV)
    }

    /// Everything that is the same whatever the plan.
    ///
    /// Lengths are those of one packet, so wrapping arithmetic can't wrap.
    @inline(always)
    private mutating func carryOut(
        _ plan: SealPlan, _ packet: UnsafeMutablePointer<PacketDescriptor>,
        _ record: RecordPointer, _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64,
        _ fixedIV: UnsafeRawBufferPointer?
    ) -> DropReason? {
        if record.pointee.flags.contains(.hasLifetimes),
            let reason = Self.expiry(record, catalogue, now)
        {
            return reason
        }
        let last = record.pointee.sequence
        guard last < record.pointee.sequenceLimit else { return .sequenceExhausted }
        let shape = shapes + Int(record.pointee.transform)
        let mask = Int(shape.pointee.alignmentMask)
        let payloadLength = plan.payloadLength &+ plan.tfcBytes
        let padLength = (0 &- payloadLength &- 2) & mask
        let bodyLength = payloadLength &+ padLength &+ 2
        let espBytes = ESPLocation.espHeaderBytes &+ Int(shape.pointee.ivBytes)
        let usesUDP = record.pointee.flags.contains(.usesUDP)
        let insertBytes = espBytes &+ (usesUDP ? 8 : 0)
        let front = plan.headerLength &+ insertBytes
        let back = bodyLength &+ Int(shape.pointee.icvBytes)
        guard front &+ back <= plan.totalMaximum else { return .packetTooBig }
        precondition(
            plan.payloadOffset >= front && plan.payloadOffset &+ back <= packet.pointee.capacity,
            "no room around the packet: see ESPOverhead")
        guard let context = pool.context(for: record, slot: packet.pointee.slot) else {
            return .cryptoFailure
        }
        let sequence = last &+ 1
        record.pointee.sequence = sequence
        let body = packet.pointee.buffer + plan.payloadOffset
        if plan.tfcBytes > 0 {
            (body + plan.payloadLength)
                .initializeMemory(as: UInt8.self, repeating: 0, count: plan.tfcBytes)
        }
        Self.writeTrailer(body + payloadLength, padLength, plan.nextHeader)
        if plan.isTransport {
            // The IP header moves forward, out of the way of UDP and ESP header.
            (body - front).copyMemory(from: body - plan.headerLength, byteCount: plan.headerLength)
        }
        let esp = body - espBytes
        store32(record.pointee.spi, esp, 0)
        store32(UInt32(truncatingIfNeeded: sequence), esp, 4)
        guard Self.sealBody(scratch, context, record, shape, esp, bodyLength, sequence, fixedIV)
        else {
            return .cryptoFailure
        }
        packet.pointee.offset = plan.payloadOffset &- front
        packet.pointee.length = front &+ back
        Self.writeHeaders(body - front, plan, record, front &+ back, sequence)
        let events = Self.account(record, bytes: plan.payloadLength, catalogue, now)
        if !events.isEmpty { packet.pointee.events.formUnion(events) }
        return nil
    }

    /// Rekey, or wait for the next lease? Settled here, since the packet path has no register left
    /// for the difference.
    @inline(never)
    private static func limitReached(_ record: RecordPointer) -> DropReason {
        max(record.pointee.sequence, record.pointee.sequenceLimit) >= record.lastSequence
            ? .sequenceExhausted : .leaseEnded
    }

    /// 1, 2, 3, … then pad length and next header (RFC 4303 §2.4).
    @inline(__always)
    private static func writeTrailer(
        _ base: UnsafeMutableRawPointer, _ padLength: Int, _ nextHeader: UInt8
    ) {
        // One store for up to four; what is too much is overwritten by the ICV, of at least eight.
        if padLength <= 4 { store32(0x0102_0304, base, 0) } else { writePadding(base, padLength) }
        store8(UInt8(truncatingIfNeeded: padLength), base, padLength)
        store8(nextHeader, base, padLength &+ 1)
    }

    @inline(never)
    private static func writePadding(_ base: UnsafeMutableRawPointer, _ padLength: Int) {
        for index in 0..<padLength { store8(UInt8(truncatingIfNeeded: index + 1), base, index) }
    }

    /// IV, encryption, ICV.
    @inline(__always)
    private static func sealBody(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyLength: Int, _ sequence: UInt64, _ fixedIV: UnsafeRawBufferPointer?
    ) -> Bool {
        // RFC 6054 §3: the owner's generation keeps the counters of two owners apart.
        let counter = UInt64(record.pointee.ivGeneration) << 48 | sequence & (1 << 48 - 1)
        guard shape.pointee.kind == .aead, fixedIV == nil else {
            return sealOtherBody(
                scratch, context, record, shape, esp, bodyLength, sequence, counter, fixedIV)
        }
        let iv = esp + ESPLocation.espHeaderBytes
        store64(counter, iv, 0)
        makeNonce(scratch, record, iv: iv, saltBytes: 4)
        let aad = aad(scratch, record, esp: esp, sequence: sequence)
        let body = iv + 8
        return context.pointee.seal(
            aad: aad.pointer, aad.count, iv: scratch, 12, data: body, bodyLength,
            tag: body + bodyLength)
    }

    /// CCM, GMAC, the ciphers with a MAC of their own, and known answers.
    @inline(never)
    private static func sealOtherBody(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer,
        _ shape: UnsafeMutablePointer<TransformShape>, _ esp: UnsafeMutableRawPointer,
        _ bodyLength: Int, _ sequence: UInt64, _ counter: UInt64,
        _ fixedIV: UnsafeRawBufferPointer?
    ) -> Bool {
        let iv = esp + ESPLocation.espHeaderBytes
        let ivBytes = Int(shape.pointee.ivBytes)
        if let fixedIV {
            precondition(fixedIV.count == ivBytes)
            UnsafeMutableRawBufferPointer(start: iv, count: ivBytes).copyMemory(from: fixedIV)
        } else if ivBytes == 8 {
            store64(counter, iv, 0)
        }
        let body = iv + ivBytes
        let icv = body + bodyLength
        switch shape.pointee.kind {
        case .aead, .ccm:
            let saltBytes = shape.pointee.kind == .ccm ? 3 : 4
            makeNonce(scratch, record, iv: iv, saltBytes: saltBytes)
            let aad = aad(scratch, record, esp: esp, sequence: sequence)
            return context.pointee.seal(
                aad: aad.pointer, aad.count, iv: scratch, saltBytes + 8, data: body, bodyLength,
                tag: icv)
        case .gmac:
            Self.makeNonce(scratch, record, iv: iv, saltBytes: 4)
            return Self.withGMACInput(
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
                    scratch, context, record, shape.pointee.kind, iv, bodyLength, counter, sequence,
                    hasFixedIV: fixedIV != nil),
                Self.authenticate(
                    scratch, context, record, esp: esp, count: 8 + ivBytes + bodyLength,
                    sequence: sequence)
            else { return false }
            icv.copyMemory(
                from: scratch + Self.macOffset, byteCount: Int(shape.pointee.icvBytes))
            return true
        }
    }

    /// CBC's IV must be unpredictable (RFC 3602 §3): it is the encryption of a block that never
    /// repeats under the key (NIST SP 800-38A Appendix C), which costs one block and no randomness.
    private static func encrypt(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer,
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
            Self.makeCounterBlock(scratch, record, iv: iv)
            return context.pointee.run(
                encrypts: true, iv: scratch, data: iv + 8, count: bodyLength)
        default:
            return true
        }
    }
}
