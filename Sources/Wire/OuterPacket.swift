// First look at a packet from the untrusted side: is it ESP, IKE, or something else, and which field
// tells the node that owns it? Read RFC 4303 §2 and RFC 3948 §2.

/// A packet as distribution sees it.
public enum OuterPacket: Equatable, Sendable {
    /// ESP over IP or in UDP.
    case esp(ESPLocation)
    /// An IKE message; the cookie decides who owns it.
    case ike(ISAKMPHeader)
    /// The one-octet NAT keepalive of RFC 3948 §2.3; to be ignored.
    case natKeepalive
    /// Some other protocol.
    case other
    /// A fragment of ESP, or the first one of UDP 500 or 4500: reassembly comes before ESP (RFC 4303 §3.4.1).
    case fragment
    /// Claims to be ESP or IKE, but lengths are wrong.
    case malformed(IPPacketError)
}

/// Where ESP lies in an IP packet. Offsets count from the packet's first octet; the ESP header's
/// eight octets are inside the packet.
///
///     | IP header (+ extensions) | [UDP] | SPI | sequence | … ICV |
///     0                                  ^espOffset               ^end
public struct ESPLocation: Equatable, Sendable {
    /// The outer protocol version.
    public let family: IPAddress.Family
    /// ESP in UDP.
    public let isUDPEncapsulated: Bool
    /// End of the IP header with everything that stands before ESP or UDP.
    public let headerLength: UInt16
    /// The octet that says 50 (or 17); transport mode writes the inner protocol there.
    public let protocolOffset: UInt16
    /// The SPI's first octet.
    public let espOffset: UInt16
    /// One past the last octet of ESP.
    public let end: UInt32
    /// The SPI.
    public let spi: SPI
    /// The low 32 bits of the sequence number.
    public let sequence: UInt32

    /// SPI and sequence number.
    public static let espHeaderBytes = 8

    @inlinable @inline(__always)
    init(
        packet: IPPacket, isUDPEncapsulated: Bool, espOffset: Int, end: Int,
        base: UnsafeRawPointer
    ) {
        family = packet.family
        self.isUDPEncapsulated = isUDPEncapsulated
        headerLength = UInt16(truncatingIfNeeded: packet.payloadOffset)
        protocolOffset = UInt16(truncatingIfNeeded: packet.protocolOffset)
        self.espOffset = UInt16(truncatingIfNeeded: espOffset)
        self.end = UInt32(truncatingIfNeeded: end)
        spi = SPI(load32(base, espOffset))
        sequence = load32(base, espOffset + 4)
    }
}

extension OuterPacket {
    /// Classifies the IP packet at `base`, of which `count` octets are there.
    public static func classify(at base: UnsafeRawPointer, count: Int) -> OuterPacket {
        let packet: IPPacket
        do {
            packet = try IPPacket(at: base, count: count)
        } catch {
            return namesIPsec(base, count) ? .malformed(error) : .other
        }
        switch packet.transportProtocol {
        case IPProtocol.esp:
            if packet.isFragment { return .fragment }
            guard packet.totalLength - packet.payloadOffset >= ESPLocation.espHeaderBytes else {
                return .malformed(.truncated)
            }
            return .esp(
                ESPLocation(
                    packet: packet, isUDPEncapsulated: false, espOffset: packet.payloadOffset,
                    end: packet.totalLength, base: base))
        case IPProtocol.udp:
            return classifyUDP(packet, base)
        default:
            return .other
        }
    }

    /// Of a packet whose lengths are wrong: could it be ESP or IKE? One that breaks off before it
    /// says so counts as such.
    private static func namesIPsec(_ base: UnsafeRawPointer, _ count: Int) -> Bool {
        guard count > 0 else { return false }
        let version = load8(base, 0) >> 4
        guard version == 4 || version == 6 else { return false }
        let protocolOffset = version == 4 ? 9 : 6
        guard count > protocolOffset else { return true }
        let transport = load8(base, protocolOffset)
        if transport != IPProtocol.udp { return transport == IPProtocol.esp }
        let udp = version == 4 ? Int(load8(base, 0) & 0x0F) * 4 : IPPacket.ipv6HeaderBytes
        guard count >= udp + 4 else { return true }
        let ports = [load16(base, udp), load16(base, udp + 2)]
        return ports.contains(UDPPort.natTraversal) || ports.contains(UDPPort.ike)
    }

    /// RFC 3948 §2: on port 4500 four zero octets mark IKE, anything else is ESP's SPI.
    private static func classifyUDP(_ packet: IPPacket, _ base: UnsafeRawPointer) -> OuterPacket {
        // A later fragment has no ports; its first one, if on port 4500, tells of the loss.
        if packet.isLaterFragment { return .other }
        let start = packet.payloadOffset
        let room = packet.totalLength - start
        guard room >= 4 else { return .malformed(.truncated) }
        let isNAT =
            load16(base, start) == UDPPort.natTraversal
            || load16(base, start + 2) == UDPPort.natTraversal
        let isIKE = load16(base, start) == UDPPort.ike || load16(base, start + 2) == UDPPort.ike
        guard isNAT || isIKE else { return .other }
        if packet.isFragment { return .fragment }
        guard room >= 8 else { return .malformed(.truncated) }
        let length = Int(load16(base, start + 4))
        guard length >= 8 else { return .malformed(.malformed) }
        guard length <= room else { return .malformed(.truncated) }
        let body = start + 8
        let end = start + length
        if !isNAT { return ike(base, body, end) }
        if end - body == 1, load8(base, body) == 0xFF { return .natKeepalive }
        guard end - body >= 4 else { return .malformed(.truncated) }
        if load32(base, body) == 0 { return ike(base, body + 4, end) }
        guard end - body >= ESPLocation.espHeaderBytes else { return .malformed(.truncated) }
        return .esp(
            ESPLocation(
                packet: packet, isUDPEncapsulated: true, espOffset: body, end: end, base: base))
    }

    private static func ike(_ base: UnsafeRawPointer, _ body: Int, _ end: Int) -> OuterPacket {
        guard let header = ISAKMPHeader(at: base + body, count: end - body) else {
            return .malformed(.malformed)
        }
        return .ike(header)
    }
}
