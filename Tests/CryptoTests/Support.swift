// One call for every kind of cipher, over arrays.

import Crypto
import TestSupport

/// A context with the memory that its calls work on.
final class Bench {
    // The context goes first: it uses the library to its end.
    var context = KeyedContext()
    let library: CryptoLibrary

    init(_ library: CryptoLibrary) { self.library = library }

    func key(
        _ cipher: Cipher?, _ key: [UInt8], tag: Int = 0, hash: Hash? = nil, hashKey: [UInt8] = [],
        encrypts: Bool = true, ccmNonceBytes: Int = 11
    ) throws(CryptoError) {
        let recipe = KeyRecipe(
            cipher: cipher, cipherKeyBytes: key.count, tagBytes: tag, hash: hash,
            hashKeyBytes: hashKey.count, encrypts: encrypts)
        // An empty array has no address to lend.
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: key.count + hashKey.count + 1, alignment: 1)
        defer { memory.deallocate() }
        memory.copyMemory(from: key + hashKey + [0], byteCount: key.count + hashKey.count + 1)
        try context.key(
            recipe, library: library, key: memory, hashKey: memory + key.count,
            ccmNonceBytes: ccmNonceBytes)
    }

    /// Ciphertext and tag.
    func seal(_ plain: [UInt8], iv: [UInt8], aad: [UInt8], tag: Int) -> [UInt8]? {
        var bytes = plain + Array(repeating: 0, count: tag)
        let isDone = bytes.withUnsafeMutableBytes { data in
            withLayout(data, plain.count, iv, aad) { context.seal($0) }
        }
        return isDone ? bytes : nil
    }

    /// Plaintext, or nil when the tag is wrong.
    func open(_ sealed: [UInt8], iv: [UInt8], aad: [UInt8], tag: Int) -> [UInt8]? {
        var bytes = sealed
        let isDone = bytes.withUnsafeMutableBytes { data in
            withLayout(data, sealed.count - tag, iv, aad) { context.open($0) }
        }
        return isDone ? Array(bytes[..<(sealed.count - tag)]) : nil
    }

    func run(encrypts: Bool, iv: [UInt8], _ data: [UInt8]) -> [UInt8]? {
        var bytes = data + [0]
        let isDone = bytes.withUnsafeMutableBytes { bytes in
            iv.withUnsafeBytes { iv in
                guard let data = bytes.baseAddress, let iv = iv.baseAddress else { return false }
                return context.run(encrypts: encrypts, iv: iv, data: data, count: bytes.count - 1)
            }
        }
        return isDone ? Array(bytes.dropLast()) : nil
    }

    func mac(_ data: [UInt8], tail: [UInt8] = [], bytes: Int) -> [UInt8]? {
        var output = [UInt8](repeating: 0, count: maximumHashBytes)
        let isDone = (data + tail + [0]).withUnsafeBytes { input in
            output.withUnsafeMutableBytes { output in
                guard let input = input.baseAddress, let output = output.baseAddress else {
                    return false
                }
                return context.authenticate(
                    input, count: data.count, tail: input + data.count, tailBytes: tail.count,
                    output: output)
            }
        }
        return isDone ? Array(output[..<bytes]) : nil
    }
}

/// Lays `data` out as `count` octets of message and the tag behind it.
func withLayout(
    _ data: UnsafeMutableRawBufferPointer, _ count: Int, _ iv: [UInt8], _ aad: [UInt8],
    _ body: (borrowing MessageLayout) -> Bool
) -> Bool {
    (aad + [0]).withUnsafeBytes { aadBytes in
        iv.withUnsafeBytes { iv in
            guard let base = data.baseAddress, let aadBase = aadBytes.baseAddress,
                let ivBase = iv.baseAddress
            else { return false }
            return body(
                MessageLayout(
                    aad: aadBase, aadBytes: aad.count, iv: ivBase, ivBytes: iv.count, data: base,
                    dataBytes: count, tag: base + count))
        }
    }
}

extension Hash {
    /// Octets of output (FIPS 180-4).
    var outputBytes: Int {
        switch self {
        case .sha1: 20
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }
}
