// Reads YAML into a tree of settings. Only what a configuration needs is taken: one document, keys
// that are words and stand once, no anchors, no tags with a meaning.

internal import Yams

/// Why octets are no tree of settings, and where.
struct SettingSyntaxError: Error, Equatable {
    let code: ConfigurationFault.Code
    let position: SettingPosition
    /// What is wrong and what to do. Holds nothing of the file but names of keys that stand twice.
    let text: String

    init(_ code: ConfigurationFault.Code, _ position: SettingPosition, _ text: String) {
        self.code = code
        self.position = position
        self.text = text
    }
}

/// One YAML document. No input makes it trap.
enum SettingTree {
    /// More than a thousand connections, and little enough to be read in no time.
    static let bytesMaximum = 1 << 20
    /// Deeper than any setting.
    fileprivate static let depthMaximum = 16
    /// Some editors put it in front of a text in UTF-8.
    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

    /// The tree of a text in UTF-8; `nothing` for a text without content.
    static func parse(_ octets: [UInt8]) throws(SettingSyntaxError) -> SettingNode {
        guard octets.starts(with: byteOrderMark) else { return try parse(unmarked: octets) }
        var text = Array(octets.dropFirst(byteOrderMark.count))
        defer { text.withUnsafeMutableBytes(TextFile.wipe) }
        return try parse(unmarked: text)
    }

    private static func parse(
        unmarked octets: [UInt8]
    ) throws(SettingSyntaxError) -> SettingNode {
        let start = SettingPosition(line: 1, column: 1)
        guard octets.count <= bytesMaximum else {
            throw SettingSyntaxError(
                .outOfRange, start, "more than \(bytesMaximum >> 20) MiB: make it shorter")
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw SettingSyntaxError(
                .syntax, SettingPosition(of: validPrefix(of: octets), in: octets),
                "not UTF-8: save the file in UTF-8")
        }
        try refuseAliases(octets)
        do {
            let parser = try Parser(yaml: text, resolver: .basic, encoding: .utf8)
            guard let root = try parser.singleRoot() else {
                return SettingNode(content: .nothing, position: start)
            }
            return try node(root, depth: 0)
        } catch let error as SettingSyntaxError {
            throw error
        } catch let error as YamlError {
            throw SettingSyntaxError(error, octets)
        } catch {
            throw SettingSyntaxError(.syntax, start, "not YAML: check it with another reader")
        }
    }

    private static func validPrefix(of octets: [UInt8]) -> Int {
        var iterator = octets.makeIterator()
        var decoder = UTF8()
        var count = 0
        while case .scalarValue(let scalar) = decoder.decode(&iterator) {
            count += UTF8.width(scalar)
        }
        return count
    }

    /// A handful of aliases can stand for more nodes than any memory holds, and the reader of YAML
    /// compares them before they can be counted. So texts in which there may be anchors and aliases
    /// are refused before they are read. Both begin where a token can: behind a space, a line break
    /// or an indicator.
    private static func refuseAliases(_ octets: [UInt8]) throws(SettingSyntaxError) {
        var alias: Int?
        var hasAnchor = false
        var previous = UInt8(ascii: "\n")
        var isLineStart = true
        var isComment = false
        for (offset, octet) in octets.enumerated() {
            // Some breaks of YAML's lines are not ASCII; none can hide anything behind a comment.
            if octet == UInt8(ascii: "\n") || octet == UInt8(ascii: "\r") || octet >= 0x80 {
                isLineStart = true
                isComment = false
            } else if isLineStart, octet != UInt8(ascii: " "), octet != UInt8(ascii: "\t") {
                isLineStart = false
                isComment = octet == UInt8(ascii: "#")
            }
            if !isComment, isTokenStart(after: previous), offset + 1 < octets.count,
                isNameOctet(octets[offset + 1])
            {
                if octet == UInt8(ascii: "&") { hasAnchor = true }
                if octet == UInt8(ascii: "*"), alias == nil { alias = offset }
            }
            previous = octet
        }
        guard hasAnchor, let alias else { return }
        throw SettingSyntaxError(
            .syntax, SettingPosition(of: alias, in: octets),
            "anchors (&) and aliases (*) are not read here: write the part out where it is used")
    }

