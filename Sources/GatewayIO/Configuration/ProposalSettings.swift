// Reads lists of proposals, and names the weak choices in them (RFC 8221 for ESP, RFC 8247 for
// IKE).

internal import Crypto
internal import ESP
internal import IKEStub

enum ProposalSettings {
    /// What is offered and accepted where nothing is configured: combined modes first. A CHILD SA
    /// is rekeyed with a key agreement of its own if the peer does so too.
    private static let defaults: [ProposalPolicy.Use: [String]] = [
        .ike: [
            "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-x25519-ecp256-ecp384"
                + "-modp3072",
            "aes256-aes128-sha256-sha384-sha512-x25519-ecp256-ecp384-modp3072-modp2048",
        ],
        .child: [
            "aes256gcm16-aes128gcm16-chacha20poly1305-x25519-ecp256-ecp384-modp3072",
            "aes256gcm16-aes128gcm16-chacha20poly1305",
            "aes256-aes128-sha256-sha384-sha512-x25519-ecp256-ecp384-modp3072-modp2048",
            "aes256-aes128-sha256-sha384-sha512",
        ],
    ]

    /// What stands there, or the defaults; nil when something is wrong.
    static func read(_ setting: Setting?, for use: ProposalPolicy.Use) -> [ProposalPolicy]? {
        guard let setting else {
            return defaults[use]?.compactMap { try? ProposalPolicy($0, for: use) }
        }
        var earlier: [ProposalPolicy] = []
        let policies = setting.list { element -> ProposalPolicy? in
            let policy = element.parsed(.proposal) { text throws(ProposalError) in
                try ProposalError.parse(text, for: use)
            }
            guard let policy else { return nil }
            if let better = earlier.first(where: { $0.covers(policy) }) {
                element.warn(
                    .unusual,
                    "it is never chosen: all of it is in \(quoted(better.description)) before it")
            }
            earlier.append(policy)
            for weakness in policy.weaknesses { element.warn(.weak, weakness) }
            return policy
        }
        if let policies, policies.count > ProposalPolicy.listMaximum {
            setting.refuse(
                .outOfRange,
                "\(policies.count) proposals are too many: use at most "
                    + "\(ProposalPolicy.listMaximum); one may name several algorithms of a kind")
            return nil
        }
        if let policies, use == .child, policies.allSatisfy({ $0.groups.isEmpty }) {
            setting.warn(
                .weak,
                "no key agreement group: whoever learns the IKE SA's keys can read all of its "
                    + "CHILD SAs (no perfect forward secrecy, RFC 7296 §1.3)")
        }
        return policies
    }
}

/// A proposal that is none, with the words that are near.
private struct ProposalError: Error, CustomStringConvertible {
    let description: String

    static func parse(
        _ text: String, for use: ProposalPolicy.Use
    ) throws(ProposalError) -> ProposalPolicy {
        do throws(ProposalTextFault) {
            return try ProposalPolicy(text, for: use)
        } catch {
            throw ProposalError(description: "\(quoted(text)): \(error)")
        }
    }
}

extension ProposalPolicy {
    /// True when a peer that could be given something of `other` is given something of this one.
    fileprivate func covers(_ other: ProposalPolicy) -> Bool {
        Set(ciphers).isSuperset(of: other.ciphers)
            && Set(integrities).isSuperset(of: other.integrities)
            && Set(functions).isSuperset(of: other.functions)
            && groups.isEmpty == other.groups.isEmpty && Set(groups).isSuperset(of: other.groups)
            && Set(extendedSequenceNumbers).isSuperset(of: other.extendedSequenceNumbers)
    }

    /// One sentence for each choice that protects less than others would.
    fileprivate var weaknesses: [String] {
        var sentences: [String] = []
        for cipher in ciphers {
            switch cipher.algorithm {
            case .null, .aesGMAC:
                sentences.append(
                    "\(cipher.algorithm.rawValue) does not encrypt: everybody can read the packets")
            case .aesGCM8, .aesCCM8, .aesGCM12:
                sentences.append(
                    "\(cipher.algorithm.rawValue) has a short tag, which is easier to forge: take "
                        + "one of 16 octets")
            default: break
            }
        }
        if integrities.contains(.hmacSHA1) {
            sentences.append("sha1 is for old peers only (RFC 8247 §2.3): take sha256")
        }
        if functions.contains(.hmacSHA1), !integrities.contains(.hmacSHA1) {
            sentences.append("prfsha1 is for old peers only (RFC 8247 §2.2): take prfsha256")
        }
        if groups.contains(.modp2048) {
            sentences.append(
                "modp2048 has about 112 bits of strength, less than the ciphers: take x25519, "
                    + "ecp256 or modp3072")
        }
        return sentences
    }
}
