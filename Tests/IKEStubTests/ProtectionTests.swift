// What others sealed is opened in vectors/ike-messages, octet by octet; here is what must not open,
// and what fragments may not do.

import Crypto
import ESP
import IKEStub
import TestSupport
import Testing
import Wire

private func iv(_ suite: MessageSuite, _ number: Int) -> MessageIV {
    suite.ivBytes == 8
        ? .counter(UInt64(number)) : .random(Array(repeating: UInt8(number & 255), count: 16))
}

/// Both ends of one direction.
private func protection(
    _ suite: MessageSuite, salt: UInt8 = 0, library: CryptoLibrary
) -> MessageProtection {
    let lengths = suite.keyLengths
    return MessageProtection(
        suite, encryptionKey: secret(copying: (0..<lengths.encryption).map { UInt8($0) ^ salt }),
        integrityKey: secret(copying: (0..<lengths.integrity).map { UInt8($0 + 100) }),
        library: library)
}

private func open(
    _ octets: [UInt8], _ protection: borrowing MessageProtection
) throws -> [Payload] {
    try octets.withUnsafeBytes { try protection.open($0, try IKEMessage.read($0)) }
}

private func take(
    _ octets: [UInt8], _ reassembly: inout Reassembly, _ protection: borrowing MessageProtection
) throws -> [Payload]? {
    try octets.withUnsafeBytes { bytes in
        try reassembly.take(bytes, try IKEMessage.read(bytes), protection)
    }
}

@Suite struct MessageSuiteTests {
    @Test func onlyWhatProtectsIsASuite() {
        #expect(everySuite.count == 31)
        #expect(MessageSuite(.aesCBC, keyBits: 128) == nil)
        #expect(MessageSuite(.aesGCM16, keyBits: 128, integrity: .hmacSHA256) == nil)
        #expect(MessageSuite(.aesGMAC, keyBits: 128) == nil)
        #expect(MessageSuite(.null, keyBits: 0, integrity: .hmacSHA256) == nil)
        #expect(MessageSuite(.aesGCM16, keyBits: 100) == nil)
        let lengths = MessageSuite(.aesCCM8, keyBits: 128)?.keyLengths
        #expect(lengths == KeyLengths(encryption: 19, integrity: 0))
    }
}

@Suite struct MessageProtectionTests {
    @Test(arguments: everySuite)
    func noOctetMayChange(suite: MessageSuite) throws {
        let library = try CryptoLibrary()
        let protection = protection(suite, library: library)
        let sent = message([.notify(Notify(.initialContact)), .vendorID([1, 2, 3])])
        let sealed = try protection.seal(sent, iv: iv(suite, 7))
        #expect(try open(sealed, protection) == sent.payloads)
        for place in sealed.indices {
            for bit in [1, 0x80] as [UInt8] {
                var altered = sealed
                altered[place] ^= bit
                #expect(throws: (any Error).self, "octet \(place)") {
                    try open(altered, protection)
                }
            }
        }
        let other = MessageProtectionTests.otherKeys(suite, library)
        #expect(throws: ProtectionFault.integrity) { try open(sealed, other) }
    }

    private static func otherKeys(
        _ suite: MessageSuite, _ library: CryptoLibrary
    ) -> MessageProtection {
        MessageProtection(
            suite,
            encryptionKey: secret(
                copying: Array(repeating: 1, count: suite.keyLengths.encryption)),
            integrityKey: secret(copying: Array(repeating: 1, count: suite.keyLengths.integrity)),
            library: library)
    }

    /// With CBC nothing but the checksum stands between a stranger and the plaintext.
    @Test func aCheapCipherDoesNotVouch() throws {
        let suite = try #require(MessageSuite(.aesCBC, keyBits: 128, integrity: .hmacSHA1))
        let library = try CryptoLibrary()
        let protection = protection(suite, library: library)
        let foreign = IKEStubTests.protection(suite, salt: 1, library: library)
        // The same SK_a, another SK_e: authentic, and nonsense inside.
        let sealed = try foreign.seal(message([.vendorID([1])]), iv: iv(suite, 1))
        let fault = #expect(throws: ProtectionFault.self) { try open(sealed, protection) }
        #expect(fault != .integrity)
    }

    @Test func kindsAreNotMixedUp() throws {
        let suite = try #require(MessageSuite(.aesGCM16, keyBits: 256))
        let protection = protection(suite, library: try CryptoLibrary())
        let clear = message([.vendorID([1])]).encoded()
        #expect(throws: ProtectionFault.otherKind) { try open(clear, protection) }
        let pieces = try protection.seal(
            message([.vendorID(Array(repeating: 1, count: 300))]), lengthMaximum: 200
        ) { iv(suite, $0) }
        #expect(pieces.count == 3)
        #expect(throws: ProtectionFault.otherKind) { try open(pieces[0], protection) }
        var reassembly = Reassembly()
        #expect(throws: ReassemblyFault.protection(.otherKind)) {
            try take(clear, &reassembly, protection)
        }
    }

    @Test func emptyMessagesAreShort() throws {
        for suite in everySuite {
            let protection = protection(suite, library: try CryptoLibrary())
            let sealed = try protection.seal(message([], .informational), iv: iv(suite, 1))
            let textBytes = suite.encryption == .aesCBC ? 16 : 1
            #expect(sealed.count == 32 + suite.ivBytes + textBytes + suite.icvBytes)
            #expect(try open(sealed, protection).isEmpty)
        }
    }
}

