// The files that commands are given: looked at before anything is written.

import ArgumentParser
import Foundation
import GatewayIO

/// What a capture holds, found by reading all of it: that it is whole is known before anything is
/// done with it.
struct CaptureExtent {
    private(set) var packets = 0
    /// When the first packet was captured; 0 without packets. Associations begin at this time.
    private(set) var startNanoseconds: UInt64 = 0

    init(path: String) throws {
        var status = stat()
        if stat(path, &status) == 0, [S_IFIFO, S_IFSOCK].contains(status.st_mode & S_IFMT) {
            throw CommandError(
                "\(path): a pipe can't be read twice, as is needed here: write the capture into a "
                    + "file first")
        }
        var reader = try CaptureReader(path: path)
        var buffer: [UInt8] = []
        while let captured = try reader.next(into: &buffer) {
            if packets == 0 { startNanoseconds = captured.timestampNanoseconds }
            packets += 1
        }
    }
}

/// Refuses an output that is one of the inputs, also by way of a link: the input would be lost.
func requireDistinct(output: String?, capture: String, sas: String) throws {
    guard let output, let target = FileIdentity(output) else { return }
    for (input, kind) in [(capture, "the capture"), (sas, "the SA file")]
    where FileIdentity(input) == target {
        throw ValidationError(
            "--write \(printable(path: output)) is the same file as \(kind) "
                + "\(printable(path: input)), which would be lost: name another file")
    }
}

/// What the system knows a file by, however many names it has.
private struct FileIdentity: Equatable {
    let device: dev_t
    let inode: ino_t

    /// Follows symbolic links; nil when there is no such file, or the system won't say.
    init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = status.st_dev
        inode = status.st_ino
    }
}
