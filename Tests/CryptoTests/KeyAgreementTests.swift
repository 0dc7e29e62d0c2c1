// Key agreement against the RFCs' numbers, and against arithmetic that shares nothing with OpenSSL.

import Crypto
import Foundation
import TestSupport
import Testing

/// A case of `vectors/key-agreement.json`.
private struct AgreementCase: Decodable, CustomTestStringConvertible {
    let name: String
    let group: UInt16
    let peer: String
    /// Absent where the peer's value is to be refused.
    let `private`, `public`, shared: String?

    var testDescription: String { name }

    private struct File: Decodable { let cases: [AgreementCase] }

    static func read() throws -> [AgreementCase] {
        let url = URL(filePath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "vectors/key-agreement.json")
        return try JSONDecoder().decode(File.self, from: Data(contentsOf: url)).cases
    }
}

private func agreement(
    _ group: KeyAgreementGroup, _ key: [UInt8]
) throws(CryptoError) -> KeyAgreement {
    try KeyAgreement(group, privateKey: secret(key))
}

private func shared(
    _ agreement: borrowing KeyAgreement, _ peer: [UInt8]
) throws(KeyAgreementFault) -> [UInt8] {
    try agreement.sharedSecret(peer).withUnsafeBytes { Array($0) }
}

/// Gives the octets of a list, then traps.
private struct ListedSource: RandomSource {
    var octets: [UInt8]

    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        bytes.copyBytes(from: octets.prefix(bytes.count))
        octets.removeFirst(bytes.count)
    }
}

/// Gives the same octet for ever.
private struct StuckSource: RandomSource {
    let octet: UInt8

    func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        bytes.initializeMemory(as: UInt8.self, repeating: octet)
    }
}

/// RFC 5903 §8: the private keys, and the payloads behind their eight octets of header.
private let rfc5903:
    [(KeyAgreementGroup, i: String, r: String, kei: String, ker: String, x: String)] = [
        (
            .ecp256, "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
            "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
            """
            DAD0B653 94221CF9 B051E1FE CA5787D0 98DFE637 FC90B9EF 945D0C37 72581180
            5271A046 1CDB8252 D61F1C45 6FA3E59A B1F45B33 ACCF5F58 389E0577 B8990BB3
            """,
            """
            D12DFB52 89C8D4F8 1208B702 70398C34 2296970A 0BCCB74C 736FC755 4494BF63
            56FBF3CA 366CC23E 8157854C 13C58D6A AC23F046 ADA30F83 53E74F33 039872AB
            """,
            "D6840F6B 42F6EDAF D13116E0 E1256520 2FEF8E9E CE7DCE03 812464D0 4B9442DE"
        ),
        (
            .ecp384,
            """
            099F3C70 34D4A2C6 99884D73 A375A67F 7624EF7C 6B3C0F16 0647B674 14DCE655
            E35B5380 41E649EE 3FAEF896 783AB194
            """,
            """
            41CB0779 B4BDB85D 47846725 FBEC3C94 30FAB46C C8DC5060 855CC9BD A0AA2942
            E0308312 916B8ED2 960E4BD5 5A7448FC
            """,
            """
            667842D7 D180AC2C DE6F74F3 7551F557 55C7645C 20EF73E3 1634FE72 B4C55EE6
            DE3AC808 ACB4BDB4 C88732AE E95F41AA 9482ED1F C0EEB9CA FC498462 5CCFC23F
            65032149 E0E144AD A0241815 35A0F38E EB9FCFF3 C2C947DA E69B4C63 4573A81C
            """,
            """
            E558DBEF 53EECDE3 D3FCCFC1 AEA08A89 A987475D 12FD950D 83CFA417 32BC509D
            0D1AC43A 0336DEF9 6FDA41D0 774A3571 DCFBEC7A ACF31964 72169E83 8430367F
            66EEBE3C 6E70C416 DD5F0C68 759DD1FF F83FA401 42209DFF 5EAAD96D B9E6386C
            """,
            """
            11187331 C279962D 93D60424 3FD592CB 9D0A926F 422E4718 7521287E 7156C5C4
            D6031355 69B9E9D0 9CF5D4A2 70F59746
            """
        ),
        (
            .ecp521,
            """
            0037ADE9 319A89F4 DABDB3EF 411AACCC A5123C61 ACAB57B5 393DCE47 608172A0
            95AA85A3 0FE1C295 2C6771D9 37BA9777 F5957B26 39BAB072 462F68C2 7A57382D 4A52
            """,
            """
            0145BA99 A847AF43 793FDD0E 872E7CDF A16BE30F DC780F97 BCCC3F07 8380201E
            9C677D60 0B343757 A3BDBF2A 3163E4C2 F869CCA7 458AA4A4 EFFC311F 5CB15168 5EB9
            """,
            """
            0015417E 84DBF28C 0AD3C278 713349DC 7DF153C8 97A1891B D98BAB43 57C9ECBE
            E1E3BF42 E00B8E38 0AEAE57C 2D107564 94188594 2AF5A7F4 601723C4 195D176C
            ED3E017C AE20B664 1D2EEB69 5786D8C9 46146239 D099E18E 1D5A514C 739D7CB4
            A10AD8A7 88015AC4 05D7799D C75E7B7D 5B6CF226 1A6A7F15 07438BF0 1BEB6CA3 926F9582
            """,
            """
            00D0B397 5AC4B799 F5BEA16D 5E13E9AF 971D5E9B 984C9F39 728B5E57 39735A21
            9B97C356 436ADC6E 95BB0352 F6BE64A6 C2912D4E F2D0433C ED2B6171 640012D9
            460F015C 68226383 956E3BD0 66E797B6 23C27CE0 EAC2F551 A10C2C72 4D985207
            7B87220B 6536C5C4 08A1D2AE BB8E86D6 78AE49CB 57091F47 32296579 AB44FCD1 7F0FC56A
            """,
            """
            01144C7D 79AE6956 BC8EDB8E 7C787C45 21CB086F A64407F9 7894E5E6 B2D79B04
            D1427E73 CA4BAA24 0A347868 59810C06 B3C715A3 A8CC3151 F2BEE417 996D19F3 DDEA
            """
        ),
    ]

