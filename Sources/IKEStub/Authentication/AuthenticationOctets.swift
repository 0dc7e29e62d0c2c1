// What each end signs to prove who it is (RFC 7296 §2.15).

internal import Crypto

extension IKEAssociation {
    /// Our own or the peer's signed octets:
    ///
    ///     InitiatorSignedOctets = RealMessage1 | NonceRData | prf(SK_pi, RestOfInitIDPayload)
    ///     ResponderSignedOctets = RealMessage2 | NonceIData | prf(SK_pr, RestOfRespIDPayload)
    func signedOctets(
        _ handshake: Handshake, byInitiator: Bool, identityBody: [UInt8],
        _ environment: IKEEnvironment
    ) throws(CryptoError) -> [UInt8] {
        guard let suite else { preconditionFailure("authentication follows negotiation") }
        let body = SecretBytes(identityBody)
        let mac = try withKeys { keys throws(CryptoError) -> SecretBytes in
            byInitiator
                ? try KeyedPRF(
                    suite.function, key: keys.initiatorAuthentication,
                    library: environment.library)(body)
                : try KeyedPRF(
                    suite.function, key: keys.responderAuthentication,
                    library: environment.library)(body)
        }
        let message = byInitiator ? handshake.request : handshake.response
        let isOwnNonce = byInitiator != (role == .initiator)
        let nonce = isOwnNonce ? handshake.nonce : handshake.peerNonce
        return message + nonce + mac.array()
    }

    /// AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>).
    func presharedAuthentication(
        _ secret: SharedSecret, _ octets: [UInt8], _ environment: IKEEnvironment
    ) throws(CryptoError) -> SecretBytes {
        guard let suite else { preconditionFailure("authentication follows negotiation") }
        let pad = SecretBytes(Array("Key Pad for IKEv2".utf8))
        let outer = try KeyedPRF(
            suite.function, key: secret.octets, library: environment.library)
        let key = try outer(pad)
        let prf = try KeyedPRF(suite.function, key: key, library: environment.library)
        return try prf(SecretBytes(octets))
    }
}

/// AUTH methods (RFC 7296 §3.8, RFC 4754, RFC 7427).
enum AuthenticationMethod {
    static let rsa: UInt8 = 1
    static let presharedKey: UInt8 = 2
    static let ecdsa256: UInt8 = 9
    static let ecdsa384: UInt8 = 10
    static let ecdsa521: UInt8 = 11
    static let digitalSignature: UInt8 = 14
}

extension SecretBytes {
    /// A copy that is not wiped: for what goes into a message.
    borrowing func array() -> [UInt8] { withUnsafeBytes { Array($0) } }

    init(_ octets: [UInt8]) {
        self.init(count: octets.count)
        withUnsafeMutableBytes { target in
            octets.withUnsafeBytes { target.copyMemory(from: $0) }
        }
    }
}
