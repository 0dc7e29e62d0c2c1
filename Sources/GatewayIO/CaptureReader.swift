// Reads capture files, pcap and pcapng, through libpcap.
//
// The file is opened here and not by libpcap, because its messages do not tell a missing file
// from a directory, and it would take "-" for the standard input.

internal import CPcap
internal import Glibc
public import Wire

/// One record of a capture file; its bytes are in the buffer given to
/// ``CaptureReader/next(into:)``.
public struct CapturedPacket: Hashable, Sendable {
    /// Counted from 1, as Wireshark does.
    public let number: Int

    /// Nanoseconds since 1970-01-01 00:00 UTC; times that do not fit are moved to the nearest end.
    public let timestampNanoseconds: UInt64

    /// How long the frame was on the wire, in bytes. More than the buffer holds if the capture was
    /// made with a snapshot length.
    public let originalLength: Int
}

/// An open capture file, read packet by packet from the start.
///
/// Pipes work too. No bytes in the file make it trap; what it cannot read it refuses with a
/// ``CaptureError``. Closes the file when it goes out of scope.
public struct CaptureReader: ~Copyable {
    /// The file, as the caller named it.
    public let path: String

    /// The kind of all frames in the file.
    public let linkType: LinkType

    /// The resolution that keeps all that the file's timestamps say. Nanoseconds for pcapng, where
    /// each interface has its own, and for pipes, which cannot be looked into.
    public let timestampPrecision: TimestampPrecision

    /// Open until deinit; owns its stdio stream.
    private let capture: OpaquePointer
    private var packetCount = 0
    private var end: End?

    private enum End {
        case reached
        case failed(CaptureError)
    }

    /// Opens `path` and reads the file header.
    ///
    /// Throws a ``CaptureError`` without packet number.
    public init(path: String) throws(CaptureError) {
        let (stream, head) = try Self.openStream(path: path)
        var message = [CChar](repeating: 0, count: Int(PCAP_ERRBUF_SIZE))
        guard
            let capture = pcap_fopen_offline_with_tstamp_precision(
                stream, UInt32(PCAP_TSTAMP_PRECISION_NANO), &message)
        else {
            let isAtEnd = feof(stream) != 0
            // A short read and an I/O error look alike from outside.
            let systemError = ferror(stream) != 0 ? errno : nil
            fclose(stream)
            throw CaptureError(
                Self.openingReason(
                    head: head, isAtEnd: isAtEnd, systemError: systemError,
                    message: Self.text(message)),
                path: path)
        }
        let number = Int(pcap_datalink(capture))
        guard let linkType = LinkType(number: number) else {
            let name = pcap_datalink_val_to_name(Int32(number)).map { String(cString: $0) }
            pcap_close(capture)
            throw CaptureError(
                .linkTypeUnsupported(name ?? "unknown", number: number), path: path)
        }
        self.path = path
        self.linkType = linkType
        self.timestampPrecision = head.hasMicroseconds ? .microseconds : .nanoseconds
        self.capture = capture
    }

    deinit { pcap_close(capture) }

    /// Replaces the contents of `buffer` with the next frame, or returns nil after the last one.
    ///
    /// The buffer keeps its capacity: after a few packets nothing is allocated any more. Throws a
    /// ``CaptureError`` with the number of the packet that could not be read, and again on every
    /// further call.
    public mutating func next(into buffer: inout [UInt8]) throws(CaptureError) -> CapturedPacket? {
        switch end {
        case .reached: return nil
        case .failed(let error): throw error
        case nil: break
        }
        var header: UnsafeMutablePointer<pcap_pkthdr>?
        var bytes: UnsafePointer<UInt8>?
        let result = pcap_next_ex(capture, &header, &bytes)
        guard result == 1, let header = header?.pointee else {
            if result == PCAP_ERROR_BREAK {
                end = .reached
                return nil
            }
            let error = CaptureError(readingReason(), path: path, packetNumber: packetCount + 1)
            end = .failed(error)
            throw error
        }
        packetCount += 1
        buffer.removeAll(keepingCapacity: true)
        // libpcap holds `caplen` bytes there until its next call.
        buffer.append(contentsOf: UnsafeBufferPointer(start: bytes, count: Int(header.caplen)))
        return CapturedPacket(
            number: packetCount, timestampNanoseconds: Self.nanoseconds(header.ts),
            originalLength: Int(header.len))
    }
}

