// Whole files in memory, with a bound and with messages for users.

internal import Crypto
internal import Glibc

/// Files of JSON or text that are read at once.
package enum TextFile {
    /// More than any sensible configuration or vector file.
    package static let bytesMaximum = 64 << 20

    /// The octets of a file or pipe. Of a file, which may hold keys, no other copy is left in
    /// memory; a pipe's octets may leave some behind, since nobody knows beforehand how many there
    /// will be. A file that is `secret` must be one that only its owner, who is us, can use.
    package static func read(
        path: String, secret: Bool = false
    ) throws(AssociationFileError) -> [UInt8] {
        // Without a writer, the opening of a pipe would wait for one.
        let flags = O_RDONLY | O_CLOEXEC | (secret ? O_NONBLOCK : 0)
        let descriptor = open(path, flags)
        guard descriptor >= 0 else { throw failure(errno, path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(errno, path) }
        guard status.st_mode & S_IFMT != S_IFDIR else { throw failure(EISDIR, path) }
        if secret { try requirePrivate(status, path) }
        guard status.st_size <= bytesMaximum else { throw tooLarge(path) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(status.st_size))
        var block = [UInt8](repeating: 0, count: 1 << 16)
        defer { block.withUnsafeMutableBytes(wipe) }
        while true {
            let count = Glibc.read(descriptor, &block, block.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw failure(errno, path) }
            if count == 0 { break }
            bytes.append(contentsOf: block[..<count])
            guard bytes.count <= bytesMaximum else { throw tooLarge(path) }
        }
        guard !bytes.isEmpty else {
            throw AssociationFileError(
                .empty, file: path, text: "the file is empty: write it again")
        }
        return bytes
    }

    /// Overwrites octets that held keys.
    static func wipe(_ octets: UnsafeMutableRawBufferPointer) {
        if let base = octets.baseAddress { Crypto.wipe(base, count: octets.count) }
    }

    private static func requirePrivate(
        _ status: stat, _ path: String
    ) throws(AssociationFileError) {
        let name = shellWord(path)
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw AssociationFileError(
                .exposed, file: path, text: "holds secrets, but is no file: write them into one")
        }
        guard status.st_uid == geteuid() else {
            throw AssociationFileError(
                .exposed, file: path,
                text: "holds secrets, but belongs to user \(status.st_uid): type "
                    + "`chown \(geteuid()) \(name) && chmod 0600 \(name)`")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw AssociationFileError(
                .exposed, file: path,
                text:
                    "holds secrets, but has mode \(octal(status.st_mode & 0o7777)), so that others "
                    + "may use it: type `chmod 0600 \(name)`")
        }
    }

    private static func octal(_ mode: mode_t) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    /// A path, or another word, as a shell takes it.
    static func shellWord(_ path: String) -> String {
        let isPlain = path.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                || (0x61...0x7A).contains($0) || "-_./+,:@".utf8.contains($0)
        }
        return isPlain
            ? path
            : "'"
                + path.split(
                    separator: "'", omittingEmptySubsequences: false
                ).joined(separator: "'\\''") + "'"
    }

    private static func tooLarge(_ path: String) -> AssociationFileError {
        AssociationFileError(
            .tooLarge, file: path,
            text: "more than \(bytesMaximum >> 20) MiB: split the file")
    }

    private static func failure(_ number: Int32, _ path: String) -> AssociationFileError {
        switch number {
        case ENOENT, ENOTDIR:
            AssociationFileError(
                .notFound, file: path, text: "no such file or directory: check the path")
        case EISDIR:
            AssociationFileError(
                .isDirectory, file: path, text: "is a directory: name a file in it")
        default:
            AssociationFileError(
                .unreadable, file: path,
                text: "\(String(cString: strerror(number))): check permissions")
        }
    }
}
