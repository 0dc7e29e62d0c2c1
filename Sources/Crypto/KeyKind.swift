// The kinds of keys that sign, and what each can do.

internal import COpenSSL

/// The algorithm of a key pair, with its size.
public enum KeyKind: Hashable, Sendable, CustomStringConvertible {
    /// RSA with a modulus of so many bits.
    case rsa(bits: Int)
    /// ECDSA on a NIST curve.
    case ecdsa(Curve)
    /// Ed25519.
    case ed25519

    /// The shortest RSA modulus that signs or is believed: about 112 bits of strength, as
    /// RFC 8247 §4.1 asks at least.
    public static let minimumRSABits = 2048

    /// The schemes that a key of this kind can do, best first; none when it is too short.
    ///
    /// Each curve goes with the hash of its own strength first; the others follow for peers that
    /// name them only.
    public var schemes: [SignatureScheme] {
        switch self {
        case .rsa(let bits):
            guard bits >= Self.minimumRSABits else { return [] }
            return [
                .rsaPSS(.sha256), .rsaPSS(.sha384), .rsaPSS(.sha512), .rsaPKCS1(.sha256),
                .rsaPKCS1(.sha384), .rsaPKCS1(.sha512), .rsaPKCS1(.sha1),
            ]
        case .ecdsa(.p256):
            return [.ecdsa(.sha256), .ecdsa(.sha384), .ecdsa(.sha512), .ecdsaRaw(.sha256)]
        case .ecdsa(.p384):
            return [.ecdsa(.sha384), .ecdsa(.sha512), .ecdsa(.sha256), .ecdsaRaw(.sha384)]
        case .ecdsa(.p521):
            return [.ecdsa(.sha512), .ecdsa(.sha384), .ecdsa(.sha256), .ecdsaRaw(.sha512)]
        case .ed25519: return [.ed25519]
        }
    }

    /// "RSA 3072", "ECDSA P-256", "Ed25519".
    public var description: String {
        switch self {
        case .rsa(let bits): "RSA \(bits)"
        case .ecdsa(let curve): "ECDSA \(curve.name)"
        case .ed25519: "Ed25519"
        }
    }

    /// The kind of an OpenSSL key; nil for other algorithms and curves.
    init?(_ key: OpaquePointer) {
        if EVP_PKEY_is_a(key, "RSA") == 1 {
            self = .rsa(bits: Int(EVP_PKEY_get_bits(key)))
        } else if EVP_PKEY_is_a(key, "ED25519") == 1 {
            self = .ed25519
        } else if EVP_PKEY_is_a(key, "EC") == 1, let curve = Curve(key) {
            self = .ecdsa(curve)
        } else {
            return nil
        }
    }
}

extension Curve {
    /// "P-256" and so on (FIPS 186-4).
    public var name: String {
        switch self {
        case .p256: "P-256"
        case .p384: "P-384"
        case .p521: "P-521"
        }
    }

    /// The curve of an OpenSSL key; nil for others, and for one that is given by its equation.
    fileprivate init?(_ key: OpaquePointer) {
        var name = [CChar](repeating: 0, count: 64)
        guard EVP_PKEY_get_group_name(key, &name, name.count, nil) == 1 else {
            ERR_clear_error()
            return nil
        }
        let identifier = OBJ_txt2nid(name)
        guard let curve = Self.allCases.first(where: { $0.identifier == identifier }) else {
            return nil
        }
        self = curve
    }
}
