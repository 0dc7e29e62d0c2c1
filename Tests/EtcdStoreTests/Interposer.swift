// Stands between a client and etcd, and does to their connections what networks do.

import EtcdMessages
import EtcdStore
import Glibc
import Synchronization

/// A TCP proxy on loopback, with a thread for each connection.
final class Interposer: Sendable {
    /// What happens to octets on their way.
    enum Mode: Equatable {
        case pass
        /// Nothing gets through, and nobody is told: a half-open connection.
        case hold
        /// New connections end at once.
        case refuse
        /// Octets that etcd sends are changed now and then.
        case garble
        /// The connection ends after so many octets of etcd's.
        case cut(after: Int)
    }

    private struct State {
        var mode = Mode.pass
        /// Connections so far, and those up to this number are held whatever the mode is.
        var count = 0
        var heldUpTo = 0
        var cutUpTo = 0
        var isOver = false
        var threads = 0
        var random: UInt64 = 1
    }

    let endpoint: EtcdEndpoint
    private let target: UInt16
    private let socket: Int32
    private let state = Mutex(State())

    init(to endpoint: EtcdEndpoint) throws {
        let (socket, port) = try listener(port: 0)
        self.socket = socket
        target = endpoint.port
        self.endpoint = EtcdEndpoint(host: "127.0.0.1", port: port)
        spawn { [self] in accept() }
    }

    /// Ends the threads. Whoever makes one calls it.
    func end() {
        state.withLock { $0.isOver = true }
        while state.withLock({ $0.threads }) > 0 { usleep(5000) }
        close(socket)
    }

    var mode: Mode {
        get { state.withLock(\.mode) }
        set { state.withLock { $0.mode = newValue } }
    }

    /// All connections that there are end.
    func cutAll() { state.withLock { $0.cutUpTo = $0.count } }

    /// All connections that there are fall silent, but stay.
    func holdAll() { state.withLock { $0.heldUpTo = $0.count } }

    private func spawn(_ work: @escaping @Sendable () -> Void) {
        state.withLock { $0.threads += 1 }
        let box = Unmanaged.passRetained(Work(work))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, box.toOpaque())
        precondition(code == 0)
        pthread_detach(thread)
    }

    private final class Work: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private func leave() { state.withLock { $0.threads -= 1 } }

    private func accept() {
        defer { leave() }
        while !state.withLock(\.isOver) {
            var ready = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 10) > 0 else { continue }
            let client = Glibc.accept(socket, nil, nil)
            guard client >= 0 else { continue }
            guard mode != .refuse else {
                close(client)
                continue
            }
            let number = state.withLock {
                $0.count += 1
                return $0.count
            }
            spawn { [self] in carry(client, number) }
        }
    }

    private func carry(_ client: Int32, _ number: Int) {
        defer { leave() }
        let server = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer {
            close(client)
            close(server)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = target.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard isConnected else { return }
        var told = 0
        while true {
            let (mode, isHeld, isCut) = state.withLock {
                ($0.mode, number <= $0.heldUpTo, number <= $0.cutUpTo || $0.isOver)
            }
            if isCut || mode == .refuse { return }
            if isHeld || mode == .hold {
                usleep(5000)
                continue
            }
            var files = [client, server].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&files, 2, 5) > 0 else { continue }
            if files[0].revents != 0, !pass(client, server, mode, nil) { return }
            if files[1].revents != 0, !pass(server, client, mode, &told) { return }
        }
    }

    /// False when the connection is over. `told` counts what comes from etcd.
    private func pass(
        _ from: Int32, _ to: Int32, _ mode: Mode, _ told: UnsafeMutablePointer<Int>?
    ) -> Bool {
        var octets = [UInt8](repeating: 0, count: 1 << 16)
        var count = read(from, &octets, octets.count)
        guard count > 0 else { return false }
        var isLast = false
        if let told {
            if mode == .garble { garble(&octets, count) }
            if case .cut(let limit) = mode, told.pointee + count > limit {
                count = max(0, limit - told.pointee)
                isLast = true
            }
            told.pointee += count
        }
        var sent = 0
        while sent < count {
            let written = octets.withUnsafeBytes {
                send(
                    to, UnsafeRawBufferPointer(rebasing: $0[sent..<count]).baseAddress,
                    count - sent, Int32(MSG_NOSIGNAL))
            }
            guard written > 0 else { return false }
            sent += written
        }
        return !isLast
    }

    private func garble(_ octets: inout [UInt8], _ count: Int) {
        let draw = state.withLock {
            $0.random = $0.random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return $0.random >> 33
        }
        guard draw % 3 == 0 else { return }
        octets[Int(draw / 3) % count] ^= UInt8(1 << (draw % 8))
    }
}
