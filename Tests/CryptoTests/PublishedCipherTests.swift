import Crypto
import TestSupport
import Testing

/// One published message.
struct Published: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let cipher: Cipher
    let key: [UInt8]
    /// The whole nonce of an AEAD, CBC's IV, or CTR's first counter block.
    let iv: [UInt8]
    var aad: [UInt8] = []
    let plain: [UInt8]
    /// With the tag behind it.
    let sealed: [UInt8]

    var tag: Int { sealed.count - plain.count }
}

private let countUp = (0..<64).map { UInt8($0) }

/// RFC 3602 §4, cases 1 to 4.
private let cbc = [
    Published(
        testDescription: "RFC 3602 #1", cipher: .aes128CBC,
        key: hex("06a9214036b8a15b512e03d534120006"), iv: hex("3dafba429d9eb430b422da802c9fac41"),
        plain: octets("Single block msg"), sealed: hex("e353779c1079aeb82708942dbe77181a")),
    Published(
        testDescription: "RFC 3602 #2", cipher: .aes128CBC,
        key: hex("c286696d887c9aa0611bbb3e2025a45a"), iv: hex("562e17996d093d28ddb3ba695a2e6f58"),
        plain: Array(countUp[..<32]),
        sealed: hex("d296cd94c2cccf8a3a863028b5e1dc0a 7586602d253cfff91b8266bea6d61ab1")),
    Published(
        testDescription: "RFC 3602 #3", cipher: .aes128CBC,
        key: hex("6c3ea0477630ce21a2ce334aa746c2cd"), iv: hex("c782dc4c098c66cbd9cd27d825682c81"),
        plain: octets("This is a 48-byte message (exactly 3 AES blocks)"),
        sealed: hex(
            """
            d0a02b3836451753d493665d33f0e886 2dea54cdb293abc7506939276772f8d5
            021c19216bad525c8579695d83ba2684
            """)),
    Published(
        testDescription: "RFC 3602 #4", cipher: .aes128CBC,
        key: hex("56e47a38c5598974bc46903dba290349"), iv: hex("8ce82eefbea0da3c44699ed7db51b7d9"),
        plain: (0xA0...0xDF).map { UInt8($0) },
        sealed: hex(
            """
            c30e32ffedc0774e6aff6af0869f71aa 0f3af07a9a31a9c684db207eb0ef8e4e
            35907aa632c3ffdf868bb7b29d3d46ad 83ce9f9a102ee99d49a53e87f4c3da55
            """)),
]

/// RFC 3686 §6, vectors 1, 3, 6 and 9: nonce, IV, and the block counter 1.
private let ctr = [
    Published(
        testDescription: "RFC 3686 #1", cipher: .aes128CTR,
        key: hex("AE6852F8121067CC4BF7A5765577F39E"), iv: hex("00000030 0000000000000000 00000001"),
        plain: octets("Single block msg"), sealed: hex("E4095D4FB7A7B3792D6175A3261311B8")),
    Published(
        testDescription: "RFC 3686 #3", cipher: .aes128CTR,
        key: hex("7691BE035E5020A8AC6E618529F9A0DC"), iv: hex("00E0017B 27777F3F4A1786F0 00000001"),
        plain: Array(countUp[..<36]),
        sealed: hex(
            """
            C1CF48A89F2FFDD9CF4652E9EFDB72D7 4540A42BDE6D7836D59A5CEAAEF31053 25B2072F
            """)),
    Published(
        testDescription: "RFC 3686 #6", cipher: .aes192CTR,
        key: hex("02BF391EE8ECB159B959617B0965279B F59B60A786D3E0FE"),
        iv: hex("0007BDFD 5CBD60278DCC0912 00000001"), plain: Array(countUp[..<36]),
        sealed: hex(
            """
            96893FC55E5C722F540B7DD1DDF7E758 D288BC95C69165884536C811662F2188 ABEE0935
            """)),
    Published(
        testDescription: "RFC 3686 #9", cipher: .aes256CTR,
        key: hex("FF7A617CE69148E4F1726E2F43581DE2 AA62D9F805532EDFF1EED687FB54153D"),
        iv: hex("001CC5B7 51A51D70A1C11148 00000001"), plain: Array(countUp[..<36]),
        sealed: hex(
            """
            EB6C52821D0BBBF7CE7594462ACA4FAA B407DF866569FD07F48CC0B583D6071F 1EC0E6B8
            """)),
]

