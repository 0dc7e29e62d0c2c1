// Reading and writing the fields of messages and records: big-endian numbers, and LEB128 for those
// that are mostly small.

internal import Wire

/// Reads fields one after the other and never beyond the end.
struct OctetReader {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Octets not yet read.
    var remaining: Int { bytes.count - offset }

    /// The address of the next `count` octets, which are skipped.
    private mutating func take(_ count: Int) throws(EncodingFault) -> UnsafeRawPointer {
        guard count <= remaining, let base = bytes.baseAddress else { throw .truncated }
        defer { offset += count }
        return base + offset
    }

    mutating func uint8() throws(EncodingFault) -> UInt8 { load8(try take(1), 0) }
    mutating func uint16() throws(EncodingFault) -> UInt16 { load16(try take(2), 0) }
    mutating func uint32() throws(EncodingFault) -> UInt32 { load32(try take(4), 0) }
    mutating func uint64() throws(EncodingFault) -> UInt64 { load64(try take(8), 0) }

    /// Unsigned LEB128 in its only form: at most 10 octets, the last one not 0 unless it is alone.
    mutating func varint() throws(EncodingFault) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), through: 63, by: 7) {
            let octet = try uint8()
            // The tenth octet has room for one bit.
            if shift == 63, octet > 1 { throw .number }
            value |= UInt64(octet & 0x7F) << shift
            if octet < 0x80 {
                if octet == 0, shift != 0 { throw .number }
                return value
            }
        }
        throw .number
    }

    /// The next `count` octets, lent as long as the reader's own are.
    mutating func octets(_ count: Int) throws(EncodingFault) -> UnsafeRawBufferPointer {
        guard count > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: try take(count), count: count)
    }

    mutating func identifier() throws(EncodingFault) -> DistributionIdentifier {
        let value = try uint16()
        guard value < Distribution.identifierCountRange.upperBound else { throw .range }
        return DistributionIdentifier(value)
    }

    /// Generations begin with 1.
    mutating func generation() throws(EncodingFault) -> UInt16 {
        let value = try uint16()
        guard value >= 1 else { throw .range }
        return value
    }

    mutating func node() throws(EncodingFault) -> NodeID {
        guard let node = NodeID(exactly: try uint16()) else { throw .range }
        return node
    }

    mutating func spi() throws(EncodingFault) -> SPI { SPI(try uint32()) }

    /// One octet, 4 or 6.
    mutating func family() throws(EncodingFault) -> IPAddress.Family {
        switch try uint8() {
        case 4: .v4
        case 6: .v6
        default: throw .range
        }
    }

    mutating func address(_ family: IPAddress.Family) throws(EncodingFault) -> IPAddress {
        switch family {
        case .v4: IPAddress(v4: try uint32())
        case .v6: IPAddress(high: try uint64(), low: try uint64())
        }
    }

    /// A list of `count` elements of at least `bytesMinimum` octets each: a count that the octets
    /// can't hold is refused before memory is taken for it.
    mutating func list<Element>(
        _ count: Int, bytesMinimum: Int,
        _ element: (inout OctetReader) throws(EncodingFault) -> Element
    ) throws(EncodingFault) -> [Element] {
        guard count <= remaining / bytesMinimum else { throw .truncated }
        var elements: [Element] = []
        elements.reserveCapacity(count)
        for _ in 0..<count { elements.append(try element(&self)) }
        return elements
    }

    /// Refuses what follows the last field.
    func end() throws(EncodingFault) {
        guard remaining == 0 else { throw .trailing }
    }
}

/// Writes fields one after the other into memory of the right size.
struct OctetWriter {
    private let bytes: UnsafeMutableRawBufferPointer
    /// Octets written.
    private(set) var count = 0

    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

    private mutating func take(_ count: Int) -> UnsafeMutableRawPointer {
        guard let base = bytes.baseAddress, count <= bytes.count - self.count else {
            preconditionFailure("the size of an encoding was computed wrongly")
        }
        defer { self.count += count }
        return base + self.count
    }

    /// Where the next octet goes; to be used only inside the memory that the writer was given.
    var position: UnsafeMutableRawPointer {
        guard let base = bytes.baseAddress else { preconditionFailure("nothing is to be written") }
        return base + count
    }

    /// Leaves octets that are written by another.
    mutating func skip(_ count: Int) { _ = take(count) }

    mutating func uint8(_ value: UInt8) { store8(value, take(1), 0) }
    mutating func uint16(_ value: UInt16) { store16(value, take(2), 0) }
    mutating func uint32(_ value: UInt32) { store32(value, take(4), 0) }
    mutating func uint64(_ value: UInt64) { store64(value, take(8), 0) }

    mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            uint8(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        uint8(UInt8(rest))
    }

    /// Octets that `varint` takes.
    static func varintBytes(_ value: UInt64) -> Int {
        value < 0x80 ? 1 : (70 - value.leadingZeroBitCount) / 7
    }

    mutating func octets(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress, source.count > 0 else { return }
        take(source.count).copyMemory(from: start, byteCount: source.count)
    }

    mutating func identifier(_ value: DistributionIdentifier) {
        precondition(value.value < Distribution.identifierCountRange.upperBound)
        uint16(value.value)
    }

    mutating func generation(_ value: UInt16) {
        precondition(value >= 1, "generations begin with 1")
        uint16(value)
    }

    mutating func family(_ family: IPAddress.Family) { uint8(family == .v4 ? 4 : 6) }

    mutating func address(_ address: IPAddress) {
        guard address.family == .v6 else { return uint32(UInt32(truncatingIfNeeded: address.low)) }
        uint64(address.high)
        uint64(address.low)
    }

    /// Precondition: the list has at most 65535 elements.
    mutating func listCount(_ count: Int) { uint16(UInt16(count)) }

    /// The octets that `write` writes, which are `count`.
    static func array(count: Int, _ write: (inout OctetWriter) -> Void) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            var writer = OctetWriter(UnsafeMutableRawBufferPointer(buffer))
            write(&writer)
            precondition(writer.count == count)
            initialized = count
        }
    }
}

extension Sequence {
    /// True when `value` rises from each element to the next.
    func ascends(by value: (Element) -> some Comparable) -> Bool {
        zip(self, dropFirst()).allSatisfy { value($0) < value($1) }
    }
}
