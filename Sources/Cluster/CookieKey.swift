// The key of the hash that turns an ISAKMP initiator cookie into a distribution identifier.

/// The cluster's secret constants for hashing initiator cookies.
///
/// A peer chooses its cookie. Without a key it could choose a million that land on one node.
/// Every node needs the same key, or two nodes would claim one tunnel.
public struct CookieKey: Hashable, Sendable {
    /// Bytes that ``init(bytes:)`` takes: four multipliers and one offset of 32 bits.
    public static let byteCount = 20

    /// One multiplier for each 16-bit piece of the cookie, first piece on the wire first.
    public let multipliers: SIMD4<UInt32>

    /// Added to the sum of products.
    public let offset: UInt32

    /// Uses these words, which should be uniformly random.
    public init(multipliers: SIMD4<UInt32>, offset: UInt32) {
        self.multipliers = multipliers
        self.offset = offset
    }

    /// Takes ``byteCount`` bytes derived from the cluster secret (big-endian, so that all nodes
    /// read them alike), or throws ``ClusterError/cookieKeyLength(bytes:)``.
    public init(bytes: some Collection<UInt8>) throws(ClusterError) {
        guard bytes.count == Self.byteCount else {
            throw .cookieKeyLength(bytes: bytes.count)
        }
        var words = SIMD8<UInt32>()
        for (position, byte) in bytes.enumerated() {
            words[position / 4] = words[position / 4] << 8 | UInt32(byte)
        }
        self.init(multipliers: words.lowHalf, offset: words[4])
    }
}

extension CookieKey: CustomStringConvertible {
    /// Says only what it is: the words stay out of logs.
    public var description: String { "CookieKey(hidden)" }
}
