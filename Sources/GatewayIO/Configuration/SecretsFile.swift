// The file of pre-shared keys. No text of it is ever repeated in a fault. The texts of the YAML reader
// can't be wiped: strings give no access to their own memory. They are freed with the tree.

internal import Crypto
internal import IKEStub

/// Reads `preshared_keys`.
enum SecretsFile {
    /// Octets below which a key is named as weak.
    static let strongBytes = 16
    private static let bytesMaximum = 4096
    private static let advice =
        "write an identity such as gw.lab.example, user@lab.example, 192.0.2.1, "
        + "\"C=CH, O=Lab, CN=*\", \"*.lab.example\" or \"%any\""

    /// The keys, with the text of none of them kept. `nil`: something is wrong.
    static func read(
        _ setting: Setting, _ files: ConfigurationFiles
    ) -> [PresharedKey]? {
        guard case (let path, var octets)? = files.octets(of: setting, secret: true) else {
            return nil
        }
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        let source = SettingSource(file: path, hidesTexts: true, log: setting.source.log)
        guard let root = source.root(octets)?.settings(["preshared_keys"]),
            let list = root.required("preshared_keys")
        else { return nil }
        return list.list(key)
    }

    private static func key(_ setting: Setting) -> PresharedKey? {
        let known = ["identities", "secret", "secret_hex", "secret_base64"]
        guard let fields = setting.settings(known) else { return nil }
        let identities = fields.required("identities").flatMap { list -> [IdentityPattern]? in
            list.list { element in
                element.parsed(.identity, advice: advice) { text throws(IdentityTextError) in
                    try IdentityPattern(parsing: text)
                }
            }
        }
        let secret = secret(fields)
        guard let identities, let secret else { return nil }
        if identities.contains(.any) {
            setting.warn(
                .weak, "it serves %any: whoever has it can pass for every peer that uses it")
        }
        return PresharedKey(identities: identities, secret: secret)
    }

    private static func secret(_ fields: Settings) -> SharedSecret? {
        let forms = ["secret", "secret_hex", "secret_base64"].compactMap { name in
            fields[name].map { (name, $0) }
        }
        guard let (name, setting) = forms.first else {
            fields.refuse(
                .missingKey, "secret",
                "missing: add it, or secret_hex or secret_base64 for a key that is not a text")
            return nil
        }
        guard forms.count == 1 else {
            forms[1].1.refuse(.contradiction, "a key has one secret: remove the others")
            return nil
        }
        guard case .text(let text, let isPlain) = setting.node.content else {
            setting.refuse(.wrongType, "\(setting.node.kind) where a text is expected: correct it")
            return nil
        }
        guard !isPlain || name != "secret" else {
            setting.refuse(
                .wrongType,
                "put it in quotes: without them, YAML ends it before \" #\" and drops spaces")
            return nil
        }
        let octets: SecretBytes? =
            switch name {
            case "secret_hex": SecretBytes.decoding(hexadecimal: text)
            case "secret_base64": base64(text)
            default: bytes(of: text)
            }
        guard let octets, (1...bytesMaximum).contains(octets.count) else {
            setting.refuse(
                .secret,
                "it can't be read: use 1 to \(bytesMaximum) octets, as a text in quotes "
                    + "(secret), as pairs of hexadecimal digits (secret_hex) or as base64 "
                    + "(secret_base64)")
            return nil
        }
        if octets.count < strongBytes {
            setting.warn(
                .weak,
                "it has \(octets.count) octets: less than \(strongBytes) random ones can be tried "
                    + "out by whoever answers one set-up (RFC 7296 §2.15)")
        }
        return SharedSecret(octets)
    }

    private static func bytes(of text: String) -> SecretBytes {
        var octets = Array(text.utf8)
        return SecretBytes(moving: &octets)
    }

    /// RFC 4648 §4, with padding.
    private static func base64(_ text: String) -> SecretBytes? {
        let digits = Array(text.utf8)
        guard digits.count % 4 == 0 else { return nil }
        let padding = digits.reversed().prefix { $0 == UInt8(ascii: "=") }.count
        guard padding <= 2 else { return nil }
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var octets: [UInt8] = []
        octets.reserveCapacity(digits.count / 4 * 3)
        var bits: UInt32 = 0
        for (index, digit) in digits.enumerated() {
            let isPadding = index >= digits.count - padding
            guard let value = isPadding ? 0 : alphabet.firstIndex(of: digit) else { return nil }
            bits = bits << 6 | UInt32(value)
            guard index % 4 == 3 else { continue }
            octets += [16, 8, 0].map { UInt8(truncatingIfNeeded: bits >> $0) }
            bits = 0
        }
        octets.removeLast(padding)
        return SecretBytes(moving: &octets)
    }
}
