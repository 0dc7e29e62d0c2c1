// Reads the fields of a JSON object with the place of each, so that every refusal says where.

/// Why a field is refused. The file's name is added by whoever knows it.
package struct FieldError: Error, Equatable {
    /// What kind of mistake it is.
    package let code: AssociationFileError.Code
    /// For example `esp[3].encr_key`.
    package let place: String
    /// What is wrong and what to do.
    package let text: String

    /// A refusal of the value at `place`.
    package init(_ code: AssociationFileError.Code, _ place: String, _ text: String) {
        self.code = code
        self.place = place
        self.text = text
    }
}

/// A JSON object and where it stands in its file. A field that is null counts as absent.
package struct JSONView {
    /// The object's members.
    package let object: JSONObject
    /// Empty for the outermost object.
    package let place: String

    /// `value` must be an object.
    package init(_ value: JSONValue, place: String) throws(FieldError) {
        guard case .object(let object) = value else {
            throw FieldError(
                .wrongType, place, "\(value.kind) where an object {…} is expected: correct it")
        }
        self.object = object
        self.place = place
    }

    /// The place of a field of this object.
    package func place(of name: String) -> String { place.isEmpty ? name : "\(place).\(name)" }

    /// A refusal of one field's value.
    package func refuse(
        _ name: String, _ code: AssociationFileError.Code, _ text: String
    ) -> FieldError {
        FieldError(code, place(of: name), text)
    }

    /// True when the field is there and not null.
    package func has(_ name: String) -> Bool { self[name] != nil }

    /// The field, or nil when it is absent or null.
    package subscript(name: String) -> JSONValue? {
        guard let value = object[name], value != .null else { return nil }
        return value
    }

    /// The refusal for a field that has to be there.
    package func missing(_ name: String) -> FieldError {
        refuse(name, .missingField, "missing: add it")
    }

    private func wrongType(_ name: String, _ value: JSONValue, _ wanted: String) -> FieldError {
        refuse(name, .wrongType, "\(value.kind) where \(wanted) is expected: correct it")
    }

    /// A text, or nil when it is absent.
    package func optionalText(_ name: String) throws(FieldError) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let text) = value else {
            throw wrongType(name, value, "a text in quotes")
        }
        return text
    }

    /// A text that has to be there.
    package func text(_ name: String) throws(FieldError) -> String {
        guard let text = try optionalText(name) else { throw missing(name) }
        return text
    }

    /// A whole number inside `range`, or nil when it is absent.
    package func optionalNumber(
        _ name: String, in range: ClosedRange<UInt64> = 0...UInt64.max
    ) throws(FieldError) -> UInt64? {
        guard let value = self[name] else { return nil }
        guard case .number(let digits) = value else {
            throw wrongType(name, value, "a number without quotes")
        }
        guard let number = UInt64(digits), range.contains(number) else {
            throw refuse(
                name, .outOfRange,
                "\(quoted(digits)) is not possible: use a whole number from "
                    + "\(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A whole number that has to be there.
    package func number(
        _ name: String, in range: ClosedRange<UInt64> = 0...UInt64.max
    ) throws(FieldError) -> UInt64 {
        guard let number = try optionalNumber(name, in: range) else { throw missing(name) }
        return number
    }

    /// true or false, or nil when it is absent.
    package func optionalFlag(_ name: String) throws(FieldError) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else {
            throw wrongType(name, value, "true or false without quotes")
        }
        return flag
    }

    /// An array, or nil when it is absent.
    package func optionalArray(_ name: String) throws(FieldError) -> [JSONValue]? {
        guard let value = self[name] else { return nil }
        guard case .array(let array) = value else { throw wrongType(name, value, "an array […]") }
        return array
    }

    /// An array that has to be there.
    package func array(_ name: String) throws(FieldError) -> [JSONValue] {
        guard let array = try optionalArray(name) else { throw missing(name) }
        return array
    }

    /// Texts of an array, or nil when it is absent.
    package func optionalTexts(_ name: String) throws(FieldError) -> [String]? {
        guard let array = try optionalArray(name) else { return nil }
        var texts: [String] = []
        for (index, value) in array.enumerated() {
            guard case .string(let text) = value else {
                throw wrongType("\(name)[\(index)]", value, "a text in quotes")
            }
            texts.append(text)
        }
        return texts
    }

    /// An object inside this one, or nil when it is absent.
    package func optionalView(_ name: String) throws(FieldError) -> JSONView? {
        guard let value = self[name] else { return nil }
        return try JSONView(value, place: place(of: name))
    }

    /// An object inside this one that has to be there.
    package func view(_ name: String) throws(FieldError) -> JSONView {
        guard let view = try optionalView(name) else { throw missing(name) }
        return view
    }

    /// One of a few words.
    package func optionalChoice<Choice>(
        _ name: String, _ choices: [(word: String, value: Choice)]
    ) throws(FieldError) -> Choice? {
        guard let word = try optionalText(name) else { return nil }
        if let choice = choices.first(where: { $0.word == word }) { return choice.value }
        let words = choices.map(\.word)
        throw refuse(
            name, .unknownValue,
            "\(quoted(word)) is not known: use \(Self.hint(word, words))"
                + words.joined(separator: ", "))
    }

    /// A field that is not in `names` may be a misspelt one that would be silently left out.
    package func requireKnown(_ names: [String]) throws(FieldError) {
        for name in object.names where !names.contains(name) {
            throw FieldError(
                .unknownField, place.isEmpty ? quoted(name) : "\(place).\(quoted(name))",
                "no such field: use \(Self.hint(name, names))"
                    + names.joined(separator: ", ") + "; or remove it")
        }
    }

    /// "esn (the nearest), or one of " when a known word is near, else "one of ".
    static func hint(_ word: String, _ known: [String]) -> String {
        let ranked = known.map { (word: $0, distance: editDistance($0, word)) }
        guard let best = ranked.min(by: { $0.distance < $1.distance }),
            best.distance <= max(2, best.word.count / 3)
        else { return "one of " }
        return "\(best.word) (the nearest), or one of "
    }
}

/// How many letters have to be put in, taken out, changed or swapped with the next one, without
/// regard to case. Long words are never near.
func editDistance(_ left: String, _ right: String) -> Int {
    let left = Array(left.lowercased().utf8)
    let right = Array(right.lowercased().utf8)
    guard max(left.count, right.count) <= 64 else { return .max }
    var before: [Int] = []
    var row = Array(0...right.count)
    for (index, letter) in left.enumerated() {
        var next = [index + 1]
        for (column, other) in right.enumerated() {
            var best = min(row[column] + (letter == other ? 0 : 1), row[column + 1] + 1)
            best = min(best, next[column] + 1)
            if index > 0, column > 0, letter == right[column - 1], other == left[index - 1] {
                best = min(best, before[column - 1] + 1)
            }
            next.append(best)
        }
        (before, row) = (row, next)
    }
    return row[right.count]
}
