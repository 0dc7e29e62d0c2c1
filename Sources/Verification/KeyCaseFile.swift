// The format spindle-ikev2-keys-1: the keys of IKE SAs and their CHILD SAs.

internal import Crypto
internal import ESP
internal import GatewayIO
internal import IKEStub

/// Runs a file of such cases.
struct KeyCaseFile {
    private let cases: [(name: String, view: JSONView)]

    init(_ view: JSONView) throws(FieldError) { cases = try view.namedCases() }

    func run(path: String, library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "IKEv2 keys")
        for (name, view) in cases {
            try view.requireKnown(Self.fields)
            report.record(name, try KeyCase(view, library).run())
        }
        return report
    }

    private static let fields = [
        "name", "prf", "encr", "key_bits", "integ", "ni", "nr", "spi_i", "spi_r", "shared_secret",
        "skeyseed", "sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr", "rekeyed_prf",
        "rekeyed_sk_d", "children",
    ]
}

/// One IKE SA with its children.
private struct KeyCase {
    private let view: JSONView
    private let schedule: KeySchedule

    init(_ view: JSONView, _ library: CryptoLibrary) throws(FieldError) {
        self.view = view
        schedule = KeySchedule(try view.function("prf"), library: library)
    }

    /// nil when every key is right.
    func run() throws(FieldError) -> String? {
        let identity = ExchangeIdentity(
            initiatorNonce: try view.secret("ni"), responderNonce: try view.secret("nr"),
            initiatorSPI: try view.cookie("spi_i"), responderSPI: try view.cookie("spi_r"))
        let seed = try seed(identity)
        if let wrong = try view.difference("skeyseed", seed) { return wrong }
        let lengths = try view.keyLengths()
        let keys = try derive { () throws(CryptoError) in
            try schedule.keys(seed: seed, identity, lengths: lengths)
        }
        if let wrong = try compare(keys) { return wrong }
        for (index, child) in try (view.optionalArray("children") ?? []).enumerated() {
            let child = try JSONView(child, place: view.place(of: "children[\(index)]"))
            if let wrong = try run(child, keys) { return "child \(index): \(wrong)" }
        }
        return nil
    }

    private func seed(
        _ identity: borrowing ExchangeIdentity
    ) throws(FieldError) -> SecretBytes {
        let sharedSecret = try view.secret("shared_secret")
        guard view.has("rekeyed_sk_d") else {
            return try derive { () throws(CryptoError) in
                try schedule.seed(identity, sharedSecret: sharedSecret)
            }
        }
        let derivation = try view.secret("rekeyed_sk_d")
        let old = try view.function("rekeyed_prf")
        return try derive { () throws(CryptoError) in
            try schedule.rekeyedSeed(
                replacing: old, derivation: derivation, identity, sharedSecret: sharedSecret)
        }
    }

    private func compare(_ keys: borrowing IKEKeys) throws(FieldError) -> String? {
        if let wrong = try view.difference("sk_d", keys.derivation) { return wrong }
        if let wrong = try view.difference("sk_ai", keys.initiatorIntegrity) { return wrong }
        if let wrong = try view.difference("sk_ar", keys.responderIntegrity) { return wrong }
        if let wrong = try view.difference("sk_ei", keys.initiatorEncryption) { return wrong }
        if let wrong = try view.difference("sk_er", keys.responderEncryption) { return wrong }
        if let wrong = try view.difference("sk_pi", keys.initiatorAuthentication) { return wrong }
        return try view.difference("sk_pr", keys.responderAuthentication)
    }

    private func run(_ child: JSONView, _ keys: borrowing IKEKeys) throws(FieldError) -> String? {
        try child.requireKnown([
            "encr", "key_bits", "salt_bytes", "integ", "seed", "shared_secret",
            "initiator_encr_key", "initiator_salt", "initiator_integ_key", "responder_encr_key",
            "responder_salt", "responder_integ_key",
        ])
        let lengths = try child.keyLengths()
        let nonces = try child.secret("seed")
        if child.has("shared_secret") {
            let sharedSecret = try child.secret("shared_secret")
            let derived = try derive { () throws(CryptoError) in
                try schedule.childKeys(
                    derivation: keys.derivation, sharedSecret: sharedSecret, nonces: nonces,
                    lengths: lengths)
            }
            return try compare(child, derived)
        }
        let derived = try derive { () throws(CryptoError) in
            try schedule.childKeys(derivation: keys.derivation, nonces: nonces, lengths: lengths)
        }
        return try compare(child, derived)
    }

    private func compare(
        _ child: JSONView, _ derived: borrowing ChildKeys
    ) throws(FieldError) -> String? {
        let sides = [
            ("initiator", copied(derived.initiatorEncryption), copied(derived.initiatorIntegrity)),
            ("responder", copied(derived.responderEncryption), copied(derived.responderIntegrity)),
        ]
        for (side, encryption, integrity) in sides {
            let expected =
                try child.octets("\(side)_encr_key") + child.octets("\(side)_salt")
            if let wrong = difference("\(side)_encr_key", expected: expected, got: encryption) {
                return wrong
            }
            let key = try child.octets("\(side)_integ_key")
            if let wrong = difference("\(side)_integ_key", expected: key, got: integrity) {
                return wrong
            }
        }
        return nil
    }

    private func derive<Keys: ~Copyable>(
        _ body: () throws(CryptoError) -> Keys
    ) throws(FieldError) -> Keys {
        do throws(CryptoError) {
            return try body()
        } catch {
            throw FieldError(.unreadable, view.place, "\(error)")
        }
    }
}

extension JSONView {
    fileprivate func secret(_ name: String) throws(FieldError) -> SecretBytes {
        guard let secret = SecretBytes.decoding(hexadecimal: try text(name)) else {
            throw refuse(
                name, .notHexadecimal,
                "not octets: use an even number of the digits 0-9 and a-f only")
        }
        return secret
    }

    fileprivate func cookie(_ name: String) throws(FieldError) -> UInt64 {
        let octets = try octets(name)
        guard octets.count == 8 else {
            throw refuse(name, .outOfRange, "\(octets.count) octets: an IKE SPI has 8")
        }
        return octets.reduce(0) { $0 << 8 | UInt64($1) }
    }

    fileprivate func function(_ name: String) throws(FieldError) -> PseudoRandomFunction {
        let known = PseudoRandomFunction.allCases.map { ($0.rawValue, $0) }
        guard let function = try optionalChoice(name, known) else { throw missing(name) }
        return function
    }

    /// IKE's ciphers take the same lengths as ESP's.
    fileprivate func keyLengths() throws(FieldError) -> KeyLengths {
        guard
            let encryption = try optionalChoice(
                "encr", EncryptionAlgorithm.allCases.map { ($0.rawValue, $0) })
        else { throw missing("encr") }
        let integrity = try optionalChoice(
            "integ", IntegrityAlgorithm.allCases.map { ($0.rawValue, $0) })
        let keyBits = Int(try number("key_bits", in: 0...4096))
        do throws(TransformError) {
            let transform = try Transform(encryption, keyBits: keyBits, integrity: integrity)
            return KeyLengths(
                encryption: transform.keyBytes + transform.saltBytes,
                integrity: transform.integrityKeyBytes)
        } catch {
            throw refuse("encr", .contradiction, "\(error)")
        }
    }

    fileprivate func difference(
        _ name: String, _ got: borrowing SecretBytes
    ) throws(FieldError) -> String? {
        Verification.difference(name, expected: try self.octets(name), got: copied(got))
    }
}

private func copied(_ secret: borrowing SecretBytes) -> [UInt8] {
    secret.withUnsafeBytes { Array($0) }
}
