// Cuts a packet into fragments (RFC 791 §3.2, RFC 8200 §4.5): so that one node can give another a
// packet that it put together, over the same links, and as IPv4's routers do.

/// Cuts packets.
public enum PacketSplitter {
    /// The fragments of `packet`, none longer than `linkBytes`, which is 68 at least for IPv4
    /// (RFC 791 §3.2) and 1280 for IPv6 (RFC 8200 §5); the packet itself where it is not longer.
    /// A fragment of IPv4 may be cut again. `identification` is what IPv6's fragments get; IPv4
    /// packets have their own. Nil: `packet` is none, a fragment of IPv6, or its headers alone fill
    /// a fragment.
    public static func fragments(
        of packet: UnsafeRawBufferPointer, linkBytes: Int, identification: UInt32
    ) -> [[UInt8]]? {
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count),
            !parsed.isFragment || parsed.family == .v4
        else { return nil }
        guard parsed.totalLength > linkBytes else {
            return [Array(packet[..<parsed.totalLength])]
        }
        let isV4 = parsed.family == .v4
        let prefix = isV4 ? parsed.payloadOffset : unfragmentableBytes(base, parsed)
        let headers = isV4 ? prefix : prefix + FragmentHeader.ipv6Bytes
        let step = (linkBytes - headers) & ~7
        // Flags and place of what is itself a fragment.
        let own = isV4 ? load16(base, 6) : 0
        guard step > 0, Int(own & 0x1FFF) * 8 + parsed.totalLength <= 65_535 else { return nil }
        var fragments: [[UInt8]] = []
        var place = prefix
        while place < parsed.totalLength {
            let end = min(place + step, parsed.totalLength)
            let isLast = end == parsed.totalLength
            let hasMore = !isLast || own & 0x2000 != 0
            let field = UInt16(place - prefix) | (isV4 ? 0 : hasMore ? 1 : 0)
            var fragment = Array(packet[..<prefix])
            if !isV4 { fragment += [UInt8](repeating: 0, count: FragmentHeader.ipv6Bytes) }
            fragment += packet[place..<end]
            fragment.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                if isV4 {
                    let offset = own & 0x1FFF &+ field >> 3
                    writeV4(base, bytes.count, prefix, offset | (hasMore ? 0x2000 : 0))
                } else {
                    writeV6(base, bytes.count, prefix, field, identification)
                }
            }
            fragments.append(fragment)
            place = end
        }
        return fragments
    }

    private static func writeV4(
        _ base: UnsafeMutableRawPointer, _ total: Int, _ headerBytes: Int, _ field: UInt16
    ) {
        store16(UInt16(truncatingIfNeeded: total), base, 2)
        store16(field, base, 6)
        store16(0, base, 10)
        store16(checksumFold(checksumSum(base, count: headerBytes)), base, 10)
    }

    private static func writeV6(
        _ base: UnsafeMutableRawPointer, _ total: Int, _ prefix: Int, _ field: UInt16,
        _ identification: UInt32
    ) {
        store16(UInt16(truncatingIfNeeded: total - IPPacket.ipv6HeaderBytes), base, 4)
        let place = protocolPlace(base, end: prefix)
        store8(load8(base, place), base, prefix)
        store8(IPProtocol.fragment, base, place)
        store16(field, base, prefix + 2)
        store32(identification, base, prefix + 4)
    }

    /// RFC 8200 §4.5: up to the routing header if there is one, else the hop-by-hop options, else
    /// the fixed header.
    private static func unfragmentableBytes(_ base: UnsafeRawPointer, _ packet: IPPacket) -> Int {
        var walk = ExtensionHeaderWalk(next: load8(base, 6))
        var bytes = IPPacket.ipv6HeaderBytes
        while walk.offset < packet.payloadOffset {
            let isBefore = walk.next == IPProtocol.hopByHop || walk.next == IPProtocol.routing
            guard let more = try? walk.step(base, total: packet.totalLength), more else { break }
            if isBefore { bytes = walk.offset }
        }
        return bytes
    }

    /// The octet that names the header at `end`.
    private static func protocolPlace(_ base: UnsafeRawPointer, end: Int) -> Int {
        var walk = ExtensionHeaderWalk(next: load8(base, 6))
        while walk.offset < end, let more = try? walk.step(base, total: end), more {}
        return walk.protocolOffset
    }
}
