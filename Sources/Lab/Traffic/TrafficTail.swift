// Reads what a station writes, while it writes.

internal import CLinux
internal import Glibc

/// The end of one station's records. What was read is given back to the kernel: a run of an hour
/// takes no more memory than one of a minute.
final class TrafficTail {
    private static let chunk = TrafficRecord.octets * 4096
    private static let punchBytes = 1 << 20
    private let file: Int32
    private var offset = 0
    private var punched = 0
    private var room = [UInt8](repeating: 0, count: chunk)

    /// Makes the file.
    init(path: String) throws(LabError) {
        file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw LabError("\(path): \(lastSystemError())") }
    }

    deinit { close(file) }

    /// Hands over all records that are there.
    func read(_ body: (TrafficRecord) -> Void) {
        while true {
            let count = pread(file, &room, Self.chunk, off_t(offset))
            let whole = max(count, 0) / TrafficRecord.octets * TrafficRecord.octets
            guard whole > 0 else { return }
            room.withUnsafeBytes { room in
                for place in stride(from: 0, to: whole, by: TrafficRecord.octets) {
                    let octets = room[place..<place + TrafficRecord.octets]
                    if let record = TrafficRecord(UnsafeRawBufferPointer(rebasing: octets)) {
                        body(record)
                    }
                }
            }
            offset += whole
            if offset - punched >= Self.punchBytes {
                clinux_punch_hole(file, Int64(punched), Int64(offset - punched))
                punched = offset
            }
        }
    }
}
