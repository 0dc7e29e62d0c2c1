import TestSupport
import Testing

@testable import ESP

@Suite struct AssociationRecordTests {
    // Four cache lines; the packet path reaches ring and keys by these numbers, not by name.
    @Test func layout() {
        #expect(MemoryLayout<AssociationRecord>.size == 256)
        #expect(MemoryLayout<AssociationRecord>.stride == 256)
        #expect(
            MemoryLayout<AssociationRecord>.offset(of: \.ring) == AssociationRecord.ringOffset)
        #expect(
            MemoryLayout<AssociationRecord>.offset(of: \.keys) == AssociationRecord.keysOffset)
        #expect(AssociationRecord.ringOffset == 64)
        // Every field that each packet touches lies in the first line.
        let hot: [PartialKeyPath<AssociationRecord>] = [
            \.spi, \.flags, \.transform, \.ringMask, \.generation, \.context, \.lastUsed, \.salt,
            \.windowBits, \.sequence, \.sequenceLimit, \.packets, \.bytes,
        ]
        for path in hot {
            let offset = MemoryLayout<AssociationRecord>.offset(of: path)
            #expect(offset.map { $0 < 64 } == true)
        }
    }

    @Test func recordsAreCacheLineAligned() throws {
        let station = try Station(capacity: 3)
        for spi: UInt32 in 0x1001...0x1003 {
            let handle = try station.add(parameters(spi))
            #expect(UInt(bitPattern: station.record(handle)) % 64 == 0)
        }
    }

    @Test func ringAndKeysAreWhereTheRecordSays() throws {
        let station = try Station()
        let parameters = parameters(0x1001, .inbound, .find(.aesCTR, 256, .hmacSHA512))
        let handle = try station.add(parameters)
        let octets = keyOctets(parameters.spi, parameters.transform)
        #expect(Array(station.recordOctets(handle)[96..<192]) == Array(octets[..<96]))
        withUnsafeBytes(of: station.record(handle).pointee.salt) {
            #expect(Array($0) == Array(octets[96...]))
        }
    }
}

@Suite struct ZeroedPagesTests {
    @Test func areZeroAlignedAndGivenBack() {
        for count in [1, 3, 1000, 300_000] {
            let pages = zeroedPages(UInt64.self, count: count)
            #expect(UInt(bitPattern: pages) % 64 == 0)
            #expect((0..<count).allSatisfy { pages[$0] == 0 })
            pages[count - 1] = 1
            freePages(pages)
        }
    }
}
