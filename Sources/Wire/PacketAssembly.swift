// Puts fragments together (RFC 791 §3.2, RFC 815, RFC 8200 §4.5), within bounds of memory and time.
//
// Fragments that overlap end the packet, in both families: RFC 5722 demands it for IPv6, and what
// two of them say of one octet can't both be true. Only an exact copy of one that came is ignored.

/// What became of a fragment.
public enum AssemblyResult: Equatable, Sendable {
    /// It completed this packet, which has no fragment header any more.
    case whole([UInt8])
    /// Kept; others are missing. Also for an exact copy.
    case waiting
    /// Dropped.
    case refused(AssemblyRefusal)
}

/// Why a fragment was dropped.
public enum AssemblyRefusal: String, CaseIterable, Equatable, Sendable {
    /// Not an IP packet, or no fragment.
    case notFragment
    /// Not the last one, and empty or no multiple of 8 octets (RFC 8200 §4.5).
    case length
    /// The packet would be longer than an IP packet can be.
    case tooLong
    /// It overlaps another, or says another end: the whole packet is given up.
    case overlap
    /// One of a packet that was given up.
    case givenUp
    /// In too many pieces: the whole packet is given up.
    case pieces
    /// The source has as many unfinished packets as it may.
    case source
    /// It alone needs more memory than there is.
    case memory
    /// Marks of congestion beside a fragment that can't carry them (RFC 3168 §5.3): given up.
    case congestion
}

/// Unfinished packets.
public struct PacketAssembly: Sendable {
    /// What may be held.
    public struct Limits: Equatable, Sendable {
        /// Unfinished packets in total; beyond, the oldest goes.
        public var packets = 256
        /// Unfinished packets from one source.
        public var packetsOfSource = 32
        /// Octets of all unfinished packets; beyond, the oldest go.
        public var octets = 4 << 20
        /// Fragments of one packet. An IPv4 packet over links with an MTU of 576 has 119 at most.
        public var pieces = 128
        /// From the first fragment of a packet on; RFC 791 begins with 15 s.
        public var nanoseconds: UInt64 = 15_000_000_000

        /// The defaults.
        public init() {}
    }

    /// What tells packets apart (RFC 791 §3.2, RFC 8200 §4.5).
    fileprivate struct Key: Equatable {
        let source: IPAddress
        let destination: IPAddress
        let identification: UInt32
        /// 0 for IPv6.
        let transport: UInt8
    }

    fileprivate struct Piece {
        let start: Int
        let end: Int
    }

    /// One unfinished packet.
    fileprivate struct Packet {
        let key: Key
        let deadline: UInt64
        /// Headers of the fragment at place 0; empty: it has not come.
        var prefix: [UInt8] = []
        var protocolOffset = 0
        var transport: UInt8 = 0
        /// The payload as far as the last fragment that came; gaps are 0.
        var payload: [UInt8] = []
        /// Ascending, without overlaps.
        var pieces: [Piece] = []
        /// The payload's length, once the last fragment told it.
        var length: Int?
        /// A bit for each ECN codepoint that came.
        var congestion: UInt8 = 0
        /// Overlaps or such: what still comes of it is dropped.
        var isGivenUp = false

        var octets: Int { prefix.count + payload.count }
    }

    private let limits: Limits
    /// Oldest first.
    private var packets: [Packet] = []
    /// Octets that are held.
    public private(set) var octets = 0
    /// Packets that were given up because others needed their place, or that ran out of time.
    public private(set) var abandoned: UInt64 = 0

    /// Holds nothing yet.
    public init(limits: Limits = Limits()) {
        self.limits = limits
    }

    /// Unfinished packets, and such that were given up.
    public var count: Int { packets.count }

    /// Forgets what is too old.
    public mutating func expire(nowNanoseconds now: UInt64) {
        while let first = packets.first, first.deadline <= now {
            if !first.isGivenUp { abandoned += 1 }
            remove(0)
        }
    }

    /// Takes a fragment, an IP packet.
    public mutating func take(
        _ packet: UnsafeRawBufferPointer, nowNanoseconds now: UInt64
    ) -> AssemblyResult {
        expire(nowNanoseconds: now)
        guard let fragment = FragmentHeader(packet: packet) else {
            return .refused(.notFragment)
        }
        let bytes = fragment.end - fragment.dataOffset
        guard !fragment.hasMore || (bytes > 0 && bytes.isMultiple(of: 8)) else {
            return .refused(.length)
        }
        guard fragment.prefixLength + fragment.place + bytes <= 65_535 else {
            return .refused(.tooLong)
        }
        let key = Key(
            source: fragment.source, destination: fragment.destination,
            identification: fragment.identification,
            transport: fragment.source.family == .v4 ? fragment.transportProtocol : 0)
        let index: Int
        if let found = packets.firstIndex(where: { $0.key == key }) {
            index = found
        } else {
            let ofSource = packets.count { $0.key.source == key.source }
            guard ofSource < limits.packetsOfSource else { return .refused(.source) }
            if packets.count >= limits.packets { abandonOldest() }
            packets.append(Packet(key: key, deadline: now &+ limits.nanoseconds))
            index = packets.count - 1
        }
        return add(fragment, packet, to: index)
    }

