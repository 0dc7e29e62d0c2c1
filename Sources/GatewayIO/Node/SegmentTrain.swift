// Segments of TCP, or UDP datagrams, that came one after the other out of a tunnel, given to the
// kernel as one packet: what its own GRO does for packets of a card.

internal import Wire

/// Where what is needed of TCP's header stands (RFC 9293 §3.1).
enum TCPHeader {
    static let bytesMinimum = 20
    /// From the beginning of the header.
    static let checksumOffset = 16
    static let finFlag: UInt8 = 0x01
    static let pushFlag: UInt8 = 0x08
    static let acknowledgementFlag: UInt8 = 0x10
    static let windowReducedFlag: UInt8 = 0x80
}

/// Where what is needed of UDP's header stands (RFC 768).
enum UDPHeader {
    static let byteCount = 8
    /// From the beginning of the header.
    static let checksumOffset = 6
}

/// A segment of TCP with payload, or a UDP datagram with payload and checksum, in an IP packet
/// without options, extension headers or fragments.
struct FlowSegment {
    let base: UnsafeMutableRawPointer
    /// Octets of the packet.
    let count: Int
    let isV4: Bool
    let isTCP: Bool
    /// Octets of all headers.
    let headerBytes: Int

    var transport: Int { isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes }
    var payloadBytes: Int { count - headerBytes }
    var sequence: UInt32 { load32(base, transport + 4) }
    var hasPush: Bool { isTCP && load8(base, transport + 13) & TCPHeader.pushFlag != 0 }
    /// From the beginning of the transport's header.
    var checksumOffset: Int { isTCP ? TCPHeader.checksumOffset : UDPHeader.checksumOffset }

    /// Nil: a packet that goes by itself.
    init?(_ base: UnsafeMutableRawPointer, count: Int) {
        guard count > IPPacket.ipv4HeaderBytes + UDPHeader.byteCount else { return nil }
        let number: UInt8
        switch load8(base, 0) {
        // No options; the whole packet; neither more fragments nor an offset.
        case 0x45:
            guard Int(load16(base, 2)) == count, load16(base, 6) & 0xBFFF == 0 else { return nil }
            (isV4, number) = (true, load8(base, 9))
        case 0x60...0x6F:
            guard count > IPPacket.ipv6HeaderBytes + UDPHeader.byteCount,
                Int(load16(base, 4)) == count - IPPacket.ipv6HeaderBytes
            else { return nil }
            (isV4, number) = (false, load8(base, 6))
        default: return nil
        }
        let transport = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        switch number {
        case IPProtocol.tcp:
            guard count > transport + TCPHeader.bytesMinimum else { return nil }
            let tcpBytes = Int(load8(base, transport + 12) >> 4) * 4
            // Everything but plain data changes what the receiver does at once.
            guard tcpBytes >= TCPHeader.bytesMinimum, transport + tcpBytes < count,
                load8(base, transport + 13) & ~TCPHeader.pushFlag == TCPHeader.acknowledgementFlag
            else { return nil }
            (isTCP, headerBytes) = (true, transport + tcpBytes)
        case IPProtocol.udp:
            // Whoever cuts a row computes checksums, and here the sender may have wanted none.
            guard Int(load16(base, transport + 4)) == count - transport,
                load16(base, transport + UDPHeader.checksumOffset) != 0
            else { return nil }
            (isTCP, headerBytes) = (false, transport + UDPHeader.byteCount)
        default: return nil
        }
        self.base = base
        self.count = count
    }

    /// The sum of the pseudo header (RFC 768, RFC 9293 §3.1, RFC 8200 §8.1).
    func pseudoSum(_ length: Int) -> UInt64 {
        let addresses = isV4 ? checksumSum(base + 12, count: 8) : checksumSum(base + 8, count: 32)
        return addresses + UInt64(isTCP ? IPProtocol.tcp : IPProtocol.udp) + UInt64(length)
    }

    /// What the kernel would have found, had it seen the segment by itself.
    var isIntact: Bool {
        if isV4, checksumFold(checksumSum(base, count: transport)) != 0 { return false }
        let length = count - transport
        return checksumFold(
            checksumSum(base + transport, count: length, from: pseudoSum(length))) == 0
    }

    /// True when both have the same headers, but for what differs from segment to segment.
    func isAlike(_ other: FlowSegment) -> Bool {
        guard headerBytes == other.headerBytes, isV4 == other.isV4, isTCP == other.isTCP else {
            return false
        }
        let (left, right) = (UnsafeRawPointer(base), UnsafeRawPointer(other.base))
        if isV4 {
            guard load16(left, 0) == load16(right, 0), load32(left, 6) == load32(right, 6),
                load64(left, 12) == load64(right, 12)
            else { return false }
        } else {
            guard load32(left, 0) == load32(right, 0), load16(left, 6) == load16(right, 6),
                load64(left, 8) == load64(right, 8), load64(left, 16) == load64(right, 16),
                load64(left, 24) == load64(right, 24), load64(left, 32) == load64(right, 32)
            else { return false }
        }
        guard load32(left, transport) == load32(right, transport) else { return false }
        return !isTCP || hasLikeTCP(left + transport, right + transport)
    }

