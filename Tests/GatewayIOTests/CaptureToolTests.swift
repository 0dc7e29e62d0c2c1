import Foundation
import GatewayIO
import Testing

private let toolDirectories = ["/usr/bin", "/usr/local/bin"]

private func tool(_ name: String) -> String? {
    toolDirectories.map { "\($0)/\(name)" }.first(where: FileManager.default.isExecutableFile)
}

/// Wireshark's own reader and writer as the second opinion. Where they are not installed, the test
/// log shows these tests as skipped.
@Suite(
    .enabled(
        if: ["tshark", "capinfos", "editcap"].allSatisfy { tool($0) != nil },
        "tshark, capinfos or editcap is not installed: no second opinion on capture files"))
struct CaptureToolTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func run(_ name: String, _ arguments: String...) throws -> String {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: try #require(tool(name)))
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(name) \(arguments)")
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test(arguments: [TimestampPrecision.microseconds, .nanoseconds])
    func wiresharkReadsWhatIsWritten(precision: TimestampPrecision) throws {
        let path = directory.path("out.pcap")
        // IPv4, no fragments, protocol 59: nothing follows.
        let packet: [UInt8] =
            [0x45, 0, 0, 20, 0, 1, 0, 0, 64, 59, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]
        var writer = try CaptureWriter(path: path, timestampPrecision: precision)
        for number in 0..<3 as Range<UInt64> {
            try packet.withUnsafeBytes {
                try writer.write(
                    $0, timestampNanoseconds: 1_700_000_000_123_456_789 + number,
                    originalLength: 100)
            }
        }
        try writer.finish()
        let rows = try run(
            "tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len",
            "-e", "frame.cap_len", "-e", "ip.src")
        let fraction = precision == .microseconds ? "123456000" : "123456789"
        #expect(rows.hasPrefix("1700000000.\(fraction)\t100\t20\t192.0.2.1\n"))
        #expect(rows.split(separator: "\n").count == 3)
        let summary = try run("capinfos", "-E", "-c", path)
        #expect(summary.contains("Raw IP"))
    }

    // What would fool us: pcapng files made by our own idea of pcapng.
    @Test(arguments: ["pcapng", "pcap", "nsecpcap", "modpcap"])
    func formatsThatWiresharkWritesAreRead(format: String) throws {
        var file = CaptureBytes.pcap(magic: 0xA1B2_3C4D)
        let frames = (1...20).map { ethernetFrame($0) }
        for frame in frames { file.record(frame, fraction: 123_456_789) }
        let source = try directory.write(file.bytes)
        let path = directory.path("converted")
        _ = try run("editcap", "-F", format, source, path)
        let contents = CaptureContents(path: path)
        #expect(contents.error == nil)
        #expect(contents.frames == frames)
        let reader = try CaptureReader(path: path)
        let isFine = ["pcapng", "nsecpcap"].contains(format)
        #expect(reader.timestampPrecision == (isFine ? .nanoseconds : .microseconds))
        let nanoseconds: UInt64 = 1_700_000_000_123_456_000 + (isFine ? 789 : 0)
        #expect(contents.packets.allSatisfy { $0.timestampNanoseconds == nanoseconds })
        // The same packets as Wireshark sees.
        let rows = try run(
            "tshark", "-r", path, "-T", "fields", "-e", "frame.number", "-e", "frame.cap_len")
        let expected = contents.packets.map { "\($0.number)\t34" }.joined(separator: "\n")
        #expect(rows == expected)
    }

    // What would fool us: advice that nobody has tried.
    @Test func remediesInErrorTextsWork() throws {
        var cut = CaptureBytes.pcap()
        for number in 1...3 as ClosedRange<UInt8> { cut.record(ethernetFrame(number)) }
        let truncated = try directory.write(cut.bytes.dropLast(), to: "cut.pcap")
        _ = try run("editcap", truncated, directory.path("mended.pcap"))
        #expect(CaptureContents(path: directory.path("mended.pcap")).packets.count == 2)

        var lengths = CaptureBytes.pcapng()
        lengths.interface(snapshotLength: 100)
        lengths.interface(snapshotLength: 200)
        lengths.enhancedPacket(ethernetFrame(1), interface: 1)
        let uneven = try directory.write(lengths.bytes, to: "uneven.pcapng")
        _ = try run("editcap", "-F", "pcap", uneven, directory.path("even.pcap"))
        #expect(CaptureContents(path: directory.path("even.pcap")).frames == [ethernetFrame(1)])

        var labelled = CaptureBytes.pcap(linkType: 127)
        labelled.record(ethernetFrame(1))
        let wrong = try directory.write(labelled.bytes, to: "wrong.pcap")
        _ = try run("editcap", "-T", "ether", wrong, directory.path("right.pcap"))
        #expect(CaptureContents(path: directory.path("right.pcap")).frames == [ethernetFrame(1)])
    }
}
