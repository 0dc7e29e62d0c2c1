// IKE messages as the outer packets in which they travel: IPv4 and UDP, behind a marker on the port
// that they share with ESP.

import IKEStub
import Wire

/// Writes and reads IP packets with IKE messages inside.
///
///     IPv4 header | UDP header | [marker 4] | message
///     0           20           28
enum IKEPacket {
    /// IPv4 and UDP headers.
    static let headerBytes = 28
    private static let markerBytes = 4

    /// The packet that carries a message from the path's local end to its remote end.
    /// Precondition: both are IPv4, and the packet is not longer than IPv4 allows.
    static func octets(_ message: [UInt8], _ path: IKEPath) -> [UInt8] {
        wrapped(path.hasMarker ? [0, 0, 0, 0] + message : message, path)
    }

    /// A NAT keepalive (RFC 3948 §2.3).
    static func keepalive(_ path: IKEPath) -> [UInt8] { wrapped([0xFF], path) }

    private static func wrapped(_ body: [UInt8], _ path: IKEPath) -> [UInt8] {
        let total = headerBytes + body.count
        precondition(total <= 0xFFFF && path.local.family == .v4 && path.remote.family == .v4)
        let words = [
            0x4500_0000 | UInt32(total), 0x4000, 0x4011_0000,
            UInt32(truncatingIfNeeded: path.local.low), UInt32(truncatingIfNeeded: path.remote.low),
            UInt32(path.localPort) << 16 | UInt32(path.remotePort), UInt32(total - 20) << 16,
        ]
        var packet = [UInt8](repeating: 0, count: headerBytes)
        packet.withUnsafeMutableBytes { octets in
            guard let base = octets.baseAddress else { return }
            for (place, word) in words.enumerated() { store32(word, base, place * 4) }
            store16(checksumFold(checksumSum(base, count: 20)), base, 10)
        }
        return packet + body
    }

    /// The message in a packet and the path on which its receiver sees it; nil: there is none.
    static func read(
        _ packet: UnsafeRawBufferPointer
    ) -> (message: UnsafeRawBufferPointer, path: IKEPath)? {
        guard let base = packet.baseAddress, packet.count >= headerBytes, load8(base, 0) == 0x45,
            case .ike = OuterPacket.classify(at: base, count: packet.count)
        else { return nil }
        let ports = (source: load16(base, 20), destination: load16(base, 22))
        let natTraversal = UDPPort.natTraversal
        let hasMarker = ports.source == natTraversal || ports.destination == natTraversal
        let path = IKEPath(
            local: IPAddress(v4: load32(base, 16)), localPort: ports.destination,
            remote: IPAddress(v4: load32(base, 12)), remotePort: ports.source,
            hasMarker: hasMarker)
        // The classification has looked at the length of the datagram.
        let end = 20 + Int(load16(base, 24))
        let start = headerBytes + (hasMarker ? markerBytes : 0)
        return (UnsafeRawBufferPointer(rebasing: packet[start..<end]), path)
    }
}
