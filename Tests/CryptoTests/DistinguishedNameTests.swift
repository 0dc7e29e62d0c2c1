// Distinguished names: text to DER, DER to text, and which are equal.

import Crypto
import TestSupport
import Testing

private func der(_ text: String) throws(DistinguishedNameFault) -> [UInt8] {
    try DistinguishedName(text: text).der
}

@Suite struct DistinguishedNameTests {
    /// Encoded by hand from X.501 and X.520: C is a PrintableString, the others are UTF-8.
    @Test func derIsAsByHand() throws {
        let c = "310b 3009 0603 5504 0613 0243 48"
        let o = "310c 300a 0603 5504 0a0c 034c 6162"
        let cn = "310b 3009 0603 5504 030c 0267 77"
        #expect(try der("C=CH, O=Lab, CN=gw") == hex("3028" + c + o + cn))
        #expect(try der("C=CH,O=Lab;CN=gw") == hex("3028" + c + o + cn))
        #expect(try der("  C = CH ,  O = Lab , 2.5.4.3=gw  ") == hex("3028" + c + o + cn))
        #expect(try der("CN=gw, O=Lab, C=CH") == hex("3028" + cn + o + c))
    }

    @Test func textIsReadAgain() throws {
        let texts = [
            "C=CH, O=Lab, CN=gw", "CN=a\\, b", "OU=c + CN=a\\+b", "CN=\\ a\\ ", "CN=\\#a",
            "O=Lab\\\\x",
            "CN=Zürich", "DC=example, DC=com, UID=u", "CN=\\\"q\\\"", "CN=a=b", "CN=x\\<y\\>z\\;",
            "emailAddress=a@b.example", "serialNumber=12, SN=Name, GN=First", "CN=日本",
            "CN=tab\\09end", "2.999.1=a",
        ]
        for text in texts {
            let name = try DistinguishedName(text: text)
            #expect(name.description == text)
            #expect(try DistinguishedName(der: name.der) == name)
        }
    }

    @Test func quotesAndAliases() throws {
        #expect(try der("O=\"Lab, Inc.\"") == der("O=Lab\\, Inc."))
        #expect(try der("O=\" a+b;=\"") == der("O=\\ a\\+b\\;="))
        #expect(try der("E=a@b, Email=c@d") == der("emailAddress=a@b, emailAddress=c@d"))
        #expect(try der("CN=\\C3\\BC") == der("CN=ü"))
    }

    @Test func otherTextIsRefused() {
        func fault(_ text: String) -> DistinguishedNameFault? {
            do throws(DistinguishedNameFault) {
                _ = try DistinguishedName(text: text)
                return nil
            } catch { return error }
        }
        for text in ["", "   "] { #expect(fault(text) == .empty) }
        for text in [
            "gw", "CN=a,", "CN=a,,O=b", "CN=a+", "=a", "CN=\"a", "CN=a\\", "CN=\\c", "CN=a\\00b",
            "CN=a, b", ", CN=a", "CN=a\\4",
        ] {
            guard case .malformed? = fault(text) else {
                Issue.record("\(text): \(String(describing: fault(text)))")
                continue
            }
        }
        let long = "2." + String(repeating: "7", count: 100)
        for type in ["XYZ", "2", "2..5", ".2.5", "2.5.", "2.5.4.x", "2 5", long] {
            #expect(fault("\(type)=a") == .unknownAttribute(type))
        }
        #expect(fault("C=Switzerland") == .unfitValue(attribute: "C", value: "Switzerland"))
        #expect(fault("CN=") == .unfitValue(attribute: "CN", value: ""))
        #expect(fault("E=ü@b.example") != nil)
        #expect(hasNoPendingErrors())
    }

    /// The same letters as PrintableString (0x13), UTF8String (0x0C) and BMPString (0x1E).
    @Test func equalityIgnoresTypeCaseAndSpaces() throws {
        let utf8 = try DistinguishedName(der: hex("300f 310d 300b 0603 5504 030c 0447 5720 31"))
        let printable = try DistinguishedName(
            der: hex("3010 310e 300c 0603 5504 0313 0567 7720 2031"))
        let wide = try DistinguishedName(
            der: hex("3013 3111 300f 0603 5504 031e 0800 6700 5700 2000 31"))
        let other = try DistinguishedName(text: "CN=gw 2")
        for name in [utf8, printable, wide] {
            #expect(name.matches(utf8) && utf8.matches(name))
            #expect(!name.matches(other) && !other.matches(name))
        }
        #expect(utf8 != printable)
        let long = try DistinguishedName(text: "O=Lab, CN=gw")
        #expect(!long.matches(try DistinguishedName(text: "CN=gw, O=Lab")))
        #expect(!long.matches(try DistinguishedName(text: "O=Lab")))
        #expect(long.matches(try DistinguishedName(text: "O=lAB, CN=GW")))
    }

    @Test func derIsKeptAsItCame() throws {
        let octets = hex("3010 310e 300c 0603 5504 0313 0567 7720 2031")
        #expect(try DistinguishedName(der: octets).der == octets)
        for count in 0..<octets.count {
            #expect(throws: DistinguishedNameFault.notDER) {
                try DistinguishedName(der: Array(octets[..<count]))
            }
        }
        #expect(throws: DistinguishedNameFault.notDER) {
            try DistinguishedName(der: octets + [0])
        }
        // No attribute at all is a Name, too.
        #expect(try DistinguishedName(der: [0x30, 0]).description == "")
        #expect(hasNoPendingErrors())
    }

    @Test func randomOctetsNeverTrap() {
        var random = SeededGenerator()
        let base =
            hex("3028 310b 3009 0603 5504 0613 0243 48 310c 300a 0603 5504 0a0c 034c 6162")
            + hex("310b 3009 0603 5504 030c 0267 77")
        for _ in 0..<5000 {
            var octets = base
            for _ in 0..<(1 + random.next() % 3) {
                octets[Int(random.next() % UInt64(octets.count))] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            guard let name = try? DistinguishedName(der: octets) else { continue }
            #expect(name.matches(name))
            _ = name.description
        }
        #expect(hasNoPendingErrors())
    }
}
