// What a gateway needs to know of an IP packet: where its headers end, which transport follows, and
// which octets change when a header is put in or taken out. Read RFC 791, RFC 8200 §4 first.
//
// One parse checks every length against the octets that are really there; all offsets it returns
// are inside them, so readers need no further bounds check.

/// Protocol numbers (IANA) that matter here.
public enum IPProtocol {
    /// IPv6 hop-by-hop options.
    public static let hopByHop: UInt8 = 0
    /// ICMP.
    public static let icmp: UInt8 = 1
    /// IPv4 in IP.
    public static let ipv4: UInt8 = 4
    /// TCP.
    public static let tcp: UInt8 = 6
    /// UDP.
    public static let udp: UInt8 = 17
    /// DCCP.
    public static let dccp: UInt8 = 33
    /// IPv6 in IP.
    public static let ipv6: UInt8 = 41
    /// IPv6 routing header.
    public static let routing: UInt8 = 43
    /// IPv6 fragment header.
    public static let fragment: UInt8 = 44
    /// ESP.
    public static let esp: UInt8 = 50
    /// ICMPv6.
    public static let icmpV6: UInt8 = 58
    /// No next header; a dummy packet in ESP.
    public static let noNextHeader: UInt8 = 59
    /// IPv6 destination options.
    public static let destinationOptions: UInt8 = 60
    /// IPv6 mobility header: an upper-layer protocol here, not an extension header.
    public static let mobility: UInt8 = 135
    /// SCTP.
    public static let sctp: UInt8 = 132
    /// UDP-Lite.
    public static let udpLite: UInt8 = 136
}

/// UDP ports of IKE and of ESP in UDP (RFC 3948 §2).
public enum UDPPort {
    /// IKE without NAT traversal.
    public static let ike: UInt16 = 500
    /// IKE behind the non-ESP marker, and ESP.
    public static let natTraversal: UInt16 = 4500
}

/// Why octets are not an IP packet.
public enum IPPacketError: Error, Equatable, Sendable {
    /// Fewer octets than a header or the total length needs.
    case truncated
    /// A version, header length or total length that contradicts itself.
    case malformed
}

/// The layout of one IPv4 or IPv6 packet. Offsets count from the packet's first octet.
///
///     IPv4   | header + options | payload …                       |
///     IPv6   | header | hop-by-hop | routing | … | payload …       |
///            0        ^protocolOffset lies in     ^payloadOffset   ^totalLength
///                      the last header before it
public struct IPPacket: Equatable, Sendable {
    /// IPv4 or IPv6.
    public let family: IPAddress.Family
    /// The whole packet by its own length field; at most the octets that were there.
    public let totalLength: Int
    /// Where the transport header (or the unknown one) begins.
    public let payloadOffset: Int
    /// The octet that names the payload's protocol: IPv4's protocol field, or the next-header field
    /// of the last IPv6 header before the payload.
    public let protocolOffset: Int
    /// The payload's protocol number.
    public let transportProtocol: UInt8
    /// Part of a larger packet (RFC 791 fragment, or RFC 8200 fragment header that is not atomic).
    public let isFragment: Bool
    /// The offset of the payload in the unfragmented packet is not 0: no transport header here.
    public let isLaterFragment: Bool
    /// Where ESP goes in transport mode for IPv6: before a destination-options header that is not
    /// followed by a routing header (RFC 4303 §3.1.1), else the payload. Equals `payloadOffset` for
    /// IPv4.
    public let transportInsertOffset: Int
    /// The octet that names the header at `transportInsertOffset`.
    public let transportInsertProtocolOffset: Int

    /// An IPv4 header without options.
    public static let ipv4HeaderBytes = 20
    /// The fixed IPv6 header.
    public static let ipv6HeaderBytes = 40
    /// Extension headers that are followed before a packet counts as malformed.
    static let extensionHeadersMaximum = 16

    /// Reads the headers of the packet at `base`, of which `count` octets are there. Octets after
    /// the packet's own length (Ethernet padding, TFC padding) are left out of `totalLength`.
    @inlinable @inline(__always)
    public init(at base: UnsafeRawPointer, count: Int) throws(IPPacketError) {
        guard count >= Self.ipv4HeaderBytes else { throw .truncated }
        switch load8(base, 0) >> 4 {
        case 4: try self.init(v4At: base, count: count)
        case 6: try self.init(v6At: base, count: count)
        default: throw .malformed
        }
    }

    @inlinable @inline(__always)
    init(
        family: IPAddress.Family, totalLength: Int, payloadOffset: Int, protocolOffset: Int,
        transportProtocol: UInt8, isFragment: Bool, isLaterFragment: Bool,
        transportInsertOffset: Int, transportInsertProtocolOffset: Int
    ) {
        self.family = family
        self.totalLength = totalLength
        self.payloadOffset = payloadOffset
        self.protocolOffset = protocolOffset
        self.transportProtocol = transportProtocol
        self.isFragment = isFragment
        self.isLaterFragment = isLaterFragment
        self.transportInsertOffset = transportInsertOffset
        self.transportInsertProtocolOffset = transportInsertProtocolOffset
    }

