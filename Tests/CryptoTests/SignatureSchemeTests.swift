// Algorithm identifiers against the octets that RFC 7427, Appendix A, prints.

import Crypto
import TestSupport
import Testing

private func scheme(_ octets: [UInt8]) -> SignatureScheme? {
    octets.withUnsafeBytes { SignatureScheme(algorithmIdentifier: $0) }
}

/// RFC 7427, A.1.2 to A.1.4, A.3.2 to A.3.4, A.4.3; RFC 8420, Appendix A.
private let printed: [(SignatureScheme, String)] = [
    (.rsaPKCS1(.sha256), "300d 0609 2a86 4886 f70d 0101 0b05 00"),
    (.rsaPKCS1(.sha384), "300d 0609 2a86 4886 f70d 0101 0c05 00"),
    (.rsaPKCS1(.sha512), "300d 0609 2a86 4886 f70d 0101 0d05 00"),
    (.ecdsa(.sha256), "300a 0608 2a86 48ce 3d04 0302"),
    (.ecdsa(.sha384), "300a 0608 2a86 48ce 3d04 0303"),
    (.ecdsa(.sha512), "300a 0608 2a86 48ce 3d04 0304"),
    (.ed25519, "3005 0603 2b65 70"),
]

/// A.4.3; the trailer field at its end is the default, which signers leave out.
private let printedPSS = """
    3046 0609 2a86 4886 f70d 0101 0a30 39a0 0f30 0d06 0960 8648 0165 0304 0201 0500
    a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203
    0201 20a3 0302 0101
    """

@Suite struct SignatureSchemeTests {
    @Test func identifiersAreAsPrinted() {
        for (expected, text) in printed {
            #expect(expected.algorithmIdentifier == hex(text))
            #expect(scheme(hex(text)) == expected)
        }
        #expect(scheme(hex(printedPSS)) == .rsaPSS(.sha256))
        var withoutTrailer = Array(hex(printedPSS).dropLast(5))
        withoutTrailer[1] -= 5
        withoutTrailer[14] -= 5
        #expect(SignatureScheme.rsaPSS(.sha256).algorithmIdentifier == withoutTrailer)
    }

    @Test func everyIdentifierIsReadAgain() {
        var seen: Set<[UInt8]> = []
        for one in SignatureScheme.allCases {
            #expect((one.algorithmIdentifier == nil) == (one.authenticationMethod != 14))
            guard let octets = one.algorithmIdentifier else { continue }
            #expect(seen.insert(octets).inserted)
            #expect(Int(octets[1]) == octets.count - 2)
            #expect(scheme(octets) == one)
            for place in octets.indices {
                var other = octets
                other[place] ^= 0x40
                #expect(scheme(other) == nil)
                #expect(scheme(Array(octets[..<place])) == nil)
            }
            #expect(scheme(octets + [0]) == nil)
        }
        #expect(seen.count == 10)
    }

    // RFC 4055 §2.1: both forms of a hash must be understood.
    @Test func hashesWithoutNULLAreTheSame() {
        #expect(scheme(hex("300b 0609 2a86 4886 f70d 0101 0b")) == .rsaPKCS1(.sha256))
        let neither = """
            303d 0609 2a86 4886 f70d 0101 0a30 30a0 0d30 0b06 0960 8648 0165 0304 0201
            a11a 3018 0609 2a86 4886 f70d 0101 0830 0b06 0960 8648 0165 0304 0201 a203 0201 20
            """
        #expect(scheme(hex(neither)) == .rsaPSS(.sha256))
    }

    @Test func othersAreUnknown() {
        let others = [
            "", "3000", "300d 0609 2a86 4886 f70d 0101 0505 00",  // A.1.1, SHA-1
            "300b 0609 6086 4801 6503 0403 02",  // A.2.2, DSA
            "3009 0607 2a86 48ce 3d04 01",  // A.3.1, ECDSA with SHA-1
            "300d 0609 2a86 4886 f70d 0101 0a30 00",  // A.4.1, PSS with SHA-1
            "300c 0608 2a86 48ce 3d04 0302 0500",  // ECDSA has no parameters (RFC 5758 §3.2)
            printedPSS.replacing("0201 20a3", with: "0201 14a3"),  // salt of 20
            printedPSS.replacing("0302 0101", with: "0302 0102"),  // trailer of 2
        ]
        for text in others { #expect(scheme(hex(text)) == nil, "\(text)") }
    }

    @Test func methodsNameTheirSchemes() {
        #expect(SignatureScheme(authenticationMethod: 1) == .rsaPKCS1(.sha1))
        #expect(SignatureScheme(authenticationMethod: 9) == .ecdsaRaw(.sha256))
        #expect(SignatureScheme(authenticationMethod: 10) == .ecdsaRaw(.sha384))
        #expect(SignatureScheme(authenticationMethod: 11) == .ecdsaRaw(.sha512))
        for method in [0, 2, 3, 8, 12, 13, 14, 255] as [UInt8] {
            #expect(SignatureScheme(authenticationMethod: method) == nil)
        }
    }
}

@Suite struct DigestTests {
    /// FIPS 180-4's example "abc", from NIST's example values.
    @Test func publishedDigests() {
        let expected: [Hash: String] = [
            .sha1: "a9993e364706816aba3e25717850c26c9cd0d89d",
            .sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            .sha384: """
            cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
            8086072ba1e7cc2358baeca134c825a7
            """,
            .sha512: """
            ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
            2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f
            """,
        ]
        for hash in Hash.allCases {
            let digest = octets("a").withUnsafeBytes { a in
                octets("bc").withUnsafeBytes { bc in
                    hash.digest(a, UnsafeRawBufferPointer(start: nil, count: 0), bc)
                }
            }
            #expect(digest == expected[hash].map { hex($0) })
        }
        #expect(
            Hash.sha256.digest()
                == hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
    }
}
