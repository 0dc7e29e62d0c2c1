// The Diffie-Hellman groups of IKEv2 and the lengths that follow from them.

/// A key agreement method by its number in IANA's "IKEv2 Transform Type 4".
public enum KeyAgreementGroup: UInt16, CaseIterable, Sendable {
    /// The 2048-bit MODP group (RFC 3526 §3).
    case modp2048 = 14
    /// The 3072-bit MODP group (RFC 3526 §4).
    case modp3072 = 15
    /// The 4096-bit MODP group (RFC 3526 §5).
    case modp4096 = 16
    /// NIST P-256 (RFC 5903 §3.1).
    case ecp256 = 19
    /// NIST P-384 (RFC 5903 §3.2).
    case ecp384 = 20
    /// NIST P-521 (RFC 5903 §3.3).
    case ecp521 = 21
    /// Curve25519 (RFC 7748, RFC 8031).
    case x25519 = 31

    /// Octets of a public value as it stands in the KE payload: the prime's length (RFC 7296 §3.4),
    /// both coordinates (RFC 5903 §7), or u (RFC 8031 §3.1).
    public var publicBytes: Int {
        switch self {
        case .modp2048: 256
        case .modp3072: 384
        case .modp4096: 512
        case .ecp256: 64
        case .ecp384: 96
        case .ecp521: 132
        case .x25519: 32
        }
    }

    /// Octets of a private key, which are drawn at random.
    ///
    /// ECP: the length of the group's order; what is not below it is drawn again, so that the keys
    /// are uniform without spare octets. MODP: an exponent twice as long as the larger estimate of
    /// the group's strength (RFC 3526 §8); a longer one would cost time and add nothing.
    public var privateBytes: Int {
        switch self {
        case .modp2048: 40
        case .modp3072: 53
        case .modp4096: 60
        case .ecp256: 32
        case .ecp384: 48
        case .ecp521: 66
        case .x25519: 32
        }
    }

    /// Octets of the shared secret g^ir: of ECP the x coordinate alone (RFC 5903 §7).
    public var sharedBytes: Int {
        switch self {
        case .modp2048, .modp3072, .modp4096, .x25519: publicBytes
        case .ecp256, .ecp384, .ecp521: publicBytes / 2
        }
    }

    /// As IANA and users of strongSwan know it.
    public var name: String {
        switch self {
        case .modp2048: "MODP_2048"
        case .modp3072: "MODP_3072"
        case .modp4096: "MODP_4096"
        case .ecp256: "ECP_256"
        case .ecp384: "ECP_384"
        case .ecp521: "ECP_521"
        case .x25519: "X25519"
        }
    }
}
