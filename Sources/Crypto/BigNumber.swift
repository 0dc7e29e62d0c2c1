// OpenSSL's numbers with one owner. Each may hold a secret, so all are wiped.

internal import COpenSSL

/// A non-negative number, overwritten before its memory is given back.
struct BigNumber: ~Copyable {
    let pointer: OpaquePointer

    /// Zero. Throws when memory is lacking.
    init() throws(CryptoError) {
        guard let pointer = BN_new() else { throw .operationFailed("BN_new") }
        self.pointer = pointer
    }

    /// A secret number: OpenSSL then takes the algorithms whose time does not depend on it.
    init(secret: borrowing SecretBytes) throws(CryptoError) {
        pointer = try secret.withUnsafeBytes { bytes throws(CryptoError) in
            let start = bytes.bindMemory(to: UInt8.self).baseAddress
            guard let pointer = BN_bin2bn(start, Int32(bytes.count), nil) else {
                throw .operationFailed("BN_bin2bn")
            }
            BN_set_flags(pointer, BN_FLG_CONSTTIME)
            return pointer
        }
    }

    /// Takes over a number that a function of OpenSSL made; nil means that it lacked memory.
    init(taking pointer: OpaquePointer?) throws(CryptoError) {
        guard let pointer else { throw .operationFailed("BN_new") }
        self.pointer = pointer
    }

    deinit { BN_clear_free(pointer) }

    /// The octets, most significant first, with zeros in front up to `count`. The number must not
    /// need more.
    borrowing func octets(_ count: Int) -> SecretBytes {
        var output = SecretBytes(count: count)
        let written = output.withUnsafeMutableBytes { bytes in
            BN_bn2binpad(
                pointer, bytes.bindMemory(to: UInt8.self).baseAddress, Int32(bytes.count))
        }
        precondition(written == count, "the number is larger than its field")
        return output
    }
}

/// The memory that OpenSSL's arithmetic works in; wiped when it goes.
struct ArithmeticScratch: ~Copyable {
    let pointer: OpaquePointer

    /// Throws when memory is lacking.
    init() throws(CryptoError) {
        guard let pointer = BN_CTX_new() else { throw .operationFailed("BN_CTX_new") }
        self.pointer = pointer
    }

    deinit { BN_CTX_free(pointer) }
}
