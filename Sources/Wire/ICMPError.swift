// Errors of ICMP and ICMPv6 that quote a packet of ours (RFC 792, RFC 1191, RFC 4443 §3).

/// What an ICMP error says of a packet that we sent. Anybody can forge one (RFC 4301 §8.2.1): it
/// is a hint at most, and its caller bounds how often it believes one.
///
///     | IP header | type, code, checksum, 4 octets | quoted IP packet, cut off somewhere |
public struct ICMPError: Equatable, Sendable {
    /// What went wrong.
    public enum Reason: Equatable, Sendable {
        /// No way there; the code says why.
        case unreachable(code: UInt8)
        /// Too long for a link; the MTU that the message names, 0 where it names none (RFC 1191
        /// §5: routers of before).
        case tooBig(mtu: Int)
        /// The hop limit ran out, or fragments did not come.
        case timeExceeded
        /// Something in the header could not be read.
        case parameterProblem
    }

    /// What the quoted packet was.
    public enum Quoted: Equatable, Sendable {
        /// ESP over IP, with the peer's SPI.
        case esp(SPI)
        /// A UDP datagram: its ports, and the peer's SPI where it is ESP in UDP and the quotation
        /// goes so far.
        case udp(sourcePort: UInt16, destinationPort: UInt16, spi: SPI?)
    }

    /// What went wrong.
    public let reason: Reason
    /// The quoted packet's source: an address of ours.
    public let source: IPAddress
    /// The quoted packet's destination: the peer.
    public let destination: IPAddress
    /// What it was.
    public let quoted: Quoted

    private static let headerBytes = 8

    /// Reads an IP packet; nil when it is no such error, quotes something else than ESP or UDP or a
    /// later fragment, or its checksum is wrong.
    public init?(packet bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress,
            let packet = try? IPPacket(at: base, count: bytes.count),
            !packet.isFragment, packet.totalLength - packet.payloadOffset >= Self.headerBytes
        else { return nil }
        let message = base + packet.payloadOffset
        let count = packet.totalLength - packet.payloadOffset
        let found: Reason?
        switch (packet.family, packet.transportProtocol) {
        case (.v4, IPProtocol.icmp):
            guard checksumFold(checksumSum(message, count: count)) == 0 else { return nil }
            found = Self.reason(v4: message)
        case (.v6, IPProtocol.icmpV6):
            guard icmpV6Checksum(base, payload: packet.payloadOffset, count: count) == 0 else {
                return nil
            }
            found = Self.reason(v6: message)
        default:
            return nil
        }
        guard let found else { return nil }
        reason = found
        let quotation = UnsafeRawBufferPointer(
            start: message + Self.headerBytes, count: count - Self.headerBytes)
        guard let place = QuotedTransport(quotation, packet.family) else { return nil }
        source = place.source
        destination = place.destination
        quoted = place.quoted
    }

    private static func reason(v4 message: UnsafeRawPointer) -> Reason? {
        let code = load8(message, 1)
        switch load8(message, 0) {
        case 3: return code == 4 ? .tooBig(mtu: Int(load16(message, 6))) : .unreachable(code: code)
        case 11: return .timeExceeded
        case 12: return .parameterProblem
        default: return nil
        }
    }

    private static func reason(v6 message: UnsafeRawPointer) -> Reason? {
        switch load8(message, 0) {
        case 1: return .unreachable(code: load8(message, 1))
        case 2: return .tooBig(mtu: Int(load32(message, 4)))
        case 3: return .timeExceeded
        case 4: return .parameterProblem
        default: return nil
        }
    }
}

/// Reads a quoted packet, of which the end is missing, so that its own length says nothing.
private struct QuotedTransport {
    let source: IPAddress
    let destination: IPAddress
    let quoted: ICMPError.Quoted

    init?(_ octets: UnsafeRawBufferPointer, _ family: IPAddress.Family) {
        guard let base = octets.baseAddress, octets.count >= IPPacket.ipv4HeaderBytes else {
            return nil
        }
        let transport: UInt8
        let offset: Int
        if family == .v4 {
            offset = Int(load8(base, 0) & 0xF) * 4
            guard load8(base, 0) >> 4 == 4, offset >= IPPacket.ipv4HeaderBytes,
                load16(base, 6) & 0x1FFF == 0
            else { return nil }
            transport = load8(base, 9)
            source = IPAddress(.v4, at: base, 12)
            destination = IPAddress(.v4, at: base, 16)
        } else {
            guard octets.count >= IPPacket.ipv6HeaderBytes, load8(base, 0) >> 4 == 6 else {
                return nil
            }
            var walk = ExtensionHeaderWalk(next: load8(base, 6))
            var steps = 0
            while let more = try? walk.step(base, total: octets.count), more {
                steps += 1
                guard steps < IPPacket.extensionHeadersMaximum else { return nil }
            }
            guard !walk.isLaterFragment else { return nil }
            transport = walk.next
            offset = walk.offset
            source = IPAddress(.v6, at: base, 8)
            destination = IPAddress(.v6, at: base, 24)
        }
        switch transport {
        case IPProtocol.esp:
            guard octets.count >= offset + 4 else { return nil }
            quoted = .esp(SPI(load32(base, offset)))
        case IPProtocol.udp:
            guard octets.count >= offset + 4 else { return nil }
            let ports = (load16(base, offset), load16(base, offset + 2))
            let spi = octets.count >= offset + 12 ? load32(base, offset + 8) : 0
            quoted = .udp(
                sourcePort: ports.0, destinationPort: ports.1, spi: spi == 0 ? nil : SPI(spi))
        default:
            return nil
        }
    }
}
