import Foundation
import Testing
import Verification

/// No octets make the verifier trap, and none that are not vectors pass.
@Suite struct MalformedFileTests {
    private let scratch: ScratchDirectory

    init() throws { scratch = try ScratchDirectory() }

    @Test(arguments: [
        ("", "the file is empty"), ("{", "line 1, column 2: not JSON"), ("[]", "an array where"),
        ("{}", "not a file of known answers"), ("{\"format\":1}", "format: a number where"),
        ("{\"format\":\"spindle-esp-2\"}", "\"spindle-esp-2\" is not known"),
        ("{\"format\":\"spindle-esp-1\",\"cases\":{}}", "cases: an object where"),
        ("{\"format\":\"spindle-esp-1\",\"cases\":[1]}", "cases[0]: a number where"),
        ("{\"format\":\"spindle-esp-1\",\"casse\":[]}", "use cases (the nearest)"),
        ("{\"testGroups\":[]}", "algorithm: missing"),
        ("{\"algorithm\":\"AES-GCM\",\"testGroups\":[{\"type\":\"AeadTest\"}]}", "tests: missing"),
        ("{\"esp\":[],\"pcap\":\"x\"}", "esp: no association"), ("\u{FEFF}{}", "not a file of"),
    ])
    func oneLineSaysWhatIsWrong(text: String, message: String) throws {
        let report = try scratch.verify(text)
        #expect(report.errors.count == 1 && report.files.isEmpty && !report.isSuccess)
        let line = try #require(report.errors.first)
        #expect(line.contains("case.json: ") && line.contains(message), "\(line)")
        #expect(!line.contains("\n"))
    }

    @Test func missingPathsAndEmptyDirectoriesAreErrors() throws {
        let report = try Verifier().verify(paths: [scratch.url.path, scratch.path("none.json")])
        #expect(report.errors.count == 2 && !report.isSuccess)
        #expect(try !Verifier().verify(paths: []).isSuccess)
    }

    @Test func aFileCutAnywhereIsRefused() throws {
        let whole = Array(try VectorCase("rfc7634.json", "appendix-a").document.utf8)
        let verifier = try Verifier()
        for count in stride(from: 0, to: whole.count, by: 7) {
            let report = verifier.verify(paths: [try scratch.write(Array(whole[..<count]))])
            #expect(report.errors.count == 1, "\(count)")
        }
    }

    /// Every octet of a small vector in turn becomes something else. None may trap, and none may
    /// pass but those that ESP does not protect: the outer header, and the addresses in it.
    @Test(arguments: [UInt8(ascii: "0"), UInt8(ascii: "f"), UInt8(ascii: "\""), 0xFF, 0])
    func noOctetIsIgnored(replacement: UInt8) throws {
        let text = try VectorCase("rfc7634.json", "appendix-a").document
        func offset(_ index: String.Index) -> Int {
            text.utf8.distance(from: text.startIndex, to: index)
        }
        let start = offset(try #require(text.range(of: "\"association\"")).lowerBound)
        let free = try ["\"src\":\"", "\"dst\":\"", "\"outer\":\""].map { field in
            let begin = offset(try #require(text.range(of: field)).upperBound)
            return begin..<begin + (field.contains("outer") ? 40 : 15)
        }
        let whole = Array(text.utf8)
        let verifier = try Verifier()
        for index in whole.indices where whole[index] != replacement {
            var bytes = whole
            bytes[index] = replacement
            let report = verifier.verify(paths: [try scratch.write(bytes)])
            let isFree = index < start || free.contains { $0.contains(index) }
            #expect(isFree || !report.isSuccess, "octet \(index)")
        }
    }

    @Test func hostileNumbersAreRefused() throws {
        let vector = try VectorCase("rfc7634.json", "appendix-a")
        for (field, value) in [
            ("sequence", "18446744073709551616"), ("sequence", "-1"), ("sequence", "1e3"),
            ("key_bits", "18446744073709551615"), ("icv_len", "17"), ("iv", "\"0\""),
        ] {
            let document = try #require(vector.replacing(field) { _ in value })
            let report = try scratch.verify(document)
            #expect(report.errors.count == 1, "\(field) \(value): \(report)")
        }
        for value in ["0", "18446744073709551615"] {
            let document = try #require(vector.replacing("sequence") { _ in value })
            #expect(try !scratch.verify(document).isSuccess)
        }
        // Room for padding is made, whatever the association asks for.
        let padded = vector.document.replacingOccurrences(
            of: "\"esn\":false", with: "\"esn\":false,\"tfc_bytes\":60000")
        #expect(try scratch.verify(padded).failed == 1)
        let highest = vector.document.replacingOccurrences(
            of: "\"sequence\":5", with: "\"sequence\":5,\"highest\":18446744073709551615")
        #expect(try !scratch.verify(highest).isSuccess)
    }
}
