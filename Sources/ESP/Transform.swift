// Which algorithms protect an association, and the lengths that follow from them.
// RFC 8221 lists what ESP implementations should have; each case names its own RFC.

public import Crypto

/// Encryption by the IANA "IKEv2 Transform Type 1" names.
public enum EncryptionAlgorithm: String, CaseIterable, Sendable {
    /// RFC 4106: 16, 12 or 8 octets of ICV.
    case aesGCM16 = "AES_GCM_16"
    case aesGCM12 = "AES_GCM_12"
    case aesGCM8 = "AES_GCM_8"
    /// RFC 4309.
    case aesCCM16 = "AES_CCM_16"
    case aesCCM12 = "AES_CCM_12"
    case aesCCM8 = "AES_CCM_8"
    /// RFC 7634.
    case chaCha20Poly1305 = "CHACHA20_POLY1305"
    /// RFC 4543: integrity only.
    case aesGMAC = "AES_GMAC"
    /// RFC 3602.
    case aesCBC = "AES_CBC"
    /// RFC 3686.
    case aesCTR = "AES_CTR"
    /// RFC 2410.
    case null = "NULL"

    /// True when the cipher authenticates too, so that no separate integrity algorithm is used.
    public var isCombined: Bool {
        switch self {
        case .aesCBC, .aesCTR, .null: false
        default: true
        }
    }

    /// The key lengths it takes, in bits.
    public var keyBits: [Int] {
        switch self {
        case .chaCha20Poly1305: [256]
        case .null: [0]
        default: [128, 192, 256]
        }
    }
}

/// Integrity by the IANA "IKEv2 Transform Type 3" names.
public enum IntegrityAlgorithm: String, CaseIterable, Sendable {
    /// RFC 2404; only for old peers.
    case hmacSHA1 = "HMAC_SHA1_96"
    /// RFC 4868.
    case hmacSHA256 = "HMAC_SHA2_256_128"
    case hmacSHA384 = "HMAC_SHA2_384_192"
    case hmacSHA512 = "HMAC_SHA2_512_256"

    /// The hash inside.
    public var hash: Hash {
        switch self {
        case .hmacSHA1: .sha1
        case .hmacSHA256: .sha256
        case .hmacSHA384: .sha384
        case .hmacSHA512: .sha512
        }
    }

    /// Octets of key: the hash's output length (RFC 4868 §2.1.1).
    public var keyBytes: Int {
        switch self {
        case .hmacSHA1: 20
        case .hmacSHA256: 32
        case .hmacSHA384: 48
        case .hmacSHA512: 64
        }
    }

    /// Octets of ICV on the wire.
    public var icvBytes: Int {
        switch self {
        case .hmacSHA1: 12
        case .hmacSHA256: 16
        case .hmacSHA384: 24
        case .hmacSHA512: 32
        }
    }
}

/// Why a combination of algorithms is not a transform.
public enum TransformError: Error, Equatable, CustomStringConvertible {
    case keyLength(EncryptionAlgorithm, bits: Int)
    case integrityMissing(EncryptionAlgorithm)
    case integrityNotAllowed(EncryptionAlgorithm, IntegrityAlgorithm)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .keyLength(let encryption, let bits):
            "\(encryption.rawValue) has no \(bits)-bit keys; use "
                + encryption.keyBits.map(String.init).joined(separator: ", ")
        case .integrityMissing(let encryption):
            "\(encryption.rawValue) does not authenticate: name an integrity algorithm ("
                + IntegrityAlgorithm.allCases.map(\.rawValue).joined(separator: ", ") + ")"
        case .integrityNotAllowed(let encryption, let integrity):
            "\(encryption.rawValue) authenticates by itself: leave out \(integrity.rawValue)"
        }
    }
}

/// A valid combination of algorithms and key length.
public struct Transform: Hashable, Sendable {
    /// The cipher.
    public let encryption: EncryptionAlgorithm
    /// Bits of cipher key, without salt.
    public let keyBits: Int
    /// The separate integrity algorithm; nil in combined modes.
    public let integrity: IntegrityAlgorithm?

    /// Refuses key lengths the algorithm does not have, ciphers without integrity, and integrity
    /// beside a combined mode.
    public init(
        _ encryption: EncryptionAlgorithm, keyBits: Int, integrity: IntegrityAlgorithm? = nil
    ) throws(TransformError) {
        guard encryption.keyBits.contains(keyBits) else {
            throw .keyLength(encryption, bits: keyBits)
        }
        if let integrity, encryption.isCombined {
            throw .integrityNotAllowed(encryption, integrity)
        }
        if integrity == nil, !encryption.isCombined { throw .integrityMissing(encryption) }
        self.init(valid: encryption, keyBits, integrity)
    }

    private init(
        valid encryption: EncryptionAlgorithm, _ keyBits: Int, _ integrity: IntegrityAlgorithm?
    ) {
        self.encryption = encryption
        self.keyBits = keyBits
        self.integrity = integrity
    }

