// A real etcd on loopback, which goes with the test.

import EtcdMessages
import EtcdStore
import Foundation
import Glibc
import Testing

/// Is etcd there? `scripts/prepare test` installs it.
enum Etcd {
    static let absence: Comment = """
        NOT RUN: /usr/bin/etcd, /usr/bin/etcdctl, /usr/bin/openssl or /usr/bin/timeout is not \
        there: run 'scripts/prepare test'
        """

    static let isInstalled = ["etcd", "etcdctl", "openssl", "timeout"].allSatisfy {
        FileManager.default.isExecutableFile(atPath: "/usr/bin/\($0)")
    }
}

/// Why a test could not go on.
struct TestTrouble: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// A directory that goes when its last user does.
final class Scratch {
    let path: String

    init() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-etcd-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        path = folder.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Ports that nobody had a moment ago.
func freePorts(_ count: Int) throws -> [UInt16] {
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    return try (0..<count).map { _ in
        let (socket, port) = try listener(port: 0)
        sockets.append(socket)
        return port
    }
}

/// A listening TCP socket of loopback.
func listener(port: UInt16) throws -> (socket: Int32, port: UInt16) {
    let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var one: Int32 = 1
    setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(file, $0, size) == 0 && getsockname(file, $0, &size) == 0
        }
    }
    guard isBound, listen(file, 64) == 0 else {
        close(file)
        throw TestTrouble("no port of loopback: \(String(cString: strerror(errno)))")
    }
    return (file, UInt16(bigEndian: address.sin_port))
}

/// Tries until it is so. Never longer than `seconds`.
func waitUntil(
    _ what: String, seconds: Double = 20, _ condition: () throws -> Bool
) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        guard ContinuousClock.now < end else {
            throw TestTrouble("after \(seconds) s still not so: \(what)")
        }
        usleep(10_000)
    }
}

/// A program's standard output, and whether it succeeded.
@discardableResult
func run(_ path: String, _ arguments: [String], in folder: String = "/") throws -> (
    output: String, code: Int32
) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/timeout")
    process.arguments = ["60", path] + arguments
    process.currentDirectoryURL = URL(filePath: folder)
    process.environment = ["ETCDCTL_API": "3", "PATH": "/usr/bin:/bin", "HOME": folder]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (String(decoding: output, as: UTF8.self), process.terminationStatus)
}

/// One member of an etcd cluster.
final class EtcdServer {
    let endpoint: EtcdEndpoint
    private let arguments: [String]
    private let scratch: Scratch
    private let clientOptions: [String]
    /// `timeout`, which leads a process group: whatever happens to the test, etcd ends.
    private var process: Process?

    /// A cluster of one, which runs.
    static func alone(tls: Certificates? = nil, _ options: [String] = []) throws -> EtcdServer {
        let servers = try cluster(1, tls: tls, options)
        try servers[0].waitUntilHealthy()
        return servers[0]
    }

    /// Members of one cluster, which begin to run.
    static func cluster(
        _ count: Int, tls: Certificates? = nil, _ options: [String] = []
    ) throws -> [EtcdServer] {
        let ports = try freePorts(2 * count)
        let all = (0..<count).map { "m\($0)=http://127.0.0.1:\(ports[2 * $0 + 1])" }
        return try (0..<count).map { index in
            let scheme = tls == nil ? "http" : "https"
            let client = "\(scheme)://127.0.0.1:\(ports[2 * index])"
            let peer = "http://127.0.0.1:\(ports[2 * index + 1])"
            let server = try EtcdServer(
                port: ports[2 * index], tls: tls,
                [
                    "--name", "m\(index)", "--initial-cluster", all.joined(separator: ","),
                    "--initial-cluster-token", "spindle-\(ports[0])",
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--heartbeat-interval", "20", "--election-timeout", "200",
                ] + options)
            try server.start()
            return server
        }
    }

    private init(port: UInt16, tls: Certificates?, _ arguments: [String]) throws {
        endpoint = EtcdEndpoint(host: "127.0.0.1", port: port)
        scratch = try Scratch()
        self.arguments = arguments + (tls?.serverOptions ?? [])
        clientOptions =
            ["--endpoints", "\(tls == nil ? "http" : "https")://\(endpoint)"]
            + (tls?.clientOptions ?? [])
    }

    deinit { kill() }

    /// Starts it, with what it has on disk.
    func start() throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/timeout")
        process.arguments =
            ["-s", "KILL", "300", "/usr/bin/etcd", "--data-dir", scratch.path + "/data"]
            + arguments
        process.currentDirectoryURL = URL(filePath: scratch.path)
        let log = scratch.path + "/log"
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        process.standardOutput = FileHandle(forWritingAtPath: log)
        process.standardError = process.standardOutput
        try process.run()
        self.process = process
    }

    /// Takes away what it has on disk.
    func forget() throws { try FileManager.default.removeItem(atPath: scratch.path + "/data") }

    func waitUntilHealthy() throws {
        try waitUntil("etcd at \(endpoint) is healthy") {
            try etcdctl("endpoint", "health").code == 0
        }
    }

    /// Ends it at once, as a crash does.
    func kill() {
        guard let process else { return }
        signal(SIGKILL)
        process.waitUntilExit()
        self.process = nil
    }

    func stop() { signal(SIGSTOP) }

    func resume() { signal(SIGCONT) }

    private func signal(_ number: Int32) {
        guard let process else { return }
        // `timeout` makes itself the leader of a group.
        _ = Glibc.kill(-process.processIdentifier, number)
    }

    @discardableResult
    func etcdctl(_ arguments: String...) throws -> (output: String, code: Int32) {
        try run(
            "/usr/bin/etcdctl", ["--command-timeout", "5s"] + clientOptions + arguments,
            in: scratch.path)
    }

    /// The revision, and whether it leads, as etcdctl has it.
    func status() throws -> (revision: UInt64, isLeader: Bool) {
        let text = try etcdctl("endpoint", "status", "-w", "json").output
        guard
            let list = try JSONSerialization.jsonObject(with: Data(text.utf8))
                as? [[String: Any]],
            let status = list.first?["Status"] as? [String: Any],
            let header = status["header"] as? [String: Any],
            let revision = (header["revision"] as? NSNumber)?.uint64Value,
            let member = (header["member_id"] as? NSNumber)?.uint64Value,
            let leader = (status["leader"] as? NSNumber)?.uint64Value
        else { throw TestTrouble("etcdctl says \(text.prefix(200))") }
        return (revision, member == leader)
    }

    /// All keys with the revisions that changed them, as etcdctl has them.
    func keys(_ prefix: String) throws -> [String: UInt64] {
        let text = try etcdctl("get", prefix, "--prefix", "-w", "json").output
        guard
            let answer = try JSONSerialization.jsonObject(with: Data(text.utf8))
                as? [String: Any]
        else { throw TestTrouble("etcdctl says \(text.prefix(200))") }
        var found: [String: UInt64] = [:]
        for pair in answer["kvs"] as? [[String: Any]] ?? [] {
            guard let key = pair["key"] as? String, let octets = Data(base64Encoded: key),
                let revision = (pair["mod_revision"] as? NSNumber)?.uint64Value
            else { throw TestTrouble("etcdctl says \(pair)") }
            found[String(decoding: octets, as: UTF8.self)] = revision
        }
        return found
    }
}
