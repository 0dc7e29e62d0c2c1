import Crypto
import TestSupport
import Testing
import Wire

@testable import ESP

/// Why the change makes the parameters impossible; nil when they are an association.
private func refusal(
    _ direction: Direction = .inbound, _ transform: Transform = .gcm,
    _ change: (inout AssociationParameters) -> Void
) -> AssociationError? {
    var changed = parameters(0x1001, direction, transform)
    change(&changed)
    do throws(AssociationError) {
        _ = try association(changed)
        return nil
    } catch {
        #expect(!error.description.isEmpty && !error.description.contains("\n"))
        return error
    }
}

@Suite struct SecurityAssociationTests {
    @Test func defaultsAreValid() {
        for transform in Transform.all {
            for direction in [Direction.inbound, .outbound] {
                #expect(refusal(direction, transform) { _ in } == nil)
            }
        }
    }

    @Test func reservedSPIs() {
        for value: UInt32 in [0, 1, 255] {
            #expect(refusal { $0.spi = SPI(value) } == .reservedSPI(SPI(value)))
        }
        for value: UInt32 in [256, .max] { #expect(refusal { $0.spi = SPI(value) } == nil) }
    }

    @Test func replayWindows() {
        for bits in [-1, 1, 31, 4097, 65_536, .max, .min] {
            #expect(refusal { $0.replayWindow = bits } == .replayWindow(bits))
        }
        for bits in [0, 32, 33, 64, 192, 193, 4095, 4096] {
            #expect(refusal { $0.replayWindow = bits } == nil)
        }
        func extended(_ direction: Direction, _ bits: Int) -> AssociationError? {
            refusal(direction) { ($0.usesESN, $0.replayWindow) = (true, bits) }
        }
        #expect(extended(.inbound, 0) == .replayWindowNeeded)
        #expect(extended(.inbound, 32) == nil && extended(.outbound, 0) == nil)
    }

    @Test func addressFamilies() {
        #expect(refusal { $0.source = Outer.v6.source } == .addressFamilies)
        #expect(refusal { $0.destination = Outer.v6.source } == .addressFamilies)
        let both = refusal { ($0.source, $0.destination) = (Outer.v6.source, Outer.v6.destination) }
        #expect(both == nil)
    }

    @Test func firstSequence() {
        #expect(refusal { $0.firstSequence = 0 } == .firstSequence(0))
        #expect(refusal { ($0.firstSequence, $0.usesESN) = (0, true) } == .firstSequence(0))
        #expect(refusal { $0.firstSequence = 1 << 32 } == .firstSequence(1 << 32))
        #expect(refusal { $0.firstSequence = 1 << 32 - 1 } == nil)
        #expect(refusal { ($0.firstSequence, $0.usesESN) = (1 << 32, true) } == nil)
    }

    @Test func headerPolicies() {
        #expect(refusal { $0.headers.dscp = 64 } == .dscp(64))
        #expect(refusal { $0.headers.dscp = 255 } == .dscp(255))
        #expect(refusal { $0.headers.dscp = 63 } == nil)
        #expect(refusal { $0.headers.hopLimit = 0 } == .hopLimitZero)
        #expect(refusal { $0.headers.hopLimit = nil } == nil)
        let tfc = refusal { ($0.headers.tfcBytes, $0.mode) = (1, .transport) }
        #expect(tfc == .tfcNeedsTunnelMode)
        #expect(refusal { $0.headers.tfcBytes = 1 } == nil)
    }

    // One octet too few and one too many of each part, for every transform.
    @Test(arguments: Transform.all)
    func keyLengths(_ transform: Transform) {
        let parameters = parameters(transform)
        func refusal(_ cipher: Int, _ integrity: Int, _ salt: Int) -> AssociationError? {
            do throws(AssociationError) {
                _ = try SecurityAssociation(
                    parameters, cipherKey: SecretBytes(count: cipher),
                    integrityKey: SecretBytes(count: integrity), salt: SecretBytes(count: salt))
                return nil
            } catch {
                return error
            }
        }
        let (cipher, integrity, salt) = (
            transform.keyBytes, transform.integrityKeyBytes, transform.saltBytes
        )
        #expect(refusal(cipher, integrity, salt) == nil)
        for change in [-1, 1] {
            if cipher + change >= 0 {
                #expect(
                    refusal(cipher + change, integrity, salt)
                        == .cipherKeyLength(transform, bytes: cipher + change))
            }
            if integrity + change >= 0 {
                #expect(
                    refusal(cipher, integrity + change, salt)
                        == .integrityKeyLength(transform, bytes: integrity + change))
            }
            if salt + change >= 0 {
                #expect(
                    refusal(cipher, integrity, salt + change)
                        == .saltLength(transform, bytes: salt + change))
            }
        }
    }

    private func parameters(_ transform: Transform) -> AssociationParameters {
        TestSupport.parameters(0x1001, .outbound, transform)
    }

    @Test func secretIsCipherKeyThenIntegrityKeyThenSalt() throws {
        let transform = Transform.find(.aesCTR, 128, .hmacSHA256)
        let made = try SecurityAssociation(
            parameters(transform), cipherKey: secret(Array(repeating: 1, count: 16)),
            integrityKey: secret(Array(repeating: 2, count: 32)),
            salt: secret(Array(repeating: 3, count: 4)))
        let all = made.secret.withUnsafeBytes { Array($0) }
        #expect(
            all == Array(repeating: 1, count: 16) + Array(repeating: 2, count: 32)
                + [3, 3, 3, 3])
    }
}
