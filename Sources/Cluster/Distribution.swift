// From header fields to distribution identifiers (patent Fig. 6A, step 601).
//
// Both hashes use only 32-bit wrapping multiplication, addition and shifts: classic BPF computes
// the same, so the kernel can drop foreign packets before they are copied. The two must agree bit
// for bit with the filter generator, and between all nodes of a cluster.

public import Wire

/// The grounds for calculating distribution identifiers: how many there are, and the two hashes.
///
/// The choice of hashes follows who chooses the input.
/// - SPIs are chosen by us. Their hash need not be secret, but must be invertible, so that a
///   gateway can pick an inbound SPI with the identifier of the tunnel's initiator cookie.
/// - Cookies are chosen by peers. Their hash is keyed.
public struct Distribution: Hashable, Sendable {
    /// The identifier counts that ``init(identifierCount:cookieKey:)`` accepts, if powers of two.
    public static let identifierCountRange = 16...4096

    /// Enough for a few percent of imbalance on ten nodes, few enough to list in a filter.
    public static let identifierCountDefault = 256

    /// The odd multiplier of the SPI hash: 2³² divided by the golden ratio, made prime. Multiples
    /// of it spread as evenly as any can (Knuth, TAOCP vol. 3, §6.4), so SPIs that peers or
    /// administrators number in sequence go around all nodes.
    public static let spiMultiplier: UInt32 = 0x9E37_79B1

    /// The multiplier that undoes ``spiMultiplier`` modulo 2³².
    static let spiMultiplierInverse: UInt32 = {
        // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles
        // the number of right bits: 3, 6, 12, 24, 48.
        var inverse = spiMultiplier
        for _ in 0..<4 { inverse &*= 2 &- spiMultiplier &* inverse }
        return inverse
    }()

    /// The number of distribution identifiers, a power of two.
    public let identifierCount: Int

    /// The cluster's key for hashing initiator cookies.
    public let cookieKey: CookieKey

    /// How far a 32-bit hash is shifted right to leave the identifier: 32 − log₂(count).
    public let hashShift: UInt32

    /// Throws ``ClusterError/identifierCount(_:)`` unless the count is a power of two in
    /// ``identifierCountRange``.
    public init(
        identifierCount: Int = identifierCountDefault, cookieKey: CookieKey
    ) throws(ClusterError) {
        try Self.check(identifierCount: identifierCount)
        self.identifierCount = identifierCount
        self.cookieKey = cookieKey
        self.hashShift = UInt32(32 - identifierCount.trailingZeroBitCount)
    }

    static func check(identifierCount count: Int) throws(ClusterError) {
        guard identifierCountRange.contains(count), count.nonzeroBitCount == 1 else {
            throw .identifierCount(count)
        }
    }

    /// The identifier of an ESP packet, or of the association it belongs to: the top bits of
    /// SPI · M mod 2³², a bijection on 32 bits because M is odd.
    public func identifier(of spi: SPI) -> DistributionIdentifier {
        identifier(ofHash: spi.value &* Self.spiMultiplier)
    }

    /// The identifier of an ISAKMP message, from its initiator cookie (RFC 7296 §3.1: the
    /// initiator's SPI) read in network byte order.
    ///
    /// The cookie is cut into four 16-bit pieces and hashed as (Σ aᵢxᵢ + b) mod 2³², of which the
    /// top bits are taken. A product's low bits depend on the low bits of its factors alone, but
    /// bit j depends on all bits up to j, so the top is where the mixing ends up. With 16-bit
    /// pieces, 32-bit words and at most 12 result bits (16 + 12 − 1 ≤ 32) this is *strongly
    /// universal* for a random key (Dietzfelbinger 1996; Thorup, "High Speed Hashing for Integers
    /// and Strings", §3): any two cookies, however chosen, share an identifier with probability
    /// 1/count. Two 32-bit halves would be cheaper by two products and are not good enough: the
    /// pairs that differ in the top bit of both halves collide under every odd key.
    ///
    /// The key is fixed for the life of the cluster, so this is no shield against a peer that can
    /// watch which node answers; such a peer can load one node by its own tunnels only.
    public func identifier(ofInitiatorCookie cookie: UInt64) -> DistributionIdentifier {
        let pieces = SIMD4<UInt32>(
            UInt32(cookie >> 48), UInt32(cookie >> 32 & 0xFFFF),
            UInt32(cookie >> 16 & 0xFFFF), UInt32(cookie & 0xFFFF))
        return identifier(
            ofHash: (cookieKey.multipliers &* pieces).wrappedSum() &+ cookieKey.offset)
    }

    /// The SPI that has the identifier `identifier` and, below it in the hash, the bits of `low`.
    ///
    /// Only the lower ``hashShift`` bits of `low` count. Different ones give different SPIs, with
    /// one exception: 0…255 are reserved (RFC 4303 §2.1), and in their place stands the SPI of the
    /// next usable `low` of the same identifier, wrapping around. So whoever assigns SPIs must
    /// check against those in use, as it must anyway. `identifier` must be below
    /// ``identifierCount``.
    public func spi(for identifier: DistributionIdentifier, low: UInt32) -> SPI {
        precondition(identifier.value < identifierCount, "no such distribution identifier")
        let top = UInt32(identifier.value) << hashShift
        let lowMask = (1 << hashShift) &- 1 as UInt32
        var low = low & lowMask
        while true {
            let spi = SPI((top | low) &* Self.spiMultiplierInverse)
            // At least 2²⁰ values of `low`, at most 256 reserved SPIs: the loop ends.
            if !spi.isReserved { return spi }
            low = (low &+ 1) & lowMask
        }
    }

    private func identifier(ofHash hash: UInt32) -> DistributionIdentifier {
        // At most 12 bits are left.
        DistributionIdentifier(UInt16(truncatingIfNeeded: hash >> hashShift))
    }
}
