// Proving our identity, and checking the peer's proof (RFC 7296 §2.15, RFC 7427).

internal import Crypto
internal import Wire

/// Why a proof is refused; the peer learns only that it is.
enum ProofFault: CustomStringConvertible {
    case missing
    case wrongMethod(UInt8)
    case noSharedKey
    case wrongKey
    case noCertificate
    case certificate(CertificateFault)
    case identityNotInCertificate(Identity)
    case unknownAlgorithm
    case wrongSignature

    var description: String {
        switch self {
        case .missing: "there is no AUTH payload"
        case .wrongMethod(let method): "AUTH method \(method) is not what the connection asks for"
        case .noSharedKey: "no pre-shared key is configured for the two identities"
        case .wrongKey: "the pre-shared keys of both ends differ"
        case .noCertificate: "the peer sent no X.509 certificate"
        case .certificate(let fault): fault.description
        case .identityNotInCertificate(let identity): "its certificate is not for \(identity)"
        case .unknownAlgorithm: "the signature's algorithm is not one of ours"
        case .wrongSignature: "the signature is wrong"
        }
    }
}

/// AUTH with the certificates that belong to it.
struct Proof {
    let certificates: [Payload]
    let payload: Payload
}

extension IKEAssociation {
    /// Our AUTH payload; nil: there is no pre-shared key, or no signature that the peer knows.
    func proveIdentity(
        _ policy: Connection, _ handshake: Handshake, _ identity: Identity,
        _ environment: IKEEnvironment
    ) throws(CryptoError) -> Proof? {
        let octets = try signedOctets(
            handshake, byInitiator: role == .initiator, identityBody: identity.body, environment)
        switch policy.localAuthentication {
        case .presharedKey:
            let secret: SharedSecret?
            if let remoteIdentity {
                secret = environment.configuration.presharedKey(
                    local: identity, remote: remoteIdentity)
            } else {
                secret = environment.configuration.presharedKey(
                    local: identity, remotePattern: policy.remoteIdentity)
            }
            guard let secret else { return nil }
            let value = try presharedAuthentication(secret, octets, environment)
            return Proof(
                certificates: [],
                payload: .authentication(
                    method: AuthenticationMethod.presharedKey,
                    data: value.array()))
        case .signature(let signer):
            guard let scheme = signer.scheme(peerHashes: handshake.peerHashes) else { return nil }
            return Proof(
                certificates: signer.chain.map {
                    .certificate(encoding: CertificateEncoding.x509Signature, data: $0.der)
                },
                payload: try signer.authentication(octets, scheme))
        }
    }

    /// Nil when the peer is who it says.
    func verifyIdentity(
        _ policy: Connection, _ handshake: Handshake, _ identity: Identity, _ body: [UInt8],
        _ payloads: [Payload], _ seconds: Int64, _ environment: IKEEnvironment
    ) throws(CryptoError) -> ProofFault? {
        guard let proof = payloads.authentication else { return .missing }
        let octets = try signedOctets(
            handshake, byInitiator: role == .responder, identityBody: body, environment)
        switch policy.remoteAuthentication {
        case .presharedKey:
            guard proof.method == AuthenticationMethod.presharedKey else {
                return .wrongMethod(proof.method)
            }
            let secret = environment.configuration.presharedKey(
                local: policy.localIdentity, remote: identity)
            guard let secret else { return .noSharedKey }
            let value = try presharedAuthentication(secret, octets, environment)
            return value.equals(proof.data) ? nil : .wrongKey
        case .certificate(let anchors):
            guard proof.method != AuthenticationMethod.presharedKey else {
                return .wrongMethod(proof.method)
            }
            return SignatureProof(
                chain: payloads.certificates, method: proof.method, data: proof.data
            ).fault(of: identity, octets, anchors, seconds)
        }
    }
}

extension IKEConfiguration {
    /// The key for a peer that has not said yet who it is.
    func presharedKey(local: Identity, remotePattern: IdentityPattern) -> SharedSecret? {
        if case .exactly(let remote) = remotePattern {
            return presharedKey(local: local, remote: remote)
        }
        // Whoever answers could try the secret at leisure: only one that can be meant is used.
        let keys = presharedKeys.filter { key in
            key.identities.isEmpty || key.identities.contains { $0.matches(local) }
        }
        return keys.count == 1 ? keys[0].secret : nil
    }
}

extension SecretBytes {
    /// In time that depends on the lengths only.
    borrowing func equals(_ octets: [UInt8]) -> Bool {
        guard octets.count == count, count > 0 else { return false }
        return withUnsafeBytes { own in
            octets.withUnsafeBytes { other in
                guard let own = own.baseAddress, let other = other.baseAddress else { return false }
                return constantTimeEquals(own, other, count: octets.count)
            }
        }
    }
}
