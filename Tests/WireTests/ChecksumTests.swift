import TestSupport
import Testing
import Wire

@Suite struct ChecksumTests {
    // What would fool us: a carry that is lost only when words add up just so, or an odd tail that
    // is taken as the low octet. The reference adds word by word and puts each carry back at once.
    @Test func sumsLikeTheReference() {
        var random = SeededGenerator()
        for length in 0...130 {
            for _ in 0..<8 {
                // Many 0xFF make many carries.
                let bytes = random.bytes(length).map { $0 & 3 == 0 ? $0 : 0xFF }
                #expect(checksum(bytes) == naiveChecksum(bytes), "\(bytes)")
            }
        }
        let full = [UInt8](repeating: 0xFF, count: 65_535)
        #expect(checksum(full) == naiveChecksum(full))
    }

    @Test func publishedExample() {
        // RFC 1071 §3: 0001 f203 f4f5 f6f7 sum to ddf2.
        #expect(checksum(hex("0001 f203 f4f5 f6f7")) == ~0xDDF2)
        #expect(checksum([]) == 0xFFFF)
    }

    @Test func sumsContinueFromEarlierOnes() {
        var random = SeededGenerator()
        let bytes = random.bytes(96)
        for split in stride(from: 0, through: 96, by: 2) {
            let sum = bytes.withUnsafeBytes { bytes -> UInt64 in
                guard let base = bytes.baseAddress else { return 0 }
                let head = checksumSum(base, count: split)
                return checksumSum(base + split, count: 96 - split, from: head)
            }
            #expect(checksumFold(sum) == naiveChecksum(bytes))
        }
    }

    @Test(arguments: [0, 1, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_FFFF_FFFE, UInt64.max])
    func foldsEverySum(_ sum: UInt64) {
        // 2^16 is 1 modulo 2^16 - 1, so folding is a remainder; a sum other than 0 never folds to
        // 0.
        let remainder = UInt16(sum % 0xFFFF)
        let expected = sum != 0 && remainder == 0 ? 0xFFFF : remainder
        #expect(checksumFold(sum) == ~expected)
    }

    // What would fool us: RFC 1141's formula, which gives the wrong zero (RFC 1624 §3).
    @Test func updateMatchesSummingAnew() {
        var random = SeededGenerator()
        let edges: [UInt16] = [0, 1, 2, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]
        for old in edges {
            for new in edges {
                for _ in 0..<200 {
                    let other = UInt16.random(in: 0 ... .max, using: &random)
                    // An IP header is never all zero: its first word has the version.
                    let before = bigEndian(UInt16(0x4500)) + bigEndian(old) + bigEndian(other)
                    let after = bigEndian(UInt16(0x4500)) + bigEndian(new) + bigEndian(other)
                    #expect(
                        checksumUpdate(naiveChecksum(before), from: old, to: new)
                            == naiveChecksum(after))
                }
            }
        }
        // RFC 1624 §4: the example that RFC 1141 gets wrong.
        #expect(checksumUpdate(0xDD2F, from: 0x5555, to: 0x3285) == 0x0000)
    }

    private func checksum(_ bytes: [UInt8]) -> UInt16 {
        (bytes + [0xEE]).withUnsafeBytes { buffer in
            buffer.baseAddress.map { checksumFold(checksumSum($0, count: bytes.count)) } ?? 0
        }
    }
}
