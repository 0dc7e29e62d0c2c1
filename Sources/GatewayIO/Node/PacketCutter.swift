// Rows of segments that the kernel gives as one packet, cut into the packets that a tunnel takes.

internal import Wire

/// Cuts one row, piece by piece.
struct PacketCutter {
    private let row: UnsafeRawBufferPointer
    private let base: UnsafeRawPointer
    private let isTCP: Bool
    private let isV4: Bool
    /// Where the transport's header begins.
    private let transport: Int
    /// Octets of all headers.
    private let headerBytes: Int
    private let segmentBytes: Int
    /// The sum of the pseudo header, without the length.
    private let pseudoSum: UInt64
    /// Where the payload of the next piece begins.
    private var offset: Int
    private var index = 0

    /// How many pieces there are.
    var count: Int { (row.count - headerBytes + segmentBytes - 1) / segmentBytes }

    /// Nil: the packet is no row, or not what its header says.
    init?(_ row: UnsafeRawBufferPointer, _ header: OffloadHeader) {
        guard let base = row.baseAddress, header.row != .none, header.segmentBytes > 0,
            let transport = header.checksumStart, row.count <= Int(UInt16.max) + 40
        else { return nil }
        self.row = row
        self.base = base
        self.transport = transport
        segmentBytes = header.segmentBytes
        isTCP = header.row != .udp
        isV4 = !row.isEmpty && load8(base, 0) >> 4 == 4
        let ipHeaderBytes = isV4 ? Int(load8(base, 0) & 0xF) * 4 : IPPacket.ipv6HeaderBytes
        let transportBytes = isTCP ? TCPHeader.bytesMinimum : UDPHeader.byteCount
        guard isV4 == (header.row == .tcpV4) || !isTCP,
            ipHeaderBytes >= (isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes),
            isV4 ? transport == ipHeaderBytes : transport >= ipHeaderBytes,
            transport + transportBytes <= row.count, row.count - transport <= Int(UInt16.max)
        else { return nil }
        headerBytes =
            transport + (isTCP ? Int(load8(base, transport + 12) >> 4) * 4 : transportBytes)
        guard headerBytes >= transport + transportBytes, headerBytes < row.count else { return nil }
        offset = headerBytes
        // The kernel summed the pseudo header with the length of the whole row (RFC 9293 §3.1).
        let place = transport + (isTCP ? TCPHeader.checksumOffset : UDPHeader.checksumOffset)
        let length = UInt16(truncatingIfNeeded: row.count - transport)
        pseudoSum = UInt64(load16(base, place)) + UInt64(~length)
    }

    /// Octets of the largest piece.
    var pieceMaximum: Int { min(headerBytes + segmentBytes, row.count) }

    /// Writes the next piece to `room`, which has place for `pieceMaximum` octets; its octets. Nil:
    /// there is none left.
    mutating func next(_ room: UnsafeMutableRawPointer) -> Int? {
        guard offset < row.count else { return nil }
        let payloadBytes = min(segmentBytes, row.count - offset)
        let total = headerBytes + payloadBytes
        room.copyMemory(from: base, byteCount: headerBytes)
        (room + headerBytes).copyMemory(from: base + offset, byteCount: payloadBytes)
        writeIPHeader(room, total)
        if isTCP {
            writeTCPHeader(room, isLast: offset + payloadBytes == row.count)
        } else {
            store16(UInt16(truncatingIfNeeded: total - transport), room, transport + 4)
        }
        writeChecksum(room, total)
        offset += payloadBytes
        index += 1
        return total
    }

    private func writeIPHeader(_ room: UnsafeMutableRawPointer, _ total: Int) {
        guard isV4 else {
            let payloadBytes = total - IPPacket.ipv6HeaderBytes
            return store16(UInt16(truncatingIfNeeded: payloadBytes), room, 4)
        }
        store16(UInt16(truncatingIfNeeded: total), room, 2)
        // Pieces without DF may be fragmented, and need identifications of their own (RFC 6864).
        store16(load16(base, 4) &+ UInt16(truncatingIfNeeded: index), room, 4)
        store16(0, room, 10)
        store16(checksumFold(checksumSum(room, count: transport)), room, 10)
    }

    /// What tells the end of the data is for the last piece, and that the window was reduced (RFC
    /// 3168 §6.1.2) for the first.
    private func writeTCPHeader(_ room: UnsafeMutableRawPointer, isLast: Bool) {
        let sequence = load32(base, transport + 4)
        let done = UInt32(truncatingIfNeeded: offset - headerBytes)
        store32(sequence &+ done, room, transport + 4)
        var flags = load8(base, transport + 13)
        if !isLast { flags &= ~(TCPHeader.finFlag | TCPHeader.pushFlag) }
        if index > 0 { flags &= ~TCPHeader.windowReducedFlag }
        store8(flags, room, transport + 13)
    }

    private func writeChecksum(_ room: UnsafeMutableRawPointer, _ total: Int) {
        let place = transport + (isTCP ? TCPHeader.checksumOffset : UDPHeader.checksumOffset)
        store16(0, room, place)
        let length = total - transport
        let sum = checksumSum(room + transport, count: length, from: pseudoSum + UInt64(length))
        let checksum = checksumFold(sum)
        // 0 means "none" in UDP (RFC 768), and 0xFFFF is the same number.
        store16(checksum == 0 && !isTCP ? 0xFFFF : checksum, room, place)
    }
}
