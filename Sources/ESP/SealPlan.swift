// What sending learns from the inner packet before it touches anything, and the outer headers made
// from it (RFC 4301 §5.1.2, RFC 6040 §4.1).

import Wire

/// Decisions about one packet. Offsets count from the start of the buffer.
struct SealPlan {
    var isTransport = false
    /// Outer header (tunnel), or the packet's own headers up to where ESP goes (transport).
    var headerLength = 0
    var payloadOffset = 0
    var payloadLength = 0
    var nextHeader: UInt8 = 0
    var totalMaximum = 0
    /// DSCP and ECN of the outer header.
    var trafficClass: UInt8 = 0
    var hopLimit: UInt8 = 0
    var dontFragment = false
    /// Transport: where the IP header names its payload.
    var protocolOffset = 0
}

extension ESPEngine {
    /// Reads the inner packet and settles mode, lengths and header fields; nil: all is well.
    @inline(__always)
    func makePlan(
        _ plan: inout SealPlan, _ packet: inout PacketDescriptor, _ record: RecordPointer,
        _ profile: UnsafePointer<AssociationProfile>, _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let flags = record.pointee.flags
        let outer: IPAddress.Family = flags.contains(.outerIsV6) ? .v6 : .v4
        let jumbo = outer == .v6 ? IPPacket.ipv6HeaderBytes + 65_535 : 65_535
        let mtu = Int(profile.pointee.headers.pathMTU)
        plan.totalMaximum = mtu == 65_535 ? jumbo : mtu
        plan.headerLength =
            outer == .v6 ? IPPacket.ipv6HeaderBytes : IPPacket.ipv4HeaderBytes
        plan.payloadOffset = packet.offset
        plan.hopLimit = profile.pointee.headers.hopLimit ?? 64
        if packet.isDummy {
            plan.payloadLength = packet.length
            plan.nextHeader = IPProtocol.noNextHeader
            plan.dontFragment = profile.pointee.headers.dontFragment != .clear
            plan.trafficClass = (profile.pointee.headers.dscp ?? 0) << 2
            // A dummy has no headers of its own, so it always gets new ones.
            return nil
        }
        let inner = packet.buffer + packet.offset
        guard let parsed = try? IPPacket(at: inner, count: packet.length) else {
            return .innerMalformed
        }
        guard record.admits(parsed, inner, catalogue) else { return .selector }
        if profile.pointee.headers.decrementsInnerHopLimit {
            guard decrementHopLimit(inner, parsed.family) else { return .hopLimit }
        }
        if flags.contains(.isTransport) { return planTransport(&plan, parsed, inner, outer) }
        plan.payloadLength = parsed.totalLength
        plan.nextHeader = parsed.family == .v4 ? IPProtocol.ipv4 : IPProtocol.ipv6
        let innerClass = IPPacket.trafficClass(inner, parsed.family)
        let dscp = profile.pointee.headers.dscp.map { $0 << 2 } ?? innerClass & 0xFC
        plan.trafficClass =
            dscp | (profile.pointee.headers.ecn == .normal ? innerClass & 3 : 0)
        if profile.pointee.headers.hopLimit == nil {
            plan.hopLimit = load8(inner, parsed.family == .v4 ? 8 : 7)
        }
        plan.dontFragment =
            switch profile.pointee.headers.dontFragment {
            case .set: true
            case .clear: false
            case .copy: parsed.family == .v6 || load8(inner, 6) & 0x40 != 0
            }
        return nil
    }

    /// RFC 4303 §3.1.1 and §3.3.4: whole packets only; extension headers that routers read stay in
    /// front of ESP.
    @inline(never)
    private func planTransport(
        _ plan: inout SealPlan, _ parsed: IPPacket, _ inner: UnsafeMutableRawPointer,
        _ outer: IPAddress.Family
    ) -> DropReason? {
        guard !parsed.isFragment else { return .fragment }
        guard parsed.family == outer else { return .selector }
        plan.isTransport = true
        plan.headerLength = parsed.transportInsertOffset
        plan.payloadOffset += parsed.transportInsertOffset
        plan.payloadLength = parsed.totalLength - parsed.transportInsertOffset
        plan.protocolOffset = parsed.transportInsertProtocolOffset
        plan.nextHeader = load8(inner, parsed.transportInsertProtocolOffset)
        return nil
    }

