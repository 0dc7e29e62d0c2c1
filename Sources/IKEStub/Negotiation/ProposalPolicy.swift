// What a gateway offers and accepts (RFC 7296 §3.3), written as the users of strongSwan write it:
// `aes256gcm16-prfsha384-x25519`. A policy is one proposal with alternatives inside; a connection
// has a list of them, the best first.

public import Crypto
public import ESP

/// Why a text is not a proposal.
public enum ProposalTextFault: Error, Equatable, CustomStringConvertible {
    /// A word that names no algorithm we have.
    case unknownWord(String)
    /// A word that stands twice.
    case repeated(String)
    /// Ciphers that authenticate and ciphers that don't, in one proposal.
    case mixedCiphers
    /// Something that such a proposal must name: "a cipher", "a PRF", …
    case missing(String)
    /// Something that such a proposal must not name.
    case notAllowed(String)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .unknownWord(let word):
            "\"\(word)\" names no algorithm: write such as aes256gcm16-prfsha384-x25519 or "
                + "aes128-sha256-modp2048"
        case .repeated(let word): "\(word) stands twice"
        case .mixedCiphers:
            "ciphers with and without authentication of their own can't share a proposal: write two"
        case .missing(let what): "it names no \(what)"
        case .notAllowed(let what): "\(what) is not for this kind of proposal"
        }
    }
}

/// Algorithms in order of preference, for IKE SAs or for CHILD SAs.
public struct ProposalPolicy: Hashable, Sendable {
    /// As many as a peer may offer, too: more than these in one list are not sent.
    public static let listMaximum = [Proposal].proposalsMaximum

    /// What a proposal is for.
    public enum Use: Sendable { case ike, child }

    /// IKE or ESP.
    public let use: Use
    /// All of them combined ciphers, or none.
    public let ciphers: [CipherChoice]
    /// Empty with combined ciphers.
    public let integrities: [IntegrityAlgorithm]
    /// For IKE only.
    public let functions: [PseudoRandomFunction]
    /// For a CHILD SA: empty means that its keys come from the IKE SA alone (no perfect forward
    /// secrecy).
    public let groups: [KeyAgreementGroup]
    /// For a CHILD SA: whether extended sequence numbers are used, in order of preference.
    public let extendedSequenceNumbers: [Bool]

    /// Reads words joined by hyphens. Without a PRF, an IKE proposal takes that of its integrity
    /// algorithm; without `esn` or `noesn`, a CHILD proposal has no extended numbers.
    public init(_ text: String, for use: Use) throws(ProposalTextFault) {
        var words = Words()
        var seen: Set<Substring> = []
        for word in text.split(separator: "-", omittingEmptySubsequences: false) {
            guard seen.insert(word).inserted else { throw .repeated(String(word)) }
            try words.add(String(word))
        }
        self.use = use
        ciphers = words.ciphers
        integrities = words.integrities
        groups = words.groups
        let combined = words.ciphers.filter { $0.algorithm.isCombined }.count
        guard !ciphers.isEmpty else { throw .missing("cipher") }
        guard combined == 0 || combined == ciphers.count else { throw .mixedCiphers }
        if combined == 0, integrities.isEmpty { throw .missing("integrity algorithm") }
        if combined > 0, !integrities.isEmpty {
            throw .notAllowed("an integrity algorithm beside a cipher that authenticates")
        }
        switch use {
        case .ike:
            functions =
                words.functions.isEmpty
                ? integrities.map(PseudoRandomFunction.init(beside:)) : words.functions
            extendedSequenceNumbers = []
            guard !functions.isEmpty else { throw .missing("PRF") }
            guard !groups.isEmpty else { throw .missing("key agreement group") }
            guard words.extended.isEmpty else { throw .notAllowed("esn") }
            guard ciphers.allSatisfy({ $0.algorithm.protectsMessages }) else {
                throw .notAllowed("a cipher that does not encrypt, or a counter mode without tag,")
            }
        case .child:
            functions = []
            extendedSequenceNumbers = words.extended.isEmpty ? [false] : words.extended
            guard words.functions.isEmpty else { throw .notAllowed("a PRF") }
        }
    }

    private struct Words {
        var ciphers: [CipherChoice] = []
        var integrities: [IntegrityAlgorithm] = []
        var functions: [PseudoRandomFunction] = []
        var groups: [KeyAgreementGroup] = []
        var extended: [Bool] = []

        mutating func add(_ word: String) throws(ProposalTextFault) {
            if let cipher = CipherChoice.all.first(where: { $0.word == word }) {
                ciphers.append(cipher)
            } else if let integrity = IntegrityAlgorithm.allCases.first(where: { $0.word == word })
            {
                integrities.append(integrity)
            } else if let prf = PseudoRandomFunction.allCases.first(where: { $0.word == word }) {
                functions.append(prf)
            } else if let group = KeyAgreementGroup.allCases.first(where: { $0.word == word }) {
                groups.append(group)
            } else if word == "esn" || word == "noesn" {
                extended.append(word == "esn")
            } else {
                throw .unknownWord(word)
            }
        }
    }

    /// The alternatives of each transform type. `offersGroups`: an IKE_AUTH exchange has no key
    /// agreement for its CHILD SA (RFC 7296 §1.2).
    func alternatives(offersGroups: Bool = true) -> [[ProposalTransform]] {
        var lists = [
            ciphers.map(\.transform),
            integrities.map { ProposalTransform(.integrity, id: $0.number) },
            functions.map { ProposalTransform(.pseudoRandomFunction, id: $0.number) },
        ]
        if offersGroups {
            lists.append(groups.map { ProposalTransform(.keyAgreement, id: $0.rawValue) })
        }
        lists.append(
            extendedSequenceNumbers.map {
                ProposalTransform(.extendedSequenceNumbers, id: $0 ? 1 : 0)
            })
        return lists.filter { !$0.isEmpty }
    }

    /// The proposal to send.
    func proposal(number: UInt8, spi: [UInt8], offersGroups: Bool = true) -> Proposal {
        Proposal(
            number: number, protocol: use == .ike ? .ike : .esp, spi: spi,
            transforms: alternatives(offersGroups: offersGroups).flatMap { $0 })
    }
}

extension ProposalPolicy: CustomStringConvertible {
    /// As it is configured.
    public var description: String {
        let words =
            ciphers.map(\.word) + integrities.map(\.word) + functions.map(\.word)
            + groups.map(\.word) + extendedSequenceNumbers.map { $0 ? "esn" : "noesn" }
        return words.joined(separator: "-")
    }
}

extension EncryptionAlgorithm {
    /// True for the ciphers of RFC 5282, RFC 7634 and RFC 7296 §3.14.
    var protectsMessages: Bool {
        switch self {
        case .null, .aesGMAC, .aesCTR: false
        default: true
        }
    }
}
