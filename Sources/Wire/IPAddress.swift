// IPv4 and IPv6 addresses as one comparable value.

/// An IPv4 or IPv6 address; 16 octets, an IPv4 address in the last four of them.
public struct IPAddress: Hashable, Sendable {
    /// The protocol version.
    public enum Family: UInt8, Sendable { case v4 = 4, v6 = 6 }

    /// IPv4 or IPv6.
    public let family: Family
    /// The upper 64 bits; 0 for IPv4.
    public let high: UInt64
    /// The lower 64 bits; an IPv4 address in the lower 32.
    public let low: UInt64

    /// An IPv6 address from its two halves.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        family = .v6
        self.high = high
        self.low = low
    }

    /// An IPv4 address.
    @inlinable
    public init(v4: UInt32) {
        family = .v4
        high = 0
        low = UInt64(v4)
    }

    /// Reads 4 or 16 octets in network order.
    @inline(__always)
    public init(_ family: Family, at base: UnsafeRawPointer, _ offset: Int) {
        self.family = family
        switch family {
        case .v4:
            high = 0
            low = UInt64(load32(base, offset))
        case .v6:
            high = load64(base, offset)
            low = load64(base, offset + 8)
        }
    }

    /// The number of bits: 32 or 128.
    public var bitWidth: Int { family == .v4 ? 32 : 128 }

    /// Order within one family; an IPv4 address comes before every IPv6 address.
    @inline(__always)
    public static func isOrdered(_ left: IPAddress, _ right: IPAddress) -> Bool {
        if left.family != right.family { return left.family == .v4 }
        return left.high < right.high || (left.high == right.high && left.low <= right.low)
    }

    /// The first and the last address of the prefix of `length` bits that holds this address.
    public func prefixRange(length: Int) -> (first: IPAddress, last: IPAddress) {
        precondition((0...bitWidth).contains(length))
        if family == .v4 {
            let host = length == 0 ? UInt32.max : UInt32.max >> UInt32(length)
            let hostBits = length == 32 ? 0 : host
            let value = UInt32(truncatingIfNeeded: low)
            return (IPAddress(v4: value & ~hostBits), IPAddress(v4: value | hostBits))
        }
        let highBits: UInt64 = length >= 64 ? 0 : (length == 0 ? .max : .max >> UInt64(length))
        let lowBits: UInt64 =
            length == 128 ? 0 : (length <= 64 ? .max : .max >> UInt64(length - 64))
        return (
            IPAddress(high: high & ~highBits, low: low & ~lowBits),
            IPAddress(high: high | highBits, low: low | lowBits)
        )
    }
}

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Dotted decimal, or RFC 5952 text.
    public var description: String {
        if family == .v4 {
            return (0..<4).map { String((low >> UInt64(24 - 8 * $0)) & 0xFF) }
                .joined(separator: ".")
        }
        let groups = (0..<8).map { index in
            let word = index < 4 ? high : low
            return UInt16(truncatingIfNeeded: word >> UInt64(48 - 16 * (index & 3)))
        }
        guard let zeros = Self.longestZeroRun(groups) else {
            return groups.map { String($0, radix: 16) }.joined(separator: ":")
        }
        let head = groups[..<zeros.lowerBound].map { String($0, radix: 16) }
        let tail = groups[zeros.upperBound...].map { String($0, radix: 16) }
        return head.joined(separator: ":") + "::" + tail.joined(separator: ":")
    }

    /// RFC 5952 §4.2: the first longest run of at least two zero groups is shortened.
    private static func longestZeroRun(_ groups: [UInt16]) -> Range<Int>? {
        var best: Range<Int>?
        var start = 0
        while start < groups.count {
            var end = start
            while end < groups.count, groups[end] == 0 { end += 1 }
            if end - start >= 2, end - start > (best?.count ?? 0) { best = start..<end }
            start = max(end, start + 1)
        }
        return best
    }

    /// Parses dotted decimal or RFC 4291 §2.2 text (without zone); nil for anything else, also for
    /// leading zeros in dotted decimal, which some read as octal (RFC 6943 §3.1.1).
    public init?(_ text: String) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let groups = Self.parseGroups(text) else { return nil }
            let words = groups.map(UInt64.init)
            self.init(
                high: words[0] << 48 | words[1] << 32 | words[2] << 16 | words[3],
                low: words[4] << 48 | words[5] << 32 | words[6] << 16 | words[7])
        } else {
            guard let value = Self.parseDotted(Substring(text)) else { return nil }
            self.init(v4: value)
        }
    }

    private static func parseDotted(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count),
                part.utf8.allSatisfy({ (48...57).contains($0) }),
                part.utf8.count == 1 || part.utf8.first != UInt8(ascii: "0"),
                let octet = UInt8(part)
            else { return nil }
            value = value << 8 | UInt32(octet)
        }
        return value
    }

    private static func parseGroups(_ text: String) -> [UInt16]? {
        let halves = text.split(separator: "::", omittingEmptySubsequences: false)
        guard halves.count <= 2 else { return nil }
        let isWhole = halves.count == 1
        guard let head = parseHalf(halves[0], endsAddress: isWhole) else { return nil }
        if isWhole { return head.count == 8 ? head : nil }
        guard let tail = parseHalf(halves[1], endsAddress: true), head.count + tail.count <= 7
        else { return nil }
        return head + Array(repeating: 0, count: 8 - head.count - tail.count) + tail
    }

    /// Dotted decimal may stand only where the address ends (RFC 4291 §2.2, form 3).
    private static func parseHalf(_ text: Substring, endsAddress: Bool) -> [UInt16]? {
        if text.isEmpty { return [] }
        var groups: [UInt16] = []
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if endsAddress, index == parts.count - 1, part.utf8.contains(UInt8(ascii: ".")) {
                guard let value = parseDotted(part) else { return nil }
                groups += [UInt16(value >> 16), UInt16(truncatingIfNeeded: value)]
            } else {
                // The initialiser would take a sign too.
                guard (1...4).contains(part.utf8.count), part.first?.isHexDigit == true,
                    let value = UInt16(part, radix: 16)
                else { return nil }
                groups.append(value)
            }
        }
        return groups
    }
}
