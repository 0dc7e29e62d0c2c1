import Crypto
import Foundation
import GatewayIO
@testable import IKEStub
import Testing

private let secret = "correct horse battery staple"

private func secrets(_ text: String) -> ConfigurationText {
    var configuration = ConfigurationText.simple
    configuration.setSecrets(text)
    return configuration
}

private func octets(_ text: String) throws -> [UInt8] {
    let file = try secrets(text).parse()
    let key = try #require(file.configuration.ike.presharedKeys.first)
    return key.secret.octets.withUnsafeBytes { Array($0) }
}

@Suite struct SecretsFileTests {
    private static let head = """
        preshared_keys:
          - identities: [gw.lab.example, p1.lab.example]

        """

    @Test func threeFormsOfOneSecret() throws {
        let expected = Array("a key: # with ünusual octets".utf8)
        #expect(try octets(Self.head + "    secret: 'a key: # with ünusual octets'") == expected)
        let hex = expected.map { String(format: "%02x", $0) }.joined()
        #expect(try octets(Self.head + "    secret_hex: \(hex)") == expected)
        for count in 16...20 {
            let data = Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 77) })
            let text = Self.head + "    secret_base64: \(data.base64EncodedString())"
            #expect(try octets(text) == Array(data))
        }
        // A number without quotes is digits, not a number.
        #expect(
            try octets(Self.head + "    secret_hex: 00112233445566778899001122334455")[1] == 0x11)
    }

    @Test(arguments: [
        ("secret: \(secret)", ConfigurationFault.Code.wrongType),
        ("secret: \"\"", .secret), ("secret_hex: abc", .secret), ("secret_hex: xy", .secret),
        ("secret_base64: YQ", .secret), ("secret_base64: Y===", .secret),
        ("secret_base64: YWJj\u{E9}Ijk", .secret), ("secret: [\(secret)]", .wrongType),
        ("secret: \"\(secret)\"\n    secret_hex: 00", .contradiction),
        ("Secret: \"\(secret)\"", .unknownKey), ("\(secret): 1", .unknownKey),
        ("\(secret)", .syntax), ("secret: \"\(secret)", .syntax),
        ("secret: \"\(secret)\"\n    secret: \"\(secret)\"", .duplicateKey),
        ("secret: \"\(secret)\"\n    \(secret): 1\n    \(secret): 2", .duplicateKey),
        ("secret: \"\(secret)\"\n  - identities: [\"\(secret)\"]\n    secret: \"x\"", .identity),
        ("secret: \"\(secret)\"\n  - \(secret)", .wrongType),
        ("secret: &a \"\(secret)\"\n  - *a", .syntax), ("secret: !x \"\(secret)\u{7}\"", .syntax),
    ])
    func mistakesAreNamedWithoutTheirText(line: String, code: ConfigurationFault.Code) {
        let faults = secrets(Self.head + "    " + line).faults
        #expect(faults.contains { $0.code == code && $0.file == "secrets.yaml" }, "\(faults)")
        for fault in faults {
            #expect(!"\(fault)".contains("horse"), "\(fault)")
            #expect(fault.file != "secrets.yaml" || fault.line > 0)
        }
    }

    @Test func weakKeysAreWarnedOfWithoutTheirText() throws {
        let file = try secrets(
            """
            preshared_keys:
              - identities: ["%any"]
                secret: "short horse"
            """
        ).parse()
        #expect(file.warnings.map(\.code) == [.weak, .weak])
        #expect(file.warnings.allSatisfy { $0.file == "secrets.yaml" })
        #expect(!"\(file.warnings)".contains("horse"))
        #expect(!file.configuration.explanation().joined().contains("horse"))
        var dumped = ""
        dump(file, to: &dumped)
        #expect(!dumped.contains("horse"))
    }

    @Test func secretFilesMustBePrivate() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let simple = ConfigurationText.simple
        let node = folder.appending(path: "node.yaml").path
        let keys = folder.appending(path: "secrets.yaml").path
        try Data(simple.text.utf8).write(to: URL(filePath: node))
        try Data(simple.files["secrets.yaml"] ?? []).write(to: URL(filePath: keys))
        for (mode, isTaken) in [
            (0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false),
            (0o601, false), (0o644, false),
        ] {
            #expect(chmod(keys, mode_t(mode)) == 0)
            let faults = faults(node)
            #expect(faults.isEmpty == isTaken, "\(mode)")
            guard !isTaken else { continue }
            #expect(faults.map(\.code) == [.permissions])
            #expect(faults.map(\.summary) == ["3:10 secrets permissions"])
            #expect("\(faults)".contains("`chmod 0600 \(keys)`"))
        }
        if getuid() == 0 {
            #expect(chmod(keys, 0o600) == 0 && chown(keys, 1, 1) == 0)
            #expect("\(faults(node))".contains("belongs to user 1: type `chown 0 \(keys)"))
        }
        // A pipe without a writer must not hold the reader up.
        try FileManager.default.removeItem(atPath: keys)
        #expect(mkfifo(keys, 0o600) == 0)
        #expect(faults(node).map(\.code) == [.permissions])
        try FileManager.default.removeItem(atPath: keys)
        #expect(faults(node).map(\.code) == [.file])
        #expect(faults(folder.path).map(\.code) == [.file])
    }

    private func faults(_ path: String) -> [ConfigurationFault] {
        do throws(ConfigurationFaults) {
            _ = try NodeConfigurationFile.read(path: path)
            return []
        } catch {
            return error.faults
        }
    }
}
