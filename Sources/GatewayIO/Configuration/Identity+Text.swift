// The text of identities in files: "gw.lab.example", "user@lab.example", "192.0.2.1",
// "C=CH, O=Lab, CN=gw", "keyid:office-7"; and of patterns: "%any", "*.lab.example", "*@lab.example",
// "C=CH, O=Lab, CN=*". Pure: no file, no clock.

internal import Crypto
public import IKEStub
internal import Wire

/// Why a text is not an identity: one sentence that says what to do.
public struct IdentityTextError: Error, Equatable, CustomStringConvertible {
    /// The sentence.
    public let description: String

    init(_ description: String) { self.description = description }
}

extension Identity {
    /// The most octets of an identity's text.
    private static let bytesMaximum = 1024

    /// Reads one identity. The kind is seen by the text, as strongSwan does: an address; a
    /// distinguished name where there is an equals sign; a mailbox where there is an @; else a domain
    /// name. `@` in front makes a domain name of what follows. `keyid:` makes octets of it (ID_KEY_ID),
    /// and `#` octets of pairs of hexadecimal digits.
    public init(parsing text: String) throws(IdentityTextError) {
        guard !text.isEmpty, text.utf8.count <= Self.bytesMaximum else {
            throw IdentityTextError(
                "an identity has 1 to \(Self.bytesMaximum) octets: correct it")
        }
        if text.hasPrefix("keyid:") {
            self = try Self.keyID(text)
        } else if text.hasPrefix("#") {
            self = .keyID(try Self.octets(text))
        } else if let address = IPAddress(text) {
            self = address.family == .v4 ? .ipv4(address) : .ipv6(address)
        } else if text.contains("=") {
            guard try IdentityPattern.openName(text) == nil else { throw Self.leftOpen(text) }
            do throws(DistinguishedNameFault) {
                self = .distinguishedName(try DistinguishedName(text: text).der)
            } catch {
                throw IdentityTextError("\(error)")
            }
        } else if text.hasPrefix("@") {
            self = .fqdn(try Self.domain(String(text.dropFirst()), in: text))
        } else if let at = text.lastIndex(of: "@") {
            let mailbox = text[..<at]
            guard mailbox != "*" else { throw Self.leftOpen(text) }
            guard !mailbox.isEmpty, Self.isPrintable(mailbox) else {
                throw Self.notAnIdentity(text)
            }
            _ = try Self.domain(String(text[text.index(after: at)...]), in: text)
            self = .email(text)
        } else {
            self = .fqdn(try Self.domain(text, in: text))
        }
    }

    private static func keyID(_ text: String) throws(IdentityTextError) -> Identity {
        let rest = text.dropFirst("keyid:".count)
        if rest.hasPrefix("#") { return .keyID(try octets(String(rest))) }
        guard !rest.isEmpty else { throw notAnIdentity(text) }
        return .keyID(Array(rest.utf8))
    }

    private static func octets(_ text: String) throws(IdentityTextError) -> [UInt8] {
        let digits = Array(text.dropFirst().utf8)
        let values = digits.map { Character(Unicode.Scalar($0)).hexDigitValue }
        guard !digits.isEmpty, digits.count % 2 == 0, !values.contains(nil) else {
            throw IdentityTextError(
                "\(quoted(text)) is not '#' with pairs of hexadecimal digits: correct it")
        }
        let nibbles = values.compactMap { $0.map(UInt8.init) }
        return stride(from: 0, to: nibbles.count, by: 2).map {
            nibbles[$0] << 4 | nibbles[$0 + 1]
        }
    }

    /// Labels of letters, digits, hyphens and underscores; not numbers and dots only, which would be
    /// a misspelt address.
    static func domain(
        _ name: String, in text: String
    ) throws(IdentityTextError) -> String {
        guard !name.contains("*"), !name.hasPrefix("%") else {
            throw leftOpen(text)
        }
        let isNumeric = name.utf8.allSatisfy { $0 == 0x2E || (0x30...0x39).contains($0) }
        guard name.isEmpty || !isNumeric, !name.contains(":") else {
            throw IdentityTextError(
                "\(quoted(text)) looks like an address, but is none: correct it, or write "
                    + "@\(name) for a name")
        }
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        let areLabels = labels.allSatisfy { label in
            !label.isEmpty
                && label.utf8.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                        || (0x61...0x7A).contains($0) || $0 == 0x2D || $0 == 0x5F
                }
        }
        guard areLabels else { throw notAnIdentity(text) }
        return name
    }

    private static func isPrintable(_ text: Substring) -> Bool {
        text.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "@") }
    }

    private static func leftOpen(_ text: String) -> IdentityTextError {
        IdentityTextError(
            "\(quoted(text)) can't stand here: only what a peer must be can be left open, as %any, "
                + "*.lab.example, *@lab.example or \"C=CH, O=Lab, CN=*\"")
    }

    private static func notAnIdentity(_ text: String) -> IdentityTextError {
        IdentityTextError(
            "\(quoted(text)) is not an identity: write such as gw.lab.example, user@lab.example, "
                + "192.0.2.1, \"C=CH, O=Lab, CN=gw\" or keyid:office-7")
    }
}

extension IdentityPattern {
    /// Reads what ``IKEStub/Identity/init(parsing:)`` reads, and patterns: `%any`; `*.` before a
    /// domain for all names below it; `*@` before a domain for all its mailboxes; `*` as the whole
    /// value of attributes of a distinguished name.
    public init(parsing text: String) throws(IdentityTextError) {
        if text == "%any" {
            self = .any
        } else if let pattern = try Self.openName(text) {
            self = .distinguishedNames(pattern)
        } else if text.hasPrefix("*.") {
            self = .fqdnBelow(try Identity.domain(String(text.dropFirst(2)), in: text))
        } else if text.hasPrefix("*@") {
            self = .emailAt(try Identity.domain(String(text.dropFirst(2)), in: text))
        } else {
            self = .exactly(try Identity(parsing: text))
        }
    }

    /// Nil for what is no distinguished name, or one without an open value.
    fileprivate static func openName(
        _ text: String
    ) throws(IdentityTextError) -> DistinguishedNamePattern? {
        guard text.contains("="), text.contains("*"), !text.hasPrefix("keyid:") else { return nil }
        do throws(DistinguishedNameFault) {
            let pattern = try DistinguishedNamePattern(text: text)
            return pattern.hasOpenValues ? pattern : nil
        } catch {
            throw IdentityTextError("\(error)")
        }
    }
}
