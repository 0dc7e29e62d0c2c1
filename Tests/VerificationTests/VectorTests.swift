import Foundation
import Testing
import Verification

/// Everything in `vectors/` holds, and none of it is left out.
@Suite struct VectorTests {
    @Test func everyVectorPasses() throws {
        let report = try Verifier().verify(paths: [vectors.path])
        #expect(report.errors.isEmpty, "\(report.errors)")
        for file in report.files {
            #expect(file.failed == 0, "\(file.path): \(file.failures)")
            #expect(file.skipped.isEmpty, "\(file.path): \(file.skipped)")
            #expect(file.passed > 0, "\(file.path)")
        }
        #expect(report.isSuccess)
        // The README counts them; fewer would mean that a file or a case was lost on the way.
        #expect(report.passed >= 9708)
        let kinds = Set(report.files.map(\.kind))
        #expect(
            kinds == [
                "ESP packets", "replay windows", "key agreement", "IKEv2 keys", "IKEv2 messages",
                "capture",
            ])
    }

    @Test func filesOfADirectoryComeInOrderAndOnce() throws {
        let path = vectors.appending(path: "captures").path
        let report = try Verifier().verify(paths: [path, path + "/aes256gcm16.verify.json"])
        #expect(report.files.map(\.path) == report.files.map(\.path).sorted())
        #expect(report.files.count == 11)
        #expect(report.isSuccess)
    }
}

/// What would fool us? Each of these cases passes as it is and must not pass with one bit changed.
@Suite struct BrokenESPVectorTests {
    static let cases: [(file: String, name: String)] = [
        ("generated/tunnel.json", "aesgcm16-256/4in4"),
        ("generated/tunnel.json", "aesgcm8-128/6in4"),
        ("generated/tunnel.json", "aesccm16-128/4in4"),
        ("generated/tunnel.json", "aesccm8-256/6in6"),
        ("generated/tunnel.json", "chacha20poly1305-256/4in4"),
        ("generated/tunnel.json", "aesgmac-192/4in6"),
        ("generated/tunnel.json", "aescbc-128-hmacsha2256128/4in4"),
        ("generated/tunnel.json", "aesctr-256-hmacsha2512256/4in4"),
        ("generated/tunnel.json", "null-hmacsha196/4in4"),
        ("generated/transport.json", "aesgcm16-128/transport4-options"),
        ("generated/transport.json", "aesgcm16-128/transport6"),
        ("generated/udp.json", "aesgcm16-256/udp-transport4"),
        ("generated/esn.json", "aesgmac-128/esn-far-high"),
        ("generated/esn.json", "aescbc-128-hmacsha196/esn-high1"),
        ("gcm-esp.json", "gcm-1"),
        ("gcm-esp.json", "gcm-4"),
        ("gcm-esp.json", "gmac-1"),
        ("dpdk-esp.json", "aes-256-ccm"),
        ("dpdk-esp.json", "aes-256-gcm-v6"),
        ("linux-esp.json", "linux-ctr"),
        ("linux-esp.json", "linux-gmac-esn"),
        ("rfc3602.json", "case-5"),
        ("rfc3602.json", "case-8"),
        ("rfc7634.json", "appendix-a"),
    ]

