// TCP segments that came one after the other out of a tunnel, given to the kernel as one packet:
// what its own GRO does for packets of a card.

internal import Wire

/// A segment of TCP with payload, in an IP packet without options, extension headers or fragments.
struct TCPSegment {
    static let headerBytesMinimum = 20
    /// From the beginning of TCP's header.
    static let checksumOffset = 16
    static let finFlag: UInt8 = 0x01
    static let pushFlag: UInt8 = 0x08
    static let acknowledgementFlag: UInt8 = 0x10
    static let windowReducedFlag: UInt8 = 0x80

    let base: UnsafeMutableRawPointer
    /// Octets of the packet.
    let count: Int
    let isV4: Bool
    /// Octets of all headers.
    let headerBytes: Int

    var transport: Int { isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes }
    var payloadBytes: Int { count - headerBytes }
    var sequence: UInt32 { load32(base, transport + 4) }
    var hasPush: Bool { load8(base, transport + 13) & Self.pushFlag != 0 }

    /// Nil: a packet that goes by itself.
    init?(_ base: UnsafeMutableRawPointer, count: Int) {
        guard count >= IPPacket.ipv4HeaderBytes + Self.headerBytesMinimum else { return nil }
        let isV4: Bool
        switch load8(base, 0) {
        // No options; the whole packet; neither more fragments nor an offset; TCP.
        case 0x45:
            guard Int(load16(base, 2)) == count, load16(base, 6) & 0xBFFF == 0,
                load8(base, 9) == IPProtocol.tcp
            else { return nil }
            isV4 = true
        case 0x60...0x6F:
            guard count >= IPPacket.ipv6HeaderBytes + Self.headerBytesMinimum,
                Int(load16(base, 4)) == count - IPPacket.ipv6HeaderBytes,
                load8(base, 6) == IPProtocol.tcp
            else { return nil }
            isV4 = false
        default: return nil
        }
        let transport = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        let tcpBytes = Int(load8(base, transport + 12) >> 4) * 4
        // Everything but plain data changes what the receiver does at once.
        guard tcpBytes >= Self.headerBytesMinimum, transport + tcpBytes < count,
            load8(base, transport + 13) & ~Self.pushFlag == Self.acknowledgementFlag
        else { return nil }
        self.base = base
        self.count = count
        self.isV4 = isV4
        headerBytes = transport + tcpBytes
    }

    /// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
    func pseudoSum(_ length: Int) -> UInt64 {
        let addresses = isV4 ? checksumSum(base + 12, count: 8) : checksumSum(base + 8, count: 32)
        return addresses + UInt64(IPProtocol.tcp) + UInt64(length)
    }

    /// What the kernel would have found, had it seen the segment by itself.
    var isIntact: Bool {
        if isV4, checksumFold(checksumSum(base, count: transport)) != 0 { return false }
        let length = count - transport
        return checksumFold(
            checksumSum(base + transport, count: length, from: pseudoSum(length))) == 0
    }

    /// True when both have the same headers, but for what differs from segment to segment.
    func isAlike(_ other: TCPSegment) -> Bool {
        guard headerBytes == other.headerBytes, isV4 == other.isV4 else { return false }
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
        // Ports; acknowledgement; length, flags and window; urgent pointer; options.
        let push = UInt32(Self.pushFlag) << 16
        let at = transport
        guard load32(left, at) == load32(right, at), load32(left, at + 8) == load32(right, at + 8),
            load32(left, at + 12) | push == load32(right, at + 12) | push,
            load16(left, at + 18) == load16(right, at + 18)
        else { return false }
        var place = at + Self.headerBytesMinimum
        while place < headerBytes {
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
    private var first: TCPSegment?
    private var octets = 0
    private var nextSequence: UInt32 = 0
    private var hasPush = false
    /// Nothing may follow.
    private(set) var isClosed = false
    private var isChecked = false

    /// Begins with a packet, of whatever kind.
    init(_ base: UnsafeMutableRawPointer, count octets: Int) {
        count = 1
        self.octets = octets
        first = TCPSegment(base, count: octets)
        guard let first else {
            isClosed = true
            return
        }
        nextSequence = first.sequence &+ UInt32(truncatingIfNeeded: first.payloadBytes)
        isClosed = first.hasPush
    }

    /// Appends a packet that continues the train; the segment, or nil if it does not.
    mutating func append(_ base: UnsafeMutableRawPointer, count bytes: Int) -> TCPSegment? {
        guard !isClosed, let first, let next = TCPSegment(base, count: bytes),
            next.sequence == nextSequence, next.payloadBytes <= first.payloadBytes,
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
    private func follows(_ next: TCPSegment) -> Bool {
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
            store8(flags | TCPSegment.pushFlag, base, first.transport + 13)
        }
        let sum = first.pseudoSum(octets - first.transport)
        store16(~checksumFold(sum), base, first.transport + TCPSegment.checksumOffset)
        return OffloadHeader(
            row: first.isV4 ? .tcpV4 : .tcpV6, segmentBytes: first.payloadBytes,
            headerBytes: first.headerBytes, checksumStart: first.transport,
            checksumOffset: TCPSegment.checksumOffset)
    }
}
