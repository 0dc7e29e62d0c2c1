// Diffie-Hellman modulo the safe primes of RFC 3526, generator 2.

internal import COpenSSL

/// A MODP group, known by the octets of its prime.
struct ModularGroup {
    let bytes: Int

    private func prime() throws(CryptoError) -> BigNumber {
        let number =
            switch bytes {
            case 256: BN_get_rfc3526_prime_2048(nil)
            case 384: BN_get_rfc3526_prime_3072(nil)
            case 512: BN_get_rfc3526_prime_4096(nil)
            default: preconditionFailure("RFC 3526 has no such prime here")
            }
        return try BigNumber(taking: number)
    }

    /// 2^secret; nil where the secret is 0 or 1, or longer than the prime.
    func publicValue(_ secret: borrowing SecretBytes) throws(CryptoError) -> [UInt8]? {
        guard secret.count <= bytes else { return nil }
        let exponent = try BigNumber(secret: secret)
        guard BN_is_zero(exponent.pointer) == 0, BN_is_one(exponent.pointer) == 0 else {
            return nil
        }
        let generator = try BigNumber()
        guard BN_set_word(generator.pointer, 2) == 1 else { throw .operationFailed("BN_set_word") }
        let value = try power(generator, exponent, try prime())
        return value.withUnsafeBytes { Array($0) }
    }

    /// peer^secret; nil unless 1 < peer < p - 1. The primes are safe, so RFC 6989 §2.1 asks for no
    /// more.
    func sharedSecret(
        _ secret: borrowing SecretBytes, _ peer: [UInt8]
    ) throws(CryptoError) -> SecretBytes? {
        let prime = try prime()
        let base = try BigNumber(taking: BN_bin2bn(peer, Int32(peer.count), nil))
        let last = try BigNumber()
        guard BN_copy(last.pointer, prime.pointer) != nil, BN_sub_word(last.pointer, 1) == 1
        else { throw .operationFailed("BN_sub_word") }
        guard BN_is_zero(base.pointer) == 0, BN_is_one(base.pointer) == 0,
            BN_cmp(base.pointer, last.pointer) < 0
        else { return nil }
        return try power(base, try BigNumber(secret: secret), prime)
    }

    private func power(
        _ base: borrowing BigNumber, _ exponent: borrowing BigNumber,
        _ prime: borrowing BigNumber
    ) throws(CryptoError) -> SecretBytes {
        let result = try BigNumber()
        let scratch = try ArithmeticScratch()
        let isDone = BN_mod_exp_mont_consttime(
            result.pointer, base.pointer, exponent.pointer, prime.pointer, scratch.pointer, nil)
        guard isDone == 1 else { throw .operationFailed("BN_mod_exp_mont_consttime") }
        return result.octets(bytes)
    }
}
