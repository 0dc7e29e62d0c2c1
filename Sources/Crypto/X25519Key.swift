// X25519 (RFC 7748 §5) through OpenSSL's EVP.

internal import COpenSSL

/// A private key with its public value, as OpenSSL holds them.
struct X25519Key: ~Copyable {
    private static let name = "X25519"
    private static let bytes = 32
    private let pointer: OpaquePointer

    /// Takes 32 octets; OpenSSL computes the public value at once.
    init(_ secret: borrowing SecretBytes) throws(CryptoError) {
        precondition(secret.count == Self.bytes)
        let made = secret.withUnsafeBytes { bytes in
            EVP_PKEY_new_raw_private_key_ex(
                nil, Self.name, nil, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count)
        }
        guard let made else {
            ERR_clear_error()
            throw .algorithmUnavailable(Self.name)
        }
        pointer = made
    }

    deinit { EVP_PKEY_free(pointer) }

    borrowing func publicValue() throws(CryptoError) -> [UInt8] {
        var value = [UInt8](repeating: 0, count: Self.bytes)
        var count = value.count
        guard EVP_PKEY_get_raw_public_key(pointer, &value, &count) == 1, count == value.count
        else { throw .operationFailed("EVP_PKEY_get_raw_public_key") }
        return value
    }

    /// Nil where the result is all zero: the peer's point has a small order (RFC 8031 §2.3).
    borrowing func sharedSecret(_ peer: [UInt8]) throws(CryptoError) -> SecretBytes? {
        guard let other = EVP_PKEY_new_raw_public_key_ex(nil, Self.name, nil, peer, peer.count),
            let context = EVP_PKEY_CTX_new_from_pkey(nil, pointer, nil)
        else { throw .operationFailed("EVP_PKEY_new_raw_public_key_ex") }
        defer {
            EVP_PKEY_CTX_free(context)
            EVP_PKEY_free(other)
        }
        guard EVP_PKEY_derive_init(context) == 1,
            EVP_PKEY_derive_set_peer_ex(context, other, 0) == 1
        else { throw .operationFailed("EVP_PKEY_derive_init") }
        var shared = SecretBytes(count: Self.bytes)
        // Fails for the all-zero result, and for nothing else that a caller could cause.
        let isDone = shared.withUnsafeMutableBytes { output in
            var count = output.count
            return EVP_PKEY_derive(
                context, output.bindMemory(to: UInt8.self).baseAddress, &count) == 1
                && count == output.count
        }
        let isZero = shared.matches(SecretBytes(count: Self.bytes))
        guard isDone, !isZero else { return nil }
        return shared
    }
}