    /// Every transform there is, in a fixed order.
    public static let all: [Transform] = EncryptionAlgorithm.allCases.flatMap { encryption in
        encryption.keyBits.flatMap { bits -> [Transform] in
            encryption.isCombined
                ? [Transform(valid: encryption, bits, nil)]
                : IntegrityAlgorithm.allCases.map { Transform(valid: encryption, bits, $0) }
        }
    }

    /// Octets of cipher key.
    public var keyBytes: Int { keyBits / 8 }

    /// Octets of integrity key; 0 for combined modes.
    public var integrityKeyBytes: Int { integrity?.keyBytes ?? 0 }

    /// Octets of salt or nonce that come with the key and never travel.
    public var saltBytes: Int {
        switch encryption {
        case .aesGCM16, .aesGCM12, .aesGCM8, .chaCha20Poly1305, .aesGMAC, .aesCTR: 4
        case .aesCCM16, .aesCCM12, .aesCCM8: 3
        case .aesCBC, .null: 0
        }
    }

    /// Octets of all keys and the salt together.
    var secretBytes: Int { keyBytes + integrityKeyBytes + saltBytes }

    /// Octets of IV in each packet.
    public var ivBytes: Int {
        switch encryption {
        case .aesCBC: 16
        case .null: 0
        default: 8
        }
    }

    /// Octets of ICV in each packet.
    public var icvBytes: Int {
        switch encryption {
        case .aesGCM16, .aesCCM16, .chaCha20Poly1305, .aesGMAC: 16
        case .aesGCM12, .aesCCM12: 12
        case .aesGCM8, .aesCCM8: 8
        case .aesCBC, .aesCTR, .null: integrity?.icvBytes ?? 0
        }
    }

    /// What payload, padding, pad length and next header must fill up together: a cipher block, or
    /// 4 octets (RFC 4303 §2.4).
    public var alignment: Int { encryption == .aesCBC ? 16 : 4 }

    /// True when (key, IV) must never repeat: the IV is a counter (RFC 6054).
    public var usesCounterIV: Bool { ivBytes == 8 }

    /// OpenSSL's cipher; nil for NULL encryption.
    var cipher: Cipher? {
        let index = keyBits / 64 - 2
        switch encryption {
        case .aesGCM16, .aesGCM12, .aesGCM8, .aesGMAC:
            return [.aes128GCM, .aes192GCM, .aes256GCM][index]
        case .aesCCM16, .aesCCM12, .aesCCM8:
            return [.aes128CCM, .aes192CCM, .aes256CCM][index]
        case .aesCBC: return [.aes128CBC, .aes192CBC, .aes256CBC][index]
        case .aesCTR: return [.aes128CTR, .aes192CTR, .aes256CTR][index]
        case .chaCha20Poly1305: return .chaCha20Poly1305
        case .null: return nil
        }
    }

    /// How to key a context for one direction.
    public func recipe(encrypts: Bool) -> KeyRecipe {
        KeyRecipe(
            cipher: cipher, cipherKeyBytes: keyBytes,
            tagBytes: encryption.isCombined ? icvBytes : 0, hash: integrity?.hash,
            hashKeyBytes: integrityKeyBytes, encrypts: encrypts)
    }
}

extension Transform: CustomStringConvertible {
    /// For example `AES_CBC-128/HMAC_SHA2_256_128`.
    public var description: String {
        let cipher = keyBits == 0 ? encryption.rawValue : "\(encryption.rawValue)-\(keyBits)"
        return integrity.map { "\(cipher)/\($0.rawValue)" } ?? cipher
    }
}

/// The numbers of a transform that the packet path reads, laid out flat.
struct TransformShape {
    enum Kind: UInt8 { case aead, ccm, gmac, cbc, ctr, null }

    let kind: Kind
    let ivBytes: UInt8
    let icvBytes: UInt8
    /// alignment - 1
    let alignmentMask: UInt8
    let cipherKeyBytes: UInt8
    let recipeIn: KeyRecipe
    let recipeOut: KeyRecipe

    init(_ transform: Transform) {
        kind =
            switch transform.encryption {
            case .aesGCM16, .aesGCM12, .aesGCM8, .chaCha20Poly1305: .aead
            case .aesCCM16, .aesCCM12, .aesCCM8: .ccm
            case .aesGMAC: .gmac
            case .aesCBC: .cbc
            case .aesCTR: .ctr
            case .null: .null
            }
        ivBytes = UInt8(transform.ivBytes)
        icvBytes = UInt8(transform.icvBytes)
        alignmentMask = UInt8(transform.alignment - 1)
        cipherKeyBytes = UInt8(transform.keyBytes)
        recipeIn = transform.recipe(encrypts: false)
        recipeOut = transform.recipe(encrypts: true)
    }
}
