// The folder into which keys are written for another program.

internal import CLinux
internal import Foundation
internal import Glibc

/// A folder that an operator named, in which the node puts files that only its own user can open.
struct KeyFolder {
    /// Why keys are not written, and what to do.
    struct Fault: Error { let text: String }

    private let path: String

    /// Makes the folder, with those above it, if there is none. `path` is absolute.
    init(_ path: String) throws(Fault) {
        self.path = path
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw Fault(text: "\(printable(path: path)) is a file: name a folder for the keys")
            }
            return
        }
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw Fault(
                text: "the folder \(printable(path: path)) can't be made: check that what is above "
                    + "it are folders in which the node may write")
        }
    }

    /// Writes files by name, each of mode 0600. Those that are there stay and nothing is written,
    /// unless they are to be replaced: they may hold keys of other programs. A link in the place of
    /// a file is replaced and not followed: others may be able to write in the folder.
    func write(_ files: [(name: String, octets: [UInt8])], replacing: Bool) throws(Fault) {
        for (name, _) in files where !replacing {
            var status = stat()
            if lstat(path(of: name), &status) == 0 { throw exists(name) }
        }
        for (name, octets) in files {
            let new = path(of: name) + ".new"
            // What a crash left.
            unlink(new)
            try write(octets, at: new)
            defer { unlink(new) }
            // link(2) refuses what rename(2) would replace.
            let isDone =
                replacing ? rename(new, path(of: name)) == 0 : link(new, path(of: name)) == 0
            guard isDone else { throw errno == EEXIST ? exists(name) : failed(path(of: name)) }
        }
    }

    private func write(_ octets: [UInt8], at new: String) throws(Fault) {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let number = open(new, flags, 0o600)
        guard number >= 0 else { throw failed(new) }
        defer { close(number) }
        var done = 0
        while done < octets.count {
            let rest = octets[done...]
            let count = rest.withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let fault = failed(new)
                unlink(new)
                throw fault
            }
            done += count
        }
    }

    private func path(of name: String) -> String { "\(path)/\(name)" }

    private func exists(_ name: String) -> Fault {
        Fault(
            text: "\(printable(path: path(of: name))) is there already: name another folder, or "
                + "type --force to replace it")
    }

    private func failed(_ name: String) -> Fault {
        let reason = String(cString: strerror(errno))
        return Fault(text: "\(printable(path: name)) can't be written: \(reason)")
    }
}