    private func hasLikeTCP(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer) -> Bool {
        // Acknowledgement; length, flags and window; urgent pointer; options.
        let push = UInt32(TCPHeader.pushFlag) << 16
        guard load32(left, 8) == load32(right, 8),
            load32(left, 12) | push == load32(right, 12) | push,
            load16(left, 18) == load16(right, 18)
        else { return false }
        var place = TCPHeader.bytesMinimum
        while place < headerBytes - transport {
            guard load32(left, place) == load32(right, place) else { return false }
            place += 4
        }
        return true
    }
}

/// Segments of one flow, each following the one before it, all but the last of one length.
struct SegmentTrain {
    private static let octetsMaximum = 65_535

    private(set) var count = 0
    private var first: FlowSegment?
    private var octets = 0
    private var nextSequence: UInt32 = 0
    private var hasPush = false
    /// Nothing may follow.
    private(set) var isClosed = false
    private var isChecked = false

    /// True when the first packet is a UDP datagram that others may follow.
    var isOfDatagrams: Bool { first?.isTCP == false }

    /// Begins with a packet, of whatever kind. `joinsDatagrams`: kernels before Linux 6.2 take no
    /// rows of UDP datagrams.
    init(_ base: UnsafeMutableRawPointer, count octets: Int, joinsDatagrams: Bool = true) {
        count = 1
        self.octets = octets
        first = FlowSegment(base, count: octets)
        if !joinsDatagrams, first?.isTCP == false { first = nil }
        guard let first else {
            isClosed = true
            return
        }
        if first.isTCP {
            nextSequence = first.sequence &+ UInt32(truncatingIfNeeded: first.payloadBytes)
        }
        isClosed = first.hasPush
    }

    /// Appends a packet that continues the train; the segment, or nil if it does not.
    mutating func append(_ base: UnsafeMutableRawPointer, count bytes: Int) -> FlowSegment? {
        guard !isClosed, let first, let next = FlowSegment(base, count: bytes),
            !next.isTCP || next.sequence == nextSequence, next.payloadBytes <= first.payloadBytes,
            octets + next.payloadBytes <= Self.octetsMaximum, first.isAlike(next), follows(next),
            isChecked || first.isIntact, next.isIntact
        else { return nil }
        isChecked = true
        count += 1
        octets += next.payloadBytes
        nextSequence &+= UInt32(truncatingIfNeeded: next.payloadBytes)
        hasPush = next.hasPush
        isClosed = hasPush || next.payloadBytes < first.payloadBytes
        return next
    }

    /// Whoever cuts the packet again counts identifications on from the first; where fragments may
    /// be made they must be those that the sender gave (RFC 6864 §4).
    private func follows(_ next: FlowSegment) -> Bool {
        guard let first, next.isV4 else { return true }
        let mayFragment = load16(next.base, 6) & 0x4000 == 0
        let expected = load16(first.base, 4) &+ UInt16(truncatingIfNeeded: count)
        return !mayFragment || load16(next.base, 4) == expected
    }

    /// Makes the first packet's headers those of the whole; what is left for the kernel to do.
    func finish() -> OffloadHeader {
        guard count > 1, let first else { return .complete }
        let base = first.base
        if first.isV4 {
            store16(UInt16(truncatingIfNeeded: octets), base, 2)
            store16(0, base, 10)
            store16(checksumFold(checksumSum(base, count: first.transport)), base, 10)
        } else {
            store16(UInt16(truncatingIfNeeded: octets - first.transport), base, 4)
        }
        if hasPush {
            let flags = load8(base, first.transport + 13)
            store8(flags | TCPHeader.pushFlag, base, first.transport + 13)
        }
        let length = octets - first.transport
        if !first.isTCP { store16(UInt16(truncatingIfNeeded: length), base, first.transport + 4) }
        let sum = first.pseudoSum(length)
        store16(~checksumFold(sum), base, first.transport + first.checksumOffset)
        let row: OffloadHeader.Row = first.isTCP ? (first.isV4 ? .tcpV4 : .tcpV6) : .udp
        return OffloadHeader(
            row: row, segmentBytes: first.payloadBytes, headerBytes: first.headerBytes,
            checksumStart: first.transport, checksumOffset: first.checksumOffset)
    }
}
