// The local socket at which operators' commands are taken (unix(7)).

internal import CLinux
internal import Foundation
internal import Glibc

extension sockaddr_un {
    /// The address of a path; nil: it is too long.
    static func at(_ path: String) -> sockaddr_un? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let isShort = withUnsafeMutableBytes(of: &address.sun_path) { room in
            guard path.utf8.count < room.count else { return false }
            room.copyBytes(from: path.utf8)
            return true
        }
        return isShort ? address : nil
    }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: self) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// The listening end; the path goes with it.
final class ControlListener {
    let descriptor: FileDescriptor
    private let path: String

    /// Makes the socket and the folder around it, for this user alone. A path that a dead node left
    /// is taken over.
    init(path: String) throws(NodeError) {
        guard let address = sockaddr_un.at(path) else { throw .controlPath(path) }
        let folder = (path as NSString).deletingLastPathComponent
        if !folder.isEmpty, !FileManager.default.fileExists(atPath: folder) {
            try? FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
        }
        if let other = ControlConnection.open(path) {
            close(other)
            throw .controlInUse(path)
        }
        // Whatever is no socket is somebody's file.
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else { throw .controlTaken(path) }
            unlink(path)
        }
        let number = socket(
            AF_UNIX,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
                | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard number >= 0 else { throw .last("opening the control socket") }
        descriptor = FileDescriptor(number)
        self.path = path
        let old = umask(0o177)
        let isBound = address.withPointer { bind(number, $0, $1) }
        umask(old)
        guard isBound == 0, listen(number, 16) == 0 else {
            throw .last("making the control socket \(path)")
        }
    }

    deinit { unlink(path) }

    /// The next connection; nil: none waits.
    func accept() -> ControlSession? {
        let number = clinux_accept(descriptor.number)
        return number >= 0 ? ControlSession(FileDescriptor(number)) : nil
    }
}

/// One connection at the node's end.
final class ControlSession {
    private static let requestMaximum = 4096

    let descriptor: FileDescriptor
    /// The IKE SA whose set-up the other end waits for.
    var awaited: UInt64?
    /// The set-up is for a pair, too.
    var wantsPair = false
    /// Local SPIs whose end the other end waits for.
    var ending: Set<UInt64> = []
    /// What the other end waits for the cluster to do.
    var operation: ClusterOperation?
    private var received: [UInt8] = []
    private var unsent: [UInt8] = []
    /// Everything was said.
    private(set) var isFinished = false
    /// The loop waits for room in the socket.
    var waitsForRoom = false

    init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }

    /// True while something waits for room in the socket.
    var hasUnsent: Bool { !unsent.isEmpty }

    /// Takes what came; the request, once its line is whole. A connection that ends, or says more
    /// than a request can be, is finished.
    func receive() -> Result<ControlRequest, ControlFault>? {
        var room = [UInt8](repeating: 0, count: Self.requestMaximum)
        let count = read(descriptor.number, &room, room.count)
        guard count > 0 else {
            if count == 0 || errno != EAGAIN { isFinished = true }
            return nil
        }
        received += room[..<count]
        guard let end = received.firstIndex(of: UInt8(ascii: "\n")) else {
            if received.count > Self.requestMaximum { isFinished = true }
            return nil
        }
        let line = Data(received[..<end])
        received = []
        guard let request = try? JSONDecoder().decode(ControlRequest.self, from: line) else {
            return .failure(ControlFault())
        }
        return .success(request)
    }

    /// Says a line; the last one ends the connection once it is sent.
    func say(_ reply: ControlReply) {
        guard !isFinished, let line = try? JSONEncoder().encode(reply) else { return }
        unsent += line
        unsent.append(UInt8(ascii: "\n"))
        isLast = isLast || reply.isDone == true || reply.error != nil
        flush()
    }

    private var isLast = false

    /// Sends what the socket takes.
    func flush() {
        while !unsent.isEmpty {
            let count = send(
                descriptor.number, unsent, unsent.count,
                Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            guard count > 0 else {
                if errno != EAGAIN { isFinished = true }
                return
            }
            unsent.removeFirst(count)
        }
        if isLast { isFinished = true }
    }
}

/// A line that is no request.
struct ControlFault: Error {}

/// The operator's end.
public enum ControlConnection {
    /// Connects; nil: nobody listens there.
    static func open(_ path: String) -> Int32? {
        guard let address = sockaddr_un.at(path) else { return nil }
        let number = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { return nil }
        guard address.withPointer({ connect(number, $0, $1) }) == 0 else {
            close(number)
            return nil
        }
        return number
    }

    /// Asks a node, hands each line of the answer to `body`, and returns the last one. Throws where
    /// no node listens, or none answers for so many seconds.
    public static func ask(
        _ request: ControlRequest, path: String, seconds: Int, _ body: (ControlReply) -> Void
    ) throws(NodeError) -> ControlReply {
        guard let number = open(path) else {
            let cause = errno
            throw cause == EACCES
                ? .notPermitted(doing: "asking the node at \(path)", needs: "its user's rights")
                : .system(
                    doing: "asking the node at \(path)",
                    reason: "no node listens there: start spindle node, or name its --socket")
        }
        let descriptor = FileDescriptor(number)
        clinux_limit_waiting(number, Int32(clamping: seconds))
        guard let line = try? JSONEncoder().encode(request) else {
            preconditionFailure("a request has only texts")
        }
        let octets = Array(line) + [UInt8(ascii: "\n")]
        guard write(descriptor.number, octets, octets.count) == octets.count else {
            throw .last("asking the node at \(path)")
        }
        var received: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 65_536)
        while true {
            while let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let line = Data(received[..<end])
                received.removeFirst(end + 1)
                guard let reply = try? JSONDecoder().decode(ControlReply.self, from: line) else {
                    throw .system(doing: "asking the node at \(path)", reason: "no answer of ours")
                }
                if reply.isDone == true || reply.error != nil { return reply }
                body(reply)
            }
            let count = read(descriptor.number, &room, room.count)
            guard count > 0 else {
                let isOfPeer = request.command == .initiate || request.command == .terminate
                let late =
                    isOfPeer
                    ? "no answer of the peer within \(seconds) s: the node goes on asking; see "
                        + "spindle list, or wait longer (--timeout)"
                    : "no answer within \(seconds) s"
                throw .system(
                    doing: "asking the node at \(path)",
                    reason: count == 0 ? "it ended before it answered" : late)
            }
            received += room[..<count]
        }
    }
}
