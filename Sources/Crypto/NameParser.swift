// The text form of distinguished names, taken apart.

/// One `type=value`.
struct NameAttribute {
    let type: String
    /// UTF-8.
    let value: [UInt8]
    /// True behind a plus sign: it belongs to the RDN before it.
    let joinsPrevious: Bool

    /// True for a type in dotted numbers, as long as OpenSSL prints them without cutting them off.
    var isNumeric: Bool {
        let arcs = type.split(separator: ".", omittingEmptySubsequences: false)
        return arcs.count > 1 && type.utf8.count < 80
            && arcs.allSatisfy { arc in
                !arc.isEmpty && arc.utf8.allSatisfy { (0x30...0x39).contains($0) }
            }
    }
}

/// Reads the grammar of RFC 4514 §3, with the quotes of RFC 2253 §4.
struct NameParser {
    private let text: [UInt8]
    private var place = 0

    static func attributes(of text: String) throws(DistinguishedNameFault) -> [NameAttribute] {
        var parser = NameParser(text: Array(text.utf8))
        var attributes: [NameAttribute] = []
        var joinsPrevious = false
        parser.skipSpaces()
        while parser.place < parser.text.count {
            attributes.append(try parser.attribute(joinsPrevious: joinsPrevious))
            guard let separator = parser.next() else { return attributes }
            joinsPrevious = separator == UInt8(ascii: "+")
            parser.skipSpaces()
            if parser.place == parser.text.count { throw .malformed(text) }
        }
        return attributes
    }

    private mutating func attribute(
        joinsPrevious: Bool
    ) throws(DistinguishedNameFault) -> NameAttribute {
        let start = place
        guard let equals = text[place...].firstIndex(of: UInt8(ascii: "=")) else {
            throw .malformed(string(text[start...]))
        }
        var type = string(text[start..<equals])
        while type.hasSuffix(" ") { type.removeLast() }
        // strongSwan's names for what OpenSSL calls emailAddress.
        if ["E", "Email"].contains(type) { type = "emailAddress" }
        guard !type.isEmpty, !type.utf8.contains(where: Self.isSeparator) else {
            throw .malformed(string(text[start...]))
        }
        place = equals + 1
        skipSpaces()
        guard let value = value(), !value.contains(0) else {
            throw .malformed(string(text[start...]))
        }
        return NameAttribute(type: type, value: value, joinsPrevious: joinsPrevious)
    }

    /// Up to a separator, which stays. Nil when a quote or an escape is not finished.
    private mutating func value() -> [UInt8]? {
        var value: [UInt8] = []
        // Spaces at the end are not part of it, unless they were escaped or quoted.
        var kept = 0
        var isQuoted = false
        while place < text.count, isQuoted || !Self.isSeparator(text[place]) {
            let octet = text[place]
            place += 1
            switch octet {
            case UInt8(ascii: "\""):
                isQuoted.toggle()
                kept = value.count
            case UInt8(ascii: "\\"):
                guard let escaped = escaped() else { return nil }
                value.append(escaped)
                kept = value.count
            default:
                value.append(octet)
                if isQuoted || octet != UInt8(ascii: " ") { kept = value.count }
            }
        }
        return isQuoted ? nil : Array(value[..<kept])
    }

    /// Behind a backslash: two hexadecimal digits, or a character that stands for itself.
    private mutating func escaped() -> UInt8? {
        guard let first = next() else { return nil }
        guard let high = Self.digit(first) else { return first }
        guard let second = next(), let low = Self.digit(second) else { return nil }
        return high << 4 | low
    }

    private mutating func next() -> UInt8? {
        guard place < text.count else { return nil }
        defer { place += 1 }
        return text[place]
    }

    private mutating func skipSpaces() {
        while place < text.count, text[place] == UInt8(ascii: " ") { place += 1 }
    }

    private func string(_ octets: ArraySlice<UInt8>) -> String {
        String(decoding: octets, as: UTF8.self)
    }

    private static func isSeparator(_ octet: UInt8) -> Bool {
        [UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "+")].contains(octet)
    }

    private static func digit(_ octet: UInt8) -> UInt8? {
        Character(Unicode.Scalar(octet)).hexDigitValue.map(UInt8.init)
    }
}