private let gcmPlain = hex(
    """
    d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39
    """)

/// McGrew and Viega, "The Galois/Counter Mode of Operation", Appendix B, test cases 4, 10 and 16;
/// NIST SP 800-38C, Appendix C, examples 1 to 3; RFC 8439 §2.8.2.
private let aead = [
    Published(
        testDescription: "GCM test case 4", cipher: .aes128GCM,
        key: hex("feffe9928665731c6d6a8f9467308308"), iv: hex("cafebabefacedbaddecaf888"),
        aad: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), plain: gcmPlain,
        sealed: hex(
            """
            42831ec2217774244b7221b784d0d49c e3aa212f2c02a4e035c17e2329aca12e
            21d514b25466931c7d8f6a5aac84aa05 1ba30b396a0aac973d58e091
            5bc94fbc3221a5db94fae95ae7121a47
            """)),
    Published(
        testDescription: "GCM test case 10", cipher: .aes192GCM,
        key: hex("feffe9928665731c6d6a8f9467308308feffe9928665731c"),
        iv: hex("cafebabefacedbaddecaf888"), aad: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        plain: gcmPlain,
        sealed: hex(
            """
            3980ca0b3c00e841eb06fac4872a2757 859e1ceaa6efd984628593b40ca1e19c
            7d773d00c144c525ac619d18c84a3f47 18e2448b2fe324d9ccda2710
            2519498e80f1478f37ba55bd6d27618c
            """)),
    Published(
        testDescription: "GCM test case 16", cipher: .aes256GCM,
        key: hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
        iv: hex("cafebabefacedbaddecaf888"), aad: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        plain: gcmPlain,
        sealed: hex(
            """
            522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662
            76fc6ece0f4e1768cddf8853bb2d551b
            """)),
    Published(
        testDescription: "SP 800-38C example 1", cipher: .aes128CCM,
        key: hex("404142434445464748494a4b4c4d4e4f"), iv: hex("10111213141516"),
        aad: Array(countUp[..<8]), plain: hex("20212223"), sealed: hex("7162015b4dac255d")),
    Published(
        testDescription: "SP 800-38C example 2", cipher: .aes128CCM,
        key: hex("404142434445464748494a4b4c4d4e4f"), iv: hex("1011121314151617"),
        aad: Array(countUp[..<16]), plain: (0x20...0x2F).map { UInt8($0) },
        sealed: hex("d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd")),
    Published(
        testDescription: "SP 800-38C example 3", cipher: .aes128CCM,
        key: hex("404142434445464748494a4b4c4d4e4f"), iv: hex("101112131415161718191a1b"),
        aad: Array(countUp[..<20]), plain: (0x20...0x37).map { UInt8($0) },
        sealed: hex("e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951")),
    Published(
        testDescription: "RFC 8439 §2.8.2", cipher: .chaCha20Poly1305,
        key: (0x80...0x9F).map { UInt8($0) }, iv: hex("07000000 4041424344454647"),
        aad: hex("50515253c0c1c2c3c4c5c6c7"),
        plain: octets(
            "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
                + "future, sunscreen would be it."),
        sealed: hex(
            """
            d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6
            3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36
            92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
            3ff4def08e4b7a9de576d26586cec64b 6116 1ae10b594f09e26a7e902ecbd0600691
            """)),
]