    /// False when the packet has no hop left.
    @inline(never)
    private func decrementHopLimit(
        _ base: UnsafeMutableRawPointer, _ family: IPAddress.Family
    ) -> Bool {
        let offset = family == .v4 ? 8 : 7
        let limit = load8(base, offset)
        guard limit > 1 else { return false }
        if family == .v4 {
            let old = load16(base, 8)
            let new = old &- 0x0100
            store16(new, base, 8)
            store16(checksumUpdate(load16(base, 10), from: old, to: new), base, 10)
        } else {
            store8(limit - 1, base, offset)
        }
        return true
    }

    /// Outer IP header and UDP header of a sealed packet of `total` octets at `base`.
    @inline(__always)
    func writeHeaders(
        _ base: UnsafeMutableRawPointer, _ plan: SealPlan, _ record: RecordPointer,
        _ profile: UnsafePointer<AssociationProfile>, _ total: Int, _ sequence: UInt64
    ) {
        let flags = record.pointee.flags
        let family: IPAddress.Family = flags.contains(.outerIsV6) ? .v6 : .v4
        let payload = flags.contains(.usesUDP) ? IPProtocol.udp : IPProtocol.esp
        if plan.isTransport {
            store8(payload, base, plan.protocolOffset)
            setLength(base, family, headerLength: plan.headerLength, total)
        } else if family == .v4 {
            writeIPv4(base, plan, record, total, payload, sequence)
        } else {
            store32(6 << 28 | UInt32(plan.trafficClass) << 20, base, 0)
            store16(UInt16(truncatingIfNeeded: total - IPPacket.ipv6HeaderBytes), base, 4)
            store8(payload, base, 6)
            store8(plan.hopLimit, base, 7)
            store64(record.pointee.sourceHigh, base, 8)
            store64(record.pointee.sourceLow, base, 16)
            store64(record.pointee.destinationHigh, base, 24)
            store64(record.pointee.destinationLow, base, 32)
        }
        if flags.contains(.usesUDP) {
            writeUDP(base, plan.headerLength, family, record, total - plan.headerLength)
        }
    }

    /// The identification is the sequence number's low half: unique as long as a fragment can live
    /// (RFC 6864 §4.3), and without meaning under DF.
    @inline(__always)
    private func writeIPv4(
        _ base: UnsafeMutableRawPointer, _ plan: SealPlan, _ record: RecordPointer, _ total: Int,
        _ payload: UInt8, _ sequence: UInt64
    ) {
        let first = 0x4500_0000 | UInt32(plan.trafficClass) << 16 | UInt32(total)
        let identification = plan.dontFragment ? 0 : UInt32(sequence & 0xFFFF) << 16
        let second = identification | (plan.dontFragment ? 0x4000 : 0)
        let third = UInt32(plan.hopLimit) << 24 | UInt32(payload) << 16
        let source = UInt32(truncatingIfNeeded: record.pointee.sourceLow)
        let destination = UInt32(truncatingIfNeeded: record.pointee.destinationLow)
        let sum =
            UInt64(first) &+ UInt64(second) &+ UInt64(third) &+ UInt64(source)
            &+ UInt64(destination)
        store32(first, base, 0)
        store32(second, base, 4)
        store32(third | UInt32(checksumFold(sum)), base, 8)
        store32(source, base, 12)
        store32(destination, base, 16)
    }

    /// RFC 3948 §2.1: no checksum over IPv4; IPv6 demands one (RFC 8200 §8.1).
    @inline(never)
    private func writeUDP(
        _ base: UnsafeMutableRawPointer, _ offset: Int, _ family: IPAddress.Family,
        _ record: RecordPointer, _ length: Int
    ) {
        let udp = base + offset
        store16(record.pointee.sourcePort, udp, 0)
        store16(record.pointee.destinationPort, udp, 2)
        store16(UInt16(truncatingIfNeeded: length), udp, 4)
        store16(0, udp, 6)
        guard family == .v6 else { return }
        let pseudoHeader = checksumSum(
            base + 8, count: 32, from: UInt64(length) + UInt64(IPProtocol.udp))
        let checksum = checksumFold(checksumSum(udp, count: length, from: pseudoHeader))
        store16(checksum == 0 ? 0xFFFF : checksum, udp, 6)
    }
}
