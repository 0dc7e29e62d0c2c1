import Foundation
import Testing
import Verification

/// Wycheproof and NIST files in small, with numbers of the published ones.
@Suite struct ForeignFileTests {
    private let scratch: ScratchDirectory

    init() throws { scratch = try ScratchDirectory() }

    private func wycheproof(
        _ algorithm: String, _ type: String, _ tests: [[String: String]], schema: String? = nil
    ) -> String {
        let bodies = tests.enumerated().map { index, test in
            let fields = test.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\"\($0.value)\"" }
            return "{\"tcId\":\(index + 1),\(fields.joined(separator: ","))}"
        }
        let schema = schema.map { "\"schema\":\"\($0)\"," } ?? ""
        return "{\"algorithm\":\"\(algorithm)\",\(schema)\"testGroups\":[{\"type\":\"\(type)\","
            + "\"tests\":[\(bodies.joined(separator: ","))]}]}"
    }

    private static let gcm = [
        "key": "5b9604fe14eadba931b0ccf34843dab9", "iv": "028318abc1824029138141a2", "aad": "",
        "msg": "001d0c231287c1182784554ca3a21908", "ct": "26073cc1d851beff176384dc9896d5ff",
        "tag": "0a3ea7a5487cb5f7d70fb6c58d038554", "result": "valid",
    ]
    private static let ccm = [
        "key": "bedcfb5a011ebc84600fcb296c15af0d", "iv": "438a547a94ea88dce46c6c85", "aad": "",
        "msg": "", "ct": "", "tag": "25d1a38495a7dea45bda049705627d10", "result": "valid",
    ]
    private static let gmac = [
        "key": "1d4a92394c7356a6f528cfb3adb8f253", "iv": "02194ece3bc50c51c52bdd83",
        "msg": "19b69d4178d49c20b4ee5846cb440c99", "tag": "3790b32d5cda9f8ef72b643d701077d3",
        "result": "valid",
    ]
    /// RFC 4231 §4.3, by hash.
    private static let hmacs = [
        ("HMACSHA256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            "HMACSHA384",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
                + "8e2240ca5e69e2c78b3239ecfab21649"
        ),
        (
            "HMACSHA512",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                + "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ),
        ("HMACSHA224", "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"),
    ]

    private static func hmac(_ tag: String, _ result: String = "valid") -> [String: String] {
        [
            "key": "4a656665", "msg": "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
            "tag": tag, "result": result,
        ]
    }

    private static func flipped(_ test: [String: String], _ field: String) -> [String: String] {
        var test = test
        let old = test[field] ?? ""
        let digit = old.last?.hexDigitValue ?? 0
        test[field] = old.dropLast() + String(digit ^ 1, radix: 16)
        return test
    }

    @Test(arguments: [
        ("AES-GCM", "AeadTest", gcm, "aead_test_schema_v1.json"),
        ("AES-GCM", "AeadTest", gcm, nil),
        ("AES-CCM", "AeadTest", ccm, "aead_test_schema.json"),
        ("AES-GMAC", "MacWithIvTest", gmac, "mac_with_iv_test_schema_v1.json"),
    ])
    func bothDirectionsAreRun(
        algorithm: String, type: String, test: [String: String], schema: String?
    ) throws {
        let good = try scratch.verify(wycheproof(algorithm, type, [test], schema: schema))
        #expect(good.isSuccess && good.passed == 1, "\(good)")
        for field in test.keys where field != "result" && test[field]?.isEmpty == false {
            let broken = Self.flipped(test, field)
            #expect(
                try scratch.verify(wycheproof(algorithm, type, [broken])).failed == 1, "\(field)")
            var refused = broken
            refused["result"] = "invalid"
            // A wrong plaintext beside a right tag is not a case of "invalid".
            let isTag = field != "msg" || algorithm == "AES-GMAC"
            let report = try scratch.verify(wycheproof(algorithm, type, [refused]))
            #expect(report.passed == (isTag ? 1 : 0), "\(field)")
        }
        for (result, passes) in [("invalid", false), ("acceptable", true)] {
            var other = test
            other["result"] = result
            let report = try scratch.verify(wycheproof(algorithm, type, [other]))
            #expect(report.isSuccess == passes, "\(result)")
        }
    }

    @Test(arguments: hmacs)
    func everyHashAndTagLengthIsRun(algorithm: String, tag: String) throws {
        let tests = [
            Self.hmac(tag), Self.hmac(String(tag.prefix(20))),
            Self.flipped(Self.hmac(tag, "invalid"), "tag"), Self.hmac(tag + "00", "invalid"),
            Self.hmac("", "invalid"),
        ]
        let report = try scratch.verify(wycheproof(algorithm, "MacTest", tests))
        #expect(report.isSuccess && report.passed == tests.count, "\(report)")
        let broken = [Self.flipped(Self.hmac(tag), "tag"), Self.hmac(tag, "invalid")]
        #expect(try scratch.verify(wycheproof(algorithm, "MacTest", broken)).failed == 2)
    }

    @Test func onlyLengthsThatESPLacksAreSkipped() throws {
        var wide = Self.gcm
        wide["iv"] = (wide["iv"] ?? "") + "00000000"
        var short = Self.gcm
        short["tag"] = String((short["tag"] ?? "").prefix(26))
        let report = try scratch.verify(
            wycheproof("AES-GCM", "AeadTest", [Self.gcm, wide, short, wide]))
        #expect(report.passed == 1 && report.failed == 0 && report.skipped == 3)
        #expect(
            report.files.first?.skipped == ["nonce of 16 octets": 2, "tag of 13 octets": 1])
        let nothing = try scratch.verify(wycheproof("AES-GCM", "AeadTest", [wide]))
        #expect(!nothing.isSuccess, "a file that checks nothing is no success")
    }

    @Test(arguments: [
        ("XCHACHA20-POLY1305", "AeadTest"), ("AES-CMAC", "MacTest"), ("AES-GCM", "DaeadTest"),
        ("HMACSHAKE128", "MacTest"), ("HMACFOO", "MacTest"),
    ])
    func otherAlgorithmsAreErrors(algorithm: String, type: String) throws {
        let report = try scratch.verify(wycheproof(algorithm, type, [Self.gcm]))
        #expect(report.errors.count == 1 && report.files.isEmpty)
        #expect(report.errors.first?.contains(algorithm) == true)
    }

    private static let response = """
        # CAVS 14.0\r
        # GCM Decrypt with keysize 128 test information\r
        [Keylen = 128]\r
        [IVlen = 96]\r
        [Taglen = 128]\r
        \r
        Count = 0\r
        Key = cf063a34d4a9a76c2c86787d3f96db71\r
        IV = 113b9785971864c83b01c787\r
        CT = \r
        AAD = \r
        Tag = 72ac8493e3a5228b5d130a69d2510e42\r
        PT = \r
        \r
        Count = 1\r
        Key = a49a5e26a2f8cb63d05546c2a62f5343\r
        IV = 907763b19b9b4ab6bd4f0281\r
        CT = \r
        AAD = \r
        Tag = a2be08210d8c470a8df6e8fbd79ec5cf\r
        FAIL\r

        """

    @Test func responseFilesAreRun() throws {
        let report = try scratch.verify(Self.response, as: "gcmDecrypt128.rsp")
        #expect(report.isSuccess && report.passed == 2, "\(report)")
        let changed = [
            ("Tag = 72", "Tag = 73"), ("FAIL", "PT = "), ("IV = 113b", "IV = 113c"),
            ("AAD = \r\nTag = 72", "AAD = 00\r\nTag = 72"),
        ]
        for (old, new) in changed {
            let text = Self.response.replacingOccurrences(of: old, with: new)
            #expect(try scratch.verify(text, as: "a.rsp").failed == 1, "\(new)")
        }
        let good = Self.response.replacingOccurrences(of: "PT = ", with: "FAIL")
        #expect(try scratch.verify(good, as: "a.rsp").failed == 1)
    }

    @Test(arguments: [
        ("GCM Decrypt", "CBC Decrypt", "not a file of NIST CAVP for GCM"),
        ("Tag = 72ac", "Tag = 72a", "line 12: not octets"),
        ("Tag = 72ac", "Teg = 72ac", "line 12: \"Teg"), ("FAIL", "", "Count 1: needs Key"),
        ("IV = 113b", "Key = 113b", "line 9: Key stands here a second time"),
        ("Count = 0", "", "line 8: a field before"),
    ])
    func damagedResponseFilesAreErrors(old: String, new: String, message: String) throws {
        let text = Self.response.replacingOccurrences(of: old, with: new)
        let report = try scratch.verify(text, as: "a.rsp")
        #expect(report.errors.count == 1)
        #expect(report.errors.first?.contains(message) == true, "\(report.errors)")
    }
}