@Suite struct PublishedCipherTests {
    @Test(arguments: cbc + ctr)
    func ciphers(_ vector: Published) throws {
        let bench = Bench(try CryptoLibrary())
        try bench.key(vector.cipher, vector.key)
        #expect(bench.run(encrypts: true, iv: vector.iv, vector.plain) == vector.sealed)
        try bench.key(vector.cipher, vector.key, encrypts: false)
        let isCTR = vector.testDescription.contains("3686")
        #expect(bench.run(encrypts: isCTR, iv: vector.iv, vector.sealed) == vector.plain)
    }

    @Test(arguments: aead)
    func authenticatedCiphers(_ vector: Published) throws {
        let bench = Bench(try CryptoLibrary())
        let nonce = vector.iv.count
        try bench.key(vector.cipher, vector.key, tag: vector.tag, ccmNonceBytes: nonce)
        let sealed = bench.seal(vector.plain, iv: vector.iv, aad: vector.aad, tag: vector.tag)
        #expect(sealed == vector.sealed)
        try bench.key(
            vector.cipher, vector.key, tag: vector.tag, encrypts: false, ccmNonceBytes: nonce)
        let opened = bench.open(vector.sealed, iv: vector.iv, aad: vector.aad, tag: vector.tag)
        #expect(opened == vector.plain)
    }

    /// RFC 2202 §3 (SHA-1) and RFC 4231 §4: key, data, and the start of each hash's output.
    struct MAC: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let key: [UInt8]
        let data: [UInt8]
        let sha1: String
        let sha256: String
        let sha384: String
        let sha512: String
    }

    private static let hashFirst = octets("Test Using Larger Than Block-Size Key - Hash Key First")

    static let macs = [
        MAC(
            testDescription: "case 1", key: Array(repeating: 0x0B, count: 20),
            data: octets("Hi There"), sha1: "b617318655057264e28bc0b6fb378c8ef146be00",
            sha256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            sha384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c",
            sha512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"),
        MAC(
            testDescription: "case 2", key: octets("Jefe"),
            data: octets("what do ya want for nothing?"),
            sha1: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            sha256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            sha384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e",
            sha512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"),
        MAC(
            testDescription: "case 3", key: Array(repeating: 0xAA, count: 20),
            data: Array(repeating: 0xDD, count: 50),
            sha1: "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
            sha256: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            sha384: "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b",
            sha512: "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"),
        // The RFCs differ in the key's length here: 80 in RFC 2202, 131 in RFC 4231.
        MAC(
            testDescription: "case 6, 80", key: Array(repeating: 0xAA, count: 80), data: hashFirst,
            sha1: "aa4ae5e15272d00e95705637ce8a3b55ed402112", sha256: "", sha384: "", sha512: ""),
        MAC(
            testDescription: "case 6, 131", key: Array(repeating: 0xAA, count: 131),
            data: hashFirst, sha1: "",
            sha256: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            sha384: "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6",
            sha512: "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"),
    ]

    @Test(arguments: macs, Hash.allCases)
    func messageAuthenticationCodes(_ vector: MAC, hash: Hash) throws {
        let wanted: String
        switch hash {
        case .sha1: wanted = vector.sha1
        case .sha256: wanted = vector.sha256
        case .sha384: wanted = vector.sha384
        case .sha512: wanted = vector.sha512
        }
        let bench = Bench(try CryptoLibrary())
        try bench.key(nil, [], hash: hash, hashKey: vector.key)
        let mac = bench.mac(vector.data, bytes: hash.outputBytes)
        #expect(mac?.starts(with: hex(wanted)) == true)
        // In two pieces, as with the high half of an extended sequence number.
        for split in 0...vector.data.count {
            let (head, tail) = (vector.data[..<split], vector.data[split...])
            #expect(bench.mac(Array(head), tail: Array(tail), bytes: hash.outputBytes) == mac)
        }
    }
}
