import Crypto
import IKEStub
import Testing

private func secret(_ hexadecimal: String) throws -> SecretBytes {
    guard let secret = SecretBytes.decoding(hexadecimal: hexadecimal) else {
        throw CryptoError.operationFailed("hexadecimal")
    }
    return secret
}

private func text(_ secret: borrowing SecretBytes) -> String {
    secret.withUnsafeBytes { bytes in
        bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}

@Suite struct PseudoRandomFunctionTests {
    /// RFC 2202 §3 and RFC 4231 §4.3 ("Jefe"), §4.7 (a key longer than a block).
    @Test(arguments: [
        (PseudoRandomFunction.hmacSHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (.hmacSHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            .hmacSHA384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
                + "8e2240ca5e69e2c78b3239ecfab21649"
        ),
        (
            .hmacSHA512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                + "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ),
    ])
    func publishedValues(function: PseudoRandomFunction, expected: String) throws {
        let library = try CryptoLibrary()
        let prf = try KeyedPRF(function, key: try secret("4a656665"), library: library)
        let data = try secret("7768617420646f2079612077616e7420666f72206e6f7468696e673f")
        #expect(text(try prf(data)) == expected)
        // A keyed PRF is not used up.
        #expect(text(try prf(data)) == expected)
        #expect(expected.utf8.count == function.byteCount * 2)
    }

    @Test func aLongKeyIsHashedFirst() throws {
        let library = try CryptoLibrary()
        let key = try secret(String(repeating: "aa", count: 131))
        let prf = try KeyedPRF(.hmacSHA256, key: key, library: library)
        let data = try secret(
            "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65"
                + "204b6579202d2048617368204b6579204669727374")
        #expect(
            text(try prf(data))
                == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }

    @Test func emptyKeysAndDataAreTaken() throws {
        let library = try CryptoLibrary()
        let prf = try KeyedPRF(.hmacSHA256, key: SecretBytes(count: 0), library: library)
        #expect(
            text(try prf(SecretBytes(count: 0)))
                == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
    }

    /// RFC 7296 §2.13 by hand: T1 = prf(K, S | 1), T2 = prf(K, T1 | S | 2), T3 = prf(K, T2 | S |
    /// 3).
    @Test(arguments: PseudoRandomFunction.allCases)
    func expansionIsTheRFCsChain(function: PseudoRandomFunction) throws {
        let library = try CryptoLibrary()
        let prf = try KeyedPRF(function, key: try secret("0102030405"), library: library)
        let seed = "a0a1a2a3a4a5a6"
        let first = text(try prf(try secret(seed + "01")))
        let second = text(try prf(try secret(first + seed + "02")))
        let third = text(try prf(try secret(second + seed + "03")))
        let whole = first + second + third
        let block = function.byteCount
        for count in [0, 1, block - 1, block, block + 1, 2 * block, 3 * block - 5, 3 * block] {
            let stream = try prf.expand(seed: try secret(seed), count: count)
            #expect(text(stream) == whole.prefix(2 * count))
        }
        let longest = try prf.expand(seed: try secret(seed), count: 255 * block)
        #expect(longest.count == 255 * block)
    }

    @Test func expansionEndsAfter255Blocks() async {
        await #expect(processExitsWith: .failure) {
            let library = try CryptoLibrary()
            let key = SecretBytes(count: 32)
            let prf = try KeyedPRF(.hmacSHA256, key: key, library: library)
            _ = try prf.expand(seed: key, count: 255 * 32 + 1)
        }
    }
}

/// The SA of vectors/captures/aes128-sha256, between two strongSwan gateways.
@Suite struct KeyScheduleTests {
    private let library: CryptoLibrary
    private let schedule: KeySchedule
    private let lengths = KeyLengths(encryption: 16, integrity: 32)
    private static let initiatorNonce =
        "ce5d6afeafa0c5a2dba23aa2bbd3872b61f73621a469267c92985fbbd2a1490c"
    private static let responderNonce =
        "1705734e27d59a360b94216965c29e0d6f87a46c126e18e457832206f9a0954f"
    private static let sharedSecret =
        "2a9c29bffc53f9a43f21769afdbcc1c60ace31243d2cbedf05727ff105d6501f"
    private static let derivation =
        "1be935f541b2132c347720cbfd9cc628019a74cf880337b95caa8a13906a5e12"

    init() throws {
        library = try CryptoLibrary()
        schedule = KeySchedule(.hmacSHA256, library: library)
    }

    private func identity() throws -> ExchangeIdentity {
        ExchangeIdentity(
            initiatorNonce: try secret(Self.initiatorNonce),
            responderNonce: try secret(Self.responderNonce),
            initiatorSPI: 0x5714_9b23_7f1d_a8a1, responderSPI: 0x7772_f7d2_6476_60d0)
    }

    @Test func sevenKeysOfAnIKESA() throws {
        let identity = try identity()
        let seed = try schedule.seed(identity, sharedSecret: try secret(Self.sharedSecret))
        #expect(
            text(seed) == "8a08eccfb179e0af5741233725965ef02224a165357a350edd3fe2d8dffc8d7a")
        let keys = try schedule.keys(seed: seed, identity, lengths: lengths)
        #expect(text(keys.derivation) == Self.derivation)
        #expect(
            text(keys.initiatorIntegrity)
                == "0011a5dd2f9f08be16012f16e10f669598f1e44f4ad57084211893bfd18c6f47")
        #expect(
            text(keys.responderIntegrity)
                == "8961a2e147afacb970c375d5d735d5f2ecd29b3ede61933e1368ab3f5bc0e717")
        #expect(text(keys.initiatorEncryption) == "76098e99e9a64165ba5dced1ac6be3ba")
        #expect(text(keys.responderEncryption) == "a99b94de775b1db54b597e573150e5f9")
        #expect(
            text(keys.initiatorAuthentication)
                == "9ae1ba72be0fed312372e4d2900c5019ef71458e1d0ed88c83ac51dbab73ae89")
        #expect(
            text(keys.responderAuthentication)
                == "df3ca131b403015802b5f263c8220fcf63f1ac52c4c3edd8cf13c595e85791e5")
    }

    @Test func fourKeysOfAChildSA() throws {
        let keys = try schedule.childKeys(
            derivation: try secret(Self.derivation),
            nonces: try secret(Self.initiatorNonce + Self.responderNonce), lengths: lengths)
        #expect(text(keys.initiatorEncryption) == "1f2ae9a8bcc3a6d0a9fd66fb262c1292")
        #expect(
            text(keys.initiatorIntegrity)
                == "fa575fcc93dd23206959a6d1ca2e6e03b38eabaac38462e7bd35599a6994f086")
        #expect(text(keys.responderEncryption) == "231baf284518438a08025ac48f42c90b")
        #expect(
            text(keys.responderIntegrity)
                == "c26b82deb49ac4d8866e74f7a1b8a3574541557a104abb38c4e042c38cd88d13")
    }

    /// RFC 7296 §2.17: g^ir stands before the nonces.
    @Test func forwardSecrecyPutsTheSharedSecretFirst() throws {
        let nonces = Self.initiatorNonce + Self.responderNonce
        let keys = try schedule.childKeys(
            derivation: try secret(Self.derivation), sharedSecret: try secret("0badcafe"),
            nonces: try secret(nonces), lengths: lengths)
        let same = try schedule.childKeys(
            derivation: try secret(Self.derivation), nonces: try secret("0badcafe" + nonces),
            lengths: lengths)
        #expect(text(keys.initiatorEncryption) == text(same.initiatorEncryption))
        #expect(text(keys.responderIntegrity) == text(same.responderIntegrity))
        #expect(text(keys.initiatorEncryption) != "1f2ae9a8bcc3a6d0a9fd66fb262c1292")
    }

    /// RFC 7296 §2.18: prf of the old SA over g^ir | Ni | Nr, keyed with its SK_d.
    @Test(arguments: PseudoRandomFunction.allCases)
    func aRekeyUsesTheOldFunction(old: PseudoRandomFunction) throws {
        let seed = try schedule.rekeyedSeed(
            replacing: old, derivation: try secret(Self.derivation), try identity(),
            sharedSecret: try secret(Self.sharedSecret))
        let prf = try KeyedPRF(old, key: try secret(Self.derivation), library: library)
        let data = try secret(Self.sharedSecret + Self.initiatorNonce + Self.responderNonce)
        #expect(text(seed) == text(try prf(data)))
        #expect(seed.count == old.byteCount)
    }

    @Test func anAEADHasNoIntegrityKeys() throws {
        let keys = try schedule.keys(
            seed: SecretBytes(count: 32), try identity(),
            lengths: KeyLengths(encryption: 36, integrity: 0))
        #expect(keys.initiatorIntegrity.count == 0 && keys.responderIntegrity.count == 0)
        #expect(keys.initiatorEncryption.count == 36)
    }
}
