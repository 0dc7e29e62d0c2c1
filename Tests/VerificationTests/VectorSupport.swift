import Foundation
import Testing
import Verification

/// The repository's vectors.
let vectors = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "vectors")

/// A directory that goes away with its owner.
final class ScratchDirectory {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory
            .appending(path: "spindle-verify-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appending(path: name).path }

    @discardableResult
    func write(_ text: String, to name: String = "case.json") throws -> String {
        try write(Array(text.utf8), to: name)
    }

    @discardableResult
    func write(_ bytes: [UInt8], to name: String = "case.json") throws -> String {
        try Data(bytes).write(to: URL(filePath: path(name)))
        return path(name)
    }

    /// Runs one file with this content.
    func verify(_ text: String, as name: String = "case.json") throws -> VerificationReport {
        try Verifier().verify(paths: [try write(text, to: name)])
    }
}

/// One case of a vector file as text; in these files each case is one line.
struct VectorCase: CustomTestStringConvertible {
    let file: String
    let name: String
    private let head: String
    private let line: String

    var testDescription: String { "\(file) \(name)" }

    init(_ file: String, _ name: String) throws {
        self.file = file
        self.name = name
        let text = try String(contentsOf: vectors.appending(path: file), encoding: .utf8)
        let lines = text.split(separator: "\n")
        guard let head = lines.first,
            let line = lines.first(where: { $0.hasPrefix("{\"name\":\"\(name)\",") })
        else { throw CocoaError(.fileReadCorruptFile) }
        self.head = String(head)
        self.line = line.hasSuffix(",") ? String(line.dropLast()) : String(line)
    }

    /// A file with this case alone.
    var document: String { head + line + "]}" }

    /// The same with one field's text changed; nil when the field is absent or empty.
    func replacing(_ field: String, with change: (String) -> String) -> String? {
        guard let start = line.range(of: "\"\(field)\":") else { return nil }
        let rest = line[start.upperBound...]
        let end =
            rest.hasPrefix("[")
            ? rest.firstIndex(of: "]").map(rest.index(after:))
            : rest.firstIndex { $0 == "," || $0 == "}" }
        guard let end else { return nil }
        let old = String(rest[..<end])
        guard !["\"\"", "null", "[]"].contains(old) else { return nil }
        return head + line[..<start.upperBound] + change(old) + line[end...] + "]}"
    }

    /// The same with the last bit of a field of octets flipped.
    func flipping(_ field: String) -> String? {
        replacing(field) { old in
            let digit = old.dropLast().last.flatMap { $0.hexDigitValue } ?? 0
            return old.dropLast(2) + String(digit ^ 1, radix: 16) + "\""
        }
    }
}
