// Runs files of known answers through the code that handles packets in production. The kind of a
// file is found from its content; a file that is of no known kind, or not as its kind demands, is
// an error and never a silent pass.

public import Crypto
internal import Foundation
internal import GatewayIO

/// Runs known answers: this project's own formats (docs/formats.md), Wycheproof, NIST CAVP for GCM,
/// and captures with their keys.
public struct Verifier {
    private let library: CryptoLibrary

    /// Throws when OpenSSL lacks an algorithm.
    public init() throws(CryptoError) { library = try CryptoLibrary() }

    /// Runs files, and all `*.json` and `*.rsp` files below directories in the order of their
    /// names.
    public func verify(paths: [String]) -> VerificationReport {
        var report = VerificationReport()
        var seen: Set<String> = []
        for path in paths {
            for file in Self.files(at: path, &report.errors) {
                let file = Self.isCompanion(file) ? Self.withoutCompanionSuffix(file) : file
                guard seen.insert(file).inserted else { continue }
                do throws(AssociationFileError) {
                    report.files.append(try run(file))
                } catch {
                    report.errors.append("\(error)")
                }
            }
        }
        return report
    }

    // MARK: Finding

    private static func isDirectory(_ path: String, followingLinks: Bool) -> Bool {
        if followingLinks {
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
                && isDirectory.boolValue
        }
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        return attributes?[.type] as? FileAttributeType == .typeDirectory
    }

    private static func files(at path: String, _ errors: inout [String]) -> [String] {
        guard isDirectory(path, followingLinks: true) else { return [path] }
        var found: [String] = []
        collect(path, into: &found, &errors)
        if found.isEmpty {
            errors.append(
                "\(printable(path: path)): no *.json or *.rsp file in it: name another directory")
        }
        return found.sorted()
    }

    /// Links to directories are not followed, or a loop of them would never end.
    private static func collect(
        _ directory: String, into found: inout [String], _ errors: inout [String]
    ) {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory)
        } catch {
            errors.append(
                "\(printable(path: directory)): the directory can't be read: check permissions")
            return
        }
        for name in names where !name.hasPrefix(".") {
            let path = directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
            if isDirectory(path, followingLinks: false) {
                collect(path, into: &found, &errors)
            } else if name.hasSuffix(".json") || name.hasSuffix(".rsp") {
                found.append(path)
            }
        }
    }

    /// NAME.verify.json belongs to NAME.json and is read with it.
    private static func isCompanion(_ path: String) -> Bool {
        path.hasSuffix(CaptureSet.companionSuffix)
            && FileManager.default.fileExists(atPath: withoutCompanionSuffix(path))
    }

    private static func withoutCompanionSuffix(_ path: String) -> String {
        path.dropLast(CaptureSet.companionSuffix.count) + ".json"
    }

    // MARK: Running

    private func run(_ path: String) throws(AssociationFileError) -> FileReport {
        let bytes = try TextFile.read(path: path)
        do throws(FieldError) {
            if !path.hasSuffix(".json"), !Self.looksLikeJSON(bytes) {
                return try NISTResponseFile(bytes).run(path: path, library: library)
            }
            let value: JSONValue
            do throws(JSONSyntaxError) {
                value = try JSONReader.parse(bytes)
            } catch {
                throw FieldError(
                    .notJSON, "line \(error.line), column \(error.column)",
                    "not JSON: \(error.text)")
            }
            let view = try JSONView(value, place: "")
            if view.has("esp"), view.has("pcap") {
                return try CaptureSet(path: path, value, view).run(library: library)
            }
            return try run(view, path: path)
        } catch {
            throw AssociationFileError(error, file: path)
        }
    }

    private func run(_ view: JSONView, path: String) throws(FieldError) -> FileReport {
        if view.has("testGroups") {
            return try WycheproofFile(view).run(path: path, library: library)
        }
        let known =
            "spindle-esp-1, spindle-replay-1, spindle-key-agreement-1, spindle-ikev2-keys-1, "
            + "spindle-ike-messages-1"
        guard view.has("format") else {
            throw FieldError(
                .unknownValue, "",
                "not a file of known answers: it needs \"format\" (\(known)), \"testGroups\" "
                    + "(Wycheproof), or \"esp\" and \"pcap\" (a capture with keys)")
        }
        switch try view.text("format") {
        case "spindle-esp-1": return try ESPCaseFile(view).run(path: path, library: library)
        case "spindle-replay-1": return try ReplayCaseFile(view).run(path: path)
        case "spindle-ikev2-keys-1": return try KeyCaseFile(view).run(path: path, library: library)
        case "spindle-key-agreement-1": return try AgreementCaseFile(view).run(path: path)
        case "spindle-ike-messages-1":
            return try MessageCaseFile(view).run(path: path, library: library)
        case let other:
            throw view.refuse(
                "format", .unknownValue, "\(quoted(other)) is not known: use \(known)")
        }
    }

    private static func looksLikeJSON(_ bytes: [UInt8]) -> Bool {
        bytes.first { ![0x20, 0x09, 0x0A, 0x0D, 0xEF, 0xBB, 0xBF].contains($0) }
            == UInt8(ascii: "{")
    }
}
