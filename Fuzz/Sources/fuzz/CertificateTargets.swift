// What peers prove themselves with: bytes from AUTH, CERT and ID payloads, and from PEM files.

import Crypto

/// A certificate in DER or PEM, or a key file. It is its own authority, so that path validation is
/// reached.
func certificate(_ bytes: UnsafeRawBufferPointer) {
    let octets = Array(bytes)
    _ = try? PrivateKey(pem: SecretBytes(copying: bytes))
    let chain = (try? Certificate.readPEM(octets)) ?? []
    let alone = (try? Certificate(der: octets)).map { [$0] } ?? []
    for one in chain + alone {
        for name in [one.subject, one.issuer] { precondition(name.matches(name)) }
        _ = TrustAnchors([one]).verify(one, intermediates: chain, at: one.notBefore)
        _ = TrustAnchors([]).verify(one, intermediates: chain, at: one.notAfter)?.description
        for scheme in SignatureScheme.allCases {
            precondition(!one.publicKey.verify(bytes, of: bytes, scheme), "a forgery was accepted")
        }
    }
}

/// A name as DER and as text. What is read from text must be the same when it is read again.
func distinguishedName(_ bytes: UnsafeRawBufferPointer) {
    if let name = try? DistinguishedName(der: Array(bytes)) {
        precondition(name.der.elementsEqual(bytes))
        precondition(name.matches(name))
        _ = name.description
    }
    guard let name = try? DistinguishedName(text: String(decoding: bytes, as: UTF8.self)) else {
        return
    }
    let again = try? DistinguishedName(text: name.description)
    precondition(again.map { $0.matches(name) } == true)
}

/// What names a scheme is one of the forms that it may have.
func algorithmIdentifier(_ bytes: UnsafeRawBufferPointer) {
    guard let scheme = SignatureScheme(algorithmIdentifier: bytes) else { return }
    guard let sent = scheme.algorithmIdentifier else {
        preconditionFailure("a scheme of the older methods was read")
    }
    precondition(sent.withUnsafeBytes { SignatureScheme(algorithmIdentifier: $0) } == scheme)
    precondition(abs(sent.count - bytes.count) <= 5)
}
