// The numbers that IANA's "IKEv2 Parameters" registry gives to the algorithms that we know
// (RFC 7296 §3.3.2), and the names under which people configure them.

internal import Crypto
public import ESP

extension EncryptionAlgorithm {
    /// Transform Type 1.
    public var number: UInt16 {
        switch self {
        case .null: 11
        case .aesCBC: 12
        case .aesCTR: 13
        case .aesCCM8: 14
        case .aesCCM12: 15
        case .aesCCM16: 16
        case .aesGCM8: 18
        case .aesGCM12: 19
        case .aesGCM16: 20
        case .aesGMAC: 21
        case .chaCha20Poly1305: 28
        }
    }

    /// True when a proposal names the key length (RFC 7296 §3.3.5; RFC 7634 §4 has one length).
    public var hasKeyLengthAttribute: Bool { keyBits.count > 1 }

    /// The word of proposals such as `aes256gcm16`, with its key length inside.
    func word(keyBits: Int) -> String {
        switch self {
        case .null: "null"
        case .aesCBC: "aes\(keyBits)"
        case .aesCTR: "aes\(keyBits)ctr"
        case .aesCCM8: "aes\(keyBits)ccm8"
        case .aesCCM12: "aes\(keyBits)ccm12"
        case .aesCCM16: "aes\(keyBits)ccm16"
        case .aesGCM8: "aes\(keyBits)gcm8"
        case .aesGCM12: "aes\(keyBits)gcm12"
        case .aesGCM16: "aes\(keyBits)gcm16"
        case .aesGMAC: "aes\(keyBits)gmac"
        case .chaCha20Poly1305: "chacha20poly1305"
        }
    }
}

extension IntegrityAlgorithm {
    /// Transform Type 3.
    public var number: UInt16 {
        switch self {
        case .hmacSHA1: 2
        case .hmacSHA256: 12
        case .hmacSHA384: 13
        case .hmacSHA512: 14
        }
    }

    var word: String {
        switch self {
        case .hmacSHA1: "sha1"
        case .hmacSHA256: "sha256"
        case .hmacSHA384: "sha384"
        case .hmacSHA512: "sha512"
        }
    }
}

extension PseudoRandomFunction {
    /// Transform Type 2.
    public var number: UInt16 {
        switch self {
        case .hmacSHA1: 2
        case .hmacSHA256: 5
        case .hmacSHA384: 6
        case .hmacSHA512: 7
        }
    }

    var word: String {
        switch self {
        case .hmacSHA1: "prfsha1"
        case .hmacSHA256: "prfsha256"
        case .hmacSHA384: "prfsha384"
        case .hmacSHA512: "prfsha512"
        }
    }

    /// The PRF with the same hash, which a proposal means when it names only the integrity.
    init(beside integrity: IntegrityAlgorithm) {
        switch integrity {
        case .hmacSHA1: self = .hmacSHA1
        case .hmacSHA256: self = .hmacSHA256
        case .hmacSHA384: self = .hmacSHA384
        case .hmacSHA512: self = .hmacSHA512
        }
    }
}

extension KeyAgreementGroup {
    var word: String {
        switch self {
        case .modp2048: "modp2048"
        case .modp3072: "modp3072"
        case .modp4096: "modp4096"
        case .ecp256: "ecp256"
        case .ecp384: "ecp384"
        case .ecp521: "ecp521"
        case .x25519: "x25519"
        }
    }
}

/// A cipher with its key length.
public struct CipherChoice: Hashable, Sendable {
    /// The cipher.
    public let algorithm: EncryptionAlgorithm
    /// Bits of key, without salt.
    public let keyBits: Int

    /// Precondition: the cipher has keys of that length.
    public init(_ algorithm: EncryptionAlgorithm, keyBits: Int) {
        precondition(algorithm.keyBits.contains(keyBits))
        self.algorithm = algorithm
        self.keyBits = keyBits
    }

    /// Every cipher with every key length.
    static let all = EncryptionAlgorithm.allCases.flatMap { algorithm in
        algorithm.keyBits.map { CipherChoice(algorithm, keyBits: $0) }
    }

    var word: String { algorithm.word(keyBits: keyBits) }

    var transform: ProposalTransform {
        ProposalTransform(
            .encryption, id: algorithm.number,
            keyBits: algorithm.hasKeyLengthAttribute ? keyBits : nil)
    }
}
