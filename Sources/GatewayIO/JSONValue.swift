// JSON (RFC 8259) as files of associations and known answers need it: integers of 64 bits exactly,
// duplicate names refused, and every refusal with its line and column. No input makes it trap.

/// A parsed JSON text.
package enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    /// As it was written, because no binary type holds all of them.
    case number(String)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// What an error message calls it.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "true or false"
        case .number: "a number"
        case .string: "a text"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

/// The members of a JSON object, in the order of the file.
package struct JSONObject: Equatable, Sendable {
    /// Each name once.
    package private(set) var names: [String] = []
    private var members: [String: JSONValue] = [:]

    /// No members.
    package init() {}

    /// The member of that name, or nil.
    package subscript(name: String) -> JSONValue? { members[name] }

    /// False when the name is taken.
    mutating func add(_ name: String, _ value: JSONValue) -> Bool {
        guard members.updateValue(value, forKey: name) == nil else { return false }
        names.append(name)
        return true
    }
}

/// Why octets are not JSON, and where.
package struct JSONSyntaxError: Error, Equatable {
    /// Both from 1; the column counts octets.
    package let line: Int
    package let column: Int
    /// What is wrong and what to do.
    package let text: String
}

/// One pass over the octets of a JSON text.
package struct JSONReader {
    /// Deeper nesting than any known format, far less than the stack holds.
    private static let depthMaximum = 64
    /// Bounds the memory that a file of the largest allowed size can take.
    private static let valuesMaximum = 4_000_000

    private let bytes: [UInt8]
    private var position = 0
    private var valueCount = 0

    /// Parses the whole of `bytes`.
    package static func parse(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONValue {
        var reader = JSONReader(bytes: bytes)
        // Some editors put a byte order mark in front (RFC 8259 §8.1 allows ignoring it).
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { reader.position = 3 }
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.position == bytes.count else {
            throw reader.error("more text after the end: remove it")
        }
        return value
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func error(_ text: String, at offset: Int? = nil) -> JSONSyntaxError {
        let offset = min(offset ?? position, bytes.count)
        let before = bytes[..<offset]
        let line = before.count { $0 == UInt8(ascii: "\n") } + 1
        let start = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        return JSONSyntaxError(line: line, column: offset - start + 1, text: text)
    }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
            position += 1
        }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: byte) else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        skipSpace()
        valueCount += 1
        guard valueCount <= Self.valuesMaximum else {
            throw error("more than \(Self.valuesMaximum) values: split the file")
        }
        guard depth < Self.depthMaximum else {
            throw error("nested more than \(Self.depthMaximum) deep: make it flatter")
        }
        switch next {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"): return .number(try number())
        case .some(let byte) where Self.isDigit(byte): return .number(try number())
        case nil: throw error("the file ends in the middle: copy it again")
        default: throw error("a value is expected here: put a text in quotes, or correct it")
        }
    }

    private mutating func word(
        _ text: StaticString, _ value: JSONValue
    ) throws(JSONSyntaxError) -> JSONValue {
        let matches = text.withUTF8Buffer { bytes[position...].starts(with: $0) }
        guard matches else {
            throw error("a value is expected here: put a text in quotes, or correct it")
        }
        position += text.utf8CodeUnitCount
        return value
    }

    private mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONObject {
        position += 1
        var object = JSONObject()
        skipSpace()
        if take("}") { return object }
        while true {
            skipSpace()
            let start = position
            guard next == UInt8(ascii: "\"") else {
                throw error("a name in quotes is expected here: add it, or remove a comma")
            }
            let name = try string()
            skipSpace()
            guard take(":") else { throw error("':' is missing after the name: add it") }
            guard object.add(name, try value(depth: depth + 1)) else {
                throw error("\(quoted(name)) stands here a second time: remove one", at: start)
            }
            skipSpace()
            if take("}") { return object }
            guard take(",") else { throw missingSeparator("}") }
        }
    }

    private mutating func array(depth: Int) throws(JSONSyntaxError) -> [JSONValue] {
        position += 1
        var array: [JSONValue] = []
        skipSpace()
        if take("]") { return array }
        while true {
            array.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return array }
            guard take(",") else { throw missingSeparator("]") }
        }
    }

    private func missingSeparator(_ end: String) -> JSONSyntaxError {
        next == nil
            ? error("the file ends in the middle: copy it again")
            : error("',' or '\(end)' is expected here: add it")
    }

    /// RFC 8259 §6.
    private mutating func number() throws(JSONSyntaxError) -> String {
        let start = position
        _ = take("-")
        let first = next
        guard digits() > 0 else { throw error("digits are missing: correct the number") }
        if first == UInt8(ascii: "0"), bytes[start..<position].count(where: Self.isDigit) > 1 {
            throw error("numbers have no leading zero: remove it, or use quotes", at: start)
        }
        if take("."), digits() == 0 { throw error("digits are missing: correct the number") }
        if take("e") || take("E") {
            _ = take("+") || take("-")
            if digits() == 0 { throw error("digits are missing: correct the number") }
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private mutating func digits() -> Int {
        let start = position
        while let byte = next, Self.isDigit(byte) { position += 1 }
        return position - start
    }

    /// RFC 8259 §7; `position` is at the opening quote.
    private mutating func string() throws(JSONSyntaxError) -> String {
        position += 1
        var text = ""
        var start = position
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                text += try piece(start..<position)
                position += 1
                return text
            case UInt8(ascii: "\\"):
                text += try piece(start..<position)
                text.unicodeScalars.append(try escape())
                start = position
            case 0..<0x20:
                throw error("a text must not hold a line break or control: close the quotes")
            default: position += 1
            }
        }
        throw error("the file ends inside a text: close the quotes", at: start)
    }

    private func piece(_ range: Range<Int>) throws(JSONSyntaxError) -> String {
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
            throw error("not UTF-8: save the file as UTF-8", at: range.lowerBound)
        }
        return text
    }

    private mutating func escape() throws(JSONSyntaxError) -> Unicode.Scalar {
        position += 1
        let code = next
        position += 1
        switch code {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return try unicodeEscape()
        default: throw error("no such escape: double the backslash", at: position - 2)
        }
    }

    /// `\u` and four digits, or two of them for a code point outside the basic plane.
    private mutating func unicodeEscape() throws(JSONSyntaxError) -> Unicode.Scalar {
        let start = position - 2
        let first = hexadecimalUnit()
        if let first, let scalar = Unicode.Scalar(first) { return scalar }
        if let first, (0xD800..<0xDC00).contains(first), take("\\"), take("u"),
            let second = hexadecimalUnit(), (0xDC00..<0xE000).contains(second),
            let scalar = Unicode.Scalar(
                0x10000 + (UInt32(first) - 0xD800) << 10 + UInt32(second) - 0xDC00)
        {
            return scalar
        }
        throw error("not a code point: correct the \\u escape", at: start)
    }

    private mutating func hexadecimalUnit() -> UInt16? {
        guard position + 4 <= bytes.count else { return nil }
        var unit: UInt16 = 0
        for byte in bytes[position..<position + 4] {
            guard let digit = Self.isDigit(byte) ? UInt16(byte) - 0x30 : Self.letterDigit(byte)
            else { return nil }
            unit = unit << 4 | digit
        }
        position += 4
        return unit
    }

    private static func letterDigit(_ byte: UInt8) -> UInt16? {
        let lower = byte | 0x20
        return (0x61...0x66).contains(lower) ? UInt16(lower) - 0x61 + 10 : nil
    }
}

/// Text from a file, safe to print on one line: quoted, escaped, and cut when it is long.
package func quoted(_ text: String) -> String {
    text.count <= 60 ? text.debugDescription : "\(String(text.prefix(57)).debugDescription)…"
}

/// A path, safe to print on one line: as it is, unless it holds line breaks or controls.
package func printable(path: String) -> String {
    let isPlain = path.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
    return isPlain ? path : path.debugDescription
}
