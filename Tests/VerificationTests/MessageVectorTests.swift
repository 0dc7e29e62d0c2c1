import Foundation
import Testing
import Verification

/// What would fool us? Each of these cases passes as it is and must not pass with one change.
@Suite struct BrokenMessageVectorTests {
    static let cases: [(file: String, name: String)] = [
        ("ike-messages/captures.json", "aes256gcm16/1"),
        ("ike-messages/captures.json", "aes256gcm16/3"),
        ("ike-messages/captures.json", "aes128-sha256/4"),
        ("ike-messages/captures.json", "chacha20poly1305/6"),
        ("ike-messages/generated.json", "aesccm8-192/some"),
        ("ike-messages/generated.json", "aescbc-256-hmacsha2512256/one"),
        ("ike-messages/generated.json", "aesgcm16-256/fragments"),
        ("ike-messages/generated.json", "clear/all"),
    ]

    @Test(arguments: cases)
    func nothingIsIgnored(file: String, name: String) throws {
        let vector = try VectorCase(file, name)
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).passed == 1)
        var changes = ["encr_key", "integ_key", "content"].compactMap(vector.flipping)
        if vector.document.contains("\"seal\"") {
            changes += [vector.flipping("iv")].compactMap { $0 }
        }
        changes += [
            // The last octet: ICV, or the content of the last payload.
            vector.replacing("messages") { old in
                old.dropLast(3) + (old.dropLast(2).last == "0" ? "1" : "0") + "\"]"
            },
            vector.replacing("payloads") { "[\"V\"," + $0.dropFirst() },
        ].compactMap { $0 }
        let isClear = !vector.document.contains("encr_key")
        #expect(changes.count >= (isClear ? 2 : 4))
        for change in changes where !isClear || change.contains("[\"V\",") {
            let report = try scratch.verify(change)
            #expect(report.failed == 1 && report.passed == 0, "\(change.prefix(300)) \(report)")
        }
    }

    @Test func faultsAreCompared() throws {
        let vector = try VectorCase("ike-messages/refused.json", "nonce-15")
        let scratch = try ScratchDirectory()
        #expect(try scratch.verify(vector.document).passed == 1)
        let other = try #require(vector.replacing("fault") { _ in "\"payloadLength\"" })
        #expect(try scratch.verify(other).failed == 1)
        let accepted = vector.document.replacingOccurrences(
            of: "\"fault\":\"nonceLength\"", with: "\"payloads\":[\"No\"]")
        #expect(try scratch.verify(accepted).failed == 1)
        for (old, new) in [
            ("\"fault\"", "\"fualt\""), ("\"fault\":\"nonceLength\"", "\"check\":[\"seal\"]"),
            ("\"messages\":[", "\"messages\":[\"0\","), ("\"check\":[]", "\"check\":[\"read\"]"),
        ] {
            let document = vector.document.replacingOccurrences(of: old, with: new)
            try #require(document != vector.document)
            #expect(try scratch.verify(document).errors.count == 1, "\(new)")
        }
    }
}
