// What a fragment says of its place in the packet (RFC 791 §3.2, RFC 8200 §4.5).

/// One fragment. Offsets count from the fragment's first octet.
///
///     IPv4   | header + options | part of the payload |
///     IPv6   | header, extensions | fragment header | part of the rest |
///            0                    ^prefixLength       ^dataOffset        ^end
public struct FragmentHeader: Equatable, Sendable {
    /// Octets of IPv6's fragment header.
    public static let ipv6Bytes = 8

    /// The sender.
    public let source: IPAddress
    /// The receiver.
    public let destination: IPAddress
    /// 16 bits in IPv4, 32 in IPv6.
    public let identification: UInt32
    /// IPv4: part of what tells packets apart. IPv6: what the first fragment's fragment header
    /// names, and of no meaning in the others.
    public let transportProtocol: UInt8
    /// What is repeated in every fragment ends here.
    public let prefixLength: Int
    /// The octet that names what follows the prefix.
    public let protocolOffset: Int
    /// Where this fragment's part begins.
    public let dataOffset: Int
    /// One past its last octet.
    public let end: Int
    /// Where the part stands in the whole payload, in octets; a multiple of 8.
    public let place: Int
    /// Others follow.
    public let hasMore: Bool
    /// ECN codepoint, 0 to 3.
    public let congestion: UInt8

    /// Reads an IP packet; nil when it is none, or has no fragment header (IPv6; one that says
    /// that the packet is whole counts) and is not part of another (IPv4).
    public init?(packet: UnsafeRawBufferPointer) {
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count)
        else { return nil }
        end = parsed.totalLength
        congestion = IPPacket.trafficClass(base, parsed.family) & 3
        guard parsed.family == .v6 else {
            guard parsed.isFragment else { return nil }
            let field = load16(base, 6)
            source = IPAddress(.v4, at: base, 12)
            destination = IPAddress(.v4, at: base, 16)
            identification = UInt32(load16(base, 4))
            transportProtocol = parsed.transportProtocol
            prefixLength = parsed.payloadOffset
            protocolOffset = 9
            dataOffset = parsed.payloadOffset
            place = Int(field & 0x1FFF) * 8
            hasMore = field & 0x2000 != 0
            return
        }
        var walk = ExtensionHeaderWalk(next: load8(base, 6))
        var steps = 0
        while walk.next != IPProtocol.fragment {
            guard steps < IPPacket.extensionHeadersMaximum,
                let more = try? walk.step(base, total: parsed.totalLength), more
            else { return nil }
            steps += 1
        }
        let header = walk.offset
        guard header + Self.ipv6Bytes <= parsed.totalLength else { return nil }
        let field = load16(base, header + 2)
        source = IPAddress(.v6, at: base, 8)
        destination = IPAddress(.v6, at: base, 24)
        identification = load32(base, header + 4)
        transportProtocol = load8(base, header)
        prefixLength = header
        protocolOffset = walk.protocolOffset
        dataOffset = header + Self.ipv6Bytes
        place = Int(field & 0xFFF8)
        hasMore = field & 1 != 0
    }
}
