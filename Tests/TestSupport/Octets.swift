// Octets as tests write them down, and the slow ways to sum and to compare them.

/// Decodes hexadecimal digits; anything else between them is left out.
package func hex(_ text: String) -> [UInt8] {
    let nibbles = text.compactMap(\.hexDigitValue)
    precondition(nibbles.count.isMultiple(of: 2), "half an octet in \(text)")
    return stride(from: 0, to: nibbles.count, by: 2).map {
        UInt8(nibbles[$0] << 4 | nibbles[$0 + 1])
    }
}

/// The octets of a text.
package func octets(_ text: String) -> [UInt8] { Array(text.utf8) }

/// The checksum of RFC 1071 by its own words: 16-bit words, added one by one, each carry put back
/// at once. `skip` is the place of the checksum field, taken as 0.
package func naiveChecksum(_ bytes: some Collection<UInt8>, skip: Int? = nil) -> UInt16 {
    let bytes = Array(bytes)
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) where index != skip {
        let low = index + 1 < bytes.count ? bytes[index + 1] : 0
        sum += UInt32(bytes[index]) << 8 | UInt32(low)
        if sum > 0xFFFF { sum -= 0xFFFF }
    }
    return ~UInt16(sum)
}

/// The checksum of UDP over IPv6 with its pseudo-header (RFC 8200 §8.1); `packet` begins with the
/// IPv6 header, `offset` is where UDP begins.
package func naiveUDPChecksum(ipv6 packet: [UInt8], at offset: Int) -> UInt16 {
    let length = packet.count - offset
    let pseudo =
        packet[8..<40] + bigEndian(UInt32(length)) + [0, 0, 0, 17] + packet[offset..<offset + 6]
        + [0, 0] + packet[(offset + 8)...]
    let sum = naiveChecksum(Array(pseudo))
    return sum == 0 ? 0xFFFF : sum
}

/// The octets of a number, most significant first.
package func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
}

/// Reads a number, most significant octet first.
package func number<Value: FixedWidthInteger>(_ bytes: some Collection<UInt8>) -> Value {
    precondition(bytes.count * 8 == Value.bitWidth)
    return bytes.reduce(0) { $0 << 8 | Value($1) }
}

/// True when `needle` stands somewhere in `haystack`.
package func contains(_ haystack: [UInt8], _ needle: some Collection<UInt8>) -> Bool {
    let needle = Array(needle)
    guard let first = needle.first, haystack.count >= needle.count else { return needle.isEmpty }
    for start in 0...haystack.count - needle.count where haystack[start] == first {
        if haystack[start..<start + needle.count].elementsEqual(needle) { return true }
    }
    return false
}

extension RandomNumberGenerator {
    /// Random octets.
    package mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
