// Any hash that OpenSSL's default provider has, by name: for test vectors of hashes that ESP does
// not use. The packet path has `KeyedContext`.

internal import COpenSSL

/// A hash function found by its name.
public struct NamedDigest: ~Copyable {
    private let digest: OpaquePointer
    /// Octets of output, at most `maximumHashBytes`.
    public let byteCount: Int

    /// Finds "SHA2-256", "SHA3-384", "SHA512-224" and the like. Throws when OpenSSL lacks it, or it
    /// has no fixed output length and so no HMAC.
    public init(name: String) throws(CryptoError) {
        guard let digest = EVP_MD_fetch(nil, name, nil) else {
            ERR_clear_error()
            throw .algorithmUnavailable(name)
        }
        let size = Int(EVP_MD_get_size(digest))
        let isExtendable = EVP_MD_get_flags(digest) & UInt(EVP_MD_FLAG_XOF) != 0
        guard (1...maximumHashBytes).contains(size), !isExtendable else {
            EVP_MD_free(digest)
            throw .algorithmUnavailable(name)
        }
        self.digest = digest
        byteCount = size
    }

    deinit { EVP_MD_free(digest) }

    /// The hash of `data`.
    public borrowing func hash(_ data: UnsafeRawBufferPointer) throws(CryptoError) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: byteCount)
        guard EVP_Digest(data.baseAddress, data.count, &output, nil, digest, nil) == 1 else {
            throw .operationFailed("EVP_Digest")
        }
        return output
    }

    /// The full-length HMAC (RFC 2104) of `data`.
    public borrowing func hmac(
        key: UnsafeRawBufferPointer, data: UnsafeRawBufferPointer
    ) throws(CryptoError) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: maximumHashBytes)
        var size = 0
        // C wants an address even for nothing.
        let isDone = withUnsafeBytes(of: 0 as UInt8) { nothing in
            let key = key.baseAddress == nil ? UnsafeRawBufferPointer(rebasing: nothing[..<0]) : key
            let data =
                data.baseAddress == nil ? UnsafeRawBufferPointer(rebasing: nothing[..<0]) : data
            return EVP_Q_mac(
                nil, "HMAC", nil, EVP_MD_get0_name(digest), nil, key.baseAddress, key.count,
                data.bindMemory(to: UInt8.self).baseAddress, data.count, &output, output.count,
                &size) != nil
        }
        guard isDone, size == byteCount else { throw .operationFailed("HMAC") }
        return Array(output[..<byteCount])
    }
}
