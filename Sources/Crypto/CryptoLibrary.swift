// OpenSSL's default provider, looked up once. See docs/decisions/0002-provider-dispatch.md for why
// ciphers bypass EVP.

internal import COpenSSL

/// A cipher as OpenSSL's provider names it.
public enum Cipher: UInt8, CaseIterable, Sendable {
    case aes128GCM, aes192GCM, aes256GCM
    case aes128CCM, aes192CCM, aes256CCM
    case aes128CBC, aes192CBC, aes256CBC
    case aes128CTR, aes192CTR, aes256CTR
    case chaCha20Poly1305

    var name: String {
        switch self {
        case .aes128GCM: "AES-128-GCM"
        case .aes192GCM: "AES-192-GCM"
        case .aes256GCM: "AES-256-GCM"
        case .aes128CCM: "AES-128-CCM"
        case .aes192CCM: "AES-192-CCM"
        case .aes256CCM: "AES-256-CCM"
        case .aes128CBC: "AES-128-CBC"
        case .aes192CBC: "AES-192-CBC"
        case .aes256CBC: "AES-256-CBC"
        case .aes128CTR: "AES-128-CTR"
        case .aes192CTR: "AES-192-CTR"
        case .aes256CTR: "AES-256-CTR"
        case .chaCha20Poly1305: "ChaCha20-Poly1305"
        }
    }
}

/// A hash function for HMAC.
public enum Hash: UInt8, CaseIterable, Sendable {
    case sha1, sha256, sha384, sha512

    /// Octets of one compression block (FIPS 180-4).
    var blockBytes: Int {
        switch self {
        case .sha1, .sha256: 64
        case .sha384, .sha512: 128
        }
    }

    /// Octets of output.
    var outputBytes: Int {
        switch self {
        case .sha1: 20
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    var name: String {
        switch self {
        case .sha1: "SHA1"
        case .sha256: "SHA2-256"
        case .sha384: "SHA2-384"
        case .sha512: "SHA2-512"
        }
    }
}

/// Why the cryptographic library can't serve.
public enum CryptoError: Error, Equatable, CustomStringConvertible {
    /// OpenSSL's default provider could not be loaded.
    case providerUnavailable
    /// The provider lacks an algorithm, by OpenSSL's name.
    case algorithmUnavailable(String)
    /// OpenSSL refused an operation that is valid by its own documentation (out of memory).
    case operationFailed(String)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .providerUnavailable:
            "OpenSSL's default provider can't be loaded: install libssl3 and check OPENSSL_CONF"
        case .algorithmUnavailable(let name):
            "OpenSSL's default provider has no \(name): OpenSSL 3.0 or later, not in FIPS mode, "
                + "is needed"
        case .operationFailed(let name): "OpenSSL failed in \(name)"
        }
    }
}

/// The dispatch tables of every cipher and hash that ESP needs, found once and kept for life.
///
/// Not Sendable on purpose: whoever owns a packet path owns its library handle.
public final class CryptoLibrary {
    /// OpenSSL's default provider, loaded once and for all; 0 when it can't be. Whoever finds
    /// algorithms by name in another thread depends on it, so that nobody may ever unload it.
    private static let providerAddress: UInt = {
        // Plain `OSSL_PROVIDER_load` would switch OpenSSL's implicit loading off.
        UInt(bitPattern: OSSL_PROVIDER_try_load(nil, "default", 1))
    }()

    private let ciphers: UnsafeMutablePointer<spindle_cipher>
    private let hashes: UnsafeMutablePointer<spindle_digest>

    /// Loads the default provider. Throws when it or one of its algorithms is missing.
    public init() throws(CryptoError) {
        guard let provider = OpaquePointer(bitPattern: Self.providerAddress) else {
            throw .providerUnavailable
        }
        ciphers = .allocate(capacity: Cipher.allCases.count)
        ciphers.initialize(repeating: spindle_cipher(), count: Cipher.allCases.count)
        hashes = .allocate(capacity: Hash.allCases.count)
        hashes.initialize(repeating: spindle_digest(), count: Hash.allCases.count)
        for cipher in Cipher.allCases {
            let entry = ciphers + Int(cipher.rawValue)
            guard spindle_cipher_find(provider, cipher.name, entry) == 1 else {
                throw .algorithmUnavailable(cipher.name)
            }
        }
        for hash in Hash.allCases {
            let found = spindle_digest_find(
                provider, hash.name, hash.blockBytes, hash.outputBytes,
                hashes + Int(hash.rawValue))
            guard found == 1 else { throw .algorithmUnavailable(hash.name) }
        }
    }

    deinit {
        hashes.deallocate()
        ciphers.deallocate()
    }

    func dispatch(for cipher: Cipher) -> UnsafePointer<spindle_cipher> {
        UnsafePointer(ciphers + Int(cipher.rawValue))
    }

    func digest(for hash: Hash) -> UnsafePointer<spindle_digest> {
        UnsafePointer(hashes + Int(hash.rawValue))
    }
}
