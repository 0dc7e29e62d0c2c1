// AES-256-GCM by the calls of OpenSSL's manual, with one context kept per key and direction: what
// the packet path is measured against, and an oracle for it.

internal import COpenSSL

/// A plain EVP context for AES-256-GCM with 12-octet IVs and 16-octet tags.
public struct PlainGCM: ~Copyable {
    private let context: OpaquePointer

    /// Takes a 32-octet key. Throws when OpenSSL lacks the cipher or memory.
    public init(key: UnsafeRawPointer, encrypts: Bool) throws(CryptoError) {
        context = try Self.makeContext(key, encrypts)
    }

    private static func makeContext(
        _ key: UnsafeRawPointer, _ encrypts: Bool
    ) throws(CryptoError) -> OpaquePointer {
        guard let cipher = EVP_CIPHER_fetch(nil, Cipher.aes256GCM.name, nil) else {
            throw .algorithmUnavailable(Cipher.aes256GCM.name)
        }
        defer { EVP_CIPHER_free(cipher) }
        let bytes = key.assumingMemoryBound(to: UInt8.self)
        guard let context = EVP_CIPHER_CTX_new(),
            EVP_CipherInit_ex(context, cipher, nil, bytes, nil, encrypts ? 1 : 0) == 1
        else { throw .operationFailed(Cipher.aes256GCM.name) }
        return context
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// Encrypts in place and writes 16 octets of tag.
    public borrowing func seal(_ layout: borrowing MessageLayout) -> Bool {
        spindle_plain_seal(
            context, layout.iv.assumingMemoryBound(to: UInt8.self),
            layout.aad.assumingMemoryBound(to: UInt8.self), Int32(layout.aadBytes),
            layout.data.assumingMemoryBound(to: UInt8.self), Int32(layout.dataBytes),
            layout.tag.assumingMemoryBound(to: UInt8.self), 16) == 1
    }

    /// Decrypts in place; false when the tag is wrong.
    public borrowing func open(_ layout: borrowing MessageLayout) -> Bool {
        spindle_plain_open(
            context, layout.iv.assumingMemoryBound(to: UInt8.self),
            layout.aad.assumingMemoryBound(to: UInt8.self), Int32(layout.aadBytes),
            layout.data.assumingMemoryBound(to: UInt8.self), Int32(layout.dataBytes),
            layout.tag.assumingMemoryBound(to: UInt8.self), 16) == 1
    }

    /// `EVP_EncryptUpdate` alone, without IV, AAD and tag: the bound that the cipher sets. Needs
    /// `start` once before.
    public borrowing func update(_ data: UnsafeMutableRawPointer, count: Int) -> Bool {
        var done: Int32 = 0
        let bytes = data.assumingMemoryBound(to: UInt8.self)
        return EVP_EncryptUpdate(context, bytes, &done, bytes, Int32(count)) == 1
    }

    /// Prepares `update` with an IV.
    public borrowing func start(iv: UnsafeRawPointer) -> Bool {
        EVP_EncryptInit_ex(context, nil, nil, nil, iv.assumingMemoryBound(to: UInt8.self)) == 1
    }
}
