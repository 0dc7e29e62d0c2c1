// What a negotiation ends with: one algorithm of each kind.

public import Crypto
public import ESP

/// The algorithms of an IKE SA.
public struct IKESuite: Hashable, Sendable, CustomStringConvertible {
    /// Cipher and integrity of its messages.
    public let protection: MessageSuite
    /// The PRF of its keys.
    public let function: PseudoRandomFunction
    /// The key agreement.
    public let group: KeyAgreementGroup

    init(protection: MessageSuite, function: PseudoRandomFunction, group: KeyAgreementGroup) {
        self.protection = protection
        self.function = function
        self.group = group
    }

    /// Nil unless the transforms are one of each kind that we know.
    init?(_ transforms: [ProposalTransform]) {
        guard let cipher = transforms.cipher,
            let function = transforms.function, let group = transforms.group,
            let protection = MessageSuite(
                cipher.algorithm, keyBits: cipher.keyBits, integrity: transforms.integrity)
        else { return nil }
        self.init(protection: protection, function: function, group: group)
    }

    /// As it would be configured.
    public var description: String {
        let cipher = protection.encryption.word(keyBits: protection.keyBits)
        let words = [cipher, protection.integrity?.word, function.word, group.word]
        return words.compactMap { $0 }.joined(separator: "-")
    }
}

/// The algorithms of a pair of CHILD SAs.
public struct ChildSuite: Hashable, Sendable, CustomStringConvertible {
    /// Cipher and integrity.
    public let transform: Transform
    /// Extended sequence numbers.
    public let usesESN: Bool
    /// The key agreement of its own; nil: keys from the IKE SA alone.
    public let group: KeyAgreementGroup?

    /// Nil unless the transforms are one of each kind that we know. A proposal without the
    /// transform for extended numbers has none.
    init?(_ transforms: [ProposalTransform]) {
        guard let cipher = transforms.cipher,
            let transform = try? Transform(
                cipher.algorithm, keyBits: cipher.keyBits, integrity: transforms.integrity)
        else { return nil }
        self.transform = transform
        usesESN = transforms.first { $0.kind == .extendedSequenceNumbers }?.id == 1
        group = transforms.group
    }

    init(transform: Transform, usesESN: Bool, group: KeyAgreementGroup?) {
        self.transform = transform
        self.usesESN = usesESN
        self.group = group
    }

    /// As it would be configured.
    public var description: String {
        let words = [
            transform.encryption.word(keyBits: transform.keyBits), transform.integrity?.word,
            group?.word, usesESN ? "esn" : nil,
        ]
        return words.compactMap { $0 }.joined(separator: "-")
    }

    /// Octets of key, with the salt counted to the cipher.
    var keyLengths: KeyLengths {
        KeyLengths(
            encryption: transform.keyBytes + transform.saltBytes,
            integrity: transform.integrityKeyBytes)
    }
}

extension [ProposalTransform] {
    var cipher: CipherChoice? {
        guard let transform = first(where: { $0.kind == .encryption }) else { return nil }
        return CipherChoice.all.first { $0.transform == transform || $0.isMeant(by: transform) }
    }

    var integrity: IntegrityAlgorithm? {
        let number = first { $0.kind == .integrity }?.id
        return IntegrityAlgorithm.allCases.first { $0.number == number }
    }

    var function: PseudoRandomFunction? {
        let number = first { $0.kind == .pseudoRandomFunction }?.id
        return PseudoRandomFunction.allCases.first { $0.number == number }
    }

    var group: KeyAgreementGroup? {
        first { $0.kind == .keyAgreement }.flatMap { KeyAgreementGroup(rawValue: $0.id) }
    }
}

extension ProposalTransform {
    /// The kind, where it is one of RFC 7296.
    var kind: TransformType? { TransformType(rawValue: type) }
}

extension CipherChoice {
    /// Peers may name the only key length that a cipher has (RFC 7296 §3.3.5).
    func isMeant(by transform: ProposalTransform) -> Bool {
        transform.kind == .encryption && transform.id == algorithm.number
            && !transform.unknownAttributes && transform.keyBits == keyBits
            && !algorithm.hasKeyLengthAttribute
    }
}
