import Crypto
import TestSupport
import Testing

/// A way to key a context, and a message's shape under it.
private struct Case {
    let cipher: Cipher?
    let key: [UInt8]
    let tag: Int
    let hash: Hash?
    let hashKey: [UInt8]
    let iv: [UInt8]
    let aad: [UInt8]
    let data: [UInt8]

    /// Everything a context can say about the message under this key, encrypting.
    func answer(_ bench: Bench) throws -> [[UInt8]?] {
        try bench.key(cipher, key, tag: tag, hash: hash, hashKey: hashKey)
        var answers: [[UInt8]?] = []
        if tag > 0 {
            answers.append(bench.seal(data, iv: iv, aad: aad, tag: tag))
        } else if cipher != nil {
            answers.append(bench.run(encrypts: true, iv: iv, data))
        }
        if let hash { answers.append(bench.mac(data, tail: aad, bytes: hash.outputBytes)) }
        return answers
    }

    /// Decrypts what `answer` gave.
    func inverse(_ bench: Bench, _ answers: [[UInt8]?]) throws -> [UInt8]? {
        try bench.key(cipher, key, tag: tag, hash: hash, hashKey: hashKey, encrypts: false)
        guard let cipher, let sealed = answers[0] else { return data }
        if tag > 0 { return bench.open(sealed, iv: iv, aad: aad, tag: tag) }
        return bench.run(encrypts: !cipher.isCBC, iv: iv, sealed)
    }
}

extension Cipher {
    fileprivate var isCBC: Bool { self == .aes128CBC || self == .aes192CBC || self == .aes256CBC }

    fileprivate var keyBytes: Int {
        switch self {
        case .aes128GCM, .aes128CCM, .aes128CBC, .aes128CTR: 16
        case .aes192GCM, .aes192CCM, .aes192CBC, .aes192CTR: 24
        default: 32
        }
    }

    /// Nonce or IV, and the tags ESP uses.
    fileprivate var shape: (iv: Int, tags: [Int]) {
        switch self {
        case .aes128GCM, .aes192GCM, .aes256GCM: (12, [8, 12, 16])
        case .aes128CCM, .aes192CCM, .aes256CCM: (11, [8, 12, 16])
        case .chaCha20Poly1305: (12, [16])
        default: (16, [0])
        }
    }
}

private func randomCase(_ random: inout SeededGenerator) -> Case {
    let cipher = ([nil] + Cipher.allCases).randomElement(using: &random) ?? nil
    let shape = cipher?.shape ?? (iv: 16, tags: [0])
    let tag = shape.tags.randomElement(using: &random) ?? 0
    let hash = tag > 0 ? nil : Hash.allCases.randomElement(using: &random)
    let length = Int.random(in: 0...300, using: &random)
    return Case(
        cipher: cipher, key: random.bytes(cipher?.keyBytes ?? 0), tag: tag, hash: hash,
        hashKey: random.bytes(hash == nil ? 0 : Int.random(in: 1...200, using: &random)),
        iv: random.bytes(shape.iv), aad: random.bytes(Int.random(in: 0...40, using: &random)),
        data: random.bytes(cipher?.isCBC == true ? length / 16 * 16 : length))
}

