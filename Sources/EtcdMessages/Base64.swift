// Octets as text (RFC 4648 §4), as etcd's gateway has keys and values.

/// The standard alphabet, with padding.
enum Base64 {
    private static let letters = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    /// The value of each letter; 64 for what is none.
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 64, count: 256)
        for (value, letter) in letters.enumerated() { values[Int(letter)] = UInt8(value) }
        return values
    }()
    private static let padding = UInt8(ascii: "=")

    /// Appends the text of some octets.
    static func append(_ octets: some Collection<UInt8>, to text: inout [UInt8]) {
        let letters = letters
        var iterator = octets.makeIterator()
        while let first = iterator.next() {
            let second = iterator.next()
            let third = second == nil ? nil : iterator.next()
            let group = UInt32(first) << 16 | UInt32(second ?? 0) << 8 | UInt32(third ?? 0)
            text.append(letters[Int(group >> 18)])
            text.append(letters[Int(group >> 12 & 63)])
            text.append(second == nil ? padding : letters[Int(group >> 6 & 63)])
            text.append(third == nil ? padding : letters[Int(group & 63)])
        }
    }

    /// The octets of a text; nil if it is not what ``append(_:to:)`` writes.
    static func octets(of text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.count % 4 == 0 else { return nil }
        guard !text.isEmpty else { return [] }
        let paddings = text.suffix(2).reversed().prefix { $0 == padding }.count
        let values = values
        var octets: [UInt8] = []
        octets.reserveCapacity(text.count / 4 * 3)
        var (bits, count): (UInt32, Int) = (0, 0)
        for letter in text.dropLast(paddings) {
            let value = values[Int(letter)]
            guard value < 64 else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count == 24 {
                octets.append(UInt8(truncatingIfNeeded: bits >> 16))
                octets.append(UInt8(truncatingIfNeeded: bits >> 8))
                octets.append(UInt8(truncatingIfNeeded: bits))
                (bits, count) = (0, 0)
            }
        }
        // One or two octets are left, and no bit of a third.
        switch count {
        case 12 where bits & 0xF == 0:
            octets.append(UInt8(truncatingIfNeeded: bits >> 4))
        case 18 where bits & 0x3 == 0:
            octets.append(UInt8(truncatingIfNeeded: bits >> 10))
            octets.append(UInt8(truncatingIfNeeded: bits >> 2))
        case 0: break
        default: return nil
        }
        return octets
    }
}
