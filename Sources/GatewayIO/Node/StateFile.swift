// The octets of a node's store on disk: a snapshot, and behind it one frame for each batch of
// changes. docs/decisions/0018 says why a torn end can be told from damage.
//
//     magic (16) │ check (16) │ snapshot octets (8) │ checksum (4)     header
//     magic (4) │ number (4) │ octets (4) │ checksum of these (4) │ checksum of the rest (4) │ …
//     kind (1) │ key octets (2) │ value octets (4) │ key │ value       one change in a frame
//
// Numbers are big-endian. Checksums are CRC-32C: values are sealed, so that nobody can forge one.

/// A change of one key.
enum StateChange: Equatable {
    case put(key: String, value: [UInt8])
    case delete(key: String)
}

/// What was read of a file.
struct StateFile {
    /// What it is told by, with the version.
    static let magic = Array("spindle state 1\n".utf8)
    static let checkBytes = 16
    static let headerBytes = 44
    static let frameHeadBytes = 20
    static let frameMagic: UInt32 = 0x5350_4E46

    /// The values by key.
    private(set) var pairs: [String: [UInt8]] = [:]
    /// Where the next frame goes; what is behind it is a torn end.
    private(set) var end = 0
    /// Number of the next frame.
    private(set) var frames: UInt32 = 0

    /// Why a file is refused.
    enum Fault: Error, Equatable {
        case version
        case otherSecret
        case damaged(Int)
    }

    // MARK: Writing

    /// The header of a file with so many octets of snapshot.
    static func header(check: [UInt8], snapshotBytes: Int) -> [UInt8] {
        precondition(check.count == checkBytes)
        var octets = magic + check
        octets += bigEndian(UInt64(snapshotBytes))
        return octets + bigEndian(CRC32C.checksum(octets[...]))
    }

    /// One frame.
    static func frame(_ changes: [StateChange], number: UInt32) -> [UInt8] {
        var body: [UInt8] = []
        for change in changes {
            switch change {
            case .put(let key, let value):
                body += [1] + bigEndian(UInt16(key.utf8.count)) + bigEndian(UInt32(value.count))
                body += Array(key.utf8)
                body += value
            case .delete(let key):
                body += [2] + bigEndian(UInt16(key.utf8.count)) + bigEndian(UInt32(0))
                body += Array(key.utf8)
            }
        }
        let head = bigEndian(frameMagic) + bigEndian(number) + bigEndian(UInt32(body.count))
        return head + bigEndian(CRC32C.checksum(head[...]))
            + bigEndian(CRC32C.checksum(body[...])) + body
    }

    // MARK: Reading

    /// Reads a file. An end that was cut off or half written is left out, where nothing whole
    /// follows and the snapshot is complete.
    init(_ octets: [UInt8], check: [UInt8]) throws(Fault) {
        guard octets.count >= Self.headerBytes, octets.starts(with: Self.magic.prefix(14)) else {
            throw .damaged(0)
        }
        guard octets.starts(with: Self.magic) else { throw .version }
        let sumAt = Self.headerBytes - 4
        guard Self.read32(octets, sumAt) == CRC32C.checksum(octets[..<sumAt]) else {
            throw .damaged(0)
        }
        guard octets[16..<32].elementsEqual(check) else { throw .otherSecret }
        let snapshotBytes = UInt64(Self.read32(octets, 32)) << 32 | UInt64(Self.read32(octets, 36))
        guard snapshotBytes <= UInt64(octets.count - Self.headerBytes) else {
            throw .damaged(octets.count)
        }
        let snapshotEnd = Self.headerBytes + Int(snapshotBytes)
        end = Self.headerBytes
        while end < octets.count {
            guard let body = Self.body(octets, at: end, number: frames), apply(octets[body]) else {
                guard end >= snapshotEnd, !Self.hasFrame(octets, behind: end, number: frames)
                else { throw .damaged(end) }
                return
            }
            end = body.upperBound
            frames += 1
        }
    }

    /// Where the body of a whole frame is.
    private static func body(_ octets: [UInt8], at place: Int, number: UInt32) -> Range<Int>? {
        let start = place + frameHeadBytes
        guard start <= octets.count, read32(octets, place) == frameMagic,
            read32(octets, place + 4) == number,
            read32(octets, place + 12) == CRC32C.checksum(octets[place..<place + 12])
        else { return nil }
        let end = start + Int(read32(octets, place + 8))
        guard end <= octets.count,
            read32(octets, place + 16) == CRC32C.checksum(octets[start..<end])
        else { return nil }
        return start..<end
    }

    /// True when a later frame is whole: it was written only after the one at `place` was on the
    /// disk, which therefore was damaged since.
    private static func hasFrame(_ octets: [UInt8], behind place: Int, number: UInt32) -> Bool {
        let first = UInt8(truncatingIfNeeded: frameMagic >> 24)
        var next = place + 1
        while next + frameHeadBytes <= octets.count {
            if octets[next] == first, read32(octets, next) == frameMagic {
                let found = read32(octets, next + 4)
                if found > number, body(octets, at: next, number: found) != nil { return true }
            }
            next += 1
        }
        return false
    }

    /// False when the octets are no changes.
    private mutating func apply(_ body: ArraySlice<UInt8>) -> Bool {
        var rest = body
        while !rest.isEmpty {
            guard rest.count >= 7 else { return false }
            let start = rest.startIndex
            let keyBytes = Int(rest[start + 1]) << 8 | Int(rest[start + 2])
            let valueBytes = (3..<7).reduce(0) { $0 << 8 | Int(rest[start + $1]) }
            guard keyBytes > 0, rest.count - 7 >= keyBytes + valueBytes else { return false }
            let key = String(decoding: rest[(start + 7)..<(start + 7 + keyBytes)], as: UTF8.self)
            let value = rest[(start + 7 + keyBytes)..<(start + 7 + keyBytes + valueBytes)]
            switch rest[start] {
            case 1: pairs[key] = Array(value)
            case 2 where value.isEmpty: pairs[key] = nil
            default: return false
            }
            rest = rest[value.endIndex...]
        }
        return true
    }

    private static func read32(_ octets: [UInt8], _ place: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 << 8 | UInt32(octets[place + $1]) }
    }

    private static func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }
}

/// The checksum of iSCSI (RFC 3720 §12.1 and appendix B.4).
enum CRC32C {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { sum, _ in
            sum & 1 == 0 ? sum >> 1 : sum >> 1 ^ 0x82F6_3B78
        }
    }

    static func checksum(_ octets: ArraySlice<UInt8>) -> UInt32 {
        ~table.withUnsafeBufferPointer { table in
            octets.withUnsafeBytes { bytes in
                var sum = UInt32.max
                for octet in bytes {
                    sum = sum >> 8 ^ table[Int(UInt8(truncatingIfNeeded: sum) ^ octet)]
                }
                return sum
            }
        }
    }
}
