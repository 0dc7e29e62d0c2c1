// The keys of the selector index: prefixes, and which lengths of them are in use.

import ESP
import Wire

/// A prefix of an address. An IPv4 address stands in the last four of sixteen octets, as in
/// `IPAddress`, but its length counts from its own first bit.
struct Prefix: Equatable {
    let high: UInt64
    let low: UInt64
    let length: UInt8
    let family: IPAddress.Family

    /// The prefix of an address that may have more bits.
    @inline(__always)
    init(_ family: IPAddress.Family, high: UInt64, low: UInt64, length: UInt8) {
        self.family = family
        self.length = length
        // Swift's `<<` gives 0 for a shift by all bits.
        switch family {
        case .v4:
            self.high = 0
            self.low = low & (UInt64.max << (32 - UInt64(length)))
        case .v6:
            self.high = length >= 64 ? high : high & ~(.max >> UInt64(length))
            self.low = length <= 64 ? 0 : low & (.max << (128 - UInt64(length)))
        }
    }

    /// The longest prefix that holds all addresses of a selector.
    init(holding selector: TrafficSelector) {
        let (first, last) = (selector.first, selector.last)
        let common: Int
        switch first.family {
        case .v4: common = (first.low ^ last.low).leadingZeroBitCount - 32
        case .v6:
            common =
                first.high == last.high
                ? 64 + (first.low ^ last.low).leadingZeroBitCount
                : (first.high ^ last.high).leadingZeroBitCount
        }
        self.init(first.family, high: first.high, low: first.low, length: UInt8(common))
    }

    /// The prefix of length 0.
    static func all(_ family: IPAddress.Family) -> Prefix {
        Prefix(family, high: 0, low: 0, length: 0)
    }

    /// Multiplications carry every bit upwards, so the upper half is taken.
    var hash: UInt32 {
        var hash = low &+ UInt64(length) << 56 &+ UInt64(family.rawValue) << 48
        hash = (hash ^ hash >> 32) &* 0xD6E8_FEB8_6659_FD93
        hash = (hash ^ hash >> 32 ^ high) &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ hash >> 29) &* 0xBF58_476D_1CE4_E5B9
        return UInt32(truncatingIfNeeded: hash >> 32)
    }
}

/// Which lengths have at least one prefix.
struct PrefixLengths: ~Copyable {
    /// A bit per length: one word for IPv4, three for IPv6.
    let words: UnsafeMutablePointer<UInt64>
    /// Prefixes by length; those of IPv6 after the 33 of IPv4.
    private let counts: UnsafeMutablePointer<UInt32>

    init() {
        words = .allocate(capacity: 4)
        words.initialize(repeating: 0, count: 4)
        counts = .allocate(capacity: 33 + 129)
        counts.initialize(repeating: 0, count: 33 + 129)
    }

    deinit {
        words.deallocate()
        counts.deallocate()
    }

    mutating func add(_ prefix: Prefix) {
        counts[Self.index(prefix)] += 1
        words[Self.word(prefix)] |= 1 << UInt64(prefix.length & 63)
    }

    mutating func remove(_ prefix: Prefix) {
        counts[Self.index(prefix)] -= 1
        if counts[Self.index(prefix)] == 0 {
            words[Self.word(prefix)] &= ~(1 << UInt64(prefix.length & 63))
        }
    }

    private static func index(_ prefix: Prefix) -> Int {
        (prefix.family == .v4 ? 0 : 33) + Int(prefix.length)
    }

    private static func word(_ prefix: Prefix) -> Int {
        prefix.family == .v4 ? 0 : 1 + Int(prefix.length) / 64
    }
}
