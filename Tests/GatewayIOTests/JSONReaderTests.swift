import Foundation
import GatewayIO
import Testing

private func parse(_ text: String) throws(JSONSyntaxError) -> JSONValue {
    try JSONReader.parse(Array(text.utf8))
}

@Suite struct JSONReaderTests {
    @Test func valuesAreRead() throws {
        let value = try parse(
            " {\"a\": [1, -2.5e+3, 18446744073709551615], \"b\": {\"c\": null, \"d\": true}, "
                + "\"e\": \"\\u00e4\\ud83d\\ude00\\n\\\\\\\"/\\/\", \"f\": {}, \"g\": []}\r\n\t")
        guard case .object(let object) = value else {
            Issue.record("not an object")
            return
        }
        #expect(object.names == ["a", "b", "e", "f", "g"])
        #expect(
            object["a"]
                == .array([.number("1"), .number("-2.5e+3"), .number("18446744073709551615")]))
        #expect(object["e"] == .string("ä😀\n\\\"//"))
        #expect(object["g"] == .array([]) && object["z"] == nil)
    }

    @Test(arguments: [
        ("", 1, 1, "ends in the middle"), ("{", 1, 2, "a name in quotes"),
        ("{\"a\"}", 1, 5, "':' is missing"), ("{\"a\":1,}", 1, 8, "a name in quotes"),
        ("[1,]", 1, 4, "a value"), ("[1 2]", 1, 4, "',' or ']'"), ("[1", 1, 3, "in the middle"),
        ("{\"a\":1\n \"b\":2}", 2, 2, "',' or '}'"), ("1 2", 1, 3, "more text"),
        ("{\"a\":1,\n\"a\":2}", 2, 1, "a second time"), ("tru", 1, 1, "a value"),
        ("nul", 1, 1, "a value"), ("01", 1, 1, "leading zero"), ("-", 1, 2, "digits"),
        ("1.", 1, 3, "digits"), ("1e", 1, 3, "digits"), ("+1", 1, 1, "a value"),
        ("\"a", 1, 2, "ends inside a text"), ("\"\n\"", 1, 2, "line break"),
        ("\"\\x\"", 1, 2, "escape"), ("\"\\", 1, 2, "escape"), ("\"\\ud800\"", 1, 2, "code point"),
        ("\"\\ud800\\u0041\"", 1, 2, "code point"), ("\"\\u12g4\"", 1, 2, "code point"),
        ("\"\\u", 1, 2, "code point"), ("'a'", 1, 1, "a value"),
        ("{a:1}", 1, 2, "a name in quotes"),
    ])
    func mistakesHaveLineAndColumn(text: String, line: Int, column: Int, words: String) {
        let error = #expect(throws: JSONSyntaxError.self) { _ = try parse(text) }
        #expect(error?.line == line && error?.column == column, "\(String(describing: error))")
        #expect(error?.text.contains(words) == true, "\(String(describing: error))")
    }

    @Test func octetsThatAreNotUTF8AreRefused() {
        for bytes in [
            [0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
        ]
            as [[UInt8]]
        {
            let error = #expect(throws: JSONSyntaxError.self) { _ = try JSONReader.parse(bytes) }
            #expect(error?.text.contains("UTF-8") == true)
        }
    }

    @Test func nestingIsBounded() throws {
        let deep = String(repeating: "[", count: 100_000)
        let error = #expect(throws: JSONSyntaxError.self) { _ = try parse(deep) }
        #expect(error?.text.contains("64 deep") == true)
        _ = try parse(String(repeating: "[", count: 64) + String(repeating: "]", count: 64))
    }

    /// Foundation's reader as the second opinion, over every cut of a text with all kinds of
    /// tokens.
    @Test func foundationAgreesOnWhatIsJSON() throws {
        let text = "{\"a\":[1,-0.5e-3,true,false,null],\"\\u0041b\":{\"c\":\"\\t x\"},\"d\":[]}"
        for count in 0...text.utf8.count {
            let cut = Array(text.utf8.prefix(count))
            let ours = (try? JSONReader.parse(cut)) != nil
            let theirs =
                (try? JSONSerialization.jsonObject(
                    with: Data(cut), options: [.fragmentsAllowed])) != nil
            #expect(ours == theirs, "\(count)")
        }
    }
}
