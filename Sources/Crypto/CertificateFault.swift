// Why a certificate is not believed, in words that say what to look at.

internal import COpenSSL

/// What is wrong with a certificate or its chain. `subject` and `issuer` are distinguished names as
/// text, the dates are UTC.
public enum CertificateFault: Error, Equatable, CustomStringConvertible {
    /// The octets are no certificate that can be used.
    case unreadable(String)
    /// `notAfter` has passed.
    case expired(subject: String, notAfter: String, now: String)
    /// `notBefore` has not come yet.
    case notYetValid(subject: String, notBefore: String, now: String)
    /// No configured authority has signed `subject`.
    case unknownAuthority(subject: String, issuer: String)
    /// The signature on `subject` is not its issuer's.
    case badSignature(subject: String)
    /// `subject` has signed another certificate without being allowed to.
    case notAnAuthority(subject: String)
    /// The key usage of `subject` allows no signatures.
    case wrongKeyUsage(subject: String)
    /// Key or signature of `subject` have less than 112 bits of strength.
    case tooWeak(subject: String, reason: String)
    /// Its authority has revoked `subject`.
    case revoked(subject: String)
    /// Anything else that OpenSSL finds.
    case refused(subject: String, reason: String)

    /// One line for whoever runs the gateway.
    public var description: String {
        switch self {
        case .unreadable(let reason): "not a certificate that can be used: \(reason)"
        case .expired(let subject, let notAfter, let now):
            "the certificate of \"\(subject)\" expired at \(notAfter); by this clock it is \(now)"
        case .notYetValid(let subject, let notBefore, let now):
            "the certificate of \"\(subject)\" is not valid before \(notBefore); by this clock it "
                + "is \(now)"
        case .unknownAuthority(let subject, let issuer):
            "no configured authority has signed the certificate of \"\(subject)\"; its issuer is "
                + "\"\(issuer)\""
        case .badSignature(let subject):
            "the certificate of \"\(subject)\" has a wrong signature: its issuer has another key"
        case .notAnAuthority(let subject):
            "\"\(subject)\" has signed a certificate, but is no authority for it: basic "
                + "constraints (CA:TRUE, path length) and key usage (keyCertSign) do not allow it"
        case .wrongKeyUsage(let subject):
            "the key usage of the certificate of \"\(subject)\" has neither digitalSignature nor "
                + "nonRepudiation"
        case .tooWeak(let subject, let reason):
            "the certificate of \"\(subject)\" is too weak: \(reason)"
        case .revoked(let subject): "the certificate of \"\(subject)\" is revoked"
        case .refused(let subject, let reason):
            "the certificate of \"\(subject)\" is refused: \(reason)"
        }
    }
}

/// "2026-11-23 15:17:00Z", of seconds since 1970.
func dateText(_ seconds: Int64) -> String {
    guard let time = ASN1_TIME_set(nil, Int(seconds)) else { return "\(seconds) s since 1970" }
    defer { ASN1_TIME_free(time) }
    guard let memory = BIO_new(BIO_s_mem()) else { return "\(seconds) s since 1970" }
    defer { BIO_free(memory) }
    guard ASN1_TIME_print_ex(memory, time, UInt(ASN1_DTFLGS_ISO8601)) == 1 else {
        return "\(seconds) s since 1970"
    }
    return text(in: memory)
}
