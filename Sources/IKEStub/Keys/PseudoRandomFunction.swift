// The pseudo-random functions of IKEv2 and prf+ (RFC 7296 §2.10, §2.13).

public import Crypto

/// A PRF by its IANA "IKEv2 Transform Type 2" name.
public enum PseudoRandomFunction: String, CaseIterable, Sendable {
    /// RFC 2104; only for old peers.
    case hmacSHA1 = "PRF_HMAC_SHA1"
    /// RFC 4868.
    case hmacSHA256 = "PRF_HMAC_SHA2_256"
    /// RFC 4868.
    case hmacSHA384 = "PRF_HMAC_SHA2_384"
    /// RFC 4868.
    case hmacSHA512 = "PRF_HMAC_SHA2_512"

    /// The hash inside.
    public var hash: Hash {
        switch self {
        case .hmacSHA1: .sha1
        case .hmacSHA256: .sha256
        case .hmacSHA384: .sha384
        case .hmacSHA512: .sha512
        }
    }

    /// Octets of output, and of the keys that are derived for it: HMAC's preferred key length is
    /// its output length (RFC 4868 §2.1.2).
    public var byteCount: Int {
        switch self {
        case .hmacSHA1: 20
        case .hmacSHA256: 32
        case .hmacSHA384: 48
        case .hmacSHA512: 64
        }
    }
}

/// A PRF with its key, ready to be run many times.
public struct KeyedPRF: ~Copyable {
    /// The function.
    public let function: PseudoRandomFunction
    private let context: KeyedContext

    /// HMAC takes a key of any length. Throws only when OpenSSL can't allocate.
    public init(
        _ function: PseudoRandomFunction, key: borrowing SecretBytes, library: CryptoLibrary
    ) throws(CryptoError) {
        context = try Self.keyed(function, key, library)
        self.function = function
    }

    private static func keyed(
        _ function: PseudoRandomFunction, _ key: borrowing SecretBytes, _ library: CryptoLibrary
    ) throws(CryptoError) -> KeyedContext {
        let recipe = KeyRecipe(
            cipher: nil, cipherKeyBytes: 0, tagBytes: 0, hash: function.hash,
            hashKeyBytes: key.count, encrypts: true)
        var context = KeyedContext()
        try key.withUnsafeBytes { bytes throws(CryptoError) in
            // SecretBytes has an address even when it is empty.
            let start = bytes.baseAddress.unsafelyUnwrapped
            try context.key(recipe, library: library, key: start, hashKey: start)
        }
        return context
    }

    /// prf(K, data).
    public borrowing func callAsFunction(
        _ data: borrowing SecretBytes
    ) throws(CryptoError) -> SecretBytes {
        var output = SecretBytes(count: function.byteCount)
        try run(data, count: data.count, into: &output, at: 0)
        return output
    }

    /// The first `count` octets of prf+(K, seed).
    ///
    ///     T1 = prf(K, S | 0x01), T2 = prf(K, T1 | S | 0x02), T3 = prf(K, T2 | S | 0x03), …
    ///
    /// Precondition: at most 255 blocks, because the counter is one octet.
    public borrowing func expand(
        seed: borrowing SecretBytes, count: Int
    ) throws(CryptoError) -> SecretBytes {
        let block = function.byteCount
        precondition((0...255 * block).contains(count), "prf+ ends after 255 blocks")
        let blocks = (count + block - 1) / block
        var output = SecretBytes(count: blocks * block)
        // T | S | counter; the first round begins behind T, which it does not have.
        var input = SecretBytes(count: block + seed.count + 1)
        input.copy(seed, at: block)
        for index in 0..<blocks {
            input.withUnsafeMutableBytes { $0[$0.count - 1] = UInt8(index + 1) }
            try run(
                input, from: index == 0 ? block : 0, count: input.count, into: &output,
                at: index * block)
            input.copy(output.slice(index * block..<(index + 1) * block), at: 0)
        }
        return output.slice(0..<count)
    }

    /// prf(K, data[from..<count]) to `offset` of `output`, which has room for it.
    private borrowing func run(
        _ data: borrowing SecretBytes, from start: Int = 0, count: Int,
        into output: inout SecretBytes, at offset: Int
    ) throws(CryptoError) {
        // The hash writes all of its octets; a buffer of its own keeps that inside.
        var result = SecretBytes(count: maximumHashBytes)
        let isDone = result.withUnsafeMutableBytes { target in
            data.withUnsafeBytes { source in
                context.authenticate(
                    source.baseAddress.unsafelyUnwrapped + start, count: count - start,
                    tail: source.baseAddress.unsafelyUnwrapped, tailBytes: 0,
                    output: target.baseAddress.unsafelyUnwrapped)
            }
        }
        guard isDone else { throw .operationFailed(function.rawValue) }
        output.copy(result.slice(0..<function.byteCount), at: offset)
    }
}

extension SecretBytes {
    /// Copies all of `other` to `offset`. Precondition: it fits.
    mutating func copy(_ other: borrowing SecretBytes, at offset: Int) {
        precondition(offset >= 0 && offset + other.count <= count)
        withUnsafeMutableBytes { target in
            other.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: source)
            }
        }
    }

    /// A copy of a part. Precondition: the range lies inside.
    borrowing func slice(_ range: Range<Int>) -> SecretBytes {
        var slice = SecretBytes(count: range.count)
        withUnsafeBytes { source in
            slice.withUnsafeMutableBytes { target in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range]))
            }
        }
        return slice
    }

    /// One after the other.
    static func joined(
        _ first: borrowing SecretBytes, _ second: borrowing SecretBytes
    ) -> SecretBytes {
        var joined = SecretBytes(count: first.count + second.count)
        joined.copy(first, at: 0)
        joined.copy(second, at: first.count)
        return joined
    }
}
