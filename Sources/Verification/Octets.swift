// Octets in hexadecimal and their comparison, as all kinds of vector files need them.

internal import GatewayIO

/// Decodes pairs of hexadecimal digits; nil for an odd number of them or anything else.
func decodeHexadecimal(_ text: some StringProtocol) -> [UInt8]? {
    func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 2)
    var high: UInt8?
    for digit in text.utf8 {
        guard let value = nibble(digit) else { return nil }
        if let first = high {
            bytes.append(first << 4 | value)
            high = nil
        } else {
            high = value
        }
    }
    return high == nil ? bytes : nil
}

/// Pairs of lower-case hexadecimal digits.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

/// nil when both are equal; else where they differ first, in one line.
func difference(_ what: String, expected: [UInt8], got: [UInt8]) -> String? {
    if expected == got { return nil }
    guard expected.count == got.count else {
        return "\(what): expected \(expected.count) octets, got \(got.count)"
    }
    let place = zip(expected, got).enumerated().first { $1.0 != $1.1 }?.offset ?? 0
    return "\(what) differs from octet \(place) on: expected "
        + "\(hexadecimal(expected[place...].prefix(8))), got "
        + "\(hexadecimal(got[place...].prefix(8)))"
}

extension JSONView {
    /// Octets, or nil when the field is absent.
    func optionalOctets(_ name: String) throws(FieldError) -> [UInt8]? {
        guard let text = try optionalText(name) else { return nil }
        guard let bytes = decodeHexadecimal(text) else {
            throw refuse(
                name, .notHexadecimal,
                "not octets: use an even number of the digits 0-9 and a-f only")
        }
        return bytes
    }

    /// Octets that have to be there; may be none.
    func octets(_ name: String) throws(FieldError) -> [UInt8] {
        guard let bytes = try optionalOctets(name) else { throw missing(name) }
        return bytes
    }

    /// The objects of an array that has to be there and must not be empty.
    func views(_ name: String) throws(FieldError) -> [JSONView] {
        let array = try array(name)
        guard !array.isEmpty else {
            throw refuse(name, .missingField, "empty, so it would check nothing: add a case")
        }
        var views: [JSONView] = []
        views.reserveCapacity(array.count)
        for (index, value) in array.enumerated() {
            views.append(try JSONView(value, place: place(of: "\(name)[\(index)]")))
        }
        return views
    }

    /// The `cases` of one of this project's files with their names, each of which stands once.
    func namedCases() throws(FieldError) -> [(name: String, view: JSONView)] {
        try requireKnown(["format", "source", "cases"])
        var names: Set<String> = []
        var cases: [(name: String, view: JSONView)] = []
        for view in try views("cases") {
            let name = try view.text("name")
            guard names.insert(name).inserted else {
                throw view.refuse(
                    "name", .contradiction,
                    "\(quoted(name)) is the name of an earlier case too: rename one")
            }
            cases.append((name, view))
        }
        return cases
    }
}
