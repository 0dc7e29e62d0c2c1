import Crypto
import TestSupport
import Testing

private func octets(_ secret: borrowing SecretBytes) -> [UInt8] {
    secret.withUnsafeBytes { Array($0) }
}

@Suite struct SecretBytesTests {
    @Test func newOnesAreZero() {
        for count in [0, 1, 15, 16, 17, 4096] {
            let secret = SecretBytes(count: count)
            #expect(secret.count == count)
            #expect(octets(secret) == Array(repeating: 0, count: count))
        }
    }

    @Test func emptyBufferIsAllowed() {
        let secret = SecretBytes(copying: UnsafeRawBufferPointer(start: nil, count: 0))
        let isEqual = secret.matches(SecretBytes(count: 0))
        #expect(secret.count == 0 && isEqual)
    }

    @Test(arguments: ["", "00", "ff", "FF", "0123456789abcdefABCDEF", "00ff10"])
    func decodesHexadecimal(_ text: String) throws {
        switch SecretBytes.decoding(hexadecimal: text) {
        case .some(let secret): #expect(octets(secret) == hex(text))
        case .none: Issue.record("refused")
        }
    }

    @Test(arguments: [
        "0", "000", "0g", "g0", "0x00", " 00", "00 ", "0 0", "-1", "+1", "é", "00:11", "０0", "/0",
        ":0",
        "@0", "G0", "`0", "00\0",
    ])
    func refusesOtherText(_ text: String) {
        switch SecretBytes.decoding(hexadecimal: text) {
        case .some: Issue.record("taken")
        case .none: break
        }
    }

    // What would fool us: a comparison of the first octets only, or one that looks at a length.
    @Test func matchesOnlyEqualOnes() {
        var random = SeededGenerator()
        for count in 1...40 {
            let bytes = random.bytes(count)
            let one = secret(bytes)
            func matches(_ other: some Collection<UInt8>) -> Bool { one.matches(secret(other)) }
            #expect(matches(bytes))
            for place in 0..<count {
                for bit in 0..<8 {
                    var other = bytes
                    other[place] ^= 1 << UInt8(bit)
                    #expect(!matches(other))
                }
            }
            #expect(!matches(bytes + [0]))
            #expect(!matches(bytes.dropLast()))
        }
    }

    @Test func constantTimeEqualityLooksAtEveryBit() {
        var random = SeededGenerator()
        let bytes = random.bytes(32)
        for place in 0..<32 * 8 {
            var other = bytes
            other[place / 8] ^= 1 << UInt8(place % 8)
            let isEqual = bytes.withUnsafeBytes { one in
                other.withUnsafeBytes { two -> Bool? in
                    guard let one = one.baseAddress, let two = two.baseAddress else { return nil }
                    #expect(constantTimeEquals(one, one, count: 32))
                    // The octets before the difference are equal.
                    #expect(constantTimeEquals(one, two, count: place / 8))
                    return constantTimeEquals(one, two, count: 32)
                }
            }
            #expect(isEqual == false)
        }
    }

    @Test func wipeOverwritesExactlyItsRange() {
        for count in 0...70 {
            var memory = [UInt8](repeating: 0xAA, count: count + 2)
            memory.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                wipe(base + 1, count: count)
            }
            #expect(memory == [0xAA] + Array(repeating: 0, count: count) + [0xAA])
        }
    }

    // What would fool us: the block is given back, and its octets live on in the heap. Large enough
    // that glibc's own marks in a free block (its first and last 32 octets) leave most of it alone,
    // and small enough that it is not given back to the system.
    @Test func memoryIsWipedBeforeItIsGivenBack() {
        let pattern = [UInt8](repeating: 0x5C, count: 16_384)
        var address: UnsafeRawPointer?
        do {
            let secret = secret(pattern)
            secret.withUnsafeBytes { address = $0.baseAddress }
            #expect(octets(secret) == pattern)
        }
        let left = address.map { UnsafeRawBufferPointer(start: $0 + 64, count: 16_384 - 128) }
        #expect(left.map { bytes in bytes.count { $0 == 0x5C } } == 0)
    }
}
