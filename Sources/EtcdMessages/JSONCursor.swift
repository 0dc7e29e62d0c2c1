// JSON (RFC 8259) read from front to back, without a tree: what etcd's gateway says is known
// beforehand, and large. No input makes it trap, recurse or take more memory than it has octets.

/// Why octets are not what etcd says.
public struct MalformedAnswer: Error, Hashable, Sendable {
    /// What is wrong, for a log.
    public let reason: String

    package init(_ reason: String) { self.reason = reason }
}

/// A place in a JSON text. Names and values are asked for in the order in which they come.
struct JSONCursor {
    /// Deeper nesting than any answer has.
    private static let depthMaximum = 24

    private let bytes: [UInt8]
    private var position = 0
    /// For each open object or array: the octet that closes it, and whether something was in it.
    private var open: [(close: UInt8, hasMembers: Bool)] = []

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    // MARK: Structure

    /// Enters an object; ``nextName()`` follows.
    mutating func enterObject() throws(MalformedAnswer) {
        try enter(UInt8(ascii: "{"), UInt8(ascii: "}"))
    }

    /// Enters an array; ``nextElement()`` follows.
    mutating func enterArray() throws(MalformedAnswer) {
        try enter(UInt8(ascii: "["), UInt8(ascii: "]"))
    }

    /// The next name of the object; its value must be read or skipped. nil: the object is over.
    mutating func nextName() throws(MalformedAnswer) -> String? {
        guard try nextElement() else { return nil }
        let name = try text()
        try take(UInt8(ascii: ":"))
        return name
    }

    /// Whether the array has one more element, which must be read or skipped.
    mutating func nextElement() throws(MalformedAnswer) -> Bool {
        guard let level = open.last else { throw MalformedAnswer("nothing is open") }
        if peek() == level.close {
            position += 1
            open.removeLast()
            return false
        }
        if level.hasMembers { try take(UInt8(ascii: ",")) }
        open[open.count - 1].hasMembers = true
        return true
    }

    /// Nothing but blanks may follow.
    mutating func finish() throws(MalformedAnswer) {
        guard peek() == nil, open.isEmpty else {
            throw MalformedAnswer("octets behind the end")
        }
    }

    /// Passes over a value of any kind.
    mutating func skip() throws(MalformedAnswer) {
        let floor = open.count
        repeat {
            if open.count > floor {
                let isObject = open.last?.close == UInt8(ascii: "}")
                guard try isObject ? nextName() != nil : nextElement() else { continue }
            }
            switch peek() {
            case UInt8(ascii: "{"): try enterObject()
            case UInt8(ascii: "["): try enterArray()
            case UInt8(ascii: "\""): _ = try string()
            default: _ = try word()
            }
        } while open.count > floor
    }

    // MARK: Values

    /// Whether an object comes next.
    mutating func isObject() -> Bool { peek() == UInt8(ascii: "{") }

    /// true or false.
    mutating func flag() throws(MalformedAnswer) -> Bool {
        switch String(decoding: try word(), as: UTF8.self) {
        case "true": true
        case "false": false
        default: throw MalformedAnswer("true or false is missing")
        }
    }

    /// A whole number, in quotes or without: the gateway puts those of 64 bits in quotes.
    mutating func number<Number: FixedWidthInteger>(
        _ type: Number.Type = Number.self
    ) throws(MalformedAnswer) -> Number {
        let digits = peek() == UInt8(ascii: "\"") ? try string().raw : try word()
        // `+1` is no number of JSON.
        guard digits.first != UInt8(ascii: "+"),
            let number = Number(String(decoding: digits, as: UTF8.self))
        else { throw MalformedAnswer("a number is missing or too large") }
        return number
    }

    /// Octets in base64.
    mutating func octets() throws(MalformedAnswer) -> [UInt8] {
        let (raw, isEscaped) = try string()
        let plain = isEscaped ? ArraySlice(try Self.unescape(raw).utf8) : raw
        guard let octets = Base64.octets(of: plain) else {
            throw MalformedAnswer("a value is not base64")
        }
        return octets
    }

    /// A text.
    mutating func text() throws(MalformedAnswer) -> String {
        let (raw, isEscaped) = try string()
        if isEscaped { return try Self.unescape(raw) }
        guard let text = String(validating: raw, as: UTF8.self) else {
            throw MalformedAnswer("a text is not UTF-8")
        }
        return text
    }

    // MARK: Inside

    /// The next octet that is no blank; nil at the end.
    private mutating func peek() -> UInt8? {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            case let octet: return octet
            }
        }
        return nil
    }

    private mutating func take(_ octet: UInt8) throws(MalformedAnswer) {
        guard peek() == octet else {
            throw MalformedAnswer("\(Unicode.Scalar(octet)) is missing at octet \(position)")
        }
        position += 1
    }

    private mutating func enter(_ opening: UInt8, _ close: UInt8) throws(MalformedAnswer) {
        try take(opening)
        guard open.count < Self.depthMaximum else { throw MalformedAnswer("nested too deeply") }
        open.append((close, false))
    }

    /// What stands between quotes, and whether there are escapes in it.
    private mutating func string() throws(MalformedAnswer) -> (
        raw: ArraySlice<UInt8>, isEscaped: Bool
    ) {
        try take(UInt8(ascii: "\""))
        let start = position
        var isEscaped = false
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return (bytes[start..<position - 1], isEscaped)
            case UInt8(ascii: "\\"):
                isEscaped = true
                position += 2
            case 0..<0x20: throw MalformedAnswer("a control octet in a text")
            default: position += 1
            }
        }
        throw MalformedAnswer("the answer ends inside a text")
    }

    /// A number, true, false or null, as it stands.
    private mutating func word() throws(MalformedAnswer) -> ArraySlice<UInt8> {
        _ = peek()
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "E"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
                position += 1
            default: return try nonempty(start)
            }
        }
        return try nonempty(start)
    }

    private func nonempty(_ start: Int) throws(MalformedAnswer) -> ArraySlice<UInt8> {
        guard position > start else {
            throw MalformedAnswer("a value is missing at octet \(position)")
        }
        return bytes[start..<position]
    }

    /// RFC 8259 §7. Halves of code points outside the basic plane become U+FFFD: such are in no
    /// text that decides anything.
    private static func unescape(_ raw: ArraySlice<UInt8>) throws(MalformedAnswer) -> String {
        var octets: [UInt8] = []
        var rest = raw
        while let octet = rest.popFirst() {
            guard octet == UInt8(ascii: "\\") else {
                octets.append(octet)
                continue
            }
            switch rest.popFirst() {
            case UInt8(ascii: "n"): octets.append(0x0A)
            case UInt8(ascii: "t"): octets.append(0x09)
            case UInt8(ascii: "r"): octets.append(0x0D)
            case UInt8(ascii: "b"): octets.append(0x08)
            case UInt8(ascii: "f"): octets.append(0x0C)
            case UInt8(ascii: "u"):
                let digits = String(decoding: rest.prefix(4), as: UTF8.self)
                guard digits.utf8.count == 4, digits.utf8.first != UInt8(ascii: "+"),
                    let unit = UInt32(digits, radix: 16)
                else { throw MalformedAnswer("no such escape") }
                rest = rest.dropFirst(4)
                let scalar = Unicode.Scalar(unit) ?? "\u{FFFD}"
                octets += Array(String(Character(scalar)).utf8)
            case let plain? where [0x22, 0x2F, 0x5C].contains(plain): octets.append(plain)
            default: throw MalformedAnswer("no such escape")
            }
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw MalformedAnswer("a text is not UTF-8")
        }
        return text
    }
}