@Suite struct FragmentationTests {
    private let library: CryptoLibrary

    init() throws { library = try CryptoLibrary() }

    private func large(_ count: Int, _ random: inout SeededGenerator) -> IKEMessage {
        message([.certificate(encoding: 4, data: random.bytes(count)), .nonce(random.bytes(32))])
    }

    @Test(arguments: everySuite)
    func everyLengthArrives(suite: MessageSuite) throws {
        var random = SeededGenerator()
        let protection = protection(suite, library: library)
        for count in [1, 300, 478, 479, 480, 481, 1000, 2500, 5000] {
            let sent = large(count, &random)
            let limit = IKEMessage.lengthMaximum(datagramBytes: 576, .v4, hasMarker: true)
            #expect(limit == 544)
            var datagrams = try protection.seal(sent, lengthMaximum: limit) { iv(suite, $0) }
            #expect(datagrams.allSatisfy { $0.count <= limit })
            if datagrams.count == 1 {
                #expect(try open(datagrams[0], protection) == sent.payloads)
                continue
            }
            // All but the last are as long as they may be.
            let spare = suite.encryption == .aesCBC ? 15 : 0
            #expect(datagrams.dropLast().allSatisfy { $0.count >= limit - spare })
            #expect(try parse(datagrams[1]).protected?.firstType == 0)
            datagrams.shuffle(using: &random)
            var reassembly = Reassembly()
            for datagram in datagrams.dropLast() {
                #expect(try take(datagram, &reassembly, protection) == nil)
                #expect(throws: ReassemblyFault.duplicate) {
                    try take(datagram, &reassembly, protection)
                }
            }
            let last = try #require(datagrams.last)
            #expect(try take(last, &reassembly, protection) == sent.payloads)
            #expect(reassembly.isEmpty && reassembly.byteCount == 0)
        }
    }

    /// RFC 7383 §2.6: a larger set begins anew, a smaller one is old.
    @Test func setsAreNotMixed() throws {
        var random = SeededGenerator()
        let suite = try #require(MessageSuite(.chaCha20Poly1305, keyBits: 256))
        let protection = protection(suite, library: library)
        let sent = large(2000, &random)
        let coarse = try protection.seal(sent, lengthMaximum: 1200) { iv(suite, $0) }
        let fine = try protection.seal(sent, lengthMaximum: 500) { iv(suite, 10 + $0) }
        #expect(coarse.count == 2 && fine.count == 5)
        var reassembly = Reassembly()
        #expect(try take(coarse[0], &reassembly, protection) == nil)
        let kept = reassembly.byteCount
        // A forgery must not throw away what is there.
        var forged = fine[0]
        forged[forged.count - 1] ^= 1
        #expect(throws: ReassemblyFault.protection(.integrity)) {
            try take(forged, &reassembly, protection)
        }
        #expect(reassembly.byteCount == kept)
        for datagram in fine.dropLast() {
            #expect(try take(datagram, &reassembly, protection) == nil)
            #expect(throws: ReassemblyFault.outdated) {
                try take(coarse[1], &reassembly, protection)
            }
        }
        #expect(try take(fine[4], &reassembly, protection) == sent.payloads)
    }

    @Test func strangersAndExcessAreRefused() throws {
        var random = SeededGenerator()
        let suite = try #require(MessageSuite(.aesGCM16, keyBits: 128))
        let protection = protection(suite, library: library)
        let sent = large(4000, &random)
        let pieces = try protection.seal(sent, lengthMaximum: 300) { iv(suite, $0) }
        #expect(pieces.count == 17)
        var reassembly = Reassembly()
        #expect(throws: ReassemblyFault.tooLong) { try take(pieces[0], &reassembly, protection) }
        reassembly = Reassembly(limits: .init(fragments: 17, octets: 1000))
        for piece in pieces[..<4] {
            #expect(try take(piece, &reassembly, protection) == nil)
            #expect(reassembly.byteCount <= 1000)
        }
        #expect(throws: ReassemblyFault.tooLong) { try take(pieces[4], &reassembly, protection) }
        #expect(reassembly.isEmpty)
        var other = sent
        other.messageID += 1
        let foreign = try protection.seal(other, lengthMaximum: 300) { iv(suite, 50 + $0) }
        reassembly = Reassembly(limits: .init(fragments: 17))
        #expect(try take(pieces[0], &reassembly, protection) == nil)
        #expect(throws: ReassemblyFault.otherMessage) {
            try take(foreign[1], &reassembly, protection)
        }
    }
}
