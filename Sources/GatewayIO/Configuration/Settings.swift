// Reads settings out of the tree of a file. Whatever is wrong is put into the log with its place, and
// reading goes on, so that the user sees all faults at once.

internal import Wire

/// The file that settings come from.
struct SettingSource {
    let file: String
    /// True for files with secrets: no text of theirs may be repeated in a fault.
    let hidesTexts: Bool
    let log: FaultLog

    /// A text of the file, as faults may repeat it.
    func quote(_ text: String) -> String { hidesTexts ? "this" : quoted(text) }

    /// The root of the file; nil when it is no tree of settings.
    func root(_ octets: [UInt8]) -> Setting? {
        do throws(SettingSyntaxError) {
            return Setting(node: try SettingTree.parse(octets), place: "", source: self)
        } catch {
            log.refuse(
                ConfigurationFault(
                    error.code, file: file, line: error.position.line,
                    column: error.position.column, text: error.text))
            return nil
        }
    }
}

/// One value with its place.
struct Setting {
    let node: SettingNode
    /// Such as `pools.guests.range`; empty for the root.
    let place: String
    let source: SettingSource

    private func fault(_ code: ConfigurationFault.Code, _ text: String) -> ConfigurationFault {
        ConfigurationFault(
            code, file: source.file, line: node.position.line, column: node.position.column,
            place: place, text: text)
    }

    /// Puts a fault into the log.
    func refuse(_ code: ConfigurationFault.Code, _ text: String) {
        source.log.refuse(fault(code, text))
    }

    /// Puts a warning into the log.
    func warn(_ code: ConfigurationFault.Code, _ text: String) {
        source.log.warn(fault(code, text))
    }

    private func refuseType(_ wanted: String) {
        refuse(.wrongType, "\(node.kind) where \(wanted) is expected: correct it")
    }

    /// A text, with or without quotes.
    func text() -> String? {
        guard case .text(let text, _) = node.content else {
            refuseType("a text")
            return nil
        }
        return text
    }

    /// A text of so many octets at most, without control characters.
    func name(bytesMaximum: Int) -> String? {
        guard let text = text() else { return nil }
        guard (1...bytesMaximum).contains(text.utf8.count),
            text.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
        else {
            refuse(
                .outOfRange,
                "\(source.quote(text)) is not possible: use 1 to \(bytesMaximum) octets without "
                    + "control characters")
            return nil
        }
        return text
    }

    private func plainText(_ wanted: String) -> String? {
        guard case .text(let text, isPlain: true) = node.content else {
            refuseType("\(wanted) without quotes")
            return nil
        }
        return text
    }

