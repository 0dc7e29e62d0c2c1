import Foundation
import Testing
import Verification

/// A capture set is compared packet by packet; the copies here are damaged in one place each.
@Suite struct CaptureSetTests {
    private let scratch: ScratchDirectory

    init() throws {
        scratch = try ScratchDirectory()
        for suffix in ["json", "pcap", "verify.json"] {
            let name = "scapy-tunnel44-aes256gcm16.\(suffix)"
            try FileManager.default.copyItem(
                at: vectors.appending(path: "captures/\(name)"),
                to: URL(filePath: scratch.path(name)))
        }
    }

    private func edit(_ suffix: String, _ old: String, _ new: String) throws {
        let path = scratch.path("scapy-tunnel44-aes256gcm16.\(suffix)")
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let range = try #require(text.range(of: old), "\(old)")
        try scratch.write(
            text.replacingCharacters(in: range, with: new),
            to: "scapy-tunnel44-aes256gcm16.\(suffix)")
    }

    private func run() throws -> VerificationReport {
        try Verifier().verify(paths: [scratch.url.path])
    }

    @Test func theCopyPasses() throws {
        let report = try run()
        #expect(report.isSuccess && report.passed == 60 && report.files.count == 1, "\(report)")
    }

    @Test(arguments: [
        ("\"sha256\": \"", "\"sha256\": \"0"), ("\"seq\": 2,", "\"seq\": 3,"),
        ("\"next_header\": 4,", "\"next_header\": 41,"), ("\"len\": ", "\"len\": 1"),
        ("\"esp_len\": ", "\"esp_len\": 1"), ("\"pad\": ", "\"pad\": 1"),
    ])
    func eachFieldIsCompared(old: String, new: String) throws {
        try edit("verify.json", old, new)
        let report = try run()
        #expect(report.failed == 1 && report.passed == 59, "\(report)")
    }

    @Test func anotherKeyFailsEveryPacketOfItsAssociation() throws {
        try edit("json", "\"encr_key\": \"", "\"encr_key\": \"00000000")
        #expect(try run().errors.first?.contains("esp[0].encr_key") == true)
        try edit("json", "\"encr_key\": \"00000000", "\"encr_key\": \"")
        try edit("json", "\"salt\": \"", "\"salt\": \"00")
        #expect(try run().errors.first?.contains("esp[0].salt") == true)
    }

    @Test func anUnlistedPacketFails() throws {
        try edit("verify.json", "\"frame\": 1,", "\"frame\": 4001,")
        let report = try run()
        #expect(report.failed == 2 && report.passed == 59, "\(report)")
    }

    @Test(arguments: ["pcap", "verify.json"])
    func aMissingCompanionIsAnError(suffix: String) throws {
        let name = "scapy-tunnel44-aes256gcm16.\(suffix)"
        try FileManager.default.removeItem(atPath: scratch.path(name))
        let report = try run()
        #expect(report.errors.count == 1 && report.errors.first?.contains(name) == true)
        #expect(!report.isSuccess)
    }

    @Test func theCaptureMustStandBesideItsKeys() throws {
        try edit("json", "\"pcap\": \"", "\"pcap\": \"../../")
        #expect(try run().errors.first?.contains("pcap: not a file beside") == true)
    }

    @Test func aCutCaptureIsAnError() throws {
        let path = scratch.path("scapy-tunnel44-aes256gcm16.pcap")
        let bytes = try Data(contentsOf: URL(filePath: path))
        try bytes.dropLast(5).write(to: URL(filePath: path))
        #expect(try run().errors.count == 1)
    }
}
