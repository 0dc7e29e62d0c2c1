// One side of a Diffie-Hellman exchange: RFC 7296 §2.12 and §3.4, checks of RFC 6989.

internal import COpenSSL

/// Why a peer's public value gives no shared secret.
public enum KeyAgreementFault: Error, Equatable {
    /// The KE payload has `got` octets where the group's public values have `expected`.
    case length(expected: Int, got: Int)
    /// The value is outside the group or in a small subgroup (RFC 6989 §2, RFC 8031 §2.3).
    case invalidPublicValue
    /// OpenSSL lacks an algorithm or memory.
    case failed(CryptoError)
}

/// A private key and its public value, for one exchange.
public struct KeyAgreement: ~Copyable {
    /// The group of both values.
    public let group: KeyAgreementGroup
    /// The public value as it stands in the KE payload: `group.publicBytes` octets.
    public let publicValue: [UInt8]
    private let secret: SecretBytes
    /// OpenSSL's form of `secret`, where making it anew would cost as much as the agreement.
    private let x25519: X25519Key?

    /// A new private key. Throws when OpenSSL lacks the group or memory, or when `random` gives
    /// nothing that can be a key.
    public init(_ group: KeyAgreementGroup, random: inout some RandomSource) throws(CryptoError) {
        // P-256 refuses one draw in 2^32, the others fewer: the bound is for sources that hang.
        for _ in 0..<16 {
            var secret = random.secret(group.privateBytes)
            if group == .ecp521 {
                // The order has 521 bits, the field 528.
                secret.withUnsafeMutableBytes { $0[0] &= 1 }
            }
            if let made = try Self.make(group, secret) {
                self = made
                return
            }
        }
        throw .operationFailed("drawing a private key for \(group.name)")
    }

    /// A private key that is known: `group.privateBytes` octets, as `privateKey` gives them. MODP
    /// takes other lengths up to the prime's as well. Throws when it is out of the group's range,
    /// and when OpenSSL lacks the group or memory.
    public init(
        _ group: KeyAgreementGroup, privateKey: borrowing SecretBytes
    ) throws(CryptoError) {
        let copy = privateKey.withUnsafeBytes { SecretBytes(copying: $0) }
        guard let made = try Self.make(group, copy) else {
            throw .operationFailed("using a private key for \(group.name)")
        }
        self = made
    }

    /// Nil when `secret` is no private key of the group.
    private static func make(
        _ group: KeyAgreementGroup, _ secret: consuming SecretBytes
    ) throws(CryptoError) -> KeyAgreement? {
        var x25519: X25519Key?
        let publicValue: [UInt8]?
        switch group.family {
        case .modular(let field): publicValue = try field.publicValue(secret)
        case .curve(let curve): publicValue = try curve.publicValue(secret)
        case .x25519:
            guard secret.count == group.privateBytes else { return nil }
            let key = try X25519Key(secret)
            publicValue = try key.publicValue()
            x25519 = consume key
        }
        guard let publicValue else { return nil }
        return KeyAgreement(
            group: group, publicValue: publicValue, secret: secret, x25519: x25519)
    }

    private init(
        group: KeyAgreementGroup, publicValue: [UInt8], secret: consuming SecretBytes,
        x25519: consuming X25519Key?
    ) {
        self.group = group
        self.publicValue = publicValue
        self.secret = secret
        self.x25519 = x25519
    }

    /// A copy of the private key, from which the same agreement can be made again.
    public borrowing func privateKey() -> SecretBytes {
        secret.withUnsafeBytes { SecretBytes(copying: $0) }
    }

    /// g^ir of `group.sharedBytes` octets, left-padded with zeros (RFC 7296 §2.14), from the peer's
    /// KE payload.
    public borrowing func sharedSecret(
        _ peer: [UInt8]
    ) throws(KeyAgreementFault) -> SecretBytes {
        guard peer.count == group.publicBytes else {
            throw .length(expected: group.publicBytes, got: peer.count)
        }
        let shared: SecretBytes?
        do throws(CryptoError) {
            shared = try agree(peer)
        } catch {
            ERR_clear_error()
            throw .failed(error)
        }
        guard let shared else {
            ERR_clear_error()
            throw .invalidPublicValue
        }
        return shared
    }

    private borrowing func agree(_ peer: [UInt8]) throws(CryptoError) -> SecretBytes? {
        switch group.family {
        case .modular(let field): return try field.sharedSecret(secret, peer)
        case .curve(let curve): return try curve.sharedSecret(secret, peer)
        case .x25519:
            switch x25519 {
            case .some(let key): return try key.sharedSecret(peer)
            case .none: preconditionFailure("an X25519 agreement is made with its key")
            }
        }
    }
}

/// How a group is computed with.
enum AgreementFamily {
    case modular(ModularGroup)
    case curve(Curve)
    case x25519
}

extension KeyAgreementGroup {
    var family: AgreementFamily {
        switch self {
        case .modp2048, .modp3072, .modp4096: .modular(ModularGroup(bytes: publicBytes))
        case .ecp256: .curve(.p256)
        case .ecp384: .curve(.p384)
        case .ecp521: .curve(.p521)
        case .x25519: .x25519
        }
    }
}
