// A connection to strongSwan's control socket.

internal import CLinux
internal import Foundation
internal import Glibc

/// Commands go out one at a time; events that come meanwhile wait in ``events``.
final class ViciConnection {
    private static let answerSeconds: Int32 = 20
    private static let messageMaximum = 512 << 10
    private let socketNumber: Int32
    private var received: [UInt8] = []
    /// What happened, and was not asked for yet.
    private var events: [ViciMessage] = []

    /// Connects. Throws when nobody listens.
    init(path: String) throws(LabError) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { room in
            precondition(path.utf8.count < room.count)
            room.copyBytes(from: path.utf8)
        }
        socketNumber = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socketNumber, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard socketNumber >= 0, result == 0 else {
            let reason = lastSystemError()
            close(socketNumber)
            throw LabError("\(path): \(reason)")
        }
    }

    deinit { close(socketNumber) }

    /// Gives a command; its answer. Throws when strongSwan says that it failed.
    @discardableResult
    func command(_ name: String, _ contents: ViciSection = ViciSection()) throws(LabError)
        -> ViciSection
    {
        try send(ViciMessage(kind: .command, name: name, contents: contents))
        let answer = try answer(to: name)
        guard answer.kind == .answer, answer.contents.text("success") ?? "yes" == "yes" else {
            let reason = answer.contents.text("errmsg") ?? "refused"
            throw LabError("strongSwan: \(name): \(reason)")
        }
        return answer.contents
    }

    /// From now on events of that name come.
    func register(_ event: String) throws(LabError) {
        try send(ViciMessage(kind: .register, name: event))
        guard try answer(to: event).kind == .confirmation else {
            throw LabError("strongSwan knows no event \(event)")
        }
    }

    /// What happened since the last call; does not wait.
    func takeEvents() throws(LabError) -> [ViciMessage] {
        while let message = try next(waits: false) { events.append(message) }
        defer { events = [] }
        return events
    }

    /// All events `event` that come while a command is carried out.
    func list(_ name: String, _ event: String) throws(LabError) -> [ViciSection] {
        try register(event)
        let before = events.count
        try command(name)
        let found = events[before...].filter { $0.name == event }
        events.removeAll { $0.name == event }
        try send(ViciMessage(kind: .unregister, name: event))
        _ = try answer(to: event)
        return found.map(\.contents)
    }

    // MARK: Messages

    private func answer(to name: String) throws(LabError) -> ViciMessage {
        while true {
            guard let message = try next(waits: true) else {
                throw LabError("strongSwan does not answer to \(name)")
            }
            if message.kind != .event { return message }
            events.append(message)
        }
    }

    private func send(_ message: ViciMessage) throws(LabError) {
        let octets = message.octets
        let length = UInt32(octets.count)
        let all = (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) } + octets
        guard Glibc.send(socketNumber, all, all.count, Int32(MSG_NOSIGNAL)) == all.count
        else { throw LabError("strongSwan takes no commands: \(lastSystemError())") }
    }

    /// The next message; nil: none has come (in time).
    private func next(waits: Bool) throws(LabError) -> ViciMessage? {
        while true {
            if received.count >= 4 {
                let length = received[..<4].reduce(0) { $0 << 8 | Int($1) }
                guard length <= Self.messageMaximum else {
                    throw LabError("strongSwan sent what is no message")
                }
                if received.count >= 4 + length {
                    guard let message = ViciMessage(received[4..<4 + length]) else {
                        throw LabError("strongSwan sent what is no message")
                    }
                    received.removeFirst(4 + length)
                    return message
                }
            }
            var entry = pollfd(fd: socketNumber, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, waits ? Self.answerSeconds * 1000 : 0) > 0 else { return nil }
            var room = [UInt8](repeating: 0, count: 65_536)
            let count = read(socketNumber, &room, room.count)
            guard count > 0 else { throw LabError("strongSwan ended: see its log") }
            received += room[..<count]
        }
    }
}
