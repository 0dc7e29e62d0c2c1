// Everything that can be wrong with an association file, as one line that a user reads.

/// Why a file of associations was refused.
public struct AssociationFileError: Error, Equatable, Sendable {
    /// What kind of mistake it is.
    public enum Code: String, Sendable {
        /// There is no such file.
        case notFound
        /// The path names a directory.
        case isDirectory
        /// The system refused to read it.
        case unreadable
        /// It holds secrets, and others than its owner can use it, or the owner is not us.
        case exposed
        /// More than ``AssociationFile/bytesMaximum``.
        case tooLarge
        /// No octets.
        case empty
        /// The octets are not JSON.
        case notJSON
        /// A field that is needed is absent.
        case missingField
        /// For example a number where a text is expected.
        case wrongType
        /// A field that is not known: perhaps misspelt.
        case unknownField
        /// A word that is not one of those allowed.
        case unknownValue
        /// A number outside of its range.
        case outOfRange
        /// A text that is not hexadecimal digits.
        case notHexadecimal
        /// Key or salt of a length that the algorithm does not have.
        case keyLength
        /// Two fields that exclude each other.
        case contradiction
        /// Two associations with one SPI.
        case duplicateSPI
        /// Two associations claim the same inner packets.
        case ambiguousSelectors
        /// No association in the file.
        case noAssociation
    }

    /// What kind of mistake it is.
    public let code: Code
    /// The file, as the caller named it.
    public let file: String
    /// Where in it: `esp[3].encr_key`, or `line 3, column 14`; empty for the file as a whole.
    public let place: String
    /// What is wrong and what to do. Holds no key material.
    public let text: String

    init(_ code: Code, file: String, place: String = "", text: String) {
        self.code = code
        self.file = file
        self.place = place
        self.text = text
    }

    /// A field of `file` was refused.
    package init(_ error: FieldError, file: String) {
        self.init(error.code, file: file, place: error.place, text: error.text)
    }

    init(_ error: JSONSyntaxError, file: String) {
        self.init(
            .notJSON, file: file, place: "line \(error.line), column \(error.column)",
            text: "not JSON: \(error.text)")
    }
}

extension AssociationFileError: CustomStringConvertible {
    /// One line: the file, the place, what is wrong, and what to do about it.
    public var description: String {
        "\(printable(path: file)): \(place.isEmpty ? "" : "\(place): ")\(text)"
    }
}
