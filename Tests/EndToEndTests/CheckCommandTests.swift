// `spindle check` as a user runs it: what goes to which output, exit codes, JSON.

import Foundation
import Testing

@Suite struct CheckCommandTests {
    private static let examples = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "docs/examples")

    private let scratch: Scratch
    private let config: String

    init() throws {
        scratch = try Scratch()
        for name in ["site-to-site.yaml", "site-to-site.secrets.yaml"] {
            let data = try Data(contentsOf: Self.examples.appending(path: name))
            let path = try scratch.write(data, as: name)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        }
        config = scratch.path("site-to-site.yaml")
    }

    private func change(_ old: String, _ new: String) throws {
        let text = String(decoding: try scratch.read("site-to-site.yaml"), as: UTF8.self)
        try #require(text.contains(old))
        _ = try scratch.write(
            Data(text.replacingOccurrences(of: old, with: new).utf8), as: "site-to-site.yaml")
    }

    @Test func aGoodOneIsExplained() throws {
        let outcome = try Program.spindle("check", "--config", config)
        #expect(outcome.code == 0 && outcome.complaint.isEmpty, "\(outcome)")
        #expect(outcome.text.contains("Connection headquarters (1 of 1)"))
        #expect(outcome.text.contains("10.2.0.0/16 here and 10.1.0.0/16 there"))
    }

    @Test func warningsDoNotFail() throws {
        try change("aes256gcm16-prfsha384-x25519]", "aes128-sha1-modp2048]")
        let outcome = try Program.spindle("check", "--config", config)
        #expect(outcome.code == 0 && outcome.text.contains("Node\n"), "\(outcome)")
        #expect(outcome.complaints.count == 2)
        #expect(
            outcome.complaints.allSatisfy {
                $0.hasPrefix("warning: \(config):14:17: connections.headquarters.proposals[0]: ")
            }, "\(outcome)")
    }

    @Test func allFaultsAreSaidAndFail() throws {
        try change("198.51.100.7]", "198.51.100.777]")
        try change("tries: 5", "tries: 500")
        let secrets = scratch.path("site-to-site.secrets.yaml")
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: secrets)
        let outcome = try Program.spindle("check", "--config", config)
        #expect(outcome.code == 1 && outcome.output.isEmpty, "\(outcome)")
        #expect(outcome.complaints.count == 5, "\(outcome)")
        #expect(outcome.complaint.contains("error: \(config):4:15: node.addresses[0]: "))
        #expect(outcome.complaint.contains("type `chmod 0600 \(secrets)`"))
        #expect(outcome.complaints.last == "spindle: 4 faults to correct")

        let json = try Program.spindle("check", "--json", "--config", config)
        #expect(json.code == 1 && json.complaint.isEmpty, "\(json)")
        let object = try #require(
            try JSONSerialization.jsonObject(with: json.output) as? [String: Any])
        let faults = try #require(object["faults"] as? [[String: Any]])
        #expect(faults.map { $0["line"] as? Int } == [4, 6, 10, 26])
        #expect(faults[1]["code"] as? String == "permissions")
        #expect((object["explanation"] as? [String])?.isEmpty == true)
    }

    @Test func aNodeCountsTheFaultsToo() throws {
        try change("198.51.100.7]", "198.51.100.777]")
        try change("tries: 5", "tries: 500")
        let outcome = try Program.spindle("node", "--config", config)
        #expect(outcome.code == 1 && outcome.output.isEmpty, "\(outcome)")
        #expect(outcome.complaints.last == "spindle: 3 faults to correct", "\(outcome)")
        #expect(outcome.complaints.count == 4)
    }

    /// Whatever folder the program is started in, and however the configuration is named.
    @Test func theStateDirectoryIsShownWhole() throws {
        try change("  addresses:", "  state: kept/here\n  addresses:")
        let folder = URL(filePath: scratch.path).resolvingSymlinksInPath().path
        for name in [config, "site-to-site.yaml", "./site-to-site.yaml"] {
            let outcome = try Program.run(
                "/usr/bin/env",
                ["-C", folder, Program.path(of: "spindle"), "check", "--config", name])
            let line = outcome.text.split(separator: "\n").first { $0.contains("must outlive") }
            #expect(
                line?.hasSuffix(" in \(folder)/kept/here") == true,
                "\(name): \(line ?? "nothing"), \(outcome.testDescription)")
        }
    }

    @Test(arguments: ["zz", "", "0x", "00112233445566778"])
    func whatIsNoSPIIsWrongUsage(spi: String) throws {
        for command in ["terminate", "rekey"] {
            let outcome = try Program.spindle(command, "--spi", spi, "--socket", "/nowhere")
            #expect(outcome.code == 2, "\(outcome)")
            #expect(
                outcome.complaint.contains("an SPI has 1 to 16 hexadecimal digits"), "\(outcome)")
        }
    }

    @Test func aFileThatIsNotThereIsNamed() throws {
        let outcome = try Program.spindle("check", "--config", scratch.path("none.yaml"))
        #expect(outcome.code == 1, "\(outcome)")
        #expect(outcome.complaint.contains("none.yaml: no such file or directory: check the path"))
    }
}
