// The authorities that a gateway believes, and the path from a peer's certificate to one of them
// (RFC 5280 §6, RFC 4945 §5).

internal import COpenSSL

/// A certificate revocation list (RFC 5280 §5).
public final class RevocationList {
    let pointer: OpaquePointer

    private init(taking pointer: OpaquePointer) { self.pointer = pointer }

    deinit { X509_CRL_free(pointer) }

    /// Reads all lists of a PEM file. Throws when there is none, or one that can't be read.
    public static func readPEM(_ pem: [UInt8]) throws(CertificateFault) -> [RevocationList] {
        var lists: [RevocationList] = []
        try readBlocks(of: pem, PEM_read_bio_X509_CRL) { block throws(CertificateFault) in
            lists.append(RevocationList(taking: block))
        }
        guard !lists.isEmpty else {
            throw .unreadable("there is no revocation list in PEM (BEGIN X509 CRL) in the file")
        }
        return lists
    }
}

/// Certificates that are believed because they are configured.
public final class TrustAnchors {
    /// The authorities, in the order given.
    public let authorities: [Certificate]
    private let store: OpaquePointer
    private let hasRevocations: Bool

    /// Each of `authorities` is believed as it is, also where it is not its own issuer.
    ///
    /// What one of the `revocations` lists is refused. An authority without a list, or with one
    /// that is out of date, still counts: the lists come as files, and nobody fetches newer ones.
    public init(_ authorities: [Certificate], revocations: [RevocationList] = []) {
        guard let store = X509_STORE_new() else { preconditionFailure("no memory for a store") }
        self.authorities = authorities
        self.store = store
        hasRevocations = !revocations.isEmpty
        for authority in authorities {
            precondition(X509_STORE_add_cert(store, authority.pointer) == 1, "no memory")
        }
        for list in revocations {
            precondition(X509_STORE_add_crl(store, list.pointer) == 1, "no memory")
        }
    }

    deinit { X509_STORE_free(store) }

    /// Nil when a path leads from `leaf` to an authority and every certificate on it is valid at
    /// that time; the first thing that is wrong otherwise. `intermediates` are what the peer sent
    /// besides: they are used, not believed.
    ///
    /// Extended key usage is not looked at, as RFC 4945 §5.1.3.12 lets a configuration choose.
    public func verify(
        _ leaf: Certificate, intermediates: [Certificate], at secondsSince1970: Int64
    ) -> CertificateFault? {
        defer { ERR_clear_error() }
        let lacking = CertificateFault.refused(
            subject: leaf.subject.description, reason: "there is no memory to verify it")
        guard let others = OPENSSL_sk_new_null() else { return lacking }
        defer { OPENSSL_sk_free(others) }
        for certificate in intermediates {
            OPENSSL_sk_push(others, UnsafeRawPointer(certificate.pointer))
        }
        guard let context = X509_STORE_CTX_new() else { return lacking }
        defer { X509_STORE_CTX_free(context) }
        guard X509_STORE_CTX_init(context, store, leaf.pointer, others) == 1 else {
            return lacking
        }
        prepare(context, secondsSince1970)
        guard X509_verify_cert(context) == 1 else { return fault(context, secondsSince1970, leaf) }
        if let other = pretender(context) {
            return .notAnAuthority(subject: other)
        }
        return leaf.allowsSignatures
            ? nil : .wrongKeyUsage(subject: leaf.subject.description)
    }

    private func prepare(_ context: OpaquePointer, _ seconds: Int64) {
        let policy = X509_STORE_CTX_get0_param(context)
        X509_VERIFY_PARAM_set_time(policy, time_t(seconds))
        // 112 bits of strength: RSA from 2048 bits, no SHA-1 (X509_VERIFY_PARAM_set_auth_level(3)).
        X509_VERIFY_PARAM_set_auth_level(policy, 2)
        var flags = X509_V_FLAG_PARTIAL_CHAIN
        if hasRevocations {
            flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL
        }
        X509_VERIFY_PARAM_set_flags(policy, UInt(flags))
        X509_STORE_CTX_set_verify_cb(context) { isFine, context in
            switch X509_STORE_CTX_get_error(context) {
            case X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_HAS_EXPIRED,
                X509_V_ERR_CRL_NOT_YET_VALID:
                X509_STORE_CTX_set_error(context, X509_V_OK)
                return 1
            default: return isFine
            }
        }
    }

    /// The subject of a certificate that signs another one of a good path without the basic
    /// constraints of an authority. OpenSSL lets the key usage alone make an authority; RFC 5280
    /// §6.1.4 (k) does not. The last one is configured, and believed as it is.
    private func pretender(_ context: OpaquePointer) -> String? {
        let path = X509_STORE_CTX_get0_chain(context)
        for index in 1..<max(OPENSSL_sk_num(path) - 1, 1) {
            let certificate = OPENSSL_sk_value(path, index).map { OpaquePointer($0) }
            if X509_check_ca(certificate) != 1 { return subject(certificate) }
        }
        return nil
    }

    private func fault(
        _ context: OpaquePointer, _ seconds: Int64, _ leaf: Certificate
    ) -> CertificateFault {
        let error = X509_STORE_CTX_get_error(context)
        let certificate = X509_STORE_CTX_get_current_cert(context)
        let subject = subject(certificate) ?? leaf.subject.description
        let reason = X509_verify_cert_error_string(Int(error)).map { String(cString: $0) } ?? ""
        switch error {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return .expired(
                subject: subject, notAfter: date(X509_get0_notAfter(certificate)),
                now: dateText(seconds))
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return .notYetValid(
                subject: subject, notBefore: date(X509_get0_notBefore(certificate)),
                now: dateText(seconds))
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            let issuer = X509_get_issuer_name(certificate).map { DistinguishedName($0) }
            return .unknownAuthority(subject: subject, issuer: issuer?.description ?? "")
        case X509_V_ERR_CERT_SIGNATURE_FAILURE, X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
            return .badSignature(subject: subject)
        case X509_V_ERR_INVALID_CA, X509_V_ERR_NO_ISSUER_PUBLIC_KEY,
            X509_V_ERR_PATH_LENGTH_EXCEEDED, X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
            return .notAnAuthority(subject: subject)
        case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK:
            return .tooWeak(subject: subject, reason: reason)
        case X509_V_ERR_CERT_REVOKED: return .revoked(subject: subject)
        default: return .refused(subject: subject, reason: reason)
        }
    }

    private func subject(_ certificate: OpaquePointer?) -> String? {
        X509_get_subject_name(certificate).map { DistinguishedName($0).description }
    }

    private func date(_ time: UnsafePointer<ASN1_TIME>?) -> String {
        seconds(since1970: time).map { dateText($0) } ?? "?"
    }
}
