// A process that sends numbered packets and notes what comes, one in the protected network and one
// beside each peer. It knows nothing of tunnels: to it, this is a network.

internal import CLinux
internal import Foundation
internal import Glibc

/// One end of the traffic, until it is killed.
///
/// Every stream sends in the same rhythm, one after the other. A station that was kept from running
/// does not make up for it: numbers are given to packets that leave.
public final class TrafficStation {
    private static let roomBytes = 2048
    private static let socketBytes: Int32 = 16 << 20
    private static let flushBytes = 1 << 16
    private static let flushNanoseconds: UInt64 = 20_000_000

    private let plan: StationPlan
    /// One for each stream, or one for all.
    private let sockets: [Int32]
    private let destinations: [sockaddr_in]
    /// Where packets are seen with the MAC address of who carried them; -1: nowhere.
    private let watch: Int32
    private let output: Int32
    private var polled: [pollfd]
    private var numbers: [UInt32]
    /// By the address on the other side.
    private let tunnels: [in_addr_t: Int]
    private var records: [UInt8] = []
    private var room = [UInt8](repeating: 0, count: roomBytes)

    /// Opens the sockets of a plan, JSON in a file. Throws when the plan or the kernel says no.
    public init(planPath: String) throws {
        let data = try Data(contentsOf: URL(filePath: planPath))
        let plan = try JSONDecoder().decode(StationPlan.self, from: data)
        self.plan = plan
        let destinations = try plan.streams.map { try Self.address($0.remote, plan.port) }
        self.destinations = destinations
        numbers = Array(repeating: 0, count: plan.streams.count)
        tunnels = Dictionary(
            zip(destinations, plan.streams).map { ($0.sin_addr.s_addr, $1.tunnel) },
            uniquingKeysWith: { $1 })
        output = Glibc.open(plan.output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard output >= 0 else { throw LabError("\(plan.output): \(lastSystemError())") }
        if let device = plan.device, let first = plan.streams.first {
            sockets = [try Self.open(first.local, plan.port, receives: false)]
            watch = try Self.openWatch(device)
            polled = [pollfd(fd: watch, events: Int16(POLLIN), revents: 0)]
        } else {
            let sockets = try plan.streams.map {
                try Self.open($0.local, plan.port, receives: true)
            }
            self.sockets = sockets
            watch = -1
            polled = sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        }
    }

    /// Sends and notes.
    public func run() -> Never {
        let period = 1_000_000_000 / UInt64(plan.rate)
        let count = UInt64(max(plan.streams.count, 1))
        let begin = monotonicNanoseconds()
        var slot: UInt64 = 0
        var flushed = begin
        while true {
            let now = monotonicNanoseconds()
            // Late by more than a period: what was missed is not made up for.
            let current = (now - begin) * count / period
            if current > slot + count { slot = current }
            while begin + slot * period / count <= now, !plan.streams.isEmpty {
                send(Int(slot % count))
                slot += 1
            }
            let due = begin + slot * period / count
            let wait = due > now ? (due - now + 999_999) / 1_000_000 : 0
            if poll(&polled, nfds_t(polled.count), Int32(min(wait, 20))) > 0 { receive() }
            if records.count >= Self.flushBytes || now - flushed >= Self.flushNanoseconds {
                flush()
                flushed = now
            }
        }
    }

    // MARK: Out

    private func send(_ place: Int) {
        let stream = plan.streams[place]
        let now = monotonicNanoseconds()
        let packet = TrafficPacket(
            tunnel: UInt32(stream.tunnel), number: numbers[place], way: plan.way, sent: now)
        let socket = sockets[sockets.count == 1 ? 0 : place]
        room.withUnsafeMutableBytes { room in
            packet.write(to: UnsafeMutableRawBufferPointer(rebasing: room[..<TrafficPacket.octets]))
        }
        // A packet that the kernel refuses for want of a route is lost like any other.
        var destination = destinations[place]
        withUnsafePointer(to: &destination) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = sendto(
                    socket, room, TrafficPacket.octets, Int32(MSG_DONTWAIT), $0,
                    socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        note(
            TrafficRecord(
                .sent, plan.way, tunnel: stream.tunnel, number: numbers[place], sent: now))
        numbers[place] += 1
    }

    // MARK: In

    private func receive() {
        guard watch < 0 else { return receiveWatched() }
        for (place, entry) in polled.enumerated() where entry.revents != 0 {
            while true {
                let count = recv(
                    entry.fd, &room, Self.roomBytes, Int32(MSG_DONTWAIT))
                guard count >= 0 else { break }
                take(0..<count, from: plan.streams[place].tunnel, node: 0)
            }
        }
    }

    /// IP packets as they come from the wire (packet(7)), each with its sender's MAC address.
    private func receiveWatched() {
        while true {
            var from = sockaddr_ll()
            var length = socklen_t(MemoryLayout<sockaddr_ll>.size)
            let count = withUnsafeMutablePointer(to: &from) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(
                        watch, &room, Self.roomBytes, Int32(MSG_DONTWAIT), $0, &length)
                }
            }
            guard count >= 0 else { return }
            // IPv4 without options (RFC 791 §3.1), UDP (RFC 768) to our port.
            guard count >= 28, room[0] == 0x45, room[9] == UInt8(IPPROTO_UDP),
                UInt16(room[22]) << 8 | UInt16(room[23]) == plan.port
            else { continue }
            let sender = room.withUnsafeBytes {
                $0.loadUnaligned(fromByteOffset: 12, as: in_addr_t.self)
            }
            let octets = withUnsafeBytes(of: from.sll_addr) { Array($0.prefix(6)) }
            let end = min(count, 20 + (Int(room[24]) << 8 | Int(room[25])))
            take(
                min(28, end)..<end, from: tunnels[sender],
                node: LabPlan.node(ofInsideAddress: octets) ?? 0)
        }
    }

