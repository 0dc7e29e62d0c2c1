// Wycheproof's JSON (C2SP/wycheproof): AEAD, MAC and MAC-with-IV tests, of schema version 1 and of
// the older one, whose files name the type in their groups only.

internal import Crypto
internal import GatewayIO

/// One file: all of its groups are for one algorithm.
struct WycheproofFile {
    private enum Kind {
        case aead(AEADFamily)
        case gmac
        case hmac(HMACFunction)
    }

    private let algorithm: String
    private let kind: Kind
    private let groups: [JSONView]

    init(_ view: JSONView) throws(FieldError) {
        algorithm = try view.text("algorithm")
        groups = try view.views("testGroups")
        let types = Set(try groups.map { group throws(FieldError) in try group.text("type") })
        switch (types, algorithm) {
        case (["AeadTest"], "AES-GCM"): kind = .aead(.gcm)
        case (["AeadTest"], "AES-CCM"): kind = .aead(.ccm)
        case (["AeadTest"], "CHACHA20-POLY1305"): kind = .aead(.chaCha20Poly1305)
        case (["MacWithIvTest"], "AES-GMAC"): kind = .gmac
        case (["MacTest"], _) where algorithm.hasPrefix("HMAC"):
            kind = .hmac(try HMACFunction(algorithm, view))
        default:
            throw view.refuse(
                "algorithm", .unknownValue,
                "\(quoted(algorithm)) (\(types.sorted().map(quoted).joined(separator: ", "))) is "
                    + "not an algorithm of ESP: leave the file out, or use those for AES-GCM, "
                    + "AES-CCM, CHACHA20-POLY1305, AES-GMAC or HMAC")
        }
    }

    func run(path: String, library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "Wycheproof \(algorithm)")
        let cipher = KnownAnswerCipher(library: library)
        for group in groups {
            for test in try group.views("tests") {
                let name = "tcId \(try test.number("tcId"))"
                let verdict = try Self.verdict(test)
                switch kind {
                case .aead(let family):
                    let message = try Self.message(test)
                    run(message, family, verdict, name, cipher, &report)
                case .gmac:
                    let message = AEADMessage(
                        key: try test.octets("key"), iv: try test.octets("iv"),
                        aad: try test.octets("msg"), plaintext: [], ciphertext: [],
                        tag: try test.octets("tag"))
                    run(message, .gmac, verdict, name, cipher, &report)
                case .hmac(let function):
                    let difference = function.check(
                        key: try test.octets("key"), message: try test.octets("msg"),
                        tag: try test.octets("tag"), verdict, cipher)
                    report.record(name, difference)
                }
            }
        }
        return report
    }

    private func run(
        _ message: AEADMessage, _ family: AEADFamily, _ verdict: KnownVerdict, _ name: String,
        _ cipher: KnownAnswerCipher, _ report: inout FileReport
    ) {
        if let reason = family.reasonToSkip(
            ivBytes: message.iv.count, tagBytes: message.tag.count)
        {
            report.skip(reason)
        } else {
            report.record(name, cipher.run(message, family, verdict))
        }
    }

    private static func message(_ test: JSONView) throws(FieldError) -> AEADMessage {
        AEADMessage(
            key: try test.octets("key"), iv: try test.octets("iv"), aad: try test.octets("aad"),
            plaintext: try test.octets("msg"), ciphertext: try test.octets("ct"),
            tag: try test.octets("tag"))
    }

    private static func verdict(_ test: JSONView) throws(FieldError) -> KnownVerdict {
        let words: [(word: String, value: KnownVerdict)] = [
            ("valid", .valid), ("invalid", .invalid), ("acceptable", .acceptable),
        ]
        guard let verdict = try test.optionalChoice("result", words) else {
            throw test.missing("result")
        }
        return verdict
    }
}

/// HMAC with one hash: by the packet path's context where ESP has the hash, else by OpenSSL's name.
private enum HMACFunction {
    case context(Hash)
    case named(String)

    /// "HMACSHA256", "HMACSHA512/224", "HMACSHA3-384" and so on.
    init(_ algorithm: String, _ view: JSONView) throws(FieldError) {
        let known: [String: Hash] = [
            "SHA1": .sha1, "SHA256": .sha256, "SHA384": .sha384, "SHA512": .sha512,
        ]
        let word = algorithm.dropFirst("HMAC".count).drop { $0 == "-" }
        let name = String(word.map { $0 == "/" ? "-" : $0 })
        if let hash = known[name] {
            self = .context(hash)
            return
        }
        do throws(CryptoError) {
            _ = try NamedDigest(name: name)
        } catch {
            throw view.refuse(
                "algorithm", .unknownValue,
                "\(quoted(algorithm)): OpenSSL has no such hash: leave the file out")
        }
        self = .named(name)
    }

    func check(
        key: [UInt8], message: [UInt8], tag: [UInt8], _ verdict: KnownVerdict,
        _ cipher: KnownAnswerCipher
    ) -> String? {
        guard let full = compute(key: key, message: message, cipher) else { return "HMAC failed" }
        let isRight = (1...full.count).contains(tag.count) && Array(full.prefix(tag.count)) == tag
        switch verdict {
        case .acceptable: return nil
        case .invalid: return isRight ? "expected a refusal, but the tag is right" : nil
        case .valid:
            return isRight
                ? nil
                : difference("tag", expected: tag, got: Array(full.prefix(tag.count)))
                    ?? "expected acceptance of a tag of \(tag.count) octets"
        }
    }

    private func compute(
        key: [UInt8], message: [UInt8], _ cipher: KnownAnswerCipher
    ) -> [UInt8]? {
        switch self {
        case .context(let hash): return cipher.hmac(hash, key: key, data: message)
        case .named(let name):
            guard let digest = try? NamedDigest(name: name) else { return nil }
            return key.withUnsafeBytes { key in
                message.withUnsafeBytes { try? digest.hmac(key: key, data: $0) }
            }
        }
    }
}
