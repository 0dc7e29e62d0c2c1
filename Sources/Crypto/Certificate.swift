// X.509 certificates (RFC 5280), read by OpenSSL.

internal import COpenSSL

/// A subject's alternative name (RFC 5280 §4.2.1.6), of the kinds that IKEv2 identities have.
public enum AlternativeName: Hashable, Sendable {
    /// A host's name.
    case dns(String)
    /// A mailbox.
    case email(String)
    /// 4 octets of IPv4 or 16 of IPv6, most significant first.
    case ip([UInt8])
}

/// One certificate. It never changes.
public final class Certificate {
    /// The octets, as they go into a CERT payload of encoding 4 (RFC 7296 §3.6).
    public let der: [UInt8]
    /// Whom it is about.
    public let subject: DistinguishedName
    /// Who signed it.
    public let issuer: DistinguishedName
    /// Serial number in hexadecimal digits, upper case.
    public let serial: String
    /// The names besides the subject, in their order; kinds that IKEv2 has no identity for are left
    /// out.
    public let alternativeNames: [AlternativeName]
    /// First second of its validity, since 1970.
    public let notBefore: Int64
    /// Last second of its validity, since 1970.
    public let notAfter: Int64
    /// The subject's key.
    public let publicKey: PublicKey
    /// SHA-1 of the SubjectPublicKeyInfo, 20 octets: how CERTREQ names an authority (RFC 7296
    /// §3.7).
    public let publicKeyHash: [UInt8]
    /// True where the basic constraints say CA:TRUE and the key usage does not forbid keyCertSign.
    public let isAuthority: Bool

    let pointer: OpaquePointer

    /// Reads DER, nothing behind it.
    public convenience init(der: [UInt8]) throws(CertificateFault) {
        let read = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var cursor = bytes.baseAddress
            guard let read = d2i_X509(nil, &cursor, bytes.count) else { return nil }
            if let base = bytes.baseAddress, cursor == base + bytes.count { return read }
            X509_free(read)
            return nil
        }
        guard let read else {
            ERR_clear_error()
            throw .unreadable("it is not DER of X.509")
        }
        try self.init(taking: read)
    }

    /// Reads all certificates of a PEM file, in their order. Throws when there is none, or one that
    /// can't be read.
    public static func readPEM(_ pem: [UInt8]) throws(CertificateFault) -> [Certificate] {
        var certificates: [Certificate] = []
        try readBlocks(of: pem, PEM_read_bio_X509) { block throws(CertificateFault) in
            certificates.append(try Certificate(taking: block))
        }
        guard !certificates.isEmpty else {
            throw .unreadable("there is no certificate in PEM (BEGIN CERTIFICATE) in the file")
        }
        return certificates
    }

    private init(taking pointer: OpaquePointer) throws(CertificateFault) {
        let parts: CertificateParts
        do throws(CertificateFault) {
            parts = try CertificateParts(pointer)
        } catch {
            X509_free(pointer)
            ERR_clear_error()
            throw error
        }
        self.pointer = pointer
        der = parts.der
        subject = parts.subject
        issuer = parts.issuer
        serial = parts.serial
        notBefore = parts.notBefore
        notAfter = parts.notAfter
        publicKey = parts.publicKey
        publicKeyHash = parts.publicKeyHash
        alternativeNames = readAlternativeNames(pointer)
        isAuthority = X509_check_ca(pointer) == 1
    }

    deinit { X509_free(pointer) }

    /// Nil when the certificate is valid at that time; its path is not looked at.
    public func validityFault(at secondsSince1970: Int64) -> CertificateFault? {
        let now = dateText(secondsSince1970)
        if secondsSince1970 < notBefore {
            return .notYetValid(
                subject: subject.description, notBefore: dateText(notBefore), now: now)
        }
        guard secondsSince1970 > notAfter else { return nil }
        return .expired(subject: subject.description, notAfter: dateText(notAfter), now: now)
    }

    /// ``notAfter`` as a date, such as "2026-11-23 15:17:00Z".
    public var notAfterText: String { dateText(notAfter) }

    /// True where the key usage, if there is one, lets the key sign what is no certificate
    /// (RFC 4945 §5.1.3.2).
    public var allowsSignatures: Bool {
        let usage = X509_get_key_usage(pointer)
        return usage & UInt32(KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION) != 0
    }
}

/// What is read out of a certificate and may be missing.
private struct CertificateParts {
    let der: [UInt8]
    let subject: DistinguishedName
    let issuer: DistinguishedName
    let serial: String
    let notBefore: Int64
    let notAfter: Int64
    let publicKey: PublicKey
    let publicKeyHash: [UInt8]

