// Messages of strongSwan's control protocol (vici): a tree of sections, texts and lists.
//
//     message:  kind (1 octet), name (length in 1 octet) for those that have one, elements
//     element:  1 section: name …, 2 its end | 3 key: name, value (length in 2 octets)
//               4 list: name, 5 item: value …, 6 its end

/// What a key of a message has.
enum ViciValue: Hashable, Sendable {
    case text(String)
    case list([String])
    case section(ViciSection)
}

/// Keys in the order of the message.
struct ViciSection: Hashable, Sendable {
    var entries: [Entry] = []

    struct Entry: Hashable, Sendable {
        var key: String
        var value: ViciValue
    }

    /// The text of a key.
    func text(_ key: String) -> String? {
        guard case .text(let text) = entries.first(where: { $0.key == key })?.value else {
            return nil
        }
        return text
    }

    /// A section of that name.
    func section(_ key: String) -> ViciSection? {
        guard case .section(let section) = entries.first(where: { $0.key == key })?.value else {
            return nil
        }
        return section
    }

    /// All sections with their names.
    var sections: [(name: String, section: ViciSection)] {
        entries.compactMap { entry in
            guard case .section(let section) = entry.value else { return nil }
            return (entry.key, section)
        }
    }

    /// Texts alone, as commands have them.
    static func texts(_ pairs: KeyValuePairs<String, String>) -> ViciSection {
        ViciSection(entries: pairs.map { Entry(key: $0, value: .text($1)) })
    }
}

/// A message as it is sent, without the length in front.
struct ViciMessage: Hashable, Sendable {
    /// What it is for.
    enum Kind: UInt8, Sendable {
        case command = 0
        case answer = 1
        case unknownCommand = 2
        case register = 3
        case unregister = 4
        case confirmation = 5
        case unknownEvent = 6
        case event = 7

        /// Some kinds name a command or an event.
        var hasName: Bool {
            switch self {
            case .command, .register, .unregister, .event: true
            case .answer, .unknownCommand, .confirmation, .unknownEvent: false
            }
        }
    }

    var kind: Kind
    var name = ""
    var contents = ViciSection()

    var octets: [UInt8] {
        var octets = [kind.rawValue]
        if kind.hasName { Self.put(short: name, &octets) }
        Self.put(contents, &octets)
        return octets
    }

    private static func put(short text: String, _ octets: inout [UInt8]) {
        precondition(text.utf8.count < 256, "names have at most 255 octets")
        octets.append(UInt8(text.utf8.count))
        octets += text.utf8
    }

    private static func put(long text: String, _ octets: inout [UInt8]) {
        precondition(text.utf8.count < 65_536, "values have at most 65535 octets")
        octets += [UInt8(text.utf8.count >> 8), UInt8(text.utf8.count & 255)]
        octets += text.utf8
    }

    private static func put(_ section: ViciSection, _ octets: inout [UInt8]) {
        for entry in section.entries {
            switch entry.value {
            case .text(let text):
                octets.append(3)
                put(short: entry.key, &octets)
                put(long: text, &octets)
            case .list(let items):
                octets.append(4)
                put(short: entry.key, &octets)
                for item in items {
                    octets.append(5)
                    put(long: item, &octets)
                }
                octets.append(6)
            case .section(let inner):
                octets.append(1)
                put(short: entry.key, &octets)
                put(inner, &octets)
                octets.append(2)
            }
        }
    }
}

extension ViciMessage {
    /// Reads a message; nil: it is none.
    init?(_ octets: ArraySlice<UInt8>) {
        var reader = ViciReader(rest: octets)
        guard let kind = reader.octet().flatMap(Kind.init) else { return nil }
        self.kind = kind
        if kind.hasName {
            guard let name = reader.text(lengthOctets: 1) else { return nil }
            self.name = name
        }
        guard let contents = reader.section(depth: 0), reader.rest.isEmpty else { return nil }
        self.contents = contents
    }
}

/// Takes a message apart from its front.
private struct ViciReader {
    /// Deeper than any message of strongSwan.
    private static let depthMaximum = 16
    var rest: ArraySlice<UInt8>

    mutating func octet() -> UInt8? { rest.popFirst() }

    mutating func text(lengthOctets: Int) -> String? {
        var length = 0
        for _ in 0..<lengthOctets {
            guard let octet = octet() else { return nil }
            length = length << 8 | Int(octet)
        }
        guard rest.count >= length else { return nil }
        defer { rest = rest.dropFirst(length) }
        return String(decoding: rest.prefix(length), as: UTF8.self)
    }

    /// Up to the section's end, which the outermost does not have.
    mutating func section(depth: Int) -> ViciSection? {
        guard depth < Self.depthMaximum else { return nil }
        var section = ViciSection()
        while let kind = octet() {
            if kind == 2 { return depth > 0 ? section : nil }
            guard let key = text(lengthOctets: 1) else { return nil }
            let value: ViciValue?
            switch kind {
            case 1: value = self.section(depth: depth + 1).map(ViciValue.section)
            case 3: value = text(lengthOctets: 2).map(ViciValue.text)
            case 4: value = list().map(ViciValue.list)
            default: value = nil
            }
            guard let value else { return nil }
            section.entries.append(ViciSection.Entry(key: key, value: value))
        }
        return depth == 0 ? section : nil
    }

    private mutating func list() -> [String]? {
        var items: [String] = []
        while let kind = octet() {
            if kind == 6 { return items }
            guard kind == 5, let item = text(lengthOctets: 2) else { return nil }
            items.append(item)
        }
        return nil
    }
}
