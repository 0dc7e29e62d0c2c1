// Proofs by signature: with certificates, by RFC 7427's method where both ends know it, else by the
// older ones (RFC 7296 §3.8, RFC 4754).

public import Crypto
internal import ESP
internal import Wire

/// The SIGNATURE_HASH_ALGORITHMS notification (RFC 7427 §4, RFC 8420 §2).
enum SignatureHashes {
    static let sha256: UInt16 = 2
    static let sha384: UInt16 = 3
    static let sha512: UInt16 = 4
    /// Ed25519 hashes by itself.
    static let identity: UInt16 = 5

    /// What we take, in network order.
    static let all: [UInt8] = [sha256, sha384, sha512, identity].flatMap(\.octets)

    static func read(_ data: [UInt8]) -> [UInt16] {
        stride(from: 0, to: data.count - 1, by: 2).map {
            UInt16(data[$0]) << 8 | UInt16(data[$0 + 1])
        }
    }
}

extension SignatureScheme {
    /// The number of its hash in SIGNATURE_HASH_ALGORITHMS; nil for SHA-1.
    var hashNumber: UInt16? {
        switch hash {
        case nil: SignatureHashes.identity
        case .sha1: nil
        case .sha256: SignatureHashes.sha256
        case .sha384: SignatureHashes.sha384
        case .sha512: SignatureHashes.sha512
        }
    }

    private static let digitalSignature = SignatureScheme.ed25519.authenticationMethod

    /// True when it goes with method 14.
    var isDigitalSignature: Bool { authenticationMethod == Self.digitalSignature }
}

extension SigningIdentity {
    /// The best scheme that the peer understands: of RFC 7427 when it sent hashes, else of the old
    /// methods. Nil: the key has none, such as Ed25519 towards a peer without RFC 7427.
    func scheme(peerHashes: [UInt16]) -> SignatureScheme? {
        key.schemes.first { scheme in
            peerHashes.isEmpty
                ? !scheme.isDigitalSignature
                : scheme.isDigitalSignature
                    && scheme.hashNumber.map { peerHashes.contains($0) } == true
        }
    }

    /// The AUTH payload over `octets`.
    func authentication(
        _ octets: [UInt8], _ scheme: SignatureScheme
    ) throws(CryptoError) -> Payload {
        let signature = try octets.withUnsafeBytes { octets in
            Result { () throws(CryptoError) in try key.sign(octets, scheme) }
        }.get()
        // RFC 7427 §3: length of the AlgorithmIdentifier, the identifier, the signature.
        let identifier = scheme.algorithmIdentifier.map { [UInt8($0.count)] + $0 } ?? []
        let head = scheme.isDigitalSignature ? identifier : []
        return .authentication(method: scheme.authenticationMethod, data: head + signature)
    }
}

/// What a peer sent to prove its identity by a signature.
struct SignatureProof {
    /// Its own certificate first.
    let chain: [[UInt8]]
    let method: UInt8
    let data: [UInt8]

    /// Nil when the signature over `octets` is by a key that belongs to `identity`.
    func fault(
        of identity: Identity, _ octets: [UInt8], _ anchors: TrustAnchors, _ seconds: Int64
    ) -> ProofFault? {
        guard let first = chain.first else { return .noCertificate }
        let leaf: Certificate
        var others: [Certificate] = []
        do throws(CertificateFault) {
            leaf = try Certificate(der: first)
            for der in chain.dropFirst() { others.append(try Certificate(der: der)) }
        } catch {
            return .certificate(error)
        }
        if let fault = anchors.verify(leaf, intermediates: others, at: seconds) {
            return .certificate(fault)
        }
        guard leaf.isFor(identity) else { return .identityNotInCertificate(identity) }
        guard let (scheme, signature) = parts else { return .unknownAlgorithm }
        let isRight = octets.withUnsafeBytes { octets in
            signature.withUnsafeBytes { leaf.publicKey.verify($0, of: octets, scheme) }
        }
        return isRight ? nil : .wrongSignature
    }

    /// Scheme and signature of the AUTH payload's data.
    private var parts: (SignatureScheme, [UInt8])? {
        if let scheme = SignatureScheme(authenticationMethod: method) { return (scheme, data) }
        guard method == AuthenticationMethod.digitalSignature, let length = data.first,
            data.count > 1 + Int(length)
        else { return nil }
        let scheme = data[1..<1 + Int(length)].withUnsafeBytes {
            SignatureScheme(algorithmIdentifier: $0)
        }
        return scheme.map { ($0, Array(data[(1 + Int(length))...])) }
    }
}

extension Certificate {
    /// True when the certificate names the identity, as its subject or as an alternative name
    /// (RFC 7296 §3.5, RFC 4945 §3.1). Wildcards in certificates are not names of peers.
    public func isFor(_ identity: Identity) -> Bool {
        switch identity {
        case .distinguishedName(let der):
            guard let name = try? DistinguishedName(der: der) else { return false }
            return subject.matches(name)
        case .fqdn(let name):
            return alternativeNames.contains {
                if case .dns(let own) = $0 { own.lowercased() == name.lowercased() } else { false }
            }
        case .email(let address):
            return alternativeNames.contains {
                guard case .email(let own) = $0 else { return false }
                return own.lowercased() == address.lowercased()
            }
        case .ipv4(let address), .ipv6(let address):
            return alternativeNames.contains(.ip(address.octets))
        case .keyID, .other: return false
        }
    }
}
