// What a capture does not say of a packet: whether its checksum is still to be computed, as virtual
// devices leave it, and whether a device or the kernel has joined it out of several. Both can be
// seen in the packet.

internal import ESP
internal import Wire

extension OffloadHeader {
    /// What is left to be done with a packet that was captured on a link of `linkBytes`, so that it
    /// goes on in packets of `packetBytes`. Nil: it is longer than the link allows, and nobody can
    /// say what it was joined of.
    init?(captured packet: UnsafeRawBufferPointer, linkBytes: Int, packetBytes: Int) {
        self = .complete
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count)
        else { return }
        let isJoined = parsed.totalLength > linkBytes
        let start = parsed.payloadOffset
        let isTCP = parsed.transportProtocol == IPProtocol.tcp
        let headerBytes = isTCP ? TCPHeader.bytesMinimum : UDPHeader.byteCount
        let place = isTCP ? TCPHeader.checksumOffset : UDPHeader.checksumOffset
        guard isTCP || parsed.transportProtocol == IPProtocol.udp, !parsed.isFragment,
            parsed.totalLength - start >= headerBytes,
            load16(base, start + place) == Self.pseudoSum(base, parsed)
        else {
            if isJoined { return nil }
            return
        }
        checksumStart = start
        checksumOffset = place
        guard isJoined else { return }
        let tcpBytes = isTCP ? Int(load8(base, start + 12) >> 4) * 4 : 0
        segmentBytes = packetBytes - start - tcpBytes
        // A datagram's end is lost when it is joined; a stream has none.
        guard isTCP, tcpBytes >= headerBytes, segmentBytes > 0 else { return nil }
        row = parsed.family == .v4 ? .tcpV4 : .tcpV6
        self.headerBytes = start + tcpBytes
    }

    /// What stands in place of a checksum that is to be computed: the sum of the pseudo header (RFC
    /// 768, RFC 9293 §3.1, RFC 8200 §8.1).
    private static func pseudoSum(_ base: UnsafeRawPointer, _ parsed: IPPacket) -> UInt16 {
        let isV4 = parsed.family == .v4
        let rest =
            UInt64(parsed.transportProtocol) + UInt64(parsed.totalLength - parsed.payloadOffset)
        return ~checksumFold(
            checksumSum(base + (isV4 ? 12 : 8), count: isV4 ? 8 : 32, from: rest))
    }
}