    /// A whole number.
    func number(in range: ClosedRange<Int>) -> Int? {
        guard let digits = plainText("a number") else { return nil }
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits),
            range.contains(number)
        else {
            refuse(
                .outOfRange,
                "\(source.quote(digits)) is not possible: use a whole number from "
                    + "\(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return number
    }

    /// true or false.
    func flag() -> Bool? {
        guard let word = plainText("true or false") else { return nil }
        switch word {
        case "true", "yes": return true
        case "false", "no": return false
        default:
            refuse(.unknownWord, "\(source.quote(word)) is not known: use true or false")
            return nil
        }
    }

    /// One of a few words.
    func choice<Choice>(_ choices: [(word: String, value: Choice)]) -> Choice? {
        guard let word = text() else { return nil }
        if let choice = choices.first(where: { $0.word == word }) { return choice.value }
        let words = choices.map(\.word)
        refuse(
            .unknownWord,
            "\(source.quote(word)) is not known: use \(JSONView.hint(word, words))"
                + words.joined(separator: ", "))
        return nil
    }

    /// A text that something else reads. `advice` is what is said where the text must not be.
    func parsed<Value, Failure: Error & CustomStringConvertible>(
        _ code: ConfigurationFault.Code, advice: String = "correct it",
        _ read: (String) throws(Failure) -> Value
    ) -> Value? {
        guard let text = text() else { return nil }
        do throws(Failure) {
            return try read(text)
        } catch {
            refuse(code, source.hidesTexts ? "it can't be read: \(advice)" : error.description)
            return nil
        }
    }

    /// An IP address.
    func address() -> IPAddress? {
        guard let text = text() else { return nil }
        guard let address = IPAddress(text) else {
            refuse(
                .address,
                "\(source.quote(text)) is not an IP address: write such as 192.0.2.1 or 2001:db8::1"
            )
            return nil
        }
        return address
    }

    /// The elements of a list; a single text counts as a list of one.
    func elements() -> [Setting] {
        switch node.content {
        case .list(let elements):
            return elements.enumerated().map { index, element in
                Setting(node: element, place: "\(place)[\(index)]", source: source)
            }
        case .text: return [self]
        case .nothing, .fields:
            refuseType("a list")
            return []
        }
    }

    /// What `read` makes of the elements; nil when one of them is wrong, or none is there.
    func list<Value>(_ read: (Setting) -> Value?) -> [Value]? {
        let elements = elements()
        if elements.isEmpty, case .list = node.content {
            refuse(.wrongType, "the list is empty: add an element, or remove the key")
        }
        let values = elements.compactMap(read)
        return values.isEmpty || values.count < elements.count ? nil : values
    }

    /// A mapping of which only these keys may be there.
    func settings(_ known: [String]) -> Settings? {
        guard let settings = namedSettings() else { return nil }
        settings.requireKnown(known)
        return settings
    }

    /// A mapping with keys that the user chooses; empty when nothing stands here.
    func namedSettings() -> Settings? {
        switch node.content {
        case .fields(let fields): return Settings(setting: self, fields: fields)
        case .nothing: return Settings(setting: self, fields: [])
        case .text, .list:
            refuseType("a mapping (\"key: value\")")
            return nil
        }
    }
}

/// A mapping.
struct Settings {
    /// The mapping as a value.
    let setting: Setting
    let fields: [SettingField]

    private func place(of name: String) -> String {
        setting.place.isEmpty ? name : "\(setting.place).\(name)"
    }

    private func value(of field: SettingField) -> Setting {
        // A value that is not there would be said to stand behind the colon, or on the next line.
        var node = field.value
        if case .nothing = node.content {
            node = SettingNode(content: .nothing, position: field.position)
        }
        return Setting(node: node, place: place(of: field.name), source: setting.source)
    }

    /// The value of a key; nil when the key is absent.
    subscript(name: String) -> Setting? {
        fields.first { $0.name == name }.map(value)
    }

    /// The value of a key that has to be there.
    func required(_ name: String) -> Setting? {
        if let value = self[name] { return value }
        refuse(.missingKey, name, "missing: add it")
        return nil
    }

    /// All values, with keys that can be names of connections and the like.
    func named() -> [(name: String, value: Setting)] {
        fields.compactMap { field in
            let value = value(of: field)
            let isName =
                (1...64).contains(field.name.utf8.count)
                && field.name.utf8.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                        || (0x61...0x7A).contains($0) || "-_.".utf8.contains($0)
                }
            guard isName else {
                refuse(
                    .outOfRange, field,
                    "\(setting.source.quote(field.name)) can't be a name: use 1 to 64 letters, "
                        + "digits, '-', '_' and '.'")
                return nil
            }
            return (field.name, value)
        }
    }

    /// Puts a fault about a key that is absent into the log, or about the value that it has.
    func refuse(_ code: ConfigurationFault.Code, _ name: String, _ text: String) {
        if let value = self[name] { return value.refuse(code, text) }
        let node = SettingNode(content: .nothing, position: setting.node.position)
        Setting(node: node, place: place(of: name), source: setting.source).refuse(code, text)
    }

    private func refuse(_ code: ConfigurationFault.Code, _ field: SettingField, _ text: String) {
        let source = setting.source
        let name = source.hidesTexts ? "?" : quoted(field.name)
        source.log.refuse(
            ConfigurationFault(
                code, file: source.file, line: field.position.line,
                column: field.position.column,
                place: setting.place.isEmpty ? name : "\(setting.place).\(name)", text: text))
    }

    /// A key that is not in `names` may be a misspelt one that would be silently left out.
    fileprivate func requireKnown(_ names: [String]) {
        for field in fields where !names.contains(field.name) {
            refuse(
                .unknownKey, field,
                "no such key: use \(JSONView.hint(field.name, names))"
                    + names.joined(separator: ", ") + "; or remove it")
        }
    }
}