    private func take(_ range: Range<Int>, from tunnel: Int?, node: Int) {
        let packet = room.withUnsafeBytes {
            TrafficPacket(UnsafeRawBufferPointer(rebasing: $0[range]))
        }
        let now = monotonicNanoseconds()
        guard let packet, packet.way != plan.way, Int(packet.tunnel) == tunnel else {
            return note(
                TrafficRecord(
                    .stray, plan.way, tunnel: tunnel ?? 0, number: 0, sent: 0, received: now))
        }
        note(
            TrafficRecord(
                .received, packet.way, tunnel: Int(packet.tunnel), number: packet.number,
                sent: packet.sent, received: now, node: node))
    }

    // MARK: Notes

    private func note(_ record: TrafficRecord) { record.write(to: &records) }

    private func flush() {
        guard !records.isEmpty else { return }
        _ = write(output, records, records.count)
        records.removeAll(keepingCapacity: true)
    }

    // MARK: Sockets

    private static func address(_ text: String, _ port: UInt16) throws(LabError) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard inet_pton(AF_INET, text, &address.sin_addr) == 1 else {
            throw LabError("\(text) is no IPv4 address")
        }
        return address
    }

    private static func open(
        _ local: String, _ port: UInt16, receives: Bool
    ) throws(LabError) -> Int32 {
        let number = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw LabError("a socket: \(lastSystemError())") }
        // The one that doesn't receive is there so that the kernel sends no errors.
        var octets = receives ? socketBytes : 0
        setsockopt(number, SOL_SOCKET, SO_RCVBUFFORCE, &octets, 4)
        var address = try address(local, port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw LabError("\(local) port \(port): \(lastSystemError())") }
        return number
    }

    private static func openWatch(_ device: String) throws(LabError) -> Int32 {
        guard clinux_finish_checksums(device) == 0 else {
            throw LabError("\(device): its checksums: \(lastSystemError())")
        }
        let kind = UInt16(ETH_P_IP).bigEndian
        let number = socket(
            AF_PACKET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), Int32(kind))
        guard number >= 0 else { throw LabError("a packet socket: \(lastSystemError())") }
        var yes: Int32 = 1
        setsockopt(number, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, 4)
        var octets = socketBytes
        setsockopt(number, SOL_SOCKET, SO_RCVBUFFORCE, &octets, 4)
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        address.sll_protocol = kind
        address.sll_ifindex = Int32(if_nametoindex(device))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
            }
        }
        guard result == 0 else { throw LabError("\(device): \(lastSystemError())") }
        return number
    }
}
