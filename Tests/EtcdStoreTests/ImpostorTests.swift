// Whoever answers in the place of etcd. No etcd is needed.

import Cluster
import EtcdMessages
import EtcdStore
import Glibc
import Synchronization
import Testing

/// Says the same to everybody, as soon as something was asked.
private final class Impostor: Sendable {
    let endpoint: EtcdEndpoint
    private let socket: Int32
    private let speech: [UInt8]
    /// How often it is said.
    private let times: Int
    private let state = Mutex((isOver: false, hasEnded: false))

    init(_ speech: String, times: Int) throws {
        let (socket, port) = try listener(port: 0)
        self.socket = socket
        self.speech = Array(speech.utf8)
        self.times = times
        endpoint = EtcdEndpoint(host: "127.0.0.1", port: port)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { context in
                if let context {
                    Unmanaged<Impostor>.fromOpaque(context).takeRetainedValue().serve()
                }
                return nil
            }, context.toOpaque())
        precondition(code == 0)
        pthread_detach(thread)
    }

    func end() {
        state.withLock { $0.isOver = true }
        while !state.withLock(\.hasEnded) { usleep(5000) }
        close(socket)
    }

    private func serve() {
        var clients: [Int32] = []
        while !state.withLock(\.isOver) {
            var files = ([socket] + clients).map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            guard poll(&files, nfds_t(files.count), 10) > 0 else { continue }
            if files[0].revents != 0 {
                let client = accept(socket, nil, nil)
                // Who does not take what is said must not stop it.
                var limit = timeval(tv_sec: 0, tv_usec: 20_000)
                setsockopt(
                    client, SOL_SOCKET, SO_SNDTIMEO, &limit,
                    socklen_t(MemoryLayout<timeval>.size))
                if client >= 0 { clients.append(client) }
            }
            for file in files.dropFirst() where file.revents != 0 {
                guard speak(to: file.fd) else {
                    close(file.fd)
                    clients.removeAll { $0 == file.fd }
                    continue
                }
            }
        }
        for client in clients { close(client) }
        state.withLock { $0.hasEnded = true }
    }

    private func speak(to client: Int32) -> Bool {
        var octets = [UInt8](repeating: 0, count: 1 << 16)
        guard read(client, &octets, octets.count) > 0 else { return false }
        for _ in 0..<times {
            guard send(client, speech, speech.count, Int32(MSG_NOSIGNAL)) == speech.count else {
                return false
            }
        }
        return true
    }
}

@Suite(.serialized) struct Impostors {
    private static let flood = String(repeating: "x", count: 1 << 16)
    private static let header = "HTTP/1.1 200 OK\r\nContent-Length: "

    /// What is said, and how often.
    private static let speeches: [(String, Int)] = [
        (header + "2\r\n\r\n{}", 1),
        (header + "2\r\n\r\n{}", 1000),
        (header + "12\r\n\r\n{\"header\":{}}", 1),
        (header + "50\r\n\r\n{\"header\":{\"revision\":\"9223372036854775808\"},   }", 1),
        (header + "0\r\n\r\n", 1),
        (header + "999999999999\r\n\r\n" + flood, 1),
        (header + "-1\r\n\r\n", 1),
        (header + "2\r\nContent-Length: 3\r\n\r\n{}", 1),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n" + flood, 800),
        ("HTTP/1.1 200 OK\r\nX: " + flood + "\r\n", 100),
        ("HTTP/1.1 100 Continue\r\n\r\n", 1000),
        ("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", 1),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nNot Found\n", 1),
        ("HTTP/1.0 500 X\r\n\r\n", 1),
        ("\0\u{1}\u{2}" + flood, 10),
        (String(repeating: "\n", count: 1 << 16), 100),
        ("SSH-2.0-impostor\r\n", 1),
    ]

    @Test(arguments: speeches.indices)
    func nothingIsSentToWhoIsNotEtcd(speech: Int) throws {
        let (text, times) = Self.speeches[speech]
        let impostor = try Impostor(text, times: times)
        defer { impostor.end() }
        var configuration = EtcdConfiguration(endpoints: [impostor.endpoint])
        configuration.requestNanoseconds = 600_000_000
        configuration.probeNanoseconds = 200_000_000
        let driver = try StoreDriver(configuration)
        let requests: [CoordinationRequest] = [
            .put("a"), .read(prefix: ""), .watch(prefix: "", from: 1), .keepAlive(lease: 1),
        ]
        for id in requests.map(driver.submit) {
            #expect(try driver.answer(id) == .failed(.unavailable))
        }
        let trouble = try #require(driver.client.trouble)
        #expect(!"\(trouble)".contains("\n"))
        #expect(driver.client.statistics.answered == 0)
    }
}
