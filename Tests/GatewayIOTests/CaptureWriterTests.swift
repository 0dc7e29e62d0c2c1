import Foundation
import GatewayIO
import Testing
import Wire

private let packet: [UInt8] = [0x45, 0, 0, 20] + [UInt8](repeating: 7, count: 16)
private let time: UInt64 = 1_700_000_000_123_456_789

@Suite struct CaptureWriterTests {
    private let directory: TemporaryDirectory
    private let path: String

    init() throws {
        directory = try TemporaryDirectory()
        path = directory.path("out.pcap")
    }

    // What would fool us: a reader and a writer that share one mistake. The bytes are pinned.
    @Test func fileIsByteForByteWhatTheFormatSays() throws {
        var writer = try CaptureWriter(path: path)
        try writer.write(packet, timestampNanoseconds: time, originalLength: 1500)
        #expect(try writer.finish() == 1)
        var expected = CaptureBytes.pcap(linkType: 101)
        // The snapshot length is ours.
        expected.bytes.replaceSubrange(16..<20, with: [0, 0, 4, 0])
        expected.record(packet, originalLength: 1500)
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data(expected.bytes))
    }

    @Test(arguments: [TimestampPrecision.microseconds, .nanoseconds])
    func whatIsWrittenIsReadBack(precision: TimestampPrecision) throws {
        // More than the write buffer holds, and the longest and shortest packets.
        let sizes =
            [0, 1, 20, 1500, 65_535, CaptureWriter.packetBytesMax, 3] + (0..<200).map { $0 * 7 }
        let packets = sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 ^ size) } }
        let times = sizes.indices.map { time + UInt64($0) * 1_000_000_001 }
        var writer = try CaptureWriter(path: path, timestampPrecision: precision)
        for (packet, time) in zip(packets, times) {
            try writer.write(packet, timestampNanoseconds: time)
        }
        #expect(try writer.finish() == packets.count)
        let contents = CaptureContents(path: path)
        #expect(contents.error == nil)
        #expect(contents.frames == packets)
        #expect(contents.packets.map(\.originalLength) == sizes)
        let unit: UInt64 = precision == .microseconds ? 1000 : 1
        #expect(contents.packets.map(\.timestampNanoseconds) == times.map { $0 / unit * unit })
        let reader = try CaptureReader(path: path)
        #expect(reader.timestampPrecision == precision)
        #expect(reader.linkType == .rawIP)
    }

    @Test func emptyCaptureIsACapture() throws {
        try CaptureWriter(path: path).finish()
        let contents = CaptureContents(path: path)
        #expect(contents.error == nil && contents.packets.isEmpty)
    }

    // What would fool us: a test of the good end only. Until finish() the old file is whole, and
    // nothing is left behind by a writer that gave up.
    @Test func unfinishedWriterLeavesThePreviousFile() throws {
        let old = try directory.write([1, 2, 3], to: "out.pcap")
        do {
            var writer = try CaptureWriter(path: path)
            try writer.write(packet, timestampNanoseconds: time)
            #expect(try directory.names().count == 2)
        }
        #expect(try directory.names() == ["out.pcap"])
        #expect(try Data(contentsOf: URL(fileURLWithPath: old)) == Data([1, 2, 3]))
        try CaptureWriter(path: path).finish()
        #expect(try directory.names() == ["out.pcap"])
        #expect(CaptureContents(path: path).error == nil)
    }

    @Test func inputMayBeTheOutput() throws {
        var file = CaptureBytes.pcap(linkType: 101)
        for _ in 0..<5 { file.record(packet) }
        _ = try directory.write(file.bytes, to: "out.pcap")
        var reader = try CaptureReader(path: path)
        var writer = try CaptureWriter(path: path)
        var frame: [UInt8] = []
        while let packet = try reader.next(into: &frame) {
            try writer.write(frame, timestampNanoseconds: packet.timestampNanoseconds)
        }
        #expect(try writer.finish() == 5)
        #expect(CaptureContents(path: path).packets.count == 5)
    }

    @Test func symbolicLinkStaysOneAndItsTargetIsReplaced() throws {
        let target = try directory.write([1], to: "target.pcap")
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
        try CaptureWriter(path: path).finish()
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: path) == target)
        #expect(CaptureContents(path: target).error == nil)
    }

    // What would fool us: rename() over /dev/null works, for root.
    @Test func devicesAndPipesAreWrittenToDirectly() throws {
        let pipePath = directory.path("pipe")
        #expect(mkfifo(pipePath, 0o600) == 0)
        let pipe = open(pipePath, O_RDWR)
        defer { close(pipe) }
        var writer = try CaptureWriter(path: pipePath)
        try writer.write(packet, timestampNanoseconds: time)
        try writer.finish()
        var bytes = [UInt8](repeating: 0, count: 1000)
        #expect(read(pipe, &bytes, 1000) == 24 + 16 + packet.count)
        #expect(try directory.names() == ["pipe"])
    }

    @Test func fullDiskIsReportedWithThePacket() throws {
        var writer = try CaptureWriter(path: "/dev/full")
        let error = #expect(throws: CaptureError.self) {
            for _ in 0..<10_000 { try writer.write(packet, timestampNanoseconds: time) }
        }
        #expect(error?.reason == .system(errno: ENOSPC))
        // 64 KiB hold 1819 records of 36 bytes behind the header.
        #expect(error?.packetNumber == 1820)
        let late = #expect(throws: CaptureError.self) {
            try CaptureWriter(path: "/dev/full").finish()
        }
        #expect(late?.reason == .system(errno: ENOSPC) && late?.packetNumber == nil)
    }

    @Test func impossibleTargetsAreRefused() throws {
        let missing = directory.path("missing/out.pcap")
        let file = try directory.write([1], to: "file")
        for (path, reason) in [
            (missing, .notFound), ("", .notFound), (file + "/out.pcap", .notFound),
            (directory.url.path, .isDirectory),
        ] as [(String, CaptureError.Reason)] {
            let error = #expect(throws: CaptureError.self) { _ = try CaptureWriter(path: path) }
            #expect(error?.reason == reason && error?.path == path && error?.packetNumber == nil)
        }
        // A directory that appears while the capture is written.
        let writer = try CaptureWriter(path: path)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        do {
            try writer.finish()
            Issue.record("a directory was replaced")
        } catch {
            #expect(error.reason == .isDirectory)
        }
        #expect(try directory.names() == ["file", "out.pcap"])
    }

    @Test func packetsThatDoNotFitAreRefusedAndTheRestIsKept() throws {
        var writer = try CaptureWriter(path: path)
        try writer.write(packet, timestampNanoseconds: time)
        let tooLong = [UInt8](repeating: 0, count: CaptureWriter.packetBytesMax + 1)
        let long = #expect(throws: CaptureError.self) {
            try writer.write(tooLong, timestampNanoseconds: time)
        }
        #expect(long?.reason == .packetTooLong(bytes: tooLong.count) && long?.packetNumber == 2)
        let late = #expect(throws: CaptureError.self) {
            try writer.write(packet, timestampNanoseconds: 4_294_967_296_000_000_000)
        }
        #expect(late?.reason == .timestampOutOfRange && late?.packetNumber == 2)
        try writer.write(packet, timestampNanoseconds: 4_294_967_295_999_999_999)
        #expect(try writer.finish() == 2)
        #expect(CaptureContents(path: path).packets.count == 2)
    }
}

extension CaptureWriter {
    fileprivate mutating func write(
        _ packet: [UInt8], timestampNanoseconds: UInt64, originalLength: Int = 0
    ) throws(CaptureError) {
        // A throwing closure would lose the error's type.
        let result = packet.withUnsafeBytes { bytes in
            Result { () throws(CaptureError) in
                try write(
                    bytes, timestampNanoseconds: timestampNanoseconds,
                    originalLength: originalLength)
            }
        }
        try result.get()
    }
}
