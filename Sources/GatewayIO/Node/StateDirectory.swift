// The directory in which a node keeps what must outlive its process.

internal import Glibc

/// A directory of mode 0700 that one process has at a time.
final class StateDirectory: Sendable {
    /// As the configuration names it.
    let path: String
    private let descriptor: FileDescriptor

    /// Opens and locks it; makes it if it is missing, but not the folders above it.
    init(path: String) throws(StateError) {
        self.path = path
        try Self.make(path)
        let number = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else {
            if errno == ENOTDIR { throw .notDirectory(path) }
            throw StateError.last("opening the directory \(path)")
        }
        descriptor = FileDescriptor(number)
        try Self.requirePrivate(number, path, wanted: 0o700)
        // The lock goes with the descriptor, however the process ends.
        guard flock(number, LOCK_EX | LOCK_NB) == 0 else {
            if errno == EWOULDBLOCK { throw .inUse(path) }
            throw StateError.last("locking the directory \(path)")
        }
    }

    /// A child that was forked a moment ago has the descriptor too, until it executes its program:
    /// closing ours would not end the lock.
    deinit { flock(descriptor.number, LOCK_UN) }

    /// Makes it, so that a failure of power does not take it away again.
    private static func make(_ path: String) throws(StateError) {
        guard mkdir(path, 0o700) == 0 else {
            if errno == EEXIST { return }
            throw StateError.last("making the directory \(path)")
        }
        let number = open(path + "/..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { throw StateError.last("opening the folder above \(path)") }
        let parent = FileDescriptor(number)
        guard fsync(parent.number) == 0 else {
            throw StateError.last("making the directory \(path)")
        }
    }

    /// The path of a file in it.
    func path(of name: String) -> String { "\(path)/\(name)" }

    /// All octets of a file; nil when it is missing.
    func read(_ name: String) throws(StateError) -> [UInt8]? {
        let file = openat(descriptor.number, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw StateError.last("opening \(path(of: name))")
        }
        let owner = FileDescriptor(file)
        defer { withExtendedLifetime(owner) {} }
        try Self.requirePrivate(file, path(of: name), wanted: 0o600)
        var status = stat()
        guard fstat(file, &status) == 0 else { throw StateError.last("reading \(path(of: name))") }
        var octets = [UInt8](repeating: 0, count: Int(status.st_size))
        var done = 0
        while done < octets.count {
            let count = octets.withUnsafeMutableBytes { bytes in
                Glibc.read(file, bytes.baseAddress.unsafelyUnwrapped + done, bytes.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw StateError.last("reading \(path(of: name))") }
            done += count
        }
        return octets
    }

    /// Writes a file anew. It is on the disk, whole, before it has its name.
    func write(_ name: String, _ octets: [UInt8]) throws(StateError) {
        let file = try begin(name)
        try Self.append(octets, to: file.number, path(of: name))
        try Self.synchronize(file.number, path(of: name))
        try finish(name)
    }

    /// Begins a file that gets the name when it is finished.
    func begin(_ name: String) throws(StateError) -> FileDescriptor {
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW
        let file = openat(descriptor.number, name + ".new", flags, 0o600)
        guard file >= 0 else { throw StateError.last("writing \(path(of: name))") }
        return FileDescriptor(file)
    }

    /// Gives the file that was begun its name.
    func finish(_ name: String) throws(StateError) {
        let number = descriptor.number
        guard renameat(number, name + ".new", number, name) == 0, fsync(number) == 0 else {
            throw StateError.last("renaming \(path(of: name)).new")
        }
    }

    // MARK: Files

    /// Writes octets at the end of an open file.
    static func append(_ octets: [UInt8], to file: Int32, _ path: String) throws(StateError) {
        var done = 0
        while done < octets.count {
            let count = octets.withUnsafeBytes { bytes in
                Glibc.write(file, bytes.baseAddress.unsafelyUnwrapped + done, bytes.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw StateError.last("writing \(path)") }
            done += count
        }
    }

    /// Waits until what was written is on the disk.
    static func synchronize(_ file: Int32, _ path: String) throws(StateError) {
        guard fdatasync(file) == 0 else { throw StateError.last("writing \(path) to the disk") }
    }

    private static func requirePrivate(
        _ file: Int32, _ path: String, wanted: mode_t
    ) throws(StateError) {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw StateError.last("looking at \(path)") }
        guard status.st_uid == geteuid() else { throw .foreign(path, user: status.st_uid) }
        guard status.st_mode & 0o077 == 0 else {
            throw .exposed(
                path, mode: octal(status.st_mode & 0o7777), wanted: octal(wanted))
        }
    }

    private static func octal(_ mode: mode_t) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
