// Associations for tests: every key follows from the SPI, so that two ends agree and two tunnels
// differ.

package import Crypto
package import ESP
package import Wire

/// Addresses of the two gateways.
package enum Outer {
    package static let v4 = (
        source: IPAddress(v4: 0xC000_0201), destination: IPAddress(v4: 0xC633_6401)
    )
    package static let v6 = (
        source: IPAddress(high: 0x2001_0DB8_AAAA_0000, low: 1),
        destination: IPAddress(high: 0x2001_0DB8_BBBB_0000, low: 2)
    )
}

/// Parameters with defaults for all that a test does not speak of.
package func parameters(
    _ spi: UInt32 = 0x1001, _ direction: Direction = .outbound, mode: Mode = .tunnel,
    _ transform: Transform = .gcm, family: IPAddress.Family = .v4
) -> AssociationParameters {
    let outer = family == .v4 ? Outer.v4 : Outer.v6
    return AssociationParameters(
        spi: SPI(spi), direction: direction, mode: mode, transform: transform,
        source: outer.source, destination: outer.destination)
}

extension AssociationParameters {
    /// The other end of the same association.
    package var reversedDirection: AssociationParameters {
        var other = self
        other.direction = direction == .inbound ? .outbound : .inbound
        return other
    }
}

extension Transform {
    /// What most tests use.
    package static let gcm = find(.aesGCM16, 256)

    /// The transform of these parts, which must exist.
    package static func find(
        _ encryption: EncryptionAlgorithm, _ keyBits: Int, _ integrity: IntegrityAlgorithm? = nil
    ) -> Transform {
        guard let transform = try? Transform(encryption, keyBits: keyBits, integrity: integrity)
        else { preconditionFailure("no such transform") }
        return transform
    }

    /// One of each kind of code path.
    package static let kinds: [Transform] = [
        .gcm, find(.aesGCM8, 128), find(.aesCCM12, 192), find(.chaCha20Poly1305, 256),
        find(.aesGMAC, 128), find(.aesCBC, 256, .hmacSHA256), find(.aesCTR, 128, .hmacSHA512),
        find(.null, 0, .hmacSHA1),
    ]
}

/// Cipher key, integrity key and salt of an SPI, all octets different from those of other SPIs.
package func keyOctets(_ spi: SPI, _ transform: Transform) -> [UInt8] {
    var state = UInt64(spi.value) &* 0x9E37_79B9_7F4A_7C15 | 1
    let count = transform.keyBytes + transform.integrityKeyBytes + transform.saltBytes
    return (0..<count).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return UInt8(truncatingIfNeeded: state >> 32)
    }
}

/// Octets as secret ones.
package func secret(_ bytes: some Collection<UInt8>) -> SecretBytes {
    var secret = SecretBytes(count: bytes.count)
    secret.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
    return secret
}

/// A valid association with the keys of its SPI.
package func association(
    _ parameters: AssociationParameters
) throws(AssociationError) -> SecurityAssociation {
    let transform = parameters.transform
    let octets = keyOctets(parameters.spi, transform)
    let saltOffset = transform.keyBytes + transform.integrityKeyBytes
    return try SecurityAssociation(
        parameters, cipherKey: secret(octets[..<transform.keyBytes]),
        integrityKey: secret(octets[transform.keyBytes..<saltOffset]),
        salt: secret(octets[saltOffset...]))
}
