// Capture files made of bytes, so that each test can break them where it likes.

import Foundation
import GatewayIO

/// An Ethernet frame with a 20-byte IPv4 header; its last bytes say which one it is.
func ethernetFrame(_ number: UInt8) -> [UInt8] {
    [UInt8](repeating: 0xEE, count: 12) + [0x08, 0x00, 0x45, 0, 0, 20]
        + [UInt8](repeating: number, count: 16)
}

/// Builds files field by field in either byte order.
struct CaptureBytes {
    var isBigEndian = false
    var bytes: [UInt8] = []

    mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: isBigEndian ? value.bigEndian : value.littleEndian) {
            bytes.append(contentsOf: $0)
        }
    }

    // MARK: pcap (draft-ietf-opsawg-pcap §4, §5)

    static func pcap(
        magic: UInt32 = 0xA1B2_C3D4, linkType: UInt32 = 1, isBigEndian: Bool = false
    ) -> CaptureBytes {
        var file = CaptureBytes(isBigEndian: isBigEndian)
        file.put(magic)
        file.put(2 as UInt16)
        file.put(4 as UInt16)
        file.put(0 as UInt64)
        file.put(65_535 as UInt32)
        file.put(linkType)
        return file
    }

    mutating func record(
        _ frame: [UInt8], seconds: UInt32 = 1_700_000_000, fraction: UInt32 = 123_456,
        originalLength: Int? = nil
    ) {
        put(seconds)
        put(fraction)
        put(UInt32(frame.count))
        put(UInt32(originalLength ?? frame.count))
        bytes += frame
    }

    // MARK: pcapng (draft-ietf-opsawg-pcapng §4)

    static func pcapng(isBigEndian: Bool = false) -> CaptureBytes {
        var file = CaptureBytes(isBigEndian: isBigEndian)
        file.block(0x0A0D_0D0A) { body in
            body.put(0x1A2B_3C4D as UInt32)
            body.put(1 as UInt16)
            body.put(0 as UInt16)
            body.put(UInt64.max)
        }
        return file
    }

    /// An interface whose timestamps count nanoseconds.
    mutating func interface(linkType: UInt16 = 1, snapshotLength: UInt32 = 65_535) {
        block(1) { body in
            body.put(linkType)
            body.put(0 as UInt16)
            body.put(snapshotLength)
            body.put(9 as UInt16)  // if_tsresol
            body.put(1 as UInt16)
            body.bytes += [9, 0, 0, 0]
            body.put(0 as UInt32)
        }
    }

    mutating func enhancedPacket(
        _ frame: [UInt8], interface: UInt32 = 0, nanoseconds: UInt64 = 1_700_000_000_123_456_789
    ) {
        block(6) { body in
            body.put(interface)
            body.put(UInt32(nanoseconds >> 32))
            body.put(UInt32(truncatingIfNeeded: nanoseconds))
            body.put(UInt32(frame.count))
            body.put(UInt32(frame.count))
            body.bytes += frame + [UInt8](repeating: 0, count: -frame.count & 3)
        }
    }

    private mutating func block(_ type: UInt32, _ fill: (inout CaptureBytes) -> Void) {
        var body = CaptureBytes(isBigEndian: isBigEndian)
        fill(&body)
        put(type)
        put(UInt32(body.bytes.count + 12))
        bytes += body.bytes
        put(UInt32(body.bytes.count + 12))
    }
}

/// What a whole file gave: its packets up to the end or to the error.
struct CaptureContents {
    var packets: [CapturedPacket] = []
    var frames: [[UInt8]] = []
    var error: CaptureError?

    init(path: String) {
        do throws(CaptureError) {
            var reader = try CaptureReader(path: path)
            var frame: [UInt8] = []
            while let packet = try reader.next(into: &frame) {
                packets.append(packet)
                frames.append(frame)
            }
        } catch {
            self.error = error
        }
    }
}

/// A directory that goes away with its test.
final class TemporaryDirectory {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory
            .appendingPathComponent("spindle-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }

    func write(_ bytes: [UInt8], to name: String = "test.pcap") throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
    }
}
