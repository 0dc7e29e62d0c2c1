import Crypto
import Testing

@Suite struct DistinguishedNamePatternTests {
    private func matches(_ pattern: String, _ name: String) throws -> Bool {
        try DistinguishedNamePattern(text: pattern).matches(DistinguishedName(text: name))
    }

    @Test(arguments: [
        ("C=CH, O=Lab, CN=*", "C=CH, O=Lab, CN=gw"), ("C=CH, O=Lab, CN=*", "C=CH, O=LAB, CN=*"),
        ("C=*, O=*, CN=*", "C=DE, O=Other, CN=x"), ("CN=*", "CN=a\\, O=b"),
        ("C=CH, OU=*, OU=b, CN=*", "C=CH, OU=a, OU=b, CN=c"),
        ("O=*, OU=a + CN=b", "O=x, CN=b + OU=a"), ("E=*, UID=*", "E=u@lab.example, UID=7"),
        ("2.5.4.3=*", "CN=gw"), ("CN=gw", "CN=GW"), ("DC=*, DC=lab", "DC=example, DC=lab"),
    ])
    func members(pattern: String, name: String) throws {
        #expect(try matches(pattern, name))
    }

    @Test(arguments: [
        ("C=CH, O=Lab, CN=*", "C=CH, O=Other, CN=gw"), ("C=CH, O=Lab, CN=*", "C=CH, O=Lab"),
        ("C=CH, O=Lab, CN=*", "C=CH, O=Lab, OU=gw"), ("C=CH, CN=*", "C=CH, O=Lab, CN=gw"),
        // The order counts, and who stands where.
        ("C=CH, O=Lab, CN=*", "C=CH, CN=gw, O=Lab"), ("OU=*, OU=b", "OU=b, OU=a"),
        // An attribute can't be added to the RDN that is open, nor to another one.
        ("C=CH, CN=*", "C=CH, CN=gw + OU=x"), ("C=CH, O=a, CN=*", "C=CH + O=a, CN=gw"),
        ("C=xx, CN=*", "C=CH, CN=gw"), ("CN=g*", "CN=gw"),
    ])
    func others(pattern: String, name: String) throws {
        #expect(try !matches(pattern, name))
    }

    @Test func whatIsOpenIsSaid() throws {
        #expect(try DistinguishedNamePattern(text: "C=CH, CN=*").hasOpenValues)
        #expect(try !DistinguishedNamePattern(text: "C=CH, CN=a*").hasOpenValues)
        #expect(try DistinguishedNamePattern(text: "C=CH, CN=*").description == "C=CH, CN=*")
    }

    @Test func patternsThatMeanNothingAreRefused() {
        for text in ["", "CN", "CN=* + O=a", "O=a + CN=*", "C=Switzerland, CN=*", "CN=*,"] {
            #expect(throws: DistinguishedNameFault.self) {
                try DistinguishedNamePattern(text: text)
            }
        }
        #expect(hasNoPendingErrors())
    }
}
