// Diffie-Hellman on the NIST curves (RFC 5903). The point arithmetic is called as such: EVP would
// multiply every peer's point by the order as well, which for curves of cofactor 1 shows nothing
// that the curve's equation has not shown.

internal import COpenSSL

/// A NIST curve over a prime field.
public enum Curve: UInt8, CaseIterable, Sendable {
    /// NIST P-256, secp256r1.
    case p256
    /// NIST P-384, secp384r1.
    case p384
    /// NIST P-521, secp521r1.
    case p521

    /// Octets of a coordinate, and of a number below the order.
    var bytes: Int {
        switch self {
        case .p256: 32
        case .p384: 48
        case .p521: 66
        }
    }

    /// OpenSSL's number of the curve.
    var identifier: Int32 {
        switch self {
        case .p256: NID_X9_62_prime256v1
        case .p384: NID_secp384r1
        case .p521: NID_secp521r1
        }
    }

    /// x | y of secret · G (RFC 5903 §7); nil unless 0 < secret < order.
    func publicValue(_ secret: borrowing SecretBytes) throws(CryptoError) -> [UInt8]? {
        let group = try CurveGroup(self)
        guard let scalar = try group.scalar(secret) else { return nil }
        let point = try CurvePoint(group)
        let scratch = try ArithmeticScratch()
        guard
            EC_POINT_mul(
                group.pointer, point.pointer, scalar.pointer, nil, nil, scratch.pointer) == 1
        else { throw .operationFailed("EC_POINT_mul") }
        // 4 | x | y: SEC 1 §2.3.3, which the payload leaves the 4 out of.
        var encoded = [UInt8](repeating: 0, count: 1 + 2 * bytes)
        let count = EC_POINT_point2oct(
            group.pointer, point.pointer, POINT_CONVERSION_UNCOMPRESSED, &encoded, encoded.count,
            scratch.pointer)
        guard count == encoded.count else { throw .operationFailed("EC_POINT_point2oct") }
        return Array(encoded.dropFirst())
    }

    /// The x coordinate of secret · peer; nil unless the peer's point is on the curve (RFC 6989
    /// §2.3). The point at infinity has no such encoding, and of a group of prime order it is no
    /// multiple below the order.
    func sharedSecret(
        _ secret: borrowing SecretBytes, _ peer: [UInt8]
    ) throws(CryptoError) -> SecretBytes? {
        let group = try CurveGroup(self)
        guard let scalar = try group.scalar(secret) else { return nil }
        let point = try CurvePoint(group)
        let scratch = try ArithmeticScratch()
        let encoded = [UInt8(POINT_CONVERSION_UNCOMPRESSED.rawValue)] + peer
        guard
            EC_POINT_oct2point(
                group.pointer, point.pointer, encoded, encoded.count, scratch.pointer) == 1
        else { return nil }
        let product = try CurvePoint(group)
        let x = try BigNumber()
        guard
            EC_POINT_mul(
                group.pointer, product.pointer, nil, point.pointer, scalar.pointer,
                scratch.pointer) == 1,
            EC_POINT_get_affine_coordinates(
                group.pointer, product.pointer, x.pointer, nil, scratch.pointer) == 1
        else { throw .operationFailed("EC_POINT_mul") }
        return x.octets(bytes)
    }
}

/// OpenSSL's description of a curve.
private struct CurveGroup: ~Copyable {
    let pointer: OpaquePointer

    init(_ curve: Curve) throws(CryptoError) {
        guard let pointer = EC_GROUP_new_by_curve_name(curve.identifier) else {
            throw .operationFailed("EC_GROUP_new_by_curve_name")
        }
        self.pointer = pointer
    }

    deinit { EC_GROUP_free(pointer) }

    /// Nil unless 0 < secret < order.
    borrowing func scalar(_ secret: borrowing SecretBytes) throws(CryptoError) -> BigNumber? {
        let scalar = try BigNumber(secret: secret)
        guard BN_is_zero(scalar.pointer) == 0,
            BN_cmp(scalar.pointer, EC_GROUP_get0_order(pointer)) < 0
        else { return nil }
        return scalar
    }
}

/// A point, wiped when it goes: the product of an agreement is secret.
private struct CurvePoint: ~Copyable {
    let pointer: OpaquePointer

    init(_ group: borrowing CurveGroup) throws(CryptoError) {
        guard let pointer = EC_POINT_new(group.pointer) else {
            throw .operationFailed("EC_POINT_new")
        }
        self.pointer = pointer
    }

    deinit { EC_POINT_clear_free(pointer) }
}