// MARK: - Opening

extension CaptureReader {
    /// The first four bytes of the file as a little-endian number; nil if there are not as many
    /// or the file cannot be looked into.
    private struct Head {
        let magic: UInt32?

        var hasMicroseconds: Bool {
            // Also Kuznetzov's variant with longer record headers.
            [0xA1B2_C3D4, 0xA1B2_CD34].contains(where: isMagic)
        }

        var isCapture: Bool {
            hasMicroseconds || isMagic(0xA1B2_3C4D) || isMagic(0x0A0D_0D0A)
        }

        var isCompressed: Bool {
            guard let magic else { return false }
            // gzip has two bytes and the method "deflate"; zstd four.
            return magic & 0xFF_FFFF == 0x08_8B1F || magic == 0xFD2F_B528
        }

        private func isMagic(_ number: UInt32) -> Bool {
            magic == number || magic == number.byteSwapped
        }
    }

    private static func openStream(
        path: String
    ) throws(CaptureError) -> (UnsafeMutablePointer<FILE>, Head) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CaptureError(systemError: errno, path: path) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let number = errno
            close(descriptor)
            throw CaptureError(systemError: number, path: path)
        }
        guard status.st_mode & S_IFMT != S_IFDIR else {
            close(descriptor)
            throw CaptureError(.isDirectory, path: path)
        }
        guard status.st_mode & S_IFMT != S_IFREG || status.st_size > 0 else {
            close(descriptor)
            throw CaptureError(.empty, path: path)
        }
        var magic: UInt32 = 0
        // Does not move the file position, and fails on a pipe.
        let magicBytes = pread(descriptor, &magic, 4, 0)
        guard let stream = fdopen(descriptor, "rb") else {
            let number = errno
            close(descriptor)
            throw CaptureError(systemError: number, path: path)
        }
        return (stream, Head(magic: magicBytes == 4 ? UInt32(littleEndian: magic) : nil))
    }

    private static func openingReason(
        head: Head, isAtEnd: Bool, systemError: Int32?, message: String
    ) -> CaptureError.Reason {
        if let systemError { return .system(errno: systemError) }
        if head.isCompressed { return .compressed }
        if head.isCapture { return isAtEnd ? .truncated : .malformed(message) }
        return .notCapture
    }
}

// MARK: - Reading

extension CaptureReader {
    /// Why the last call of libpcap failed. The stream's own state is asked first: it is more
    /// reliable than the wording of messages.
    private func readingReason() -> CaptureError.Reason {
        let systemError = errno
        let message = pcap_geterr(capture).map { String(cString: $0) } ?? "no reason given"
        if let stream = pcap_file(capture) {
            if ferror(stream) != 0 { return .system(errno: systemError) }
            if feof(stream) != 0 { return .truncated }
        }
        // libpcap refuses these when it meets the second interface, and has no other sign of it.
        if message.hasPrefix("an interface has a type") { return .linkTypesDiffer }
        if message.hasPrefix("an interface has a snapshot") { return .snapshotLengthsDiffer }
        return .malformed(message)
    }

    /// The time of a record. The fields come from the file and may hold anything.
    private static func nanoseconds(_ time: timeval) -> UInt64 {
        // The 32-bit seconds of pcap are unsigned by its specification, but libpcap reads them
        // as signed, which would put 2038…2106 before 1970.
        let seconds =
            (Int64(Int32.min)..<0).contains(Int64(time.tv_sec))
            ? Int64(time.tv_sec) + 1 << 32 : Int64(time.tv_sec)
        // Asked for nanoseconds, libpcap keeps them in the field for microseconds.
        let fraction = Int64(time.tv_usec)
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = product.addingReportingOverflow(fraction)
        if overflow || carry { return seconds < 0 ? 0 : .max }
        return UInt64(max(sum, 0))
    }

    /// A C string, with anything that is not UTF-8 replaced.
    private static func text(_ message: [CChar]) -> String {
        String(
            decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension CaptureError {
    /// The error for a system call that failed with `number`.
    init(systemError number: Int32, path: String, packetNumber: Int? = nil) {
        let reason: Reason =
            switch number {
            case ENOENT, ENOTDIR: .notFound
            case EISDIR: .isDirectory
            default: .system(errno: number)
            }
        self.init(reason, path: path, packetNumber: packetNumber)
    }
}
