// What an AUTH payload may be signed with: RFC 7296 §3.8 (method 1), RFC 4754 (methods 9 to 11),
// RFC 7427 and RFC 8420 (method 14).

/// A signature algorithm with its hash.
///
/// Only the members of ``allCases`` can be used; SHA-1 is left to method 1 alone.
public enum SignatureScheme: Hashable, Sendable {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2). With SHA-1 it is authentication method 1.
    case rsaPKCS1(Hash)
    /// RSASSA-PSS (RFC 8017 §8.1), MGF1 with the same hash, a salt of the hash's length.
    case rsaPSS(Hash)
    /// ECDSA on any curve, the signature as DER (RFC 7427 §3).
    case ecdsa(Hash)
    /// ECDSA of authentication methods 9, 10 and 11: r | s of fixed length, and with the hash goes
    /// the curve: P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512 (RFC 4754 §3).
    case ecdsaRaw(Hash)
    /// Ed25519 (RFC 8032) over the message itself (RFC 8420).
    case ed25519
}

private let signatureHashes: [Hash] = [.sha256, .sha384, .sha512]

extension SignatureScheme: CaseIterable {
    /// Every scheme that can be used.
    public static let allCases: [SignatureScheme] =
        signatureHashes.map { .rsaPSS($0) } + signatureHashes.map { .rsaPKCS1($0) }
        + [.rsaPKCS1(.sha1)] + signatureHashes.map { .ecdsa($0) }
        + signatureHashes.map { .ecdsaRaw($0) } + [.ed25519]

    /// The hash that the message goes through; nil for Ed25519, which hashes it itself and is named
    /// "Identity" among IKEv2's hash algorithms (RFC 8420 §2).
    public var hash: Hash? {
        switch self {
        case .rsaPKCS1(let hash), .rsaPSS(let hash), .ecdsa(let hash), .ecdsaRaw(let hash): hash
        case .ed25519: nil
        }
    }

    /// The number of IANA's "IKEv2 Authentication Method".
    public var authenticationMethod: UInt8 {
        switch self {
        case .rsaPKCS1(.sha1): 1
        case .ecdsaRaw(.sha256): 9
        case .ecdsaRaw(.sha384): 10
        case .ecdsaRaw: 11
        case .rsaPKCS1, .rsaPSS, .ecdsa, .ed25519: 14
        }
    }

    /// The scheme of an authentication method that names one by its number: 1, 9, 10 or 11.
    public init?(authenticationMethod: UInt8) {
        let found = Self.allCases.first {
            $0.authenticationMethod == authenticationMethod && authenticationMethod != 14
        }
        guard let found else { return nil }
        self = found
    }
}

// MARK: - Algorithm identifiers

extension SignatureScheme {
    /// The AlgorithmIdentifier in DER that goes before the signature in method 14 (RFC 7427 §3,
    /// Appendix A); nil for the schemes of the older methods. The trailer field of RSASSA-PSS is
    /// left out, as RFC 4055 §3.1 requires of signers.
    public var algorithmIdentifier: [UInt8]? { identifiers.first }

    /// Reads an AlgorithmIdentifier; nil for algorithms, hashes and salt lengths that are not
    /// supported. Besides the form that is sent, RFC 4055 §2.1 and §3.1 want these understood:
    /// hashes without the NULL parameter, and the default trailer field written out.
    public init?(algorithmIdentifier: UnsafeRawBufferPointer) {
        let found = acceptedIdentifiers.first { $0.octets.elementsEqual(algorithmIdentifier) }
        guard let found else { return nil }
        self = found.scheme
    }

    /// The form that is sent comes first.
    fileprivate var identifiers: [[UInt8]] {
        switch self {
        case .rsaPKCS1(let hash):
            guard let last = hash.rsaArc else { return [] }
            let identifier = ObjectIdentifier.pkcs1 + [last]
            return [true, false].map { sequence(identifier, hasNull: $0) }
        case .rsaPSS(let hash): return pssIdentifiers(hash)
        case .ecdsa(let hash):
            guard let last = hash.ecdsaArc else { return [] }
            return [sequence(ObjectIdentifier.ecdsaWithSHA2 + [last], hasNull: false)]
        case .ecdsaRaw: return []
        case .ed25519: return [sequence(ObjectIdentifier.ed25519, hasNull: false)]
        }
    }

    /// RSASSA-PSS-params (RFC 4055 §3.1).
    private func pssIdentifiers(_ hash: Hash) -> [[UInt8]] {
        guard let arc = hash.sha2Arc else { return [] }
        let salt = der(0xA2, der(0x02, [UInt8(hash.outputBytes)]))
        let defaultTrailer = der(0xA3, der(0x02, [1]))
        var identifiers: [[UInt8]] = []
        for trailer in [[], defaultTrailer] {
            for hasNull in [true, false] {
                for maskHasNull in [true, false] {
                    let digest = ObjectIdentifier.sha2 + [arc]
                    let mask = der(
                        0x30,
                        der(0x06, ObjectIdentifier.maskGeneration)
                            + sequence(digest, hasNull: maskHasNull))
                    let parameters =
                        der(0xA0, sequence(digest, hasNull: hasNull)) + der(0xA1, mask) + salt
                        + trailer
                    identifiers.append(
                        der(
                            0x30, der(0x06, ObjectIdentifier.pss) + der(0x30, parameters)))
                }
            }
        }
        return identifiers
    }
}

/// All forms of all schemes, put together once.
private let acceptedIdentifiers = SignatureScheme.allCases.flatMap { scheme in
    scheme.identifiers.map { (octets: $0, scheme: scheme) }
}

/// The contents of DER's OBJECT IDENTIFIERs; those of families without their last arc.
private enum ObjectIdentifier {
    /// 1.2.840.113549.1.1
    static let pkcs1: [UInt8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1]
    static let maskGeneration = pkcs1 + [8]
    static let pss = pkcs1 + [10]
    /// 1.2.840.10045.4.3
    static let ecdsaWithSHA2: [UInt8] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3]
    /// 1.3.101.112
    static let ed25519: [UInt8] = [0x2B, 0x65, 0x70]
    /// 2.16.840.1.101.3.4.2
    static let sha2: [UInt8] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2]
}

extension Hash {
    /// sha…WithRSAEncryption below `pkcs1`. SHA-1's is not taken: method 14 exists to be rid of it.
    fileprivate var rsaArc: UInt8? {
        switch self {
        case .sha1: nil
        case .sha256: 11
        case .sha384: 12
        case .sha512: 13
        }
    }

    fileprivate var ecdsaArc: UInt8? { sha2Arc.map { $0 + 1 } }

    fileprivate var sha2Arc: UInt8? {
        switch self {
        case .sha1: nil
        case .sha256: 1
        case .sha384: 2
        case .sha512: 3
        }
    }
}

/// One element of DER of less than 128 octets.
private func der(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    precondition(content.count < 128)
    return [tag, UInt8(content.count)] + content
}

/// AlgorithmIdentifier ::= SEQUENCE { algorithm, parameters NULL OPTIONAL }
private func sequence(_ identifier: [UInt8], hasNull: Bool) -> [UInt8] {
    der(0x30, der(0x06, identifier) + (hasNull ? [0x05, 0x00] : []))
}
