// Neighbor solicitations and advertisements of IPv6 (RFC 4861 §4.3, §4.4).

/// A message of neighbor discovery that asks for a link-layer address, or tells one.
///
///      0  1  135 solicitation, 136 advertisement     8  16  target
///      1  1  0                                      24   …  options: type, length in units of 8,
///      2  2  checksum                                       the rest. 1: source's MAC address,
///      4  4  advertisement: flags R, S, O on top             2: target's
public struct NeighborMessage: Equatable, Sendable {
    /// The type of solicitations.
    public static let solicitationType: UInt8 = 135
    /// The type of advertisements.
    public static let advertisementType: UInt8 = 136
    /// All nodes of the link (RFC 4291 §2.7.1).
    public static let allNodes = IPAddress(high: 0xFF02 << 48, low: 1)
    private static let fixedBytes = 24

    /// Asks, or tells.
    public var isSolicitation: Bool
    /// The IPv6 source; unspecified in a probe for duplicates (RFC 4862 §5.4.2).
    public var source: IPAddress
    /// The IPv6 destination.
    public var destination: IPAddress
    /// Who is asked for, or told of.
    public var target: IPAddress
    /// The MAC address in the option: the asker's in a solicitation, the target's in an
    /// advertisement; nil: none.
    public var linkAddress: MACAddress?
    /// An advertisement that answers a solicitation.
    public var isSolicited = false
    /// An advertisement that replaces what its receiver knows.
    public var overrides = false
    /// The sender of an advertisement is a router.
    public var isRouter = false

    /// A message from its fields; the addresses are IPv6 addresses.
    public init(
        isSolicitation: Bool, source: IPAddress, destination: IPAddress, target: IPAddress,
        linkAddress: MACAddress?
    ) {
        precondition(source.family == .v6 && destination.family == .v6 && target.family == .v6)
        self.isSolicitation = isSolicitation
        self.source = source
        self.destination = destination
        self.target = target
        self.linkAddress = linkAddress
    }

    /// The group in which whoever has `address` listens (RFC 4291 §2.7.1).
    public static func solicitedNodeGroup(of address: IPAddress) -> IPAddress {
        IPAddress(high: 0xFF02 << 48, low: 0x0000_0001_FF00_0000 | address.low & 0xFF_FFFF)
    }

    /// Reads an Ethernet frame; nil when it is none of the two, or not valid by RFC 4861 §7.1.
    public init?(frame: UnsafeRawBufferPointer) {
        let start = EthernetHeader.byteCount
        let body = start + IPPacket.ipv6HeaderBytes
        guard let base = frame.baseAddress, frame.count >= body + Self.fixedBytes,
            load16(base, 12) == EthernetHeader.ipv6, load8(base, start) >> 4 == 6,
            load8(base, start + 6) == IPProtocol.icmpV6,
            // What has this hop limit came through no router (RFC 4861 §3.1).
            load8(base, start + 7) == 255
        else { return nil }
        let length = Int(load16(base, start + 4))
        let type = load8(base, body)
        guard length >= Self.fixedBytes, body + length <= frame.count, load8(base, body + 1) == 0,
            type == Self.solicitationType || type == Self.advertisementType,
            icmpV6Checksum(base + start, payload: Self.offset, count: length) == 0
        else { return nil }
        isSolicitation = type == Self.solicitationType
        source = IPAddress(.v6, at: base, start + 8)
        destination = IPAddress(.v6, at: base, start + 24)
        target = IPAddress(.v6, at: base, body + 8)
        if !isSolicitation {
            let flags = load8(base, body + 4)
            isRouter = flags & 0x80 != 0
            isSolicited = flags & 0x40 != 0
            overrides = flags & 0x20 != 0
        }
        guard readOptions(base, body + Self.fixedBytes, end: body + length), isValid else {
            return nil
        }
    }

    private static let offset = IPPacket.ipv6HeaderBytes

    /// False: an option has no length, or breaks off.
    private mutating func readOptions(_ base: UnsafeRawPointer, _ start: Int, end: Int) -> Bool {
        var offset = start
        while offset < end {
            guard offset + 2 <= end else { return false }
            let length = Int(load8(base, offset + 1)) * 8
            guard length > 0, offset + length <= end else { return false }
            if load8(base, offset) == (isSolicitation ? 1 : 2), length == 8 {
                linkAddress = MACAddress(at: base, offset + 2)
            }
            offset += length
        }
        return true
    }

    /// RFC 4861 §7.1.1 and §7.1.2, of what does not concern single fields.
    private var isValid: Bool {
        if target.isMulticast { return false }
        if isSolicitation, source.isUnspecified {
            return linkAddress == nil && destination.high == 0xFF02 << 48
                && destination.low >> 24 == 0x0000_0001_FF
        }
        return isSolicitation || !(destination.isMulticast && isSolicited)
    }

    /// The frame that says it.
    public func frame(to destinationMAC: MACAddress, from sourceMAC: MACAddress) -> [UInt8] {
        let length = Self.fixedBytes + (linkAddress == nil ? 0 : 8)
        var frame = [UInt8](
            repeating: 0, count: EthernetHeader.byteCount + IPPacket.ipv6HeaderBytes + length)
        frame.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            EthernetHeader.write(
                base, to: destinationMAC, from: sourceMAC, type: EthernetHeader.ipv6)
            let packet = base + EthernetHeader.byteCount
            store32(6 << 28, packet, 0)
            store16(UInt16(length), packet, 4)
            store8(IPProtocol.icmpV6, packet, 6)
            store8(255, packet, 7)
            source.write(packet, 8)
            destination.write(packet, 24)
            let body = packet + Self.offset
            store8(isSolicitation ? Self.solicitationType : Self.advertisementType, body, 0)
            if !isSolicitation {
                let flags: UInt8 =
                    (isRouter ? 0x80 : 0) | (isSolicited ? 0x40 : 0) | (overrides ? 0x20 : 0)
                store8(flags, body, 4)
            }
            target.write(body, 8)
            if let linkAddress {
                store8(isSolicitation ? 1 : 2, body, Self.fixedBytes)
                store8(1, body, Self.fixedBytes + 1)
                linkAddress.write(body, Self.fixedBytes + 2)
            }
            store16(icmpV6Checksum(packet, payload: Self.offset, count: length), body, 2)
        }
        return frame
    }
}

/// The checksum field's value for `count` octets of ICMPv6 behind the IPv6 header at `packet`
/// (RFC 4443 §2.3); 0 when the field is there and right.
public func icmpV6Checksum(_ packet: UnsafeRawPointer, payload: Int, count: Int) -> UInt16 {
    let pseudo = UInt64(count) + UInt64(IPProtocol.icmpV6)
    return checksumFold(
        checksumSum(packet + payload, count: count, from: checksumSum(packet + 8, count: 32))
            + pseudo)
}

extension IPAddress {
    /// 0.0.0.0 or ::.
    public var isUnspecified: Bool { high == 0 && low == 0 }

    /// 224.0.0.0/4 or ff00::/8.
    public var isMulticast: Bool {
        family == .v4 ? low >> 28 & 0xF == 0xE : high >> 56 == 0xFF
    }

    /// Writes 4 or 16 octets in network order.
    public func write(_ base: UnsafeMutableRawPointer, _ offset: Int) {
        if family == .v4 {
            store32(UInt32(truncatingIfNeeded: low), base, offset)
        } else {
            store64(high, base, offset)
            store64(low, base, offset + 8)
        }
    }
}
