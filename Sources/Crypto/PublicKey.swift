// A public key out of a certificate, and the signatures it verifies.

internal import COpenSSL

/// A key that verifies signatures.
public struct PublicKey {
    /// Algorithm and size; nil for keys of other algorithms and curves, which verify nothing.
    public let kind: KeyKind?
    private let key: SharedKey

    /// Takes over OpenSSL's key.
    init(taking key: OpaquePointer) {
        self.key = SharedKey(taking: key)
        kind = KeyKind(key)
    }

    /// True when `signature` is this key's over `message`. False as well when the scheme does not
    /// fit the key, or the key is shorter than ``KeyKind/minimumRSABits``.
    public func verify(
        _ signature: UnsafeRawBufferPointer, of message: UnsafeRawBufferPointer,
        _ scheme: SignatureScheme
    ) -> Bool {
        guard let kind, kind.schemes.contains(scheme) else { return false }
        defer { ERR_clear_error() }
        var octets = Array(signature)
        if case (.ecdsaRaw, .ecdsa(let curve)) = (scheme, kind) {
            guard let encoded = signatureDER(raw: octets, curve) else { return false }
            octets = encoded
        }
        guard let context = EVP_MD_CTX_new() else { return false }
        defer { EVP_MD_CTX_free(context) }
        var parameters: OpaquePointer?
        guard
            EVP_DigestVerifyInit_ex(
                context, &parameters, scheme.hash?.name, nil, nil, key.pointer, nil) == 1,
            setPadding(parameters, scheme)
        else { return false }
        let text = message.bindMemory(to: UInt8.self)
        return EVP_DigestVerify(context, octets, octets.count, text.baseAddress, text.count) == 1
    }

    /// True when the private key belongs to this one.
    func matches(_ other: OpaquePointer) -> Bool {
        defer { ERR_clear_error() }
        return EVP_PKEY_eq(key.pointer, other) == 1
    }
}

/// OpenSSL's key, freed with its last user.
private final class SharedKey {
    let pointer: OpaquePointer

    init(taking pointer: OpaquePointer) { self.pointer = pointer }

    deinit { EVP_PKEY_free(pointer) }
}

/// Chooses between the two paddings of RSA; nothing for other keys.
func setPadding(_ parameters: OpaquePointer?, _ scheme: SignatureScheme) -> Bool {
    switch scheme {
    case .rsaPKCS1: EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PADDING) == 1
    case .rsaPSS:
        EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) == 1
            && EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST) == 1
    case .ecdsa, .ecdsaRaw, .ed25519: true
    }
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3) out of r | s; nil for a wrong length.
private func signatureDER(raw: [UInt8], _ curve: Curve) -> [UInt8]? {
    guard raw.count == 2 * curve.bytes, let signature = ECDSA_SIG_new() else { return nil }
    defer { ECDSA_SIG_free(signature) }
    let r = BN_bin2bn(raw, Int32(curve.bytes), nil)
    let s = BN_bin2bn(Array(raw[curve.bytes...]), Int32(curve.bytes), nil)
    guard ECDSA_SIG_set0(signature, r, s) == 1 else {
        BN_free(r)
        BN_free(s)
        return nil
    }
    return encoding { i2d_ECDSA_SIG(signature, $0) }
}

/// What one of OpenSSL's `i2d` functions writes; nil when it fails.
func encoding(
    _ write: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32
) -> [UInt8]? {
    let count = write(nil)
    guard count > 0 else { return nil }
    var output = [UInt8](repeating: 0, count: Int(count))
    let written = output.withUnsafeMutableBufferPointer { buffer in
        var cursor = buffer.baseAddress
        return write(&cursor)
    }
    return written == count ? output : nil
}
