// pcap files as these tests write and read them, with every freedom that the format leaves
// (draft-ietf-opsawg-pcap §4 and §5). Not the product's reader: that is what is being tested.

import Foundation

/// One captured frame.
struct Record: Equatable {
    /// Since 1970.
    var nanoseconds: UInt64
    var octets: [UInt8]
}

/// A pcap file in memory.
struct Capture: Equatable {
    static let ethernet: UInt32 = 1
    static let rawIP: UInt32 = 101

    var linkType = rawIP
    var records: [Record] = []

    init(linkType: UInt32 = rawIP, records: [Record] = []) {
        self.linkType = linkType
        self.records = records
    }

    /// Reads little-endian files of either resolution.
    init(contentsOf path: String) throws {
        let data = [UInt8](try Data(contentsOf: URL(filePath: path)))
        guard data.count >= 24 else { throw RunError(description: "\(path): no pcap header") }
        let unit: UInt64
        switch Self.number(data, 0) {
        case 0xA1B2_C3D4: unit = 1000
        case 0xA1B2_3C4D: unit = 1
        default: throw RunError(description: "\(path): not a little-endian pcap file")
        }
        linkType = Self.number(data, 20)
        var offset = 24
        while offset < data.count {
            guard offset + 16 <= data.count,
                offset + 16 + Int(Self.number(data, offset + 8)) <= data.count
            else { throw RunError(description: "\(path): cut off") }
            let length = Int(Self.number(data, offset + 8))
            let seconds = UInt64(Self.number(data, offset))
            let fraction = UInt64(Self.number(data, offset + 4))
            records.append(
                Record(
                    nanoseconds: seconds * 1_000_000_000 + fraction * unit,
                    octets: Array(data[offset + 16..<offset + 16 + length])))
            offset += 16 + length
        }
    }

    private static func number(_ data: [UInt8], _ offset: Int) -> UInt32 {
        data[offset..<offset + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// The octets of the file.
    func file(isBigEndian: Bool = false, hasNanoseconds: Bool = false) -> Data {
        var data = Data()
        func put(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: isBigEndian ? value.bigEndian : value.littleEndian) {
                data.append(contentsOf: $0)
            }
        }
        put(UInt32(hasNanoseconds ? 0xA1B2_3C4D : 0xA1B2_C3D4))
        put(UInt16(2))
        put(UInt16(4))
        put(UInt64(0))
        put(UInt32(262_144))
        put(linkType)
        for record in records {
            put(UInt32(record.nanoseconds / 1_000_000_000))
            let fraction = record.nanoseconds % 1_000_000_000
            put(UInt32(hasNanoseconds ? fraction : fraction / 1000))
            put(UInt32(record.octets.count))
            put(UInt32(record.octets.count))
            data.append(contentsOf: record.octets)
        }
        return data
    }
}
