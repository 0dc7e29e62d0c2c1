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
    /// Padding behind the payload (RFC 4303 §2.7).
    var tfcBytes = 0
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
    /// Reads the inner packet and settles lengths and header fields; nil: all is well.
    @inline(__always)
    static func planTunnel(
        _ plan: inout SealPlan, _ packet: UnsafeMutablePointer<PacketDescriptor>,
        _ record: RecordPointer, _ policy: UnsafePointer<PacketPolicy>,
        _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let inner = packet.pointee.buffer + packet.pointee.offset
        guard packet.pointee.length > 0 else { return .innerMalformed }
        let family: IPAddress.Family = load8(inner, 0) >> 4 == 6 ? .v6 : .v4
        guard
            let length = IPPacket.length(at: inner, count: packet.pointee.length, family: family)
        else { return .innerMalformed }
        guard record.admits(inner, count: length, family, catalogue) else { return .selector }
        if policy.pointee.decrementsInnerHopLimit, !decrementHopLimit(inner, family) {
            return .hopLimit
        }
        setOuter(&plan, record, policy)
        plan.payloadOffset = packet.pointee.offset
        plan.payloadLength = length
        plan.tfcBytes = max(0, Int(policy.pointee.tfcBytes) &- length)
        plan.nextHeader = family == .v4 ? IPProtocol.ipv4 : IPProtocol.ipv6
        plan.trafficClass =
            IPPacket.trafficClass(inner, family) & policy.pointee.classMask
            | policy.pointee.classValue
        plan.hopLimit = policy.pointee.hopLimit
        if plan.hopLimit == 0 { plan.hopLimit = load8(inner, family == .v4 ? 8 : 7) }
        plan.dontFragment =
            switch policy.pointee.dontFragment {
            case .set: true
            case .clear: false
            case .copy: family == .v6 || load8(inner, 6) & 0x40 != 0
            }
        return nil
    }

    /// What the outer protocol version decides.
    @inline(__always)
    private static func setOuter(
        _ plan: inout SealPlan, _ record: RecordPointer, _ policy: UnsafePointer<PacketPolicy>
    ) {
        let isV6 = record.pointee.flags.contains(.outerIsV6)
        plan.headerLength = isV6 ? IPPacket.ipv6HeaderBytes : IPPacket.ipv4HeaderBytes
        plan.totalMaximum = Int(
            isV6 ? policy.pointee.totalMaximumV6 : policy.pointee.totalMaximumV4)
    }

    /// A dummy has no headers of its own, so it gets new ones in either mode (RFC 4303 §2.6).
    static func planDummy(
        _ plan: inout SealPlan, _ packet: UnsafeMutablePointer<PacketDescriptor>,
        _ record: RecordPointer, _ policy: UnsafePointer<PacketPolicy>
    ) {
        setOuter(&plan, record, policy)
        plan.payloadOffset = packet.pointee.offset
        plan.payloadLength = packet.pointee.length
        plan.nextHeader = IPProtocol.noNextHeader
        plan.trafficClass = policy.pointee.classValue
        plan.hopLimit = policy.pointee.hopLimit == 0 ? 64 : policy.pointee.hopLimit
        plan.dontFragment = policy.pointee.dontFragment != .clear
    }

    /// RFC 4303 §3.1.1 and §3.3.4: whole packets only; extension headers that routers read stay in
    /// front of ESP. nil: all is well.
    static func planTransport(
        _ plan: inout SealPlan, _ packet: UnsafeMutablePointer<PacketDescriptor>,
        _ record: RecordPointer, _ policy: UnsafePointer<PacketPolicy>,
        _ catalogue: AssociationCatalogue.Pointers
    ) -> DropReason? {
        let inner = packet.pointee.buffer + packet.pointee.offset
        let outer: IPAddress.Family = record.pointee.flags.contains(.outerIsV6) ? .v6 : .v4
        guard let parsed = try? IPPacket(at: inner, count: packet.pointee.length) else {
            return .innerMalformed
        }
        guard record.admits(inner, count: packet.pointee.length, parsed.family, catalogue) else {
            return .selector
        }
        if policy.pointee.decrementsInnerHopLimit, !decrementHopLimit(inner, parsed.family) {
            return .hopLimit
        }
        guard !parsed.isFragment else { return .fragment }
        guard parsed.family == outer else { return .selector }
        setOuter(&plan, record, policy)
        plan.isTransport = true
        plan.headerLength = parsed.transportInsertOffset
        plan.payloadOffset = packet.pointee.offset + parsed.transportInsertOffset
        plan.payloadLength = parsed.totalLength - parsed.transportInsertOffset
        plan.protocolOffset = parsed.transportInsertProtocolOffset
        plan.nextHeader = load8(inner, parsed.transportInsertProtocolOffset)
        return nil
    }

    /// False when the packet has no hop left.
    @inline(never)
    private static func decrementHopLimit(
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
    static func writeHeaders(
        _ base: UnsafeMutableRawPointer, _ plan: SealPlan, _ record: RecordPointer, _ total: Int,
        _ sequence: UInt64
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
            store16(UInt16(truncatingIfNeeded: total &- IPPacket.ipv6HeaderBytes), base, 4)
            store8(payload, base, 6)
            store8(plan.hopLimit, base, 7)
            store64(record.pointee.sourceHigh, base, 8)
            store64(record.pointee.sourceLow, base, 16)
            store64(record.pointee.destinationHigh, base, 24)
            store64(record.pointee.destinationLow, base, 32)
        }
        if flags.contains(.usesUDP) {
            writeUDP(base, plan.headerLength, family, record, total &- plan.headerLength)
        }
    }

    /// The identification is the sequence number's low half: unique as long as a fragment can live
    /// (RFC 6864 §4.3), and without meaning under DF.
    @inline(__always)
    private static func writeIPv4(
        _ base: UnsafeMutableRawPointer, _ plan: SealPlan, _ record: RecordPointer, _ total: Int,
        _ payload: UInt8, _ sequence: UInt64
    ) {
        let first =
            0x4500_0000 | UInt32(plan.trafficClass) << 16 | UInt32(truncatingIfNeeded: total)
        let identification = plan.dontFragment ? 0 : UInt32(sequence & 0xFFFF) << 16
        let second = identification | (plan.dontFragment ? 0x4000 : 0)
        let third = UInt32(plan.hopLimit) << 24 | UInt32(payload) << 16
        let sum =
            UInt64(first) &+ UInt64(second) &+ UInt64(third) &+ record.pointee.destinationHigh
        store32(first, base, 0)
        store32(second, base, 4)
        store32(third | UInt32(checksumFold(sum)), base, 8)
        (base + 12).storeBytes(of: record.pointee.sourceHigh, as: UInt64.self)
    }

    /// RFC 3948 §2.1: no checksum over IPv4; IPv6 demands one (RFC 8200 §8.1).
    @inline(never)
    private static func writeUDP(
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
