import Crypto
import GatewayIO
import IKEStub
import Testing
import Wire

@Suite struct IdentityTextTests {
    @Test(arguments: [
        ("gw.lab.example", 2, "gw.lab.example"), ("p1", 2, "p1"), ("@office", 2, "office"),
        ("@10.0.0.1x", 2, "10.0.0.1x"), ("user@lab.example", 3, "user@lab.example"),
        ("a.b+c@lab.example", 3, "a.b+c@lab.example"), ("keyid:office-7", 11, "office-7"),
        ("keyid:a=b@c", 11, "a=b@c"), ("#6f6b", 11, "ok"), ("keyid:#6F6b", 11, "ok"),
    ])
    func kindAndOctetsAreSeenByTheText(text: String, type: UInt8, data: String) throws {
        let identity = try Identity(parsing: text)
        #expect(identity.type == type)
        #expect(identity.data == Array(data.utf8))
        #expect(try IdentityPattern(parsing: text) == .exactly(identity))
    }

    @Test func addressesAndNames() throws {
        #expect(try Identity(parsing: "192.0.2.1") == .ipv4(IPAddress(v4: 0xC000_0201)))
        #expect(try Identity(parsing: "2001:db8::1").data.count == 16)
        let name = try Identity(parsing: "C=CH, O=Lab, CN=gw")
        #expect(name.data == (try DistinguishedName(text: "C=CH, O=Lab, CN=gw").der))
        #expect(name.type == 9)
    }

    @Test func descriptionsAreRead() throws {
        for text in ["gw.lab.example", "u@lab.example", "2001:db8::1", "C=CH, CN=a\\,b", "#00ff"] {
            let identity = try Identity(parsing: text)
            #expect(try Identity(parsing: identity.description) == identity)
        }
        for text in ["%any", "*.lab.example", "*@lab.example", "C=CH, O=*, CN=*"] {
            #expect(try IdentityPattern(parsing: text).description == text)
        }
    }

    @Test(arguments: [
        "", " ", "a b", "gw..example", ".example", "gw.example.", "10.0.0.256", "1.2.3",
        "fe80::1::2",
        "user@", "@", "@@", "a b@lab.example", "user@-\u{E9}", "*", "*.", "*@", "a.*.b", "*.*.b",
        "x*.lab.example", "x*y@*", "keyid:", "#", "#0", "#0g", "=x", "XY=1", "CN=", "%any4", "%",
        "\u{0}",
        "gw.\u{E9}.example", "CN=*+O=x", "C=*, CN", String(repeating: "a", count: 1025),
    ])
    func othersAreRefused(text: String) {
        #expect(throws: IdentityTextError.self) { try IdentityPattern(parsing: text) }
        #expect(throws: IdentityTextError.self) { try Identity(parsing: text) }
    }

    @Test func whatIsLeftOpenIsNoIdentity() {
        for text in ["%any", "*.lab.example", "*@lab.example", "C=CH, CN=*"] {
            #expect(throws: IdentityTextError.self) { try Identity(parsing: text) }
        }
    }

    @Test func patternsMatchAsTheySay() throws {
        func matches(_ pattern: String, _ identity: String) throws -> Bool {
            try IdentityPattern(parsing: pattern).matches(Identity(parsing: identity))
        }
        #expect(try matches("%any", "keyid:x"))
        #expect(try matches("*.lab.example", "P1.LAB.example"))
        #expect(try !matches("*.lab.example", "lab.example"))
        #expect(try !matches("*.lab.example", "p1.xlab.example"))
        #expect(try !matches("*.lab.example", "u@p1.lab.example"))
        #expect(try matches("*@lab.example", "u@lab.example"))
        #expect(try !matches("*@lab.example", "u@p1.lab.example"))
        #expect(try matches("C=CH, O=Lab, CN=*", "C=CH, O=lab, CN=anybody"))
        #expect(try !matches("C=CH, O=Lab, CN=*", "C=CH, O=Lab, OU=x, CN=anybody"))
        #expect(try !matches("C=CH, O=Lab, CN=*", "C=CH, O=Lab, OU=x"))
        #expect(try !matches("C=CH, O=Lab, CN=*", "anybody"))
    }
}
