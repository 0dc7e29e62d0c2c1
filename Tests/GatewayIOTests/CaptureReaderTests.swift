import Foundation
import GatewayIO
import Testing
import Wire

private let frames = (1...3).map { ethernetFrame($0) }

@Suite struct CaptureReaderTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func read(_ file: CaptureBytes) throws -> CaptureContents {
        CaptureContents(path: try directory.write(file.bytes))
    }

    // MARK: What is read

    @Test(arguments: [false, true])
    func microsecondsInEitherByteOrder(isBigEndian: Bool) throws {
        var file = CaptureBytes.pcap(isBigEndian: isBigEndian)
        for frame in frames { file.record(frame, originalLength: 1500) }
        let contents = try read(file)
        #expect(contents.error == nil)
        #expect(contents.frames == frames)
        #expect(contents.packets.map(\.number) == [1, 2, 3])
        #expect(
            contents.packets.map(\.timestampNanoseconds)
                == Array(repeating: 1_700_000_000_123_456_000, count: 3))
        #expect(contents.packets.allSatisfy { $0.originalLength == 1500 })
        let reader = try CaptureReader(path: directory.path("test.pcap"))
        #expect(reader.timestampPrecision == .microseconds)
        #expect(reader.linkType == .ethernet)
    }

    @Test(arguments: [false, true])
    func nanosecondsInEitherByteOrder(isBigEndian: Bool) throws {
        var file = CaptureBytes.pcap(magic: 0xA1B2_3C4D, isBigEndian: isBigEndian)
        file.record(frames[0], fraction: 999_999_999)
        #expect(try read(file).packets.first?.timestampNanoseconds == 1_700_000_000_999_999_999)
        let reader = try CaptureReader(path: directory.path("test.pcap"))
        #expect(reader.timestampPrecision == .nanoseconds)
    }

    @Test(arguments: [false, true])
    func pcapngInEitherByteOrder(isBigEndian: Bool) throws {
        var file = CaptureBytes.pcapng(isBigEndian: isBigEndian)
        file.interface()
        file.interface()
        for (number, frame) in frames.enumerated() {
            file.enhancedPacket(frame, interface: UInt32(number % 2))
        }
        let contents = try read(file)
        #expect(contents.error == nil)
        #expect(contents.frames == frames)
        #expect(contents.packets.first?.timestampNanoseconds == 1_700_000_000_123_456_789)
        let reader = try CaptureReader(path: directory.path("test.pcap"))
        #expect(reader.timestampPrecision == .nanoseconds)
    }

    // What would fool us: the numbers of file headers are not those that libpcap reports.
    @Test(
        arguments: [
            (1, .ethernet), (101, .rawIP), (228, .rawIP), (229, .rawIP), (0, .loopback),
            (108, .loopback), (113, .linuxSLL), (276, .linuxSLL2),
        ] as [(UInt32, LinkType)])
    func linkTypesOfFileHeaders(number: UInt32, type: LinkType) throws {
        let path = try directory.write(CaptureBytes.pcap(linkType: number).bytes)
        #expect(try CaptureReader(path: path).linkType == type)
    }

    // What would fool us: a signed 32-bit second, which libpcap reads, is negative from 2038 on.
    @Test(
        arguments: [
            (0, 0, 0), (0x7FFF_FFFF, 1, 2_147_483_647_000_001_000),
            (0x8000_0000, 1, 2_147_483_648_000_001_000), (.max, 999_999, 4_294_967_295_999_999_000),
            // A fraction of more than a second carries over.
            (1, 1_000_001, 2_000_001_000),
        ] as [(UInt32, UInt32, UInt64)])
    func timesOfAllPcapSeconds(seconds: UInt32, fraction: UInt32, expected: UInt64) throws {
        var file = CaptureBytes.pcap()
        file.record(frames[0], seconds: seconds, fraction: fraction)
        #expect(try read(file).packets.map(\.timestampNanoseconds) == [expected])
    }

    @Test func emptyFramesAreFramesAndBuffersAreReplaced() throws {
        var file = CaptureBytes.pcap()
        file.record(frames[0])
        file.record([], originalLength: 9)
        file.record([7])
        #expect(try read(file).frames == [frames[0], [], [7]])
    }

    @Test func pipesAreReadToo() throws {
        var file = CaptureBytes.pcap()
        file.record(frames[0])
        let path = directory.path("pipe")
        #expect(mkfifo(path, 0o600) == 0)
        // Opened for both directions: neither side waits, and the pipe holds the file.
        let pipe = open(path, O_RDWR)
        defer { close(pipe) }
        #expect(write(pipe, file.bytes, file.bytes.count) == file.bytes.count)
        var reader = try CaptureReader(path: path)
        var frame: [UInt8] = []
        #expect(try reader.next(into: &frame)?.number == 1)
        #expect(frame == frames[0])
    }

    // MARK: What is refused

    // What would fool us: a file cut between two packets is whole, and one cut within a packet
    // still gives those before it.
    @Test(arguments: [false, true], [false, true])
    func everyTruncationNamesItsPacket(isBigEndian: Bool, isNextGeneration: Bool) throws {
        var file: CaptureBytes
        if isNextGeneration {
            file = .pcapng(isBigEndian: isBigEndian)
            file.interface()
        } else {
            file = .pcap(isBigEndian: isBigEndian)
        }
        var ends = [file.bytes.count]
        for frame in frames {
            if isNextGeneration { file.enhancedPacket(frame) } else { file.record(frame) }
            ends.append(file.bytes.count)
        }
        for count in 0..<file.bytes.count {
            let path = try directory.write(Array(file.bytes.prefix(count)))
            let contents = CaptureContents(path: path)
            let whole = ends.lastIndex { $0 <= count }
            #expect(contents.frames == Array(frames.prefix(whole ?? 0)))
            if let whole, ends[whole] == count {
                #expect(contents.error == nil, "\(count) bytes")
            } else {
                let reason: CaptureError.Reason =
                    count == 0 ? .empty : count < 4 ? .notCapture : .truncated
                #expect(contents.error?.reason == reason, "\(count) bytes")
                #expect(contents.error?.packetNumber == whole.map { $0 + 1 }, "\(count) bytes")
                #expect(contents.error?.path == path)
            }
        }
    }

    // What would fool us: a trap on bytes that nobody thought of. Whatever is read stays within
    // the file's size, and every error is one line.
    @Test func damagedBytesNeverTrap() throws {
        let given = ProcessInfo.processInfo.environment["SPINDLE_TEST_SEED"].flatMap(UInt64.init)
        var state = given ?? UInt64.random(in: 0 ... .max)
        print("\(#function): SPINDLE_TEST_SEED=\(state)")
        func random(below bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for round in 0..<3000 {
            var file: CaptureBytes
            if round.isMultiple(of: 2) {
                file = .pcap()
                for frame in frames { file.record(frame) }
            } else {
                file = .pcapng()
                file.interface()
                for frame in frames { file.enhancedPacket(frame) }
            }
            for _ in 0...random(below: 4) {
                let extremes: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF, UInt8(random(below: 256))]
                file.bytes[random(below: file.bytes.count)] = extremes[random(below: 6)]
            }
            let contents = try read(file)
            #expect(contents.frames.joined().count <= file.bytes.count)
            if let error = contents.error { #expect(!"\(error)".contains("\n")) }
        }
    }

    @Test func errorTextsSayFilePacketAndRemedy() throws {
        var file = CaptureBytes.pcap()
        file.record(frames[0])
        file.record(frames[1])
        let path = try directory.write(Array(file.bytes.dropLast()))
        #expect(
            CaptureContents(path: path).error?.description
                == "\(path): packet 2: the file ends in the middle: copy it again, or keep the "
                + "packets before this point with 'editcap IN OUT'")
        let strange = try directory.write([1, 2, 3, 4, 5], to: "two\nlines\u{1B}[2J.pcap")
        let text = try #require(CaptureContents(path: strange).error?.description)
        #expect(text.contains(#"two\nlines\u{1B}[2J.pcap": not a pcap or pcapng capture"#))
    }

    @Test func filesThatAreNoCapturesAreRefused() throws {
        func reason(_ path: String) -> CaptureError.Reason? {
            let error = CaptureContents(path: path).error
            #expect(error?.path == path && error?.packetNumber == nil)
            return error?.reason
        }
        #expect(reason(directory.path("missing.pcap")) == .notFound)
        #expect(reason("") == .notFound)
        // libpcap would read the standard input.
        #expect(reason("-") == .notFound)
        #expect(reason(directory.url.path) == .isDirectory)
        #expect(reason(try directory.write([])) == .empty)
        #expect(reason(try directory.write(Array("no capture at all".utf8))) == .notCapture)
        #expect(reason(try directory.write([0x1F, 0x8B, 8, 0, 0, 0])) == .compressed)
        #expect(reason(try directory.write([0x28, 0xB5, 0x2F, 0xFD, 0])) == .compressed)
        var future = CaptureBytes.pcap()
        future.bytes[4] = 9
        guard case .malformed? = reason(try directory.write(future.bytes)) else {
            Issue.record("version 9 was accepted")
            return
        }
    }

    @Test func unsupportedLinkTypeIsNamedWithTheSupportedOnes() throws {
        let path = try directory.write(CaptureBytes.pcap(linkType: 127).bytes)
        let error = try #require(CaptureContents(path: path).error)
        #expect(error.reason == .linkTypeUnsupported("IEEE802_11_RADIO", number: 127))
        for type in LinkType.allCases { #expect(error.description.contains(type.description)) }
        let unknown = try directory.write(CaptureBytes.pcap(linkType: 60_000).bytes)
        #expect(
            CaptureContents(path: unknown).error?.reason
                == .linkTypeUnsupported("unknown", number: 60_000))
    }

    @Test func differingInterfacesAreRefusedWhenTheyAppear() throws {
        var types = CaptureBytes.pcapng()
        types.interface(linkType: 1)
        types.enhancedPacket(frames[0])
        types.interface(linkType: 101)
        types.enhancedPacket(frames[1])
        let contents = try read(types)
        #expect(contents.frames == [frames[0]])
        #expect(contents.error?.reason == .linkTypesDiffer)
        #expect(contents.error?.packetNumber == 2)
        var lengths = CaptureBytes.pcapng()
        lengths.interface(snapshotLength: 100)
        lengths.interface(snapshotLength: 200)
        #expect(try read(lengths).error?.reason == .snapshotLengthsDiffer)
    }

    @Test func errorsAndTheEndStay() throws {
        var file = CaptureBytes.pcap()
        file.record(frames[0])
        var whole = try CaptureReader(path: directory.write(file.bytes))
        var frame: [UInt8] = []
        #expect(try whole.next(into: &frame) != nil)
        #expect(try whole.next(into: &frame) == nil)
        #expect(try whole.next(into: &frame) == nil)
        var cut = try CaptureReader(path: directory.write(file.bytes.dropLast(), to: "cut.pcap"))
        for _ in 0..<2 {
            do {
                _ = try cut.next(into: &frame)
                Issue.record("a cut packet was read")
            } catch {
                #expect(error.packetNumber == 1)
            }
        }
    }

    // What would fool us: libpcap's words on the terminal, between the lines of a report.
    @Test func nothingIsWrittenToStandardError() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let directory = try TemporaryDirectory()
            var file = CaptureBytes.pcapng()
            file.interface()
            file.enhancedPacket(ethernetFrame(1))
            for count in 0...file.bytes.count {
                _ = CaptureContents(path: try directory.write(Array(file.bytes.prefix(count))))
            }
            for linkType in [1, 127, 60_000] as [UInt32] {
                let bytes = CaptureBytes.pcap(linkType: linkType).bytes
                _ = CaptureContents(path: try directory.write(bytes + [1, 2, 3]))
            }
        }
        #expect(result?.standardErrorContent.isEmpty == true)
    }
}
