// All keys of an IKEv2 SA and of its CHILD SAs from one Diffie-Hellman exchange (RFC 7296 §2.14,
// §2.17, §2.18). Each formula of the RFC is one function; lengths come from the negotiated suite.

public import Crypto

/// How many octets of key the algorithms of an SA take.
public struct KeyLengths: Hashable, Sendable {
    /// Cipher key and, for counter modes and AEADs, the salt behind it.
    public let encryption: Int
    /// Key of the integrity algorithm; 0 with an AEAD.
    public let integrity: Int

    /// Lengths in octets.
    public init(encryption: Int, integrity: Int) {
        precondition(encryption >= 0 && integrity >= 0)
        self.encryption = encryption
        self.integrity = integrity
    }
}

/// What both ends put into an IKE_SA_INIT exchange, beside Diffie-Hellman.
public struct ExchangeIdentity: ~Copyable {
    /// Ni, without the payload header.
    public let initiatorNonce: SecretBytes
    /// Nr, without the payload header.
    public let responderNonce: SecretBytes
    /// SPIi, the initiator's cookie.
    public let initiatorSPI: UInt64
    /// SPIr.
    public let responderSPI: UInt64

    /// Takes over the nonces.
    public init(
        initiatorNonce: consuming SecretBytes, responderNonce: consuming SecretBytes,
        initiatorSPI: UInt64, responderSPI: UInt64
    ) {
        self.initiatorNonce = initiatorNonce
        self.responderNonce = responderNonce
        self.initiatorSPI = initiatorSPI
        self.responderSPI = responderSPI
    }

    /// Ni | Nr.
    borrowing func nonces() -> SecretBytes { .joined(initiatorNonce, responderNonce) }

    /// Ni | Nr | SPIi | SPIr.
    borrowing func seed() -> SecretBytes {
        let nonces = nonces()
        var seed = SecretBytes(count: nonces.count + 16)
        seed.copy(nonces, at: 0)
        seed.withUnsafeMutableBytes { bytes in
            bytes.storeBytes(
                of: initiatorSPI.bigEndian, toByteOffset: nonces.count, as: UInt64.self)
            bytes.storeBytes(
                of: responderSPI.bigEndian, toByteOffset: nonces.count + 8, as: UInt64.self)
        }
        return seed
    }
}

/// The seven secrets of an IKE SA.
public struct IKEKeys: ~Copyable {
    /// SK_d, from which CHILD SAs and the next IKE SA get their keys.
    public let derivation: SecretBytes
    /// SK_ai; empty with an AEAD.
    public let initiatorIntegrity: SecretBytes
    /// SK_ar; empty with an AEAD.
    public let responderIntegrity: SecretBytes
    /// SK_ei, with its salt behind it.
    public let initiatorEncryption: SecretBytes
    /// SK_er, with its salt behind it.
    public let responderEncryption: SecretBytes
    /// SK_pi, for the AUTH payload.
    public let initiatorAuthentication: SecretBytes
    /// SK_pr.
    public let responderAuthentication: SecretBytes

    /// Cuts the output of prf+ in the order of RFC 7296 §2.14.
    init(cutting stream: borrowing SecretBytes, _ lengths: KeyLengths, prfBytes: Int) {
        var cutter = Cutter()
        derivation = cutter.next(prfBytes, of: stream)
        initiatorIntegrity = cutter.next(lengths.integrity, of: stream)
        responderIntegrity = cutter.next(lengths.integrity, of: stream)
        initiatorEncryption = cutter.next(lengths.encryption, of: stream)
        responderEncryption = cutter.next(lengths.encryption, of: stream)
        initiatorAuthentication = cutter.next(prfBytes, of: stream)
        responderAuthentication = cutter.next(prfBytes, of: stream)
    }
}

/// The keys of a pair of CHILD SAs; "initiator" is the initiator of the exchange that made them.
public struct ChildKeys: ~Copyable {
    /// Of the SA from the initiator to the responder, with its salt behind it.
    public let initiatorEncryption: SecretBytes
    /// Empty with an AEAD.
    public let initiatorIntegrity: SecretBytes
    /// Of the SA from the responder to the initiator, with its salt behind it.
    public let responderEncryption: SecretBytes
    /// Empty with an AEAD.
    public let responderIntegrity: SecretBytes

