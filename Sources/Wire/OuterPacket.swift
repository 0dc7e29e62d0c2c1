// First look at a packet from the untrusted side: is it ESP, IKE, or something else, and which
// field tells the node that owns it? Read RFC 4303 §2 and RFC 3948 §2.

/// A packet as distribution sees it.
///
/// `fragment` and `malformed` are losses of ESP. IKE that is cut off, damaged or an IP fragment is
/// `other`: it is no ESP packet that anybody could miss, and its sender retransmits it
/// (RFC 7296 §2.1), in smaller messages if need be (RFC 7383).
public enum OuterPacket: Equatable, Sendable {
    /// ESP over IP or in UDP.
    case esp(ESPLocation)
    /// An IKE message; the cookie decides who owns it.
    case ike(ISAKMPHeader)
    /// The one-octet NAT keepalive of RFC 3948 §2.3; to be ignored.
    case natKeepalive
    /// Some other protocol, or IKE that can't be read.
    case other
    /// A fragment of ESP, or the first one of ESP in UDP: reassembly comes before ESP
    /// (RFC 4303 §3.4.1).
    case fragment
    /// Claims to be ESP, or breaks off before it says what it is, and lengths are wrong.
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

    /// No location: all offsets are 0.
    @inlinable @inline(__always)
    public init() {
        family = .v4
        isUDPEncapsulated = false
        headerLength = 0
        protocolOffset = 0
        espOffset = 0
        end = 0
        spi = SPI(0)
        sequence = 0
    }

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
    @inlinable @inline(__always)
    public static func classify(at base: UnsafeRawPointer, count: Int) -> OuterPacket {
        let packet: IPPacket
        do {
            packet = try IPPacket(at: base, count: count)
        } catch {
            return classifyBroken(base, count, error)
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

    // MARK: UDP

    private static let udpHeaderBytes = 8
    /// RFC 3948 §2.2: four zero octets behind the UDP header, where ESP has its SPI.
    private static let markerBytes = 4

    /// RFC 3948 §2: on port 4500 four zero octets mark IKE, anything else is ESP's SPI.
    ///
    /// Either port counts, since a NAT changes the other one. Hence a query to a DNS server from a
    /// port that happens to be 4500 can't be told from ESP; its SPI will not be known.
    @usableFromInline @inline(never)
    static func classifyUDP(_ packet: IPPacket, _ base: UnsafeRawPointer) -> OuterPacket {
        // A later fragment has no ports; its first one, if it is ESP, tells of the loss.
        if packet.isLaterFragment { return .other }
        let start = packet.payloadOffset
        let room = packet.totalLength - start
        guard room >= 4 else { return .malformed(.truncated) }
        guard hasPort(UDPPort.natTraversal, base, start) else {
            guard hasPort(UDPPort.ike, base, start) else { return .other }
            return ike(packet, base, behind: udpHeaderBytes)
        }
        let body = start + udpHeaderBytes
        if room >= udpHeaderBytes + markerBytes, load32(base, body) == 0 {
            return ike(packet, base, behind: udpHeaderBytes + markerBytes)
        }
        if packet.isFragment { return .fragment }
        guard room >= udpHeaderBytes else { return .malformed(.truncated) }
        let length = Int(load16(base, start + 4))
        guard length >= udpHeaderBytes else { return .malformed(.malformed) }
        guard length <= room else { return .malformed(.truncated) }
        let end = start + length
        if end - body == 1, load8(base, body) == 0xFF { return .natKeepalive }
        guard end - body >= ESPLocation.espHeaderBytes else { return .malformed(.truncated) }
        return .esp(
            ESPLocation(
                packet: packet, isUDPEncapsulated: true, espOffset: body, end: end, base: base))
    }

    private static func hasPort(_ port: UInt16, _ base: UnsafeRawPointer, _ start: Int) -> Bool {
        load16(base, start) == port || load16(base, start + 2) == port
    }

    /// An IKE message `headerBytes` behind the begin of the UDP header.
    private static func ike(
        _ packet: IPPacket, _ base: UnsafeRawPointer, behind headerBytes: Int
    ) -> OuterPacket {
        let start = packet.payloadOffset
        let room = packet.totalLength - start
        guard !packet.isFragment, room >= headerBytes else { return .other }
        let length = Int(load16(base, start + 4))
        guard length >= headerBytes, length <= room,
            let header = ISAKMPHeader(at: base + start + headerBytes, count: length - headerBytes)
        else { return .other }
        return .ike(header)
    }

    // MARK: Wrong lengths

    /// A packet whose IP header is wrong or that is cut off: is an ESP packet lost with it?
    @usableFromInline @inline(never)
    static func classifyBroken(
        _ base: UnsafeRawPointer, _ count: Int, _ error: IPPacketError
    ) -> OuterPacket {
        guard count > 0 else { return .other }
        let mayBeESP =
            switch load8(base, 0) >> 4 {
            case 4: mayBeESP(v4At: base, count)
            case 6: mayBeESP(v6At: base, count, error)
            default: false
            }
        return mayBeESP ? .malformed(error) : .other
    }

    /// True also when it breaks off before it says what it is.
    private static func mayBeESP(v4At base: UnsafeRawPointer, _ count: Int) -> Bool {
        guard count > 9 else { return true }
        let headerLength = Int(load8(base, 0) & 0x0F) * 4
        guard load8(base, 9) == IPProtocol.udp else { return load8(base, 9) == IPProtocol.esp }
        // Without a header length nobody can say where the ports are, and a later fragment has
        // none.
        guard headerLength >= IPPacket.ipv4HeaderBytes, load16(base, 6) & 0x1FFF == 0 else {
            return false
        }
        return mayBeESP(udpAt: base + headerLength, count - headerLength)
    }

    /// True also when it breaks off before it says what it is; a whole packet with contradictory
    /// extension headers never says it.
    private static func mayBeESP(
        v6At base: UnsafeRawPointer, _ count: Int, _ cause: IPPacketError
    ) -> Bool {
        guard count > 6 else { return true }
        var walk = ExtensionHeaderWalk(next: load8(base, 6))
        do {
            for _ in 0..<IPPacket.extensionHeadersMaximum {
                guard try walk.step(base, total: count) else {
                    guard walk.next == IPProtocol.udp else { return walk.next == IPProtocol.esp }
                    return !walk.isLaterFragment
                        && mayBeESP(udpAt: base + walk.offset, count - walk.offset)
                }
            }
            return false
        } catch {
            // The octets end inside an extension header.
            return cause == .truncated
        }
    }

    /// `count` octets of a UDP datagram are there; may be negative.
    private static func mayBeESP(udpAt base: UnsafeRawPointer, _ count: Int) -> Bool {
        guard count >= 4 else { return true }
        guard hasPort(UDPPort.natTraversal, base, 0) else { return false }
        return count < udpHeaderBytes + markerBytes || load32(base, udpHeaderBytes) != 0
    }
}
