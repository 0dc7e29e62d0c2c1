// The packets that simulated users send through tunnels: IPv4 and UDP, with a payload that says
// which packet it is and shows every changed octet.

import Wire

/// Who an inner packet claims to be.
public struct InnerLabel: Hashable, Sendable {
    /// The tunnel that carries it.
    public let tunnel: Int
    /// From the protected net to the tunnel's far end, or the other way.
    public let isToPeer: Bool
    /// Counts the packets of one tunnel and direction.
    public let serial: UInt64

    /// A label from its parts. Precondition: the tunnel fits 32 bits.
    public init(tunnel: Int, isToPeer: Bool, serial: UInt64) {
        precondition(tunnel >= 0 && tunnel <= UInt32.max)
        self.tunnel = tunnel
        self.isToPeer = isToPeer
        self.serial = serial
    }
}

/// Writes and reads inner packets.
///
///     IPv4 header | UDP header | tunnel 4 | direction 1 | "SIM" | serial 8 | filler …
///     0           20           28                                          44
public enum InnerPacket {
    /// IPv4 and UDP headers.
    public static let headerBytes = 28
    /// The label: the least payload.
    public static let payloadMinimum = 16
    private static let mark: UInt32 = 0x0053_494D

    /// The length of the packet with this payload.
    public static func length(payloadBytes: Int) -> Int { headerBytes + payloadBytes }

    /// Writes a packet of `length(payloadBytes:)` octets. Precondition: `payloadBytes` is at least
    /// `payloadMinimum` and the packet no longer than IPv4 allows.
    public static func write(
        _ label: InnerLabel, source: UInt32, destination: UInt32,
        into base: UnsafeMutableRawPointer, payloadBytes: Int
    ) {
        let total = length(payloadBytes: payloadBytes)
        precondition(payloadBytes >= payloadMinimum && total <= 0xFFFF)
        let first = 0x4500_0000 | UInt32(truncatingIfNeeded: total)
        // The identification is of no use in packets that are never fragmented (RFC 6864 §4.1).
        let sum =
            UInt64(first) &+ 0x4000 &+ 0x4011_0000 &+ UInt64(source) &+ UInt64(destination)
        store32(first, base, 0)
        store32(0x4000, base, 4)
        store32(0x4011_0000 | UInt32(checksumFold(sum)), base, 8)
        store32(source, base, 12)
        store32(destination, base, 16)
        store32(0x2710_2710, base, 20)
        store32(UInt32(truncatingIfNeeded: total &- 20) << 16, base, 24)
        store32(UInt32(truncatingIfNeeded: label.tunnel), base, 28)
        store32((label.isToPeer ? 1 : 0) << 24 | mark, base, 32)
        store64(label.serial, base, 36)
        let filler = filler(label)
        var offset = headerBytes + payloadMinimum
        while offset &+ 8 <= total {
            store64(filler, base, offset)
            offset &+= 8
        }
        while offset < total {
            store8(UInt8(truncatingIfNeeded: filler), base, offset)
            offset &+= 1
        }
    }

    /// The label of a packet that is octet for octet what `write` makes of it; nil for any other.
    /// Addresses are not compared, and the hop limit may have gone down.
    public static func read(_ packet: UnsafeRawBufferPointer) -> InnerLabel? {
        guard let base = packet.baseAddress, packet.count >= headerBytes + payloadMinimum,
            load32(base, 0) == 0x4500_0000 | UInt32(truncatingIfNeeded: packet.count),
            load16(base, 8) & 0xFF == UInt16(IPProtocol.udp),
            checksumFold(checksumSum(base, count: 20)) == 0,
            Int(load16(base, 24)) == packet.count - 20
        else { return nil }
        let kind = load32(base, 32)
        guard kind & 0xFEFF_FFFF == mark else { return nil }
        let label = InnerLabel(
            tunnel: Int(load32(base, 28)), isToPeer: kind >> 24 == 1, serial: load64(base, 36))
        let filler = filler(label)
        var offset = headerBytes + payloadMinimum
        var difference: UInt64 = 0
        while offset &+ 8 <= packet.count {
            difference |= load64(base, offset) ^ filler
            offset &+= 8
        }
        while offset < packet.count {
            difference |= UInt64(load8(base, offset)) ^ (filler & 0xFF)
            offset &+= 1
        }
        return difference == 0 ? label : nil
    }

    @inline(__always)
    private static func filler(_ label: InnerLabel) -> UInt64 {
        let mixed = (label.serial &+ UInt64(label.tunnel) << 32) &* 0x9E37_79B9_7F4A_7C15
        return mixed ^ mixed >> 29 ^ (label.isToPeer ? 0x55 : 0)
    }
}