@Suite struct KeyedContextTests {
    // What would fool us: a dispatch table that is called in the wrong way, the same way in both
    // directions. OpenSSL's documented EVP calls are the oracle; lengths cross every block edge.
    @Test func gcmAgreesWithEVP() throws {
        var random = SeededGenerator()
        let library = try CryptoLibrary()
        let keyMemory = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 1)
        defer { keyMemory.deallocate() }
        let lengths =
            Array(0...70) + (0..<60).map { _ in Int.random(in: 71...2000, using: &random) }
        for length in lengths + [1999, 2000] {
            let key = random.bytes(32)
            keyMemory.copyMemory(from: key, byteCount: 32)
            let iv = random.bytes(12)
            let aad = random.bytes(Int.random(in: 1...100, using: &random))
            let plain = random.bytes(length)
            let bench = Bench(library)
            try bench.key(.aes256GCM, key, tag: 16)
            let sealed = try #require(bench.seal(plain, iv: iv, aad: aad, tag: 16))
            let oracle = try PlainGCM(key: keyMemory, encrypts: true)
            var expected = plain + Array(repeating: 0, count: 16)
            let isDone = expected.withUnsafeMutableBytes { data in
                withLayout(data, length, iv, aad) { oracle.seal($0) }
            }
            #expect(isDone && sealed == expected, "\(length) octets")
            try bench.key(.aes256GCM, key, tag: 16, encrypts: false)
            #expect(bench.open(expected, iv: iv, aad: aad, tag: 16) == plain)
            let opener = try PlainGCM(key: keyMemory, encrypts: false)
            var copy = sealed
            let isOpen = copy.withUnsafeMutableBytes { data in
                withLayout(data, length, iv, aad) { opener.open($0) }
            }
            #expect(isOpen && Array(copy[..<length]) == plain)
        }
    }

    // What would fool us: state of the last message or of the last key that shows in the next one.
    // One context goes through all algorithms in random order; a fresh context is the oracle.
    @Test func rekeyingLeavesNoTrace() throws {
        var random = SeededGenerator()
        let library = try CryptoLibrary()
        let used = Bench(library)
        for step in 0..<800 {
            let message = randomCase(&random)
            let fresh = Bench(library)
            let expected = try message.answer(fresh)
            #expect(expected.allSatisfy { $0 != nil })
            #expect(try message.answer(used) == expected, "step \(step): \(message)")
            #expect(try message.inverse(used, expected) == message.data, "step \(step)")
            // A second message under the same key.
            if message.tag > 0, let sealed = expected[0] {
                #expect(
                    used.open(sealed, iv: message.iv, aad: message.aad, tag: message.tag) != nil)
            }
            if step % 97 == 0 { used.context.erase() }
        }
    }

    // What would fool us: a MAC key that outlives its association inside a context that has moved
    // on to a cipher without MAC. Once the association is closed, nothing may know that key.
    @Test func macKeyDoesNotOutliveItsUse() throws {
        let bench = Bench(try CryptoLibrary())
        let key = [UInt8](repeating: 1, count: 32)
        try bench.key(.aes128CBC, Array(key[..<16]), hash: .sha256, hashKey: key)
        let mac = try #require(bench.mac([1, 2, 3], bytes: 32))
        try bench.key(.aes256GCM, key, tag: 16)
        #expect(bench.mac([1, 2, 3], bytes: 32) != mac)
        try bench.key(.aes128CBC, Array(key[..<16]), hash: .sha256, hashKey: key)
        #expect(bench.mac([1, 2, 3], bytes: 32) == mac)
    }

    // Every bit of tag, ciphertext, AAD and nonce; each failure is followed by a success.
    @Test(arguments: Cipher.allCases.filter { $0.shape.tags != [0] })
    func everyWrongBitIsRefused(cipher: Cipher) throws {
        var random = SeededGenerator()
        for tag in cipher.shape.tags {
            let bench = Bench(try CryptoLibrary())
            let key = random.bytes(cipher.keyBytes)
            let iv = random.bytes(cipher.shape.iv)
            let aad = random.bytes(12)
            let plain = random.bytes(20)
            try bench.key(cipher, key, tag: tag)
            let sealed = try #require(bench.seal(plain, iv: iv, aad: aad, tag: tag))
            try bench.key(cipher, key, tag: tag, encrypts: false)
            for bit in 0..<(sealed.count + iv.count + aad.count) * 8 {
                var wrong = sealed + iv + aad
                wrong[bit / 8] ^= 1 << UInt8(bit % 8)
                let ivStart = sealed.count
                let aadStart = ivStart + iv.count
                let opened = bench.open(
                    Array(wrong[..<ivStart]), iv: Array(wrong[ivStart..<aadStart]),
                    aad: Array(wrong[aadStart...]), tag: tag)
                #expect(opened == nil, "bit \(bit)")
            }
            #expect(bench.open(sealed, iv: iv, aad: aad, tag: tag) == plain)
        }
    }

    // Without data, an AEAD is a MAC of the AAD (RFC 4543); without either, it is a tag of nothing.
    @Test(arguments: Cipher.allCases.filter { $0.shape.tags != [0] }, [0, 40])
    func messagesWithoutData(cipher: Cipher, aadBytes: Int) throws {
        var random = SeededGenerator()
        let bench = Bench(try CryptoLibrary())
        let key = random.bytes(cipher.keyBytes)
        let iv = random.bytes(cipher.shape.iv)
        let aad = random.bytes(aadBytes)
        try bench.key(cipher, key, tag: 16)
        let tag = try #require(bench.seal([], iv: iv, aad: aad, tag: 16))
        try bench.key(cipher, key, tag: 16, encrypts: false)
        #expect(bench.open(tag, iv: iv, aad: aad, tag: 16) == [])
        #expect(bench.open(tag, iv: iv, aad: aad + [0], tag: 16) == nil)
    }

    @Test func erasedContextsTakeKeysAgain() throws {
        var random = SeededGenerator()
        let bench = Bench(try CryptoLibrary())
        bench.context.erase()
        let key = random.bytes(32)
        let iv = random.bytes(12)
        try bench.key(.chaCha20Poly1305, key, tag: 16)
        let first = bench.seal([1, 2, 3], iv: iv, aad: [4], tag: 16)
        bench.context.erase()
        bench.context.erase()
        try bench.key(.chaCha20Poly1305, key, tag: 16)
        #expect(first != nil && bench.seal([1, 2, 3], iv: iv, aad: [4], tag: 16) == first)
    }
}