@Suite struct KeyAgreementTests {
    @Test func rfc5903Examples() throws {
        for example in rfc5903 {
            let i = try agreement(example.0, hex(example.i))
            let r = try agreement(example.0, hex(example.r))
            #expect(i.publicValue == hex(example.kei))
            #expect(r.publicValue == hex(example.ker))
            #expect(try shared(i, r.publicValue) == hex(example.x))
            #expect(try shared(r, i.publicValue) == hex(example.x))
        }
    }

    /// RFC 7748 §6.1.
    @Test func rfc7748Example() throws {
        let a = try agreement(
            .x25519, hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
        let b = try agreement(
            .x25519, hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
        let k = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        #expect(
            a.publicValue
                == hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"))
        #expect(
            b.publicValue
                == hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"))
        #expect(try shared(a, b.publicValue) == k)
        #expect(try shared(b, a.publicValue) == k)
    }

    // What would fool us: OpenSSL agreeing with itself, and padding that is missing once in 256.
    @Test func agreesWithOtherArithmetic() throws {
        let cases = try AgreementCase.read().filter { $0.shared != nil }
        #expect(Set(cases.map(\.group)) == Set(KeyAgreementGroup.allCases.map(\.rawValue)))
        #expect(cases.count { $0.shared?.hasPrefix("00") == true } >= 7)
        for example in cases {
            let group = try #require(KeyAgreementGroup(rawValue: example.group))
            let one = try agreement(group, hex(try #require(example.private)))
            #expect(one.publicValue == hex(try #require(example.public)), "\(example)")
            #expect(try shared(one, hex(example.peer)) == hex(try #require(example.shared)))
        }
    }

    @Test func refusesWhatIsOutsideTheGroup() throws {
        let cases = try AgreementCase.read().filter { $0.shared == nil }
        #expect(Set(cases.map(\.group)) == Set(KeyAgreementGroup.allCases.map(\.rawValue)))
        var random = SystemRandomSource()
        for example in cases {
            let group = try #require(KeyAgreementGroup(rawValue: example.group))
            let one = try KeyAgreement(group, random: &random)
            #expect(throws: KeyAgreementFault.invalidPublicValue, "\(example)") {
                try shared(one, hex(example.peer))
            }
            #expect(hasNoPendingErrors())
        }
    }

    @Test(arguments: KeyAgreementGroup.allCases)
    func bothSidesAgree(group: KeyAgreementGroup) throws {
        var random = SystemRandomSource()
        for _ in 0..<4 {
            let i = try KeyAgreement(group, random: &random)
            let r = try KeyAgreement(group, random: &random)
            #expect(i.publicValue.count == group.publicBytes)
            #expect(i.publicValue != r.publicValue)
            let secret = try shared(i, r.publicValue)
            #expect(secret.count == group.sharedBytes)
            #expect(try shared(r, i.publicValue) == secret)
            #expect(i.privateKey().count == group.privateBytes)
            let again = try KeyAgreement(group, privateKey: i.privateKey())
            #expect(again.publicValue == i.publicValue)
            #expect(try shared(again, r.publicValue) == secret)
        }
    }

    @Test(arguments: KeyAgreementGroup.allCases)
    func refusesOtherLengths(group: KeyAgreementGroup) throws {
        var random = SystemRandomSource()
        let one = try KeyAgreement(group, random: &random)
        let valid = try KeyAgreement(group, random: &random).publicValue
        let values = [
            [], [0], Array(valid.dropLast()), Array(valid.dropFirst()), valid + [0], [0] + valid,
            [4] + valid,
        ]
        for value in values {
            #expect(
                throws: KeyAgreementFault.length(expected: group.publicBytes, got: value.count)
            ) { try shared(one, value) }
        }
    }

    // What would fool us: a reduction instead of a new draw, which favours small keys.
    @Test func drawsAgainWhatIsNotBelowTheOrder() throws {
        let order = hex("FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551")
        let last = order.dropLast() + [order[31] - 1]
        var random = ListedSource(
            octets: order + [UInt8](repeating: 0, count: 32) + last
                + [UInt8](repeating: 9, count: 32))
        let one = try KeyAgreement(.ecp256, random: &random)
        #expect(one.privateKey().withUnsafeBytes { Array($0) } == Array(last))
        #expect(random.octets == [UInt8](repeating: 9, count: 32))
    }

    @Test func keysOf521BitsAreDrawnInOneGo() throws {
        var random = ListedSource(octets: [0xFF] + [UInt8](repeating: 0x11, count: 65))
        let one = try KeyAgreement(.ecp521, random: &random)
        #expect(one.privateKey().withUnsafeBytes { $0[0] } == 1)
    }

    @Test func aStuckSourceIsNoticed() {
        for group in KeyAgreementGroup.allCases where group != .x25519 {
            var zeros = StuckSource(octet: 0)
            #expect(throws: CryptoError.self) { _ = try KeyAgreement(group, random: &zeros) }
        }
        for group in [KeyAgreementGroup.ecp256, .ecp384] {
            var ones = StuckSource(octet: 0xFF)
            #expect(throws: CryptoError.self) { _ = try KeyAgreement(group, random: &ones) }
        }
        #expect(hasNoPendingErrors())
    }

    @Test func refusesPrivateKeysOutsideTheGroup() {
        for group in KeyAgreementGroup.allCases {
            var bad = [[UInt8](repeating: 0xFF, count: group.publicBytes + 1), []]
            if group == .x25519 { bad.append([UInt8](repeating: 1, count: 31)) }
            if group != .x25519 {
                bad.append([UInt8](repeating: 0, count: group.privateBytes))
            }
            for key in bad {
                #expect(throws: CryptoError.self) { _ = try agreement(group, key) }
            }
        }
        #expect(hasNoPendingErrors())
    }

    @Test func numbersAreReadLeastSignificantOctetFirst() {
        var random = ListedSource(octets: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        #expect(random.uint64() == 0x0807_0605_0403_0201)
        #expect(random.octets(1) == [9])
        #expect(random.octets(0) == [])
    }

    @Test func theSystemsSourceFillsAllOctets() {
        var random = SystemRandomSource()
        var seen = [UInt8](repeating: 0, count: 64)
        for _ in 0..<16 { for (i, octet) in random.octets(64).enumerated() { seen[i] |= octet } }
        #expect(!seen.contains(0))
        #expect(random.secret(40).count == 40)
    }
}
