// Writes IP packets into a pcap file.
//
// Not through libpcap: its pcap_dump() reports no error, so a full disk would go unnoticed until
// the end, and its byte order is the machine's. The format is two fixed headers
// (draft-ietf-opsawg-pcap §4 and §5).

internal import Glibc

/// A pcap file (LINKTYPE_RAW, little-endian, version 2.4) that comes into being all at once.
///
/// Packets go to a temporary file beside the target, which ``finish()`` renames to it. A run that
/// fails, or a writer that goes out of scope unfinished, leaves the target as it was. Only devices
/// and pipes, as `/dev/stdout` may be one, are written to directly.
public struct CaptureWriter: ~Copyable {
    /// The longest packet that readers accept: the snapshot length in the file header, and
    /// tcpdump's own.
    public static let packetBytesMax = 262_144

    /// LINKTYPE_RAW: packets begin with the IP header.
    private static let linkType: UInt32 = 101

    /// Large enough that system calls do not count, small enough for the cache.
    private static let bufferBytes = 65_536

    /// The file, as the caller named it.
    public let path: String

    /// What each timestamp is cut down to. ``CaptureReader/timestampPrecision`` of the input
    /// keeps it as it is.
    public let timestampPrecision: TimestampPrecision

    private let destination: Destination
    /// −1 once closed.
    private var descriptor: Int32
    private var packetCount = 0
    private var pending: [UInt8] = []

    private enum Destination {
        /// Write to `temporary`, then rename it to `final`.
        case file(temporary: String, final: String)
        /// Write to the path itself, which is no regular file.
        case direct
    }

    /// Creates the temporary file. An existing file at `path` must be writable.
    ///
    /// Throws a ``CaptureError`` if there is no such directory, the path is a directory, or the
    /// system refuses.
    public init(
        path: String, timestampPrecision: TimestampPrecision = .microseconds
    ) throws(CaptureError) {
        (self.destination, self.descriptor) = try Self.open(path: path)
        self.path = path
        self.timestampPrecision = timestampPrecision
        pending.reserveCapacity(Self.bufferBytes + Self.packetBytesMax + 16)
        append(timestampPrecision == .microseconds ? 0xA1B2_C3D4 : 0xA1B2_3C4D)
        append(2 | 4 << 16)  // Version 2.4: two 16-bit fields, major first.
        append(0)  // Time zone: always UTC.
        append(0)  // Accuracy: always 0.
        append(UInt32(Self.packetBytesMax))
        append(Self.linkType)
    }

    deinit {
        guard descriptor >= 0 else { return }
        close(descriptor)
        if case .file(let temporary, _) = destination { unlink(temporary) }
    }

    /// Adds one IP packet. `originalLength` is its length on the wire if that is more than is
    /// given here.
    ///
    /// Throws a ``CaptureError`` with the number of this packet. Packets are written in blocks, so
    /// a full disk may show up some packets late.
    public mutating func write(
        _ packet: UnsafeRawBufferPointer, timestampNanoseconds: UInt64, originalLength: Int = 0
    ) throws(CaptureError) {
        let number = packetCount + 1
        guard packet.count <= Self.packetBytesMax else {
            throw CaptureError(
                .packetTooLong(bytes: packet.count), path: path, packetNumber: number)
        }
        let (seconds, nanoseconds) =
            timestampNanoseconds
            .quotientAndRemainder(dividingBy: 1_000_000_000)
        guard let seconds = UInt32(exactly: seconds) else {
            throw CaptureError(.timestampOutOfRange, path: path, packetNumber: number)
        }
        append(seconds)
        append(UInt32(timestampPrecision == .nanoseconds ? nanoseconds : nanoseconds / 1000))
        append(UInt32(packet.count))
        append(UInt32(clamping: max(packet.count, originalLength)))
        pending.append(contentsOf: packet)
        packetCount = number
        if pending.count >= Self.bufferBytes { try flush() }
    }

    /// Writes what is pending, makes it durable and gives the file its name. Returns the number of
    /// packets in it.
    ///
    /// Throws a ``CaptureError``; then the target is as it was before.
    @discardableResult
    public consuming func finish() throws(CaptureError) -> Int {
        try flush()
        if case .file(let temporary, let final) = destination {
            // Without it, a power failure could leave an empty file under the final name.
            guard fsync(descriptor) == 0, rename(temporary, final) == 0 else {
                throw CaptureError(systemError: errno, path: path)
            }
        }
        // What close() could still report of a file, fsync() has reported.
        close(descriptor)
        descriptor = -1
        return packetCount
    }
}

// MARK: - Bytes

extension CaptureWriter {
    private mutating func append(_ word: UInt32) {
        withUnsafeBytes(of: word.littleEndian) { pending.append(contentsOf: $0) }
    }

    private mutating func flush() throws(CaptureError) {
        var written = 0
        // After a failure, the rest stays for the next attempt.
        defer { pending.removeFirst(written) }
        while written < pending.count {
            let result = pending.withUnsafeBytes { bytes in
                let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
                return Glibc.write(descriptor, rest.baseAddress, rest.count)
            }
            if result < 0 && errno == EINTR { continue }
            guard result >= 0 else {
                throw CaptureError(
                    systemError: errno, path: path,
                    packetNumber: packetCount == 0 ? nil : packetCount)
            }
            written += result
        }
    }
}

// MARK: - Opening

extension CaptureWriter {
    /// Leftovers of killed runs must not stop a new one.
    private static let temporaryNamesMax = 100

    private static func open(path: String) throws(CaptureError) -> (Destination, Int32) {
        // Its temporary name would be a good one.
        guard !path.isEmpty else { throw CaptureError(.notFound, path: path) }
        var status = stat()
        var final = path
        var mode: mode_t?
        if stat(path, &status) == 0 {
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                throw CaptureError(.isDirectory, path: path)
            case S_IFREG:
                // rename() would replace a protected file, and a symbolic link by a file.
                guard access(path, W_OK) == 0 else {
                    throw CaptureError(systemError: errno, path: path)
                }
                final = resolved(path) ?? path
                mode = status.st_mode & 0o7777
            default:
                let descriptor = Glibc.open(path, O_WRONLY | O_CLOEXEC)
                guard descriptor >= 0 else { throw CaptureError(systemError: errno, path: path) }
                return (.direct, descriptor)
            }
        }
        for attempt in 0..<temporaryNamesMax {
            let temporary = "\(final).\(getpid())-\(attempt).part"
            let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
            if descriptor >= 0 {
                // What is replaced may be private: its readers stay the same.
                if let mode { fchmod(descriptor, mode) }
                return (.file(temporary: temporary, final: final), descriptor)
            }
            guard errno == EEXIST else { break }
        }
        throw CaptureError(systemError: errno, path: path)
    }

    /// Where symbolic links lead; nil if the system cannot say.
    private static func resolved(_ path: String) -> String? {
        guard let target = realpath(path, nil) else { return nil }
        defer { free(target) }
        return String(validatingCString: target)
    }
}
