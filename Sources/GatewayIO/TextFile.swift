// Whole files in memory, with a bound and with messages for users.

internal import Crypto
internal import Glibc

/// Files of JSON or text that are read at once.
package enum TextFile {
    /// More than any sensible configuration or vector file.
    package static let bytesMaximum = 64 << 20

    /// The octets of a file or pipe. Of a file, which may hold keys, no other copy is left in
    /// memory; a pipe's octets may leave some behind, since nobody knows beforehand how many there
    /// will be.
    package static func read(path: String) throws(AssociationFileError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(errno, path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(errno, path) }
        guard status.st_mode & S_IFMT != S_IFDIR else { throw failure(EISDIR, path) }
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
