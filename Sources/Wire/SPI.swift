// RFC 4303 §2.1.

/// A Security Parameters Index: 32 bits, chosen by the receiver of the packets that carry it.
public struct SPI: Hashable, Comparable, Sendable {
    /// The number as it stands on the wire, in host byte order.
    public let value: UInt32

    /// An SPI from its number; reserved ones too.
    @inlinable
    public init(_ value: UInt32) { self.value = value }

    /// 0 is for local use and 1…255 are reserved by IANA: none of them may name an association.
    @inlinable
    public var isReserved: Bool { value < 256 }

    /// Numeric order.
    public static func < (left: SPI, right: SPI) -> Bool { left.value < right.value }
}

extension SPI: CustomStringConvertible {
    /// Eight hexadecimal digits, as Wireshark and `ip xfrm` print it after their `0x`.
    public var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
