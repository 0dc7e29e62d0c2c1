// The outer headers of packets on their way between sockets and gateway.

internal import CLinux
internal import Glibc
internal import Wire

/// What a socket must know of a sealed packet.
struct OuterHeader {
    let source: IPAddress
    let destination: IPAddress
    let trafficClass: UInt8
    let isUDP: Bool
    /// 0 without UDP.
    let sourcePort: UInt16
    /// 0 without UDP.
    let destinationPort: UInt16
    /// Where the UDP payload begins.
    let payloadOffset: Int

    /// Reads what the gateway wrote: no options, no extension headers. Nil: too short for that.
    init?(_ packet: UnsafeRawBufferPointer) {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv4HeaderBytes + 8 else {
            return nil
        }
        let isV4 = load8(base, 0) >> 4 == 4
        let length = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        guard packet.count >= length + 8 else { return nil }
        source = isV4 ? IPAddress(.v4, at: base, 12) : IPAddress(.v6, at: base, 8)
        destination = isV4 ? IPAddress(.v4, at: base, 16) : IPAddress(.v6, at: base, 24)
        trafficClass = isV4 ? load8(base, 1) : UInt8(truncatingIfNeeded: load16(base, 0) >> 4)
        isUDP = load8(base, isV4 ? 9 : 6) == IPProtocol.udp
        sourcePort = isUDP ? load16(base, length) : 0
        destinationPort = isUDP ? load16(base, length + 2) : 0
        payloadOffset = length + 8
    }

    /// Writes an IP header without options for a packet of `total` octets. The checksum of IPv4 is
    /// left out: the kernel has checked the packet that came.
    static func write(
        _ base: UnsafeMutableRawPointer, source: IPAddress, destination: IPAddress,
        trafficClass: UInt8, payload: UInt8, total: Int
    ) {
        if destination.family == .v4 {
            store8(0x45, base, 0)
            store8(trafficClass, base, 1)
            store16(UInt16(truncatingIfNeeded: total), base, 2)
            store32(0, base, 4)
            store8(64, base, 8)
            store8(payload, base, 9)
            store16(0, base, 10)
            store32(UInt32(truncatingIfNeeded: source.low), base, 12)
            store32(UInt32(truncatingIfNeeded: destination.low), base, 16)
            return
        }
        store32(6 << 28 | UInt32(trafficClass) << 20, base, 0)
        store16(UInt16(truncatingIfNeeded: total - IPPacket.ipv6HeaderBytes), base, 4)
        store8(payload, base, 6)
        store8(64, base, 7)
        store64(source.high, base, 8)
        store64(source.low, base, 16)
        store64(destination.high, base, 24)
        store64(destination.low, base, 32)
    }
}

/// Datagrams of one flow and one length, which the kernel takes in one call (UDP_SEGMENT); the last
/// may be shorter.
struct DatagramRow {
    /// What one call takes: less than an IP packet, and no more than the kernel's UDP_MAX_SEGMENTS.
    private static let octetsMaximum = 65_500
    private static let countMaximum = 64

    private(set) var outer: OuterHeader?
    private(set) var count = 0
    private(set) var segmentBytes = 0
    private var octets = 0
    private var isClosed = false

    /// True when a packet with that header may follow, whatever its length.
    func takes(_ next: OuterHeader) -> Bool {
        guard let outer else { return true }
        return !isClosed && count < Self.countMaximum && outer.destination == next.destination
            && outer.source == next.source && outer.destinationPort == next.destinationPort
            && outer.sourcePort == next.sourcePort && outer.trafficClass == next.trafficClass
    }

    /// True when the length of a packet allows it to follow.
    func takes(bytes: Int) -> Bool {
        count == 0 || (bytes <= segmentBytes && octets + bytes <= Self.octetsMaximum)
    }

    /// Appends a packet's UDP payload.
    mutating func append(
        _ header: OuterHeader, _ packet: UnsafeRawBufferPointer, _ batch: DatagramBatch
    ) {
        let payload = UnsafeRawBufferPointer(rebasing: packet[header.payloadOffset...])
        if count == 0 {
            outer = header
            segmentBytes = payload.count
        }
        batch.pieces[count] = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: payload.baseAddress),
            iov_len: payload.count)
        octets += payload.count
        isClosed = payload.count < segmentBytes
        count += 1
    }
}

extension DatagramSocket {
    /// Sends a row, or, where the kernel does not take it as one, its datagrams.
    func send(_ row: DatagramRow, _ batch: DatagramBatch) {
        guard let outer = row.outer else { return }
        let address = SocketAddress(outer.destination, outer.destinationPort)
        batch.fill(
            0, pieces: 0, count: row.count, to: address, trafficClass: outer.trafficClass,
            segmentBytes: row.segmentBytes)
        if sendmsg(descriptor.number, &batch.headers[0].msg_hdr, 0) >= 0 || row.count == 1 {
            return
        }
        for slot in 0..<row.count {
            batch.fill(
                slot, pieces: slot, count: 1, to: address, trafficClass: outer.trafficClass,
                segmentBytes: 0)
        }
        _ = send(batch, count: row.count)
    }
}
