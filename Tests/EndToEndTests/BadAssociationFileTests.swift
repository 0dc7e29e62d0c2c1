// Association files with mistakes: one line names the file, the place in it and the remedy, and no
// key.

import Foundation
import Testing

/// A mistake in the first entry of an otherwise good file.
private struct Mistake: CustomTestStringConvertible {
    let field: String
    /// nil: the field is missing.
    let value: (any Sendable)?
    /// What the line must speak of; the field itself unless told otherwise.
    let word: String
    var testDescription: String { "\(field): \(value.map { "\($0)" } ?? "missing")" }

    init(_ field: String, _ value: (any Sendable)?, word: String? = nil) {
        self.field = field
        self.value = value
        self.word = word ?? field
    }
}

@Suite struct BadAssociationFileTests {
    private static let good = CaptureSet.inRepository("scapy-tunnel44-aes256gcm16")

    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func entries() throws -> [[String: Any]] {
        let file = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(filePath: Self.good.sas)))
        return try #require((file as? [String: Any])?["esp"] as? [[String: Any]])
    }

    /// Replays with this file, which must be refused; gives the line.
    private func line(file sas: String) throws -> String {
        let outcome = try Program.spindle(
            "replay", Self.good.capture, "--sas", sas, "--write", scratch.path("out.pcap"))
        #expect(outcome.code == 1, "\(outcome.testDescription)")
        #expect(outcome.output.isEmpty)
        #expect(outcome.complaints.count == 1, "\(outcome.testDescription)")
        #expect(outcome.complaint.hasPrefix("spindle: \(sas): "), "\(outcome.testDescription)")
        #expect(try !scratch.contents().contains { $0.hasPrefix("out.pcap") })
        for key in try entries().flatMap({ [$0["encr_key"], $0["salt"]] }) {
            let digits = try #require(key as? String)
            #expect(!outcome.complaint.contains(digits.dropLast(2)), "a key in the message")
        }
        return outcome.complaint
    }

    private func line(text: some StringProtocol) throws -> String {
        try line(file: scratch.write(Data(text.utf8), as: "sas.json"))
    }

    private func line(esp: [[String: Any]]) throws -> String {
        try line(
            file: scratch.write(
                JSONSerialization.data(withJSONObject: ["esp": esp]), as: "sas.json"))
    }

    @Test func filesThatAreNone() throws {
        #expect(try line(file: scratch.path("missing")).contains("check the path"))
        #expect(try line(file: scratch.path).contains("is a directory"))
        #expect(try line(file: Self.good.capture).contains("not JSON"))
        #expect(try line(text: "").contains("empty"))
        #expect(try line(text: "[]").contains("\"esp\""))
        #expect(try line(text: "{}").contains("esp: missing"))
        #expect(try line(text: "{\"esp\": []}").contains("add at least one"))
        #expect(try line(text: "{\"esp\": {}}").contains("esp: "))
        #expect(try line(text: "{'esp': []}").contains("line 1, column 2"))
        #expect(try line(text: "{\"esp\": [1]}").contains("esp[0]"))
    }

    @Test func everyTruncation() throws {
        let text = try String(contentsOfFile: Self.good.sas, encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        for count in stride(from: 1, to: text.count, by: 29) {
            #expect(try line(text: text.prefix(count)).contains("not JSON"))
        }
    }

    @Test(
        arguments: [
            Mistake("spi", nil), Mistake("spi", "0000001"), Mistake("spi", "xyzxyzxy"),
            Mistake("spi", 17), Mistake("spi", "000000ff"), Mistake("src", nil),
            Mistake("src", "192.0.2.256"), Mistake("dst", "2001:db8::1"), Mistake("mode", "beet"),
            Mistake("mode", nil), Mistake("encr", "AES_GCM"), Mistake("encr", "DES"),
            Mistake("encr", nil), Mistake("encr", "AES_CBC", word: "integ"),
            Mistake("integ", "HMAC_SHA2_256_128"), Mistake("integ", "HMAC_MD5"),
            Mistake("key_bits", 512), Mistake("key_bits", 129), Mistake("key_bits", "256"),
            Mistake("key_bits", 128, word: "encr_key"), Mistake("encr_key", "00"),
            Mistake("encr_key", nil), Mistake("salt", "0011"), Mistake("salt", "001122334"),
            Mistake("salt", nil), Mistake("icv_len", 12), Mistake("esn", nil),
            Mistake("esn", "false"), Mistake("sport", 4500, word: "dport"),
            Mistake("dport", 65_536), Mistake("replay_window", 7),
            Mistake("replay_window", 8192), Mistake("first_seq", 0),
            Mistake("first_seq", 4_294_967_296), Mistake("ts_src", "10.0.0.0/8"),
            Mistake("ts_src", ["10.0.0.1/8"]), Mistake("ts_src", [String]()),
            Mistake("tfc_bytes", -1), Mistake("path_mtu", 20), Mistake("hop_limit", 0),
            Mistake("lifetime", 5), Mistake("replay_windw", 64),
        ])
    private func mistakes(_ mistake: Mistake) throws {
        var esp = try entries()
        esp[0][mistake.field] = mistake.value
        let line = try line(esp: esp)
        #expect(line.contains("esp[0]"))
        #expect(line.contains(mistake.word), "\(line)")
    }

    @Test func twoAssociationsWithOneSPI() throws {
        var esp = try entries()
        esp[1]["spi"] = esp[0]["spi"]
        let line = try line(esp: esp)
        #expect(line.contains("esp[1].spi") && line.contains("esp[0]"), "\(line)")
    }
}
