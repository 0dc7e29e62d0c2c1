// NIST CAVP response files for AES-GCM: gcmEncryptExtIV*.rsp and gcmDecrypt*.rsp. Lines are
// "Name = value", sections "[Name = number]", comments "#"; "FAIL" stands where a tag must be
// refused.

internal import Crypto
internal import GatewayIO

/// The cases of one file.
struct NISTResponseFile {
    private struct Case {
        let name: String
        var fields: [String: [UInt8]] = [:]
        var fails = false
    }

    private var cases: [Case] = []

    init(_ bytes: [UInt8]) throws(FieldError) {
        var section = ""
        var isGCM = false
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let place = "line \(index + 1)"
            guard let text = String(validating: line, as: UTF8.self) else {
                throw FieldError(.notHexadecimal, place, "not text: name a CAVP response file")
            }
            let words = Self.trimmed(text[...])
            if words.isEmpty { continue }
            if words.hasPrefix("#") {
                isGCM = isGCM || words.contains("GCM ")
                continue
            }
            guard isGCM else {
                throw FieldError(
                    .unknownValue, place,
                    "not a file of NIST CAVP for GCM, whose first lines say so: leave it out, or "
                        + "use gcmEncryptExtIV*.rsp and gcmDecrypt*.rsp")
            }
            if words.hasPrefix("[") {
                section = Self.section(section, words)
            } else {
                try take(words, section, place)
            }
        }
        guard !cases.isEmpty else {
            throw FieldError(.missingField, "", "no case in it: download the file again")
        }
    }

    /// The lengths of a section tell its cases apart: their counts begin at 0 in each.
    private static func section(_ old: String, _ line: Substring) -> String {
        let isFirst = line.hasPrefix("[Keylen")
        let text = line.dropFirst().prefix { $0 != "]" }.filter { $0 != " " }
        return isFirst || old.isEmpty ? String(text) : "\(old) \(text)"
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let isSpace = { (character: Character) in character.isWhitespace }
        var text = text.drop(while: isSpace)
        while let last = text.last, isSpace(last) { text = text.dropLast() }
        return text
    }

    private mutating func take(
        _ line: Substring, _ section: String, _ place: String
    ) throws(FieldError) {
        let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(Self.trimmed(parts[0]))
        if parts.count == 2, name == "Count" {
            cases.append(Case(name: "[\(section)] Count \(Self.trimmed(parts[1]))"))
            return
        }
        guard !cases.isEmpty else {
            throw FieldError(.missingField, place, "a field before the first \"Count\": add it")
        }
        let last = cases.count - 1
        if parts.count == 1, name == "FAIL" {
            cases[last].fails = true
            return
        }
        guard parts.count == 2, ["Key", "IV", "PT", "AAD", "CT", "Tag"].contains(name) else {
            throw FieldError(
                .unknownField, place,
                "\(quoted(String(line))) is not a line of a GCM response file: correct it")
        }
        guard let octets = decodeHexadecimal(Self.trimmed(parts[1])) else {
            throw FieldError(
                .notHexadecimal, place,
                "not octets: use an even number of the digits 0-9 and a-f only")
        }
        guard cases[last].fields.updateValue(octets, forKey: name) == nil else {
            throw FieldError(.contradiction, place, "\(name) stands here a second time: remove one")
        }
    }

    func run(path: String, library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "NIST AES-GCM")
        let cipher = KnownAnswerCipher(library: library)
        for test in cases {
            guard let key = test.fields["Key"], let iv = test.fields["IV"],
                let aad = test.fields["AAD"], let ciphertext = test.fields["CT"],
                let tag = test.fields["Tag"], (test.fields["PT"] == nil) == test.fails
            else {
                throw FieldError(
                    .missingField, test.name,
                    "needs Key, IV, AAD, CT, Tag, and either PT or FAIL: download the file again")
            }
            let message = AEADMessage(
                key: key, iv: iv, aad: aad, plaintext: test.fields["PT"] ?? [],
                ciphertext: ciphertext, tag: tag)
            if let reason = AEADFamily.gcm.reasonToSkip(ivBytes: iv.count, tagBytes: tag.count) {
                report.skip(reason)
            } else {
                report.record(
                    test.name, cipher.run(message, .gcm, test.fails ? .invalid : .valid))
            }
        }
        return report
    }
}
