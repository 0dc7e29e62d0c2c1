import Crypto
import TestSupport
import Testing

@testable import ESP

/// What the RFCs say of each algorithm, written down anew: octets of IV, salt, ICV, and the
/// alignment.
private struct Row {
    let encryption: EncryptionAlgorithm
    let keyBits: [Int]
    let iv: Int
    let salt: Int
    let icv: Int
    let alignment: Int
}

private let rows = [
    // RFC 4106 §3.1, §4, §6.
    Row(encryption: .aesGCM16, keyBits: [128, 192, 256], iv: 8, salt: 4, icv: 16, alignment: 4),
    Row(encryption: .aesGCM12, keyBits: [128, 192, 256], iv: 8, salt: 4, icv: 12, alignment: 4),
    Row(encryption: .aesGCM8, keyBits: [128, 192, 256], iv: 8, salt: 4, icv: 8, alignment: 4),
    // RFC 4309 §3.1, §4, §6: the salt has 24 bits.
    Row(encryption: .aesCCM16, keyBits: [128, 192, 256], iv: 8, salt: 3, icv: 16, alignment: 4),
    Row(encryption: .aesCCM12, keyBits: [128, 192, 256], iv: 8, salt: 3, icv: 12, alignment: 4),
    Row(encryption: .aesCCM8, keyBits: [128, 192, 256], iv: 8, salt: 3, icv: 8, alignment: 4),
    // RFC 7634 §2.
    Row(encryption: .chaCha20Poly1305, keyBits: [256], iv: 8, salt: 4, icv: 16, alignment: 4),
    // RFC 4543 §3.
    Row(encryption: .aesGMAC, keyBits: [128, 192, 256], iv: 8, salt: 4, icv: 16, alignment: 4),
    // RFC 3602 §2.4, §3.
    Row(encryption: .aesCBC, keyBits: [128, 192, 256], iv: 16, salt: 0, icv: 0, alignment: 16),
    // RFC 3686 §3.1, §4, §5.1.
    Row(encryption: .aesCTR, keyBits: [128, 192, 256], iv: 8, salt: 4, icv: 0, alignment: 4),
    // RFC 2410 §2.
    Row(encryption: .null, keyBits: [0], iv: 0, salt: 0, icv: 0, alignment: 4),
]

/// RFC 2404 §5 and RFC 4868 §2.6: hash, key, ICV.
private let macs: [IntegrityAlgorithm: (hash: Hash, key: Int, icv: Int)] = [
    .hmacSHA1: (.sha1, 20, 12), .hmacSHA256: (.sha256, 32, 16), .hmacSHA384: (.sha384, 48, 24),
    .hmacSHA512: (.sha512, 64, 32),
]

@Suite struct TransformTests {
    @Test func everyCombinationIsRefusedOrHasTheLengthsOfItsRFC() throws {
        #expect(rows.map(\.encryption) == EncryptionAlgorithm.allCases)
        #expect(Set(macs.keys) == Set(IntegrityAlgorithm.allCases))
        var valid: [Transform] = []
        for row in rows {
            let isCombined = row.icv > 0
            #expect(row.encryption.isCombined == isCombined)
            for bits in [0, 1, 64, 127, 128, 129, 160, 192, 256, 512, -128] {
                for integrity in [nil] + IntegrityAlgorithm.allCases {
                    let expected: TransformError? =
                        if !row.keyBits.contains(bits) {
                            .keyLength(row.encryption, bits: bits)
                        } else if isCombined, let integrity {
                            .integrityNotAllowed(row.encryption, integrity)
                        } else if !isCombined, integrity == nil {
                            .integrityMissing(row.encryption)
                        } else {
                            nil
                        }
                    do throws(TransformError) {
                        let transform = try Transform(
                            row.encryption, keyBits: bits, integrity: integrity)
                        #expect(expected == nil)
                        expectLengths(transform, row, integrity)
                        valid.append(transform)
                    } catch {
                        #expect(error == expected)
                        #expect(!error.description.contains("\n") && !error.description.isEmpty)
                    }
                }
            }
        }
        #expect(valid.count == 22 + 28 && Set(valid) == Set(Transform.all))
        #expect(Transform.all.count == Set(Transform.all).count)
        #expect(Transform.all.count <= 255, "a record keeps the number in one octet")
    }

    private func expectLengths(
        _ transform: Transform, _ row: Row, _ integrity: IntegrityAlgorithm?
    ) {
        let mac = integrity.flatMap { macs[$0] }
        #expect(transform.keyBytes * 8 == transform.keyBits)
        #expect(transform.integrityKeyBytes == mac?.key ?? 0)
        #expect(transform.saltBytes == row.salt && transform.ivBytes == row.iv)
        #expect(transform.icvBytes == (mac?.icv ?? row.icv))
        #expect(transform.alignment == row.alignment)
        // RFC 6054 is about ciphers whose IV must not repeat, but may be known.
        let hasCounter = row.encryption != .aesCBC && row.encryption != .null
        #expect(transform.usesCounterIV == hasCounter)
        for encrypts in [false, true] {
            let recipe = transform.recipe(encrypts: encrypts)
            #expect(recipe.encrypts == encrypts && recipe.hash == mac?.hash)
            #expect(recipe.cipherKeyBytes == transform.keyBytes)
            #expect(recipe.hashKeyBytes == mac?.key ?? 0)
            #expect(recipe.tagBytes == row.icv)
            #expect((recipe.cipher == nil) == (row.encryption == .null))
        }
        // The record has 96 octets for keys, the packet path 49 behind a packet.
        #expect(transform.keyBytes + transform.integrityKeyBytes <= 96)
        #expect(transform.alignment - 1 + 2 + transform.icvBytes <= ESPOverhead.tailroom)
        #expect(40 + 8 + 8 + transform.ivBytes <= ESPOverhead.headroom)
    }

    @Test func shapesSayTheSameAsTransforms() {
        let table = TransformShapes.makeTable()
        defer { table.deallocate() }
        for (index, transform) in Transform.all.enumerated() {
            #expect(TransformShapes.number(of: transform) == UInt8(index))
            let shape = table[index]
            #expect(Int(shape.ivBytes) == transform.ivBytes)
            #expect(Int(shape.icvBytes) == transform.icvBytes)
            #expect(Int(shape.alignmentMask) == transform.alignment - 1)
            #expect(Int(shape.cipherKeyBytes) == transform.keyBytes)
            #expect(shape.recipeIn == transform.recipe(encrypts: false))
            #expect(shape.recipeOut == transform.recipe(encrypts: true))
        }
    }

    @Test func names() {
        #expect(Transform.gcm.description == "AES_GCM_16-256")
        let cbc = Transform.find(.aesCBC, 128, .hmacSHA256)
        #expect(cbc.description == "AES_CBC-128/HMAC_SHA2_256_128")
        #expect(Transform.find(.null, 0, .hmacSHA1).description == "NULL/HMAC_SHA1_96")
        #expect(Set(Transform.all.map(\.description)).count == Transform.all.count)
    }
}
