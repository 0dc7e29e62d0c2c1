// Which algorithms protect the messages of an IKE SA (RFC 7296 §3.14, RFC 5282, RFC 7634).

public import ESP

/// A cipher with its key length, and the integrity algorithm beside it. Both ends use one suite.
public struct MessageSuite: Hashable, Sendable {
    /// The numbers of ESP's transforms are IKE's too.
    let transform: Transform

    /// Nil for what does not protect IKE messages: an AEAD with an integrity algorithm, AES_CBC
    /// without one, a key length that the cipher does not have, or AES_GMAC, AES_CTR and NULL.
    public init?(
        _ encryption: EncryptionAlgorithm, keyBits: Int, integrity: IntegrityAlgorithm? = nil
    ) {
        switch encryption {
        case .aesGMAC, .aesCTR, .null: return nil
        default: break
        }
        guard let transform = try? Transform(encryption, keyBits: keyBits, integrity: integrity)
        else { return nil }
        self.transform = transform
    }

    /// The cipher.
    public var encryption: EncryptionAlgorithm { transform.encryption }
    /// Bits of cipher key, without salt.
    public var keyBits: Int { transform.keyBits }
    /// nil with an AEAD.
    public var integrity: IntegrityAlgorithm? { transform.integrity }

    /// Octets of SK_e with its salt behind it, and of SK_a.
    public var keyLengths: KeyLengths {
        KeyLengths(
            encryption: transform.keyBytes + transform.saltBytes,
            integrity: transform.integrityKeyBytes)
    }

    /// Octets of IV in each message.
    public var ivBytes: Int { transform.ivBytes }
    /// Octets of Integrity Checksum Data in each message.
    public var icvBytes: Int { transform.icvBytes }
    /// What content, padding and pad length fill up together; an AEAD needs nothing (RFC 5282 §3).
    var alignment: Int { encryption == .aesCBC ? 16 : 1 }

    /// Octets of padding behind `count` octets of content, without the pad length.
    func paddingBytes(_ count: Int) -> Int { (alignment - (count + 1) % alignment) % alignment }
}
