// Where random octets come from: an argument of whatever needs them, so that a test or a simulation
// can give its own.

internal import COpenSSL

/// A source of octets that nobody else can predict.
public protocol RandomSource {
    /// Overwrites all of `bytes`.
    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer)
}

extension RandomSource {
    /// `count` random octets that need not stay secret: nonces, identifiers, IVs.
    public mutating func octets(_ count: Int) -> [UInt8] {
        var octets = [UInt8](repeating: 0, count: count)
        octets.withUnsafeMutableBytes { fill($0) }
        return octets
    }

    /// `count` random octets of key material.
    public mutating func secret(_ count: Int) -> SecretBytes {
        var secret = SecretBytes(count: count)
        secret.withUnsafeMutableBytes { fill($0) }
        return secret
    }

    /// A random number; the source's octets are read least significant first on every machine.
    public mutating func uint64() -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { fill($0) }
        return UInt64(littleEndian: value)
    }
}

/// OpenSSL's generator for private values, seeded by the operating system (RAND_priv_bytes(3)).
public struct SystemRandomSource: RandomSource, Sendable {
    /// The generator belongs to the thread that asks it: there is nothing to set up.
    public init() {}

    /// Traps where the system gives no entropy: no key, nonce or SPI could be made any more.
    public mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        precondition(bytes.count <= Int(Int32.max))
        let isFilled = RAND_priv_bytes(
            base.assumingMemoryBound(to: UInt8.self), Int32(bytes.count))
        precondition(isFilled == 1, "OpenSSL's generator has no entropy: is /dev/urandom readable?")
    }
}
