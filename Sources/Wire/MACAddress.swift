// Ethernet addresses, and the header that carries them (IEEE 802.3, clause 3).

/// A 48-bit MAC address.
public struct MACAddress: Hashable, Sendable {
    /// Octets of an address.
    public static let byteCount = 6
    /// All stations of the segment.
    public static let broadcast = MACAddress(0xFFFF_FFFF_FFFF)

    /// The address in the lower 48 bits, first octet on the wire on top.
    public let value: UInt64

    /// An address from a number; the upper 16 bits are left out.
    public init(_ value: UInt64) { self.value = value & 0xFFFF_FFFF_FFFF }

    /// Reads six octets.
    @inline(__always)
    public init(at base: UnsafeRawPointer, _ offset: Int) {
        value = UInt64(load16(base, offset)) << 32 | UInt64(load32(base, offset + 2))
    }

    /// Writes six octets.
    @inline(__always)
    public func write(_ base: UnsafeMutableRawPointer, _ offset: Int) {
        store16(UInt16(truncatingIfNeeded: value >> 32), base, offset)
        store32(UInt32(truncatingIfNeeded: value), base, offset + 2)
    }

    /// For several stations: the lowest bit of the first octet.
    public var isGroup: Bool { value >> 40 & 1 != 0 }

    /// Given out by whoever runs the network, not by a manufacturer.
    public var isLocal: Bool { value >> 40 & 2 != 0 }

    /// The group of an IPv6 multicast address (RFC 2464 §7).
    public init(group address: IPAddress) {
        self.init(0x3333 << 32 | address.low & 0xFFFF_FFFF)
    }
}

extension MACAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Six pairs of hexadecimal digits with colons between them.
    public var description: String {
        stride(from: 40, through: 0, by: -8).map { shift in
            let digits = String(value >> UInt64(shift) & 0xFF, radix: 16)
            return digits.utf8.count == 1 ? "0" + digits : digits
        }.joined(separator: ":")
    }

    /// Parses six groups of one or two hexadecimal digits between colons; nil for anything else.
    public init?(_ text: String) {
        let groups = text.split(separator: ":", omittingEmptySubsequences: false)
        guard groups.count == Self.byteCount else { return nil }
        var value: UInt64 = 0
        for group in groups {
            // The initialiser of a number would take a sign, too.
            guard (1...2).contains(group.utf8.count), group.first?.isHexDigit == true,
                let octet = UInt8(group, radix: 16)
            else { return nil }
            value = value << 8 | UInt64(octet)
        }
        self.init(value)
    }
}

/// The header of an Ethernet frame.
///
///     0   6  destination
///     6   6  source
///     12  2  type of what follows
public enum EthernetHeader {
    /// Octets of the header.
    public static let byteCount = 14
    /// The type of IPv4.
    public static let ipv4: UInt16 = 0x0800
    /// The type of ARP.
    public static let arp: UInt16 = 0x0806
    /// The type of IPv6.
    public static let ipv6: UInt16 = 0x86DD

    /// Writes a header to the first ``byteCount`` octets.
    @inline(__always)
    public static func write(
        _ base: UnsafeMutableRawPointer, to destination: MACAddress, from source: MACAddress,
        type: UInt16
    ) {
        destination.write(base, 0)
        source.write(base, 6)
        store16(type, base, 12)
    }
}