    /// RFC 7296 §2.17: one direction after the other, encryption before integrity.
    fileprivate init(cutting keymat: borrowing SecretBytes, _ lengths: KeyLengths) {
        var cutter = Cutter()
        initiatorEncryption = cutter.next(lengths.encryption, of: keymat)
        initiatorIntegrity = cutter.next(lengths.integrity, of: keymat)
        responderEncryption = cutter.next(lengths.encryption, of: keymat)
        responderIntegrity = cutter.next(lengths.integrity, of: keymat)
    }
}

/// Takes consecutive parts of a stream.
private struct Cutter {
    private var offset = 0

    mutating func next(_ count: Int, of stream: borrowing SecretBytes) -> SecretBytes {
        defer { offset += count }
        return stream.slice(offset..<offset + count)
    }
}

/// The derivations of one IKE SA. They throw only when OpenSSL can't allocate.
public struct KeySchedule {
    /// The negotiated PRF.
    public let function: PseudoRandomFunction
    private let library: CryptoLibrary

    /// For an IKE SA with the PRF `function`.
    public init(_ function: PseudoRandomFunction, library: CryptoLibrary) {
        self.function = function
        self.library = library
    }

    /// RFC 7296 §2.14: SKEYSEED = prf(Ni | Nr, g^ir).
    public func seed(
        _ identity: borrowing ExchangeIdentity, sharedSecret: borrowing SecretBytes
    ) throws(CryptoError) -> SecretBytes {
        let nonces = identity.nonces()
        let prf = try KeyedPRF(function, key: nonces, library: library)
        return try prf(sharedSecret)
    }

    /// RFC 7296 §2.18: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), with the PRF and the SK_d
    /// of the IKE SA that is replaced; nonces and g^ir are those of the rekeying exchange.
    public func rekeyedSeed(
        replacing oldFunction: PseudoRandomFunction, derivation: borrowing SecretBytes,
        _ identity: borrowing ExchangeIdentity, sharedSecret: borrowing SecretBytes
    ) throws(CryptoError) -> SecretBytes {
        let nonces = identity.nonces()
        let data = SecretBytes.joined(sharedSecret, nonces)
        let prf = try KeyedPRF(oldFunction, key: derivation, library: library)
        return try prf(data)
    }

    /// RFC 7296 §2.14: SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr
    /// = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr).
    public func keys(
        seed: borrowing SecretBytes, _ identity: borrowing ExchangeIdentity, lengths: KeyLengths
    ) throws(CryptoError) -> IKEKeys {
        let prf = try KeyedPRF(function, key: seed, library: library)
        let count = 3 * function.byteCount + 2 * (lengths.integrity + lengths.encryption)
        let expansion = identity.seed()
        let stream = try prf.expand(seed: expansion, count: count)
        return IKEKeys(cutting: stream, lengths, prfBytes: function.byteCount)
    }

    /// RFC 7296 §2.17: KEYMAT = prf+(SK_d, Ni | Nr), or with a Diffie-Hellman exchange of its own
    /// (perfect forward secrecy) prf+(SK_d, g^ir (new) | Ni | Nr). `nonces` is Ni | Nr of the
    /// exchange that makes the CHILD SA.
    public func childKeys(
        derivation: borrowing SecretBytes, nonces: borrowing SecretBytes, lengths: KeyLengths
    ) throws(CryptoError) -> ChildKeys {
        let prf = try KeyedPRF(function, key: derivation, library: library)
        let count = 2 * (lengths.encryption + lengths.integrity)
        let keymat = try prf.expand(seed: nonces, count: count)
        return ChildKeys(cutting: keymat, lengths)
    }

    /// The same with perfect forward secrecy: `sharedSecret` is g^ir of the CHILD SA's exchange.
    public func childKeys(
        derivation: borrowing SecretBytes, sharedSecret: borrowing SecretBytes,
        nonces: borrowing SecretBytes, lengths: KeyLengths
    ) throws(CryptoError) -> ChildKeys {
        let seed = SecretBytes.joined(sharedSecret, nonces)
        return try childKeys(derivation: derivation, nonces: seed, lengths: lengths)
    }
}
