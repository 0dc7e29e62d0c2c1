// Key material at rest in a process. It has one owner, is wiped when that owner goes, and has
// neither a description nor an ordinary equality, so that it can't reach a log by accident.

internal import COpenSSL

/// Secret octets in their own heap block, overwritten before the block is given back.
///
/// The type is not copyable: a moved value leaves no second copy behind, because only the pointer
/// moves.
public struct SecretBytes: ~Copyable {
    private let base: UnsafeMutableRawPointer
    /// The number of octets.
    public let count: Int

    /// `count` zero octets.
    public init(count: Int) {
        precondition(count >= 0)
        self.count = count
        base = .allocate(byteCount: max(count, 1), alignment: 16)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }

    /// A copy of `bytes`; the original stays the caller's duty.
    public init(copying bytes: UnsafeRawBufferPointer) {
        self.init(count: bytes.count)
        if let source = bytes.baseAddress { base.copyMemory(from: source, byteCount: count) }
    }

    /// Decodes pairs of hexadecimal digits; nil when the text has an odd length or other
    /// characters.
    public static func decoding(hexadecimal text: String) -> SecretBytes? {
        let digits = text.utf8
        guard digits.count % 2 == 0 else { return nil }
        let bytes = SecretBytes(count: digits.count / 2)
        var high: UInt8 = 0
        for (index, digit) in digits.enumerated() {
            guard let value = Self.nibble(digit) else { return nil }
            if index % 2 == 0 {
                high = value << 4
            } else {
                bytes.base.storeBytes(of: high | value, toByteOffset: index / 2, as: UInt8.self)
            }
        }
        return bytes
    }

    deinit {
        OPENSSL_cleanse(base, count)
        base.deallocate()
    }

    /// Lends the octets. The pointer is valid inside `body` only.
    public borrowing func withUnsafeBytes<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: base, count: count))
    }

    /// Lends the octets for writing. The pointer is valid inside `body` only.
    public mutating func withUnsafeMutableBytes<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeMutableRawBufferPointer(start: base, count: count))
    }

    /// Equality in time that depends on the lengths only.
    public borrowing func matches(_ other: borrowing SecretBytes) -> Bool {
        count == other.count && CRYPTO_memcmp(base, other.base, count) == 0
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// Overwrites memory that held secrets, in a way the optimiser may not remove.
public func wipe(_ memory: UnsafeMutableRawPointer, count: Int) {
    OPENSSL_cleanse(memory, count)
}

/// Equality of `count` octets in time that depends on `count` only.
public func constantTimeEquals(
    _ left: UnsafeRawPointer, _ right: UnsafeRawPointer, count: Int
) -> Bool {
    CRYPTO_memcmp(left, right, count) == 0
}
