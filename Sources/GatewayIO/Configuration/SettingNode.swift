// A configuration file as a tree in which everything knows its line.

/// A value of a configuration file and where it stands.
struct SettingNode {
    enum Content {
        /// `key:` without anything behind it, or `~`.
        case nothing
        /// `isPlain`: without quotes.
        case text(String, isPlain: Bool)
        case list([SettingNode])
        case fields([SettingField])
    }

    let content: Content
    let position: SettingPosition

    /// What an error message calls it.
    var kind: String {
        switch content {
        case .nothing: "nothing"
        case .text: "a text"
        case .list: "a list"
        case .fields: "a mapping"
        }
    }
}

/// A key with its value.
struct SettingField {
    let name: String
    /// Of the key.
    let position: SettingPosition
    let value: SettingNode
}

/// A place in a text.
struct SettingPosition: Equatable {
    /// From 1.
    let line: Int
    /// In characters, from 1.
    let column: Int

    init(line: Int, column: Int) {
        self.line = max(line, 1)
        self.column = max(column, 1)
    }

    /// Of an octet of a text in UTF-8.
    init(of offset: Int, in text: some Collection<UInt8>) {
        var line = 1
        var column = 1
        for octet in text.prefix(offset) {
            if octet == UInt8(ascii: "\n") {
                line += 1
                column = 1
            } else if octet & 0xC0 != 0x80 {
                column += 1
            }
        }
        self.init(line: line, column: column)
    }
}
