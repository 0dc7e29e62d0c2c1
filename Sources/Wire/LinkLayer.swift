// Finds the IP packet in a captured frame. Knows link headers only: whether the packet is whole
// and where it ends is for the IP header to say. Numbers: the LINKTYPE_ registry of tcpdump.org.

/// The kinds of capture that hold IP packets.
public enum LinkType: Hashable, Sendable, CaseIterable {
    /// 1: IEEE 802.3 frames without preamble and checksum.
    case ethernet
    /// 101 (also 12 and 14, as some systems number it; 228 and 229 for one IP version): IP packets
    /// without any link header.
    case rawIP
    /// 0 and 108: four bytes of address family before the packet.
    case loopback
    /// 113: "cooked" capture, as from the Linux device `any`.
    case linuxSLL
    /// 276: the second version of that.
    case linuxSLL2

    /// The kind of a LINKTYPE_ number (also of libpcap's DLT_ numbers); nil if not supported.
    public init?(number: Int) {
        switch number {
        case 1: self = .ethernet
        case 12, 14, 101, 228, 229: self = .rawIP
        case 0, 108: self = .loopback
        case 113: self = .linuxSLL
        case 276: self = .linuxSLL2
        default: return nil
        }
    }

    /// Where the IP packet stands in `frame`. Reads nothing outside of it and allocates nothing.
    public func networkPacket(in frame: UnsafeRawBufferPointer) -> NetworkPacketPlace {
        switch self {
        case .ethernet: frame.afterEtherType(at: 12)
        case .rawIP: frame.packet(at: 0, version: nil)
        case .loopback: frame.afterAddressFamily()
        case .linuxSLL: frame.afterEtherType(at: 14)
        // The type stands first in this header of 20 bytes, not last.
        case .linuxSLL2: frame.afterEtherType(at: 0, headerBytes: 20)
        }
    }
}

extension LinkType: CustomStringConvertible {
    /// The name with its number, as an error message lists it.
    public var description: String {
        switch self {
        case .ethernet: "Ethernet (1)"
        case .rawIP: "raw IP (101)"
        case .loopback: "loopback (0, 108)"
        case .linuxSLL: "Linux cooked (113)"
        case .linuxSLL2: "Linux cooked v2 (276)"
        }
    }
}

/// What a frame holds.
public enum NetworkPacketPlace: Hashable, Sendable {
    /// An IPv4 or IPv6 packet, at least its first byte, from here to the end of the frame. Padding
    /// of a short Ethernet frame is included: the IP header tells the packet's real length.
    case found(Range<Int>)
    /// Something else, such as ARP, or three VLAN tags, or a version nibble that contradicts the
    /// link header. Nothing is wrong with the frame.
    case notIP
    /// The frame ends before the first byte of its packet.
    case truncated
}

private enum IPVersion: UInt8 {
    case v4 = 4
    case v6 = 6
}

// Offsets: every read is of bytes that the guard before it has counted, because the subscript of
// a raw buffer is not checked in release builds.
extension UnsafeRawBufferPointer {
    /// Most frames have none, provider networks two (802.1ad outside, 802.1Q inside).
    private static var vlanTagsMax: Int { 2 }

    /// Follows the EtherType at `offset`, skipping VLAN tags. The packet or the first tag begins
    /// at `headerBytes`, directly behind the type unless told otherwise.
    fileprivate func afterEtherType(
        at offset: Int, headerBytes: Int? = nil
    ) -> NetworkPacketPlace {
        var typeOffset = offset
        var payload = headerBytes ?? offset + 2
        for _ in 0...Self.vlanTagsMax {
            guard payload <= count else { return .truncated }
            switch UInt16(self[typeOffset]) << 8 | UInt16(self[typeOffset + 1]) {
            case 0x0800: return packet(at: payload, version: .v4)
            case 0x86DD: return packet(at: payload, version: .v6)
            // A tag is two bytes of priority and VLAN, then the next EtherType.
            case 0x8100, 0x88A8, 0x9100: (typeOffset, payload) = (payload + 2, payload + 4)
            default: return .notIP
            }
        }
        return .notIP
    }

    /// Follows the address family of BSD loopback, which stands in the byte order of the machine
    /// that captured. All families are below 256, so the order cannot be mistaken.
    fileprivate func afterAddressFamily() -> NetworkPacketPlace {
        guard count >= 4 else { return .truncated }
        switch (self[0], self[1], self[2], self[3]) {
        case (2, 0, 0, 0), (0, 0, 0, 2):
            return packet(at: 4, version: .v4)
        // AF_INET6 of NetBSD and OpenBSD, FreeBSD, macOS, Linux.
        case (24, 0, 0, 0), (28, 0, 0, 0), (30, 0, 0, 0), (10, 0, 0, 0),
            (0, 0, 0, 24), (0, 0, 0, 28), (0, 0, 0, 30), (0, 0, 0, 10):
            return packet(at: 4, version: .v6)
        default:
            return .notIP
        }
    }

    /// The packet at `offset`, if its version nibble is the one announced (nil: either).
    fileprivate func packet(at offset: Int, version: IPVersion?) -> NetworkPacketPlace {
        guard offset < count else { return .truncated }
        guard let found = IPVersion(rawValue: self[offset] >> 4), found == version ?? found else {
            return .notIP
        }
        return .found(offset..<count)
    }
}
