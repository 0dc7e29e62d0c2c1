// Writes and reads the fields of an IKE SA's state, one after the other: big-endian numbers, and
// lists behind their count.

internal import Crypto
internal import Wire

/// Why octets are not the state of an IKE SA. Places are octets from the start.
public enum IKEStateFault: Error, Equatable, Sendable {
    /// The first octet names a version that this program does not know.
    case version(UInt8)
    /// The state ends inside of a field.
    case truncated(at: Int)
    /// A field has a value that it can't have, or not beside the fields before it.
    case malformed(Field, at: Int)
    /// Octets follow the last field.
    case trailing(at: Int)
    /// The new owner's generation is not newer than the state's.
    case generation(UInt16)
    /// An IKE SA with that SPI of ours is here already.
    case known(UInt64)

    /// Which field.
    public enum Field: String, Sendable {
        case flag, text, address, path, role, stage, traits, suite, keys, identity, times, child
        case selectors, exchange, nonce, privateKey, messageID, handshake, count, counter
        case synchronization
    }
}

/// Collects octets in memory that is wiped.
struct StateWriter: ~Copyable {
    private var bytes = SecretBytes(count: 1024)
    private(set) var count = 0

    mutating func put(_ source: UnsafeRawBufferPointer) {
        if count + source.count > bytes.count {
            var larger = SecretBytes(count: max(2 * bytes.count, count + source.count))
            larger.copy(bytes, at: 0)
            bytes = larger
        }
        let place = count
        bytes.withUnsafeMutableBytes {
            UnsafeMutableRawBufferPointer(rebasing: $0[place...]).copyMemory(from: source)
        }
        count += source.count
    }

    mutating func put(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.bigEndian) { put($0) }
    }

    mutating func put(_ flag: Bool) { put(UInt8(flag ? 1 : 0)) }

    mutating func put(_ octets: [UInt8]) { octets.withUnsafeBytes { put($0) } }

    mutating func put(_ secret: borrowing SecretBytes) { secret.withUnsafeBytes { put($0) } }

    /// Octets behind their number. Precondition: at most 65535.
    mutating func putCounted(_ octets: [UInt8]) {
        put(UInt16(octets.count))
        put(octets)
    }

    mutating func put(_ text: String) { putCounted(Array(text.utf8)) }

    /// Precondition: at most 65535 elements.
    mutating func put<Element>(
        _ list: [Element], _ body: (inout StateWriter, Element) -> Void
    ) {
        put(UInt16(list.count))
        for element in list { body(&self, element) }
    }

    mutating func put<Value>(_ value: Value?, _ body: (inout StateWriter, Value) -> Void) {
        put(value != nil)
        if let value { body(&self, value) }
    }

    consuming func finish() -> SecretBytes { bytes.slice(0..<count) }
}

/// Reads what ``StateWriter`` wrote, and nothing else.
struct StateReader {
    private let octets: UnsafeRawBufferPointer
    private(set) var offset = 0

    init(_ octets: UnsafeRawBufferPointer) { self.octets = octets }

    mutating func take(_ count: Int) throws(IKEStateFault) -> UnsafeRawBufferPointer {
        guard count <= octets.count - offset else { throw .truncated(at: offset) }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: octets[offset..<offset + count])
    }

    mutating func next<Number: FixedWidthInteger>(
        _ type: Number.Type = Number.self
    ) throws(IKEStateFault) -> Number {
        let bytes = try take(MemoryLayout<Number>.size)
        return Number(bigEndian: bytes.loadUnaligned(as: Number.self))
    }

    mutating func flag() throws(IKEStateFault) -> Bool {
        let place = offset
        switch try next(UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw .malformed(.flag, at: place)
        }
    }

    /// An element of a known set, by its number.
    mutating func one<Value>(
        _ field: IKEStateFault.Field, _ value: (UInt16) -> Value?
    ) throws(IKEStateFault) -> Value {
        let place = offset
        guard let found = value(try next()) else { throw .malformed(field, at: place) }
        return found
    }

    mutating func counted() throws(IKEStateFault) -> [UInt8] {
        let count = Int(try next(UInt16.self))
        return Array(try take(count))
    }

    mutating func secret(_ count: Int) throws(IKEStateFault) -> SecretBytes {
        SecretBytes(copying: try take(count))
    }

    mutating func text() throws(IKEStateFault) -> String {
        let place = offset
        let octets = try counted()
        let text = String(decoding: octets, as: UTF8.self)
        guard text.utf8.elementsEqual(octets) else { throw .malformed(.text, at: place) }
        return text
    }

    mutating func nonce() throws(IKEStateFault) -> [UInt8] {
        let place = offset
        let octets = try counted()
        guard nonceRange.contains(octets.count) else { throw .malformed(.nonce, at: place) }
        return octets
    }

    mutating func list<Element>(
        _ element: (inout StateReader) throws(IKEStateFault) -> Element
    ) throws(IKEStateFault) -> [Element] {
        let place = offset
        let count = Int(try next(UInt16.self))
        // Every element has an octet at least: memory is taken for what can be there.
        guard count <= octets.count - offset else { throw .malformed(.count, at: place) }
        var list: [Element] = []
        list.reserveCapacity(count)
        for _ in 0..<count { list.append(try element(&self)) }
        return list
    }

    mutating func optional<Value: ~Copyable>(
        _ value: (inout StateReader) throws(IKEStateFault) -> Value
    ) throws(IKEStateFault) -> Value? {
        try flag() ? try value(&self) : nil
    }

    /// Runs a check of what was read since `place`.
    func require(
        _ isTrue: Bool, _ field: IKEStateFault.Field, at place: Int
    ) throws(IKEStateFault) {
        guard isTrue else { throw .malformed(field, at: place) }
    }

    func end() throws(IKEStateFault) {
        guard offset == octets.count else { throw .trailing(at: offset) }
    }
}
