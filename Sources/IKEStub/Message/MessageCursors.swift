// The cursors of message coding: one that checks every length before it reads, and one that fills
// in lengths behind what it wrote.

internal import Wire

/// Reads big-endian numbers from front to back of a part of a message. Places are counted from the
/// start of the message, so that a fault can name them.
struct MessageReader {
    private let octets: UnsafeRawBufferPointer
    private(set) var offset: Int
    let end: Int

    init(_ octets: UnsafeRawBufferPointer) { self.init(octets, 0, octets.count) }

    private init(_ octets: UnsafeRawBufferPointer, _ offset: Int, _ end: Int) {
        self.octets = octets
        self.offset = offset
        self.end = end
    }

    /// Octets that have not been read.
    var left: Int { end - offset }

    /// The next `count` octets as a reader of their own, or `field` where there are fewer.
    mutating func part(
        _ count: Int, _ field: MessageFault.Field
    ) throws(MessageFault) -> MessageReader {
        guard count >= 0, count <= left else { throw .malformed(field, at: offset) }
        defer { offset += count }
        return MessageReader(octets, offset, offset + count)
    }

    mutating func next8(_ field: MessageFault.Field) throws(MessageFault) -> UInt8 {
        load8(try pointer(1, field), 0)
    }

    mutating func next16(_ field: MessageFault.Field) throws(MessageFault) -> UInt16 {
        load16(try pointer(2, field), 0)
    }

    mutating func next32(_ field: MessageFault.Field) throws(MessageFault) -> UInt32 {
        load32(try pointer(4, field), 0)
    }

    mutating func next64(_ field: MessageFault.Field) throws(MessageFault) -> UInt64 {
        load64(try pointer(8, field), 0)
    }

    mutating func next(
        _ count: Int, _ field: MessageFault.Field
    ) throws(MessageFault) -> [UInt8] {
        var part = try part(count, field)
        return part.rest()
    }

    mutating func nextAddress(
        _ family: IPAddress.Family, _ field: MessageFault.Field
    ) throws(MessageFault) -> IPAddress {
        IPAddress(family, at: try pointer(family == .v4 ? 4 : 16, field), 0)
    }

    /// All that has not been read.
    mutating func rest() -> [UInt8] {
        defer { offset = end }
        return Array(octets[offset..<end])
    }

    private mutating func pointer(
        _ count: Int, _ field: MessageFault.Field
    ) throws(MessageFault) -> UnsafeRawPointer {
        guard count <= left, let base = octets.baseAddress else {
            throw .malformed(field, at: offset)
        }
        defer { offset += count }
        return base + offset
    }
}

/// Writes big-endian numbers from front to back.
struct MessageWriter {
    private(set) var octets: [UInt8] = []

    init() {}

    /// With room for `capacity` octets at first.
    init(capacity: Int) { octets.reserveCapacity(capacity) }

    mutating func put8(_ value: UInt8) { octets.append(value) }

    mutating func put16(_ value: UInt16) {
        octets.append(UInt8(value >> 8))
        octets.append(UInt8(truncatingIfNeeded: value))
    }

    mutating func put32(_ value: UInt32) {
        put16(UInt16(value >> 16))
        put16(UInt16(truncatingIfNeeded: value))
    }

    mutating func put64(_ value: UInt64) {
        put32(UInt32(value >> 32))
        put32(UInt32(truncatingIfNeeded: value))
    }

    mutating func put(_ bytes: some Collection<UInt8>) { octets.append(contentsOf: bytes) }

    mutating func putZeros(_ count: Int) {
        octets.append(contentsOf: repeatElement(0, count: count))
    }

    mutating func put(_ address: IPAddress) {
        switch address.family {
        case .v4: put32(UInt32(truncatingIfNeeded: address.low))
        case .v6:
            put64(address.high)
            put64(address.low)
        }
    }

    /// Writes `head` octets that end in a 16-bit length, then `body`; the length counts both.
    mutating func putMeasured(_ head: [UInt8], _ body: (inout MessageWriter) -> Void) {
        let start = octets.count
        put(head)
        let place = octets.count
        put16(0)
        body(&self)
        let length = octets.count - start
        precondition(length <= Int(UInt16.max), "a length field has 16 bits")
        octets[place] = UInt8(length >> 8)
        octets[place + 1] = UInt8(truncatingIfNeeded: length)
    }

    /// Overwrites 32 bits that were written before.
    mutating func patch32(_ value: UInt32, at place: Int) {
        octets.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            precondition(place + 4 <= bytes.count)
            store32(value, base, place)
        }
    }
}
