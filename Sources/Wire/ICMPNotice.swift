// What a router tells the source of a packet that it does not forward (RFC 792, 1191, 4443).
//
//     | IP header | type, code, checksum | 0, or the MTU | as much of the packet as may be |

/// Why a packet was not forwarded.
public enum ICMPNotice: Equatable, Sendable {
    /// Its hop limit ran out.
    case timeExceeded
    /// It is too long for the way; what would not be, in octets.
    case tooBig(mtu: Int)

    private static let headerBytes = 8
    /// RFC 1812 §4.3.2.3: as much as possible without exceeding 576 octets; RFC 4443 §2.4 c: the
    /// least MTU of IPv6.
    private static let totalMaximumV4 = 576
    private static let totalMaximumV6 = 1280

    /// The message from `router` about a packet; nil where none may be sent (RFC 1122 §3.2.2, RFC
    /// 4443 §2.4 e): about errors, later fragments, and packets to or from more than one host.
    public func packet(
        about packet: UnsafeRawBufferPointer, from router: IPAddress
    ) -> [UInt8]? {
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count),
            parsed.family == router.family
        else { return nil }
        let isV4 = parsed.family == .v4
        let source = IPAddress(parsed.family, at: base, isV4 ? 12 : 8)
        let destination = IPAddress(parsed.family, at: base, isV4 ? 16 : 24)
        guard !source.isUnspecified, !source.isMulticast, !destination.isMulticast,
            source != IPAddress(v4: .max), destination != IPAddress(v4: .max)
        else { return nil }
        if parsed.isFragment {
            guard let fragment = FragmentHeader(packet: packet), fragment.place == 0 else {
                return nil
            }
        } else if Self.isError(packet, parsed) {
            return nil
        }
        return message(packet[..<parsed.totalLength], from: router, to: source)
    }

    private static func isError(_ packet: UnsafeRawBufferPointer, _ parsed: IPPacket) -> Bool {
        guard parsed.payloadOffset < packet.count else { return false }
        let type = packet[parsed.payloadOffset]
        switch parsed.transportProtocol {
        // All but questions and answers (RFC 792).
        case IPProtocol.icmp: return ![0, 8, 13, 14, 15, 16, 17, 18].contains(type)
        case IPProtocol.icmpV6: return type < 128 || type == 137
        default: return false
        }
    }

    private func message(
        _ quoted: Slice<UnsafeRawBufferPointer>, from router: IPAddress, to source: IPAddress
    ) -> [UInt8] {
        let isV4 = router.family == .v4
        let header = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        let most = (isV4 ? Self.totalMaximumV4 : Self.totalMaximumV6) - header - Self.headerBytes
        let body = quoted.prefix(most)
        var octets = [UInt8](repeating: 0, count: header + Self.headerBytes) + body
        octets.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            let length = Self.headerBytes + body.count
            write(base + header, isV4: isV4)
            if isV4 {
                store8(0x45, base, 0)
                store16(UInt16(truncatingIfNeeded: bytes.count), base, 2)
                store8(64, base, 8)
                store8(IPProtocol.icmp, base, 9)
                router.write(base, 12)
                source.write(base, 16)
                store16(checksumFold(checksumSum(base, count: header)), base, 10)
                store16(
                    checksumFold(checksumSum(base + header, count: length)), base, header + 2)
            } else {
                store8(0x60, base, 0)
                store16(UInt16(truncatingIfNeeded: length), base, 4)
                store8(IPProtocol.icmpV6, base, 6)
                store8(64, base, 7)
                router.write(base, 8)
                source.write(base, 24)
                store16(icmpV6Checksum(base, payload: header, count: length), base, header + 2)
            }
        }
        return octets
    }

    private func write(_ message: UnsafeMutableRawPointer, isV4: Bool) {
        switch self {
        case .timeExceeded: store8(isV4 ? 11 : 3, message, 0)
        case .tooBig(let mtu) where isV4:
            store8(3, message, 0)
            store8(4, message, 1)
            store16(UInt16(clamping: mtu), message, 6)
        case .tooBig(let mtu):
            store8(2, message, 0)
            store32(UInt32(clamping: mtu), message, 4)
        }
    }
}