    @Test(arguments: cases)
    func noOctetIsIgnored(file: String, name: String) throws {
        let vector = try VectorCase(file, name)
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).passed == 1)
        var tried = 0
        for field in [
            "encr_key", "salt", "integ_key", "iv", "inner", "payload", "outer", "esp",
        ] {
            guard let broken = vector.flipping(field) else { continue }
            tried += 1
            let report = try scratch.verify(broken)
            #expect(report.failed == 1 && report.passed == 0, "\(field): \(report)")
            #expect(!report.isSuccess)
        }
        #expect(tried >= 3)
    }

    @Test(arguments: cases)
    func noNumberIsIgnored(file: String, name: String) throws {
        let vector = try VectorCase(file, name)
        guard !vector.document.contains("encryption_only") else { return }
        let scratch = try ScratchDirectory()
        let next = try #require(
            vector.replacing("sequence") { old in
                UInt64(old).map { String($0 == .max ? $0 - 1 : $0 + 1) } ?? old
            })
        #expect(try scratch.verify(next).failed == 1)
        let refused = try #require(vector.replacing("result") { _ in "\"integrity\"" })
        #expect(try !scratch.verify(refused).isSuccess)
    }

    @Test(arguments: [
        ("generated/tfc.json", "aesgcm16-128/tfc-66", "tfc_bytes", "65"),
        ("generated/tfc.json", "aesgcm16-128/tfc-66", "tfc_bytes", "0"),
        ("negative/selectors.json", "aesgcm16-256/subnets", "ts_src", "[\"10.2.0.0/16\"]"),
        ("negative/selectors.json", "aesgcm16-256/source-outside", "result", "\"integrity\""),
        ("negative/altered-aesgcm16-256.json", "aesgcm16-256/spi-byte-0", "result", "\"tooOld\""),
        ("generated/dummy.json", "aesgcm16-128/dummy-40", "result", "\"nextHeader\""),
        ("gcm-esp.json", "gcm-2", "next_header", "2"),
    ])
    func otherExpectationsFail(
        file: String, name: String, field: String, value: String
    ) throws {
        let vector = try VectorCase(file, name)
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).isSuccess)
        let broken = try #require(vector.replacing(field) { _ in value })
        #expect(try scratch.verify(broken).failed == 1)
    }

    @Test func aCaseWithNothingToCheckIsAnError() throws {
        let vector = try VectorCase("rfc7634.json", "appendix-a")
        let scratch = try ScratchDirectory()
        let edits: [(String, String)] = [
            ("\"inner\":", "\"inward\":"), ("\"check\":[\"open\",\"seal\"]", "\"check\":[]"),
            ("\"result\":\"accepted\"", "\"result\":\"acepted\""),
            ("\"result\":\"accepted\"", "\"result\":[]"),
            ("\"sequence\":5", "\"sequence\":\"5\""), ("\"esn\":false", "\"esm\":false"),
        ]
        for (old, new) in edits {
            let document = vector.document.replacingOccurrences(of: old, with: new)
            try #require(document != vector.document, "\(old)")
            let report = try scratch.verify(document)
            #expect(report.errors.count == 1 && report.files.isEmpty, "\(new): \(report)")
        }
        let empty = "{\"format\":\"spindle-esp-1\",\"source\":\"\",\"cases\":[]}"
        #expect(try scratch.verify(empty).errors.count == 1)
        let line = vector.document.dropFirst(vector.document.distance(to: "{\"name\"")).dropLast(2)
        let twice = vector.document.dropLast(2) + "," + line + "]}"
        #expect(try scratch.verify(String(twice)).errors.first?.contains("earlier case") == true)
    }
}

extension String {
    fileprivate func distance(to text: String) -> Int {
        range(of: text).map { distance(from: startIndex, to: $0.lowerBound) } ?? 0
    }
}

@Suite struct BrokenReplayAndKeyTests {
    @Test(arguments: [
        ("\"full\":4294967326", "\"full\":4294967327"),
        ("\"verdict\":\"replayed\"", "\"verdict\":\"accept\""),
        ("\"highest_after\":4294967328", "\"highest_after\":4294967327"),
        ("\"highest_after\":4294967328", "\"highest_after\":null"),
        ("\"window\":32", "\"window\":64"),
        // Without its mark, the first 1 leaves the second one acceptable.
        (
            "{\"seq\":1,\"full\":1,\"verdict\":\"accept\"}",
            "{\"seq\":1,\"full\":1,\"verdict\":\"accept\",\"authentic\":false}"
        ),
    ])
    func replayStepsAreCompared(old: String, new: String) throws {
        let vector = try VectorCase("replay-esn.json", "w32/first-packets")
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).passed == 1)
        let document = vector.document.replacingOccurrences(of: old, with: new)
        try #require(document != vector.document)
        #expect(try scratch.verify(document).failed == 1)
    }

    @Test(arguments: ["aes256gcm16", "aes128-sha256", "chacha20poly1305"])
    func everyKeyIsCompared(name: String) throws {
        let vector = try VectorCase("ikev2-keys.json", name)
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).passed == 1)
        let fields = [
            "ni", "nr", "spi_i", "spi_r", "shared_secret", "skeyseed", "sk_d", "sk_ai", "sk_ar",
            "sk_ei", "sk_er", "sk_pi", "sk_pr", "seed", "initiator_encr_key", "initiator_salt",
            "initiator_integ_key", "responder_encr_key", "responder_salt", "responder_integ_key",
        ]
        for field in fields {
            guard let broken = vector.flipping(field) else { continue }
            #expect(try scratch.verify(broken).failed == 1, "\(field)")
        }
    }
}