    @inlinable @inline(__always)
    init(v4At base: UnsafeRawPointer, count: Int) throws(IPPacketError) {
        let headerLength = Int(load8(base, 0) & 0x0F) &<< 2
        let total = Int(load16(base, 2))
        guard headerLength >= 20, total >= headerLength else { throw .malformed }
        guard total <= count else { throw .truncated }
        let fragment = load16(base, 6)
        self.init(
            family: .v4, totalLength: total, payloadOffset: headerLength, protocolOffset: 9,
            transportProtocol: load8(base, 9), isFragment: fragment & 0x3FFF != 0,
            isLaterFragment: fragment & 0x1FFF != 0, transportInsertOffset: headerLength,
            transportInsertProtocolOffset: 9)
    }

    @usableFromInline
    init(v6At base: UnsafeRawPointer, count: Int) throws(IPPacketError) {
        guard count >= Self.ipv6HeaderBytes else { throw .truncated }
        let total = Self.ipv6HeaderBytes + Int(load16(base, 4))
        guard total <= count else { throw .truncated }
        var walk = ExtensionHeaderWalk(next: load8(base, 6))
        for _ in 0..<Self.extensionHeadersMaximum {
            guard try walk.step(base, total: total) else {
                self.init(
                    family: .v6, totalLength: total, payloadOffset: walk.offset,
                    protocolOffset: walk.protocolOffset, transportProtocol: walk.next,
                    isFragment: walk.isFragment, isLaterFragment: walk.isLaterFragment,
                    transportInsertOffset: walk.insertOffset ?? walk.offset,
                    transportInsertProtocolOffset: walk.insertOffset == nil
                        ? walk.protocolOffset : walk.insertProtocolOffset)
                return
            }
        }
        throw .malformed
    }

    /// The packet's length by its own header, checked like a parse; nil when it is no packet of
    /// this version or longer than `count`. For IPv4 it reads the fixed header only.
    @inlinable @inline(__always)
    public static func length(
        at base: UnsafeRawPointer, count: Int, family: IPAddress.Family
    ) -> Int? {
        guard family == .v4 else { return lengthV6(at: base, count: count) }
        guard count >= ipv4HeaderBytes else { return nil }
        let versionAndHeaderLength = load8(base, 0)
        let total = Int(load16(base, 2))
        // 0x45…0x4F: version 4, five to fifteen words of header.
        guard versionAndHeaderLength &- 0x45 <= 0x4F - 0x45, total <= count,
            total >= Int(versionAndHeaderLength & 0x0F) &<< 2
        else { return nil }
        return total
    }

    @usableFromInline
    static func lengthV6(at base: UnsafeRawPointer, count: Int) -> Int? {
        guard let packet = try? IPPacket(at: base, count: count), packet.family == .v6 else {
            return nil
        }
        return packet.totalLength
    }

    /// Differentiated services field and ECN: the IPv4 TOS octet or the IPv6 traffic class.
    @inlinable @inline(__always)
    public static func trafficClass(_ base: UnsafeRawPointer, _ family: IPAddress.Family) -> UInt8 {
        family == .v4
            ? load8(base, 1) : UInt8(truncatingIfNeeded: load16(base, 0) >> 4)
    }
}

/// Follows IPv6 extension headers (RFC 8200 §4.1) one by one. The mobility header is none of them:
/// selectors name it as the upper-layer protocol (RFC 4301 §4.4.1.1), so the walk ends there.
@usableFromInline
struct ExtensionHeaderWalk {
    @usableFromInline var next: UInt8
    @usableFromInline var offset = IPPacket.ipv6HeaderBytes
    @usableFromInline var protocolOffset = 6
    @usableFromInline var isFragment = false
    @usableFromInline var isLaterFragment = false
    @usableFromInline var insertOffset: Int?
    @usableFromInline var insertProtocolOffset = 6

    init(next: UInt8) { self.next = next }

    /// False when `next` is not an extension header to walk over.
    mutating func step(_ base: UnsafeRawPointer, total: Int) throws(IPPacketError) -> Bool {
        guard !isLaterFragment else { return false }
        let length: Int
        switch next {
        case IPProtocol.hopByHop, IPProtocol.routing, IPProtocol.destinationOptions:
            guard offset + 8 <= total else { throw .malformed }
            length = Int(load8(base, offset + 1)) * 8 + 8
        case IPProtocol.fragment:
            guard offset + 8 <= total else { throw .malformed }
            let field = load16(base, offset + 2)
            isFragment = field & 0xFFF9 != 0
            isLaterFragment = field & 0xFFF8 != 0
            length = 8
        default:
            return false
        }
        guard offset + length <= total else { throw .malformed }
        if next == IPProtocol.destinationOptions {
            if insertOffset == nil {
                insertOffset = offset
                insertProtocolOffset = protocolOffset
            }
        } else {
            insertOffset = nil
        }
        next = load8(base, offset)
        protocolOffset = offset
        offset += length
        return true
    }
}