    private static func isTokenStart(after octet: UInt8) -> Bool {
        octet <= UInt8(ascii: " ") || octet >= 0x80 || ",[]{}?:-".utf8.contains(octet)
    }

    private static func isNameOctet(_ octet: UInt8) -> Bool {
        switch octet {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private static func node(_ node: Node, depth: Int) throws(SettingSyntaxError) -> SettingNode {
        let position = SettingPosition(node.mark)
        guard depth < depthMaximum else {
            throw SettingSyntaxError(tooDeepAt: position)
        }
        switch node {
        case .scalar(let scalar):
            let isPlain = scalar.style == .plain
            let isNothing = isPlain && ["", "~", "null"].contains(scalar.string)
            return SettingNode(
                content: isNothing ? .nothing : .text(scalar.string, isPlain: isPlain),
                position: position)
        case .sequence(let sequence):
            var elements: [SettingNode] = []
            for element in sequence {
                elements.append(try self.node(element, depth: depth + 1))
            }
            return SettingNode(content: .list(elements), position: position)
        case .mapping(let mapping):
            return SettingNode(
                content: .fields(try fields(mapping, depth: depth)), position: position)
        case .alias:
            throw SettingSyntaxError(.syntax, position, "aliases (*) are not read here")
        }
    }

    private static func fields(
        _ mapping: Node.Mapping, depth: Int
    ) throws(SettingSyntaxError) -> [SettingField] {
        var fields: [SettingField] = []
        var names: Set<String> = []
        for (key, value) in mapping {
            let position = SettingPosition(key.mark)
            guard case .scalar(let scalar) = key else {
                throw SettingSyntaxError(
                    .syntax, position, "a key must be a word: write \"key: value\"")
            }
            guard names.insert(scalar.string).inserted else {
                throw SettingSyntaxError(
                    .duplicateKey, position, "this key stands in the mapping before: remove one")
            }
            fields.append(
                SettingField(
                    name: scalar.string, position: position,
                    value: try node(value, depth: depth + 1)))
        }
        return fields
    }
}

extension SettingPosition {
    fileprivate init(_ mark: Mark?) {
        self.init(line: mark?.line ?? 1, column: mark?.column ?? 1)
    }
}

extension SettingSyntaxError {
    fileprivate init(tooDeepAt position: SettingPosition) {
        self.init(
            .syntax, position,
            "nested more than \(SettingTree.depthMaximum) levels deep: no setting is")
    }

    /// The reader's own words, without the line of the text that it would print.
    fileprivate init(_ error: YamlError, _ octets: [UInt8]) {
        switch error {
        case .scanner(let context, let problem, let mark, _),
            .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let position = SettingPosition(mark)
            // The reader's own limit, which comes long after ours.
            guard !problem.contains("nesting level") else {
                self.init(tooDeepAt: position)
                return
            }
            self.init(
                .syntax, position,
                "not YAML: \(context.map { $0.text + " " } ?? "")\(problem): "
                    + Self.advice(at: position, in: octets))
        case .reader(let problem, let offset, _, let yaml):
            let index = offset.flatMap {
                yaml.index(yaml.startIndex, offsetBy: $0, limitedBy: yaml.endIndex)
            }
            let prefix = index.map { yaml.utf8.distance(from: yaml.startIndex, to: $0) }
            self.init(
                .syntax, SettingPosition(of: prefix ?? 0, in: octets),
                "not YAML: \(problem): remove the character")
        case .duplicatedKeysInMapping(_, let context):
            self.init(
                .duplicateKey, SettingPosition(context.mark),
                "this key stands in the mapping a second time: remove one")
        default:
            self.init(
                .syntax, SettingPosition(line: 1, column: 1),
                "not YAML: check it with another reader")
        }
    }

    /// Texts that begin with an indicator of YAML's are the usual mistake: `%any`, `*.lab.example`.
    private static func advice(at position: SettingPosition, in octets: [UInt8]) -> String {
        let lines = octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard lines.indices.contains(position.line - 1) else { return "correct it" }
        let line = String(decoding: lines[position.line - 1], as: UTF8.self)
        let place = line.unicodeScalars.prefix(position.column).suffix(2)
        guard place.contains(where: { "%*@`&!|>".unicodeScalars.contains($0) }) else {
            return "correct it; mind the indentation, and spaces behind colons"
        }
        return "put texts that begin with such a character in quotes"
    }
}
