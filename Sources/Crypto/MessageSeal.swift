// AES-256-GCM for whole messages and records, and HMAC-SHA256 to derive their keys: for what nodes
// say and store, not for packets. A context is kept per key, so that a message costs no look-up.

internal import COpenSSL

/// One key in one direction: 12-octet nonces, 16-octet tags.
public struct MessageSeal: ~Copyable {
    /// What the key is for.
    public enum Use: Sendable {
        /// ``MessageSeal/seal(_:)``
        case sealing
        /// ``MessageSeal/open(_:)``
        case opening
    }

    /// Octets of key.
    public static let keyBytes = 32
    /// Octets of nonce.
    public static let nonceBytes = 12
    /// Octets of tag.
    public static let tagBytes = 16

    private let gcm: PlainGCM

    /// Takes a key of ``keyBytes``. Throws when OpenSSL lacks the cipher or memory.
    public init(key: borrowing SecretBytes, for use: Use) throws(CryptoError) {
        precondition(key.count == Self.keyBytes)
        gcm = try key.withUnsafeBytes { bytes throws(CryptoError) in
            // SecretBytes has an address even when it is empty.
            try PlainGCM(key: bytes.baseAddress.unsafelyUnwrapped, encrypts: use == .sealing)
        }
    }

    /// Encrypts in place and writes the tag. The nonce must never have been used under the key.
    public borrowing func seal(_ layout: MessageLayout) {
        precondition(layout.ivBytes == Self.nonceBytes)
        let isSealed = gcm.seal(layout)
        precondition(isSealed, "AES-GCM cannot fail with a key and lengths in range")
    }

    /// Decrypts in place; false when the tag is wrong, and then the data is wiped.
    public borrowing func open(_ layout: MessageLayout) -> Bool {
        precondition(layout.ivBytes == Self.nonceBytes)
        let isAuthentic = gcm.open(layout)
        if !isAuthentic {
            wipe(layout.data, count: layout.dataBytes)
            ERR_clear_error()
        }
        return isAuthentic
    }
}

/// The 32 octets of HMAC-SHA256 (RFC 2104, FIPS 180-4) of `data`. Throws when OpenSSL lacks it, or
/// memory.
public func hmacSHA256(
    key: borrowing SecretBytes, data: borrowing SecretBytes
) throws(CryptoError) -> SecretBytes {
    var output = SecretBytes(count: 32)
    var size = 0
    let isDone = output.withUnsafeMutableBytes { output in
        key.withUnsafeBytes { key in
            data.withUnsafeBytes { data in
                EVP_Q_mac(
                    nil, "HMAC", nil, Hash.sha256.name, nil, key.baseAddress, key.count,
                    data.bindMemory(to: UInt8.self).baseAddress, data.count,
                    output.bindMemory(to: UInt8.self).baseAddress, output.count, &size) != nil
            }
        }
    }
    guard isDone, size == output.count else {
        ERR_clear_error()
        throw .operationFailed("HMAC-SHA256")
    }
    return output
}