    private mutating func add(
        _ fragment: FragmentHeader, _ packet: UnsafeRawBufferPointer, to index: Int
    ) -> AssemblyResult {
        guard !packets[index].isGivenUp else { return .refused(.givenUp) }
        let data = UnsafeRawBufferPointer(rebasing: packet[fragment.dataOffset..<fragment.end])
        let start = fragment.place
        let end = start + data.count
        let place = packets[index].pieces.firstIndex { $0.end > start || $0.start >= start }
        if let place {
            let next = packets[index].pieces[place]
            if next.start == start, next.end == end, isCopy(fragment, data, of: index) {
                return .waiting
            }
            guard next.start >= end, !(start == end && next.start == start) else {
                return giveUp(index, .overlap)
            }
        }
        if let length = packets[index].length {
            // The end is known: nothing lies behind it, and no other fragment is the last.
            guard end <= length, fragment.hasMore else { return giveUp(index, .overlap) }
        } else if !fragment.hasMore {
            guard packets[index].payload.count <= end else { return giveUp(index, .overlap) }
            packets[index].length = end
        }
        guard packets[index].pieces.count < limits.pieces else { return giveUp(index, .pieces) }
        packets[index].congestion |= 1 << fragment.congestion
        let before = packets[index].octets
        packets[index].pieces.insert(
            Piece(start: start, end: end), at: place ?? packets[index].pieces.count)
        packets[index].store(data, at: start)
        if start == 0 { packets[index].keepHeaders(fragment, packet) }
        octets += packets[index].octets - before
        if packets[index].isComplete { return finish(index) }
        return makeRoom(for: packets[index].key)
    }

    /// Says the same of the same octets.
    private func isCopy(
        _ fragment: FragmentHeader, _ data: UnsafeRawBufferPointer, of index: Int
    ) -> Bool {
        let isLast = packets[index].length == fragment.place + data.count
        return isLast != fragment.hasMore
            && packets[index].payload[fragment.place..<fragment.place + data.count]
                .elementsEqual(data)
    }

    /// The memory goes at once; that the packet is lost is known until its time is over.
    private mutating func giveUp(
        _ index: Int, _ refusal: AssemblyRefusal
    ) -> AssemblyResult {
        octets -= packets[index].octets
        packets[index] = Packet(key: packets[index].key, deadline: packets[index].deadline)
        packets[index].isGivenUp = true
        return .refused(refusal)
    }

    private mutating func makeRoom(for key: Key) -> AssemblyResult {
        while octets > limits.octets {
            let isOwn = packets[0].key == key
            abandonOldest()
            if isOwn { return .refused(.memory) }
        }
        return .waiting
    }

    private mutating func abandonOldest() {
        if !packets[0].isGivenUp { abandoned += 1 }
        remove(0)
    }

    private mutating func remove(_ index: Int) {
        octets -= packets[index].octets
        packets.remove(at: index)
    }

    private mutating func finish(_ index: Int) -> AssemblyResult {
        let packet = packets[index]
        // The first fragment may have had more options than this one.
        guard packet.octets <= 65_535 else { return giveUp(index, .tooLong) }
        // RFC 3168 §5.3: one mark marks the whole, unless a fragment could not be marked.
        let isMarked = packet.congestion & 0b1000 != 0
        guard !isMarked || packet.congestion & 0b0001 == 0 else {
            return giveUp(index, .congestion)
        }
        remove(index)
        return .whole(packet.whole(isMarked: isMarked))
    }
}

extension PacketAssembly.Packet {
    fileprivate var isComplete: Bool {
        guard let length, !prefix.isEmpty, pieces.last?.end == length else { return false }
        var reached = 0
        for piece in pieces {
            guard piece.start == reached else { return false }
            reached = piece.end
        }
        return true
    }

    fileprivate mutating func store(_ data: UnsafeRawBufferPointer, at start: Int) {
        let end = start + data.count
        if payload.count < end {
            payload.append(contentsOf: repeatElement(0, count: end - payload.count))
        }
        payload.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress, let from = data.baseAddress else { return }
            (base + start).copyMemory(from: from, byteCount: data.count)
        }
    }

    /// RFC 8200 §4.5: headers and the next header's number are those of the first fragment.
    fileprivate mutating func keepHeaders(
        _ fragment: FragmentHeader, _ packet: UnsafeRawBufferPointer
    ) {
        prefix = Array(packet[..<fragment.prefixLength])
        protocolOffset = fragment.protocolOffset
        transport = fragment.transportProtocol
    }

    /// The packet as it was before somebody cut it.
    fileprivate func whole(isMarked: Bool) -> [UInt8] {
        var octets = prefix + payload
        let isV4 = key.source.family == .v4
        octets.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            if isV4 {
                store16(UInt16(truncatingIfNeeded: bytes.count), base, 2)
                store16(0, base, 6)
                if isMarked { store8(load8(base, 1) | 3, base, 1) }
                store16(0, base, 10)
                let sum = checksumSum(base, count: prefix.count)
                store16(checksumFold(sum), base, 10)
            } else {
                let length = bytes.count - IPPacket.ipv6HeaderBytes
                store16(UInt16(truncatingIfNeeded: length), base, 4)
                store8(transport, base, protocolOffset)
                if isMarked { store8(load8(base, 1) | 0x30, base, 1) }
            }
        }
        return octets
    }
}
