// The key that a gateway signs with, read from its PEM file's contents.

internal import COpenSSL

/// Why a file holds no private key that can be used.
public enum KeyFileFault: Error, Equatable, CustomStringConvertible {
    /// There is a key, but under a passphrase.
    case encrypted
    /// There is no PEM block with a private key that OpenSSL can read.
    case noKey
    /// The algorithm or curve is none of IKEv2's, by OpenSSL's name.
    case unsupported(String)
    /// An RSA key shorter than ``KeyKind/minimumRSABits``.
    case tooShort(bits: Int)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .encrypted:
            "the private key is encrypted: write it without its passphrase, for example with "
                + "`openssl pkey -in KEY -out PLAIN`, and let nobody else read the file"
        case .noKey: "there is no private key in PEM (BEGIN PRIVATE KEY) in the file"
        case .unsupported(let name):
            "a private key of type \(name) can't be used: RSA, ECDSA on P-256, P-384 or P-521, and "
                + "Ed25519 can"
        case .tooShort(let bits):
            "an RSA key of \(bits) bits is too short: \(KeyKind.minimumRSABits) are needed"
        }
    }
}

/// A key that makes signatures.
public struct PrivateKey: ~Copyable {
    /// Algorithm and size.
    public let kind: KeyKind
    private let key: OpaquePointer

    /// Reads the first private key of a PEM file: PKCS #8, or the older forms of RSA and EC.
    public init(pem: borrowing SecretBytes) throws(KeyFileFault) {
        let key = try Self.read(pem)
        guard let kind = KeyKind(key) else {
            let name = EVP_PKEY_get0_type_name(key).map { String(cString: $0) } ?? "unknown"
            EVP_PKEY_free(key)
            throw .unsupported(name)
        }
        if case .rsa(let bits) = kind, bits < KeyKind.minimumRSABits {
            EVP_PKEY_free(key)
            throw .tooShort(bits: bits)
        }
        self.kind = kind
        self.key = key
    }

    deinit { EVP_PKEY_free(key) }

    private static func read(_ pem: borrowing SecretBytes) throws(KeyFileFault) -> OpaquePointer {
        var isEncrypted = false
        let key = pem.withUnsafeBytes { bytes -> OpaquePointer? in
            guard let memory = BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count)) else {
                return nil
            }
            defer { BIO_free(memory) }
            // Is asked for a passphrase where one is needed; there is nobody to answer.
            return withUnsafeMutablePointer(to: &isEncrypted) { flag in
                PEM_read_bio_PrivateKey(
                    memory, nil,
                    { _, _, _, flag in
                        flag?.assumingMemoryBound(to: Bool.self).pointee = true
                        return -1
                    }, flag)
            }
        }
        guard let key else {
            ERR_clear_error()
            throw isEncrypted ? .encrypted : .noKey
        }
        return key
    }

    /// The schemes that ``sign(_:_:)`` takes, best first.
    public var schemes: [SignatureScheme] { kind.schemes }

    /// True when the certificate is over this key.
    public borrowing func matches(_ certificate: Certificate) -> Bool {
        certificate.publicKey.matches(key)
    }

    /// Signs `message` with one of ``schemes``. ECDSA's nonces and PSS's salts come from OpenSSL's
    /// own generator. Throws when OpenSSL lacks entropy or memory.
    public borrowing func sign(
        _ message: UnsafeRawBufferPointer, _ scheme: SignatureScheme
    ) throws(CryptoError) -> [UInt8] {
        precondition(schemes.contains(scheme), "the key can't do this")
        guard let signature = signature(message, scheme) else {
            ERR_clear_error()
            throw .operationFailed("signing with \(kind)")
        }
        return signature
    }

    private borrowing func signature(
        _ message: UnsafeRawBufferPointer, _ scheme: SignatureScheme
    ) -> [UInt8]? {
        guard let context = EVP_MD_CTX_new() else { return nil }
        defer { EVP_MD_CTX_free(context) }
        var parameters: OpaquePointer?
        guard
            EVP_DigestSignInit_ex(context, &parameters, scheme.hash?.name, nil, nil, key, nil)
                == 1,
            setPadding(parameters, scheme)
        else { return nil }
        let text = message.bindMemory(to: UInt8.self)
        var output = [UInt8](repeating: 0, count: Int(EVP_PKEY_get_size(key)))
        var count = output.count
        guard EVP_DigestSign(context, &output, &count, text.baseAddress, text.count) == 1 else {
            return nil
        }
        let signature = Array(output[..<count])
        if case (.ecdsaRaw, .ecdsa(let curve)) = (scheme, kind) {
            return rawSignature(der: signature, curve)
        }
        return signature
    }
}

/// r | s, each as long as the order (RFC 4754 §3), out of ECDSA-Sig-Value.
private func rawSignature(der: [UInt8], _ curve: Curve) -> [UInt8]? {
    let signature = der.withUnsafeBufferPointer { bytes in
        var cursor = bytes.baseAddress
        return d2i_ECDSA_SIG(nil, &cursor, bytes.count)
    }
    guard let signature else { return nil }
    defer { ECDSA_SIG_free(signature) }
    var output: [UInt8] = []
    for number in [ECDSA_SIG_get0_r(signature), ECDSA_SIG_get0_s(signature)] {
        var half = [UInt8](repeating: 0, count: curve.bytes)
        guard BN_bn2binpad(number, &half, Int32(half.count)) == half.count else { return nil }
        output += half
    }
    return output
}