    init(_ certificate: OpaquePointer) throws(CertificateFault) {
        // Reads all extensions that OpenSSL knows, once and for all.
        guard X509_check_purpose(certificate, -1, 0) == 1 else {
            throw .unreadable("one of its extensions is malformed")
        }
        guard let der = encoding({ i2d_X509(certificate, $0) }),
            let subject = X509_get_subject_name(certificate),
            let issuer = X509_get_issuer_name(certificate)
        else { throw .unreadable("it has no names") }
        guard let notBefore = seconds(since1970: X509_get0_notBefore(certificate)),
            let notAfter = seconds(since1970: X509_get0_notAfter(certificate))
        else { throw .unreadable("its dates are none") }
        guard let key = X509_get_pubkey(certificate),
            let info = encoding({ i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), $0) })
        else { throw .unreadable("OpenSSL can't read its public key") }
        self.der = der
        self.subject = DistinguishedName(subject)
        self.issuer = DistinguishedName(issuer)
        self.notBefore = notBefore
        self.notAfter = notAfter
        publicKey = PublicKey(taking: key)
        publicKeyHash = info.withUnsafeBytes { Hash.sha1.digest($0) }
        serial = hexadecimal(X509_get0_serialNumber(certificate))
    }
}

private func hexadecimal(_ number: UnsafePointer<ASN1_INTEGER>?) -> String {
    guard let value = ASN1_INTEGER_to_BN(number, nil) else { return "" }
    defer { BN_free(value) }
    guard let text = BN_bn2hex(value) else { return "" }
    defer { CRYPTO_free(text, nil, 0) }
    return String(cString: text)
}

/// Seconds since 1970; nil for what is no date.
func seconds(since1970 time: UnsafePointer<ASN1_TIME>?) -> Int64? {
    guard let epoch = ASN1_TIME_set(nil, 0) else { return nil }
    defer { ASN1_TIME_free(epoch) }
    var days: Int32 = 0
    var rest: Int32 = 0
    guard time != nil, ASN1_TIME_diff(&days, &rest, epoch, time) == 1 else { return nil }
    return Int64(days) * 86_400 + Int64(rest)
}

private func readAlternativeNames(_ certificate: OpaquePointer) -> [AlternativeName] {
    guard let read = X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) else {
        ERR_clear_error()
        return []
    }
    let names = OpaquePointer(read)
    defer { GENERAL_NAMES_free(names) }
    return (0..<OPENSSL_sk_num(names)).compactMap { index in
        guard let name = OPENSSL_sk_value(names, index) else { return nil }
        return alternativeName(UnsafePointer(name.assumingMemoryBound(to: GENERAL_NAME.self)))
    }
}

private func alternativeName(_ name: UnsafePointer<GENERAL_NAME>) -> AlternativeName? {
    var kind: Int32 = 0
    guard let value = GENERAL_NAME_get0_value(name, &kind),
        [GEN_DNS, GEN_EMAIL, GEN_IPADD].contains(kind)
    else { return nil }
    let string = value.assumingMemoryBound(to: ASN1_STRING.self)
    let octets = Array(
        UnsafeBufferPointer(
            start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string))))
    if kind == GEN_IPADD {
        return [4, 16].contains(octets.count) ? .ip(octets) : nil
    }
    // IA5String: a NUL or another control character inside is an attempt to be read as less than
    // is there.
    guard !octets.isEmpty, octets.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
    let text = String(decoding: octets, as: UTF8.self)
    return kind == GEN_DNS ? .dns(text) : .email(text)
}

/// One of OpenSSL's readers of PEM.
typealias PEMReader = (
    OpaquePointer?, UnsafeMutablePointer<OpaquePointer?>?,
    (
        @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) ->
            Int32
    )?,
    UnsafeMutableRawPointer?
) -> OpaquePointer?

/// Hands all blocks of one kind to `body`, which owns them then.
func readBlocks(
    of pem: [UInt8], _ read: PEMReader,
    _ body: (OpaquePointer) throws(CertificateFault) -> Void
) throws(CertificateFault) {
    guard !pem.isEmpty else { return }
    // OpenSSL reads the copy, which is freed with the BIO.
    guard let memory = BIO_new(BIO_s_mem()),
        BIO_write(memory, pem, Int32(pem.count)) == pem.count
    else { throw .unreadable("there is no memory to read it") }
    defer {
        BIO_free(memory)
        ERR_clear_error()
    }
    var count = 0
    while let block = read(memory, nil, nil, nil) {
        count += 1
        try body(block)
    }
    let error = ERR_peek_last_error()
    guard ERR_GET_LIB(error) == ERR_LIB_PEM, ERR_GET_REASON(error) == PEM_R_NO_START_LINE else {
        throw .unreadable("PEM block \(count + 1) of the file is damaged")
    }
}
