// A segment of network namespaces: one peer and three nodes at a bridge, with one cluster address.
//
//     peer  10.77.0.9  fd77::9  ──┐
//     node1 10.77.0.11 fd77::11 ──┤ bridge        every node: 10.77.0.1 and fd77::1 on lo
//     node2 10.77.0.12 fd77::12 ──┤
//     node3 10.77.0.13 fd77::13 ──┘
//
// Sockets stay in the namespace of the thread that opened them, so one thread drives all of them.

import Cluster
import ESP
import Foundation
import Glibc
import TestSupport
import Testing
import Wire

@testable import GatewayIO

/// The network; it goes with its last user.
final class SegmentLab {
    static let absence: Comment = """
        NOT RUN: a shared segment needs root, ip, ping and network namespaces: run \
        'scripts/prepare test', and the tests as root
        """

    static let isPossible: Bool = {
        let tools = ["/usr/sbin/ip", "/usr/bin/ping", "/usr/sbin/sysctl"]
        guard getuid() == 0, tools.allSatisfy(FileManager.default.isExecutableFile) else {
            return false
        }
        let name = "spindle-try-segment-\(getpid())"
        let isMade = (try? run(["ip", "netns", "add", name])) != nil
        _ = try? run(["ip", "netns", "delete", name])
        return isMade
    }()

    static let nodeNames = ["node1", "node2", "node3"]
    private let prefix = "g\(getpid())-\(UInt16.random(in: 0...9999))"

    init() throws {
        try Self.run(["ip", "netns", "add", "\(prefix)-sw"])
        try ip("sw", "link", "add", "br0", "type", "bridge")
        try ip("sw", "link", "set", "br0", "up")
        for (name, number) in [("peer", 9), ("node1", 11), ("node2", 12), ("node3", 13)] {
            try Self.run(["ip", "netns", "add", "\(prefix)-\(name)"])
            try execute(
                in: name,
                [
                    "sysctl", "-q", "-w", "net.ipv6.conf.all.accept_dad=0",
                    "net.ipv6.conf.default.accept_dad=0", "net.ipv4.conf.all.rp_filter=0",
                    "net.ipv4.conf.default.rp_filter=0",
                    // docs/decisions/0021: the kernel says nothing of an address that is on lo.
                    "net.ipv4.conf.all.arp_ignore=\(name == "peer" ? 0 : 1)",
                    "net.ipv4.conf.all.arp_announce=\(name == "peer" ? 0 : 2)",
                    "net.ipv4.icmp_echo_ignore_all=\(name == "peer" ? 0 : 1)",
                    "net.ipv6.icmp.echo_ignore_all=\(name == "peer" ? 0 : 1)",
                ])
            try Self.run([
                "ip", "link", "add", "name", "eth0", "netns", "\(prefix)-\(name)", "type", "veth",
                "peer", "name", name, "netns", "\(prefix)-sw",
            ])
            try ip("sw", "link", "set", name, "master", "br0", "up")
            try ip(name, "link", "set", "lo", "up")
            try ip(name, "link", "set", "eth0", "up")
            try ip(name, "address", "add", "10.77.0.\(number)/24", "dev", "eth0")
            try ip(name, "address", "add", "fd77::\(number)/64", "dev", "eth0", "nodad")
            guard name != "peer" else { continue }
            try ip(name, "address", "add", "10.77.0.1/32", "dev", "lo")
            try ip(name, "address", "add", "fd77::1/128", "dev", "lo", "nodad")
        }
    }

    deinit {
        for name in ["peer", "sw"] + Self.nodeNames {
            _ = try? Self.run(["ip", "netns", "delete", "\(prefix)-\(name)"])
        }
    }

    private func ip(_ name: String, _ arguments: String...) throws {
        try Self.run(["ip", "-n", "\(prefix)-\(name)"] + arguments)
    }

    /// Runs a program in a namespace; what it wrote.
    @discardableResult
    func execute(in name: String, _ arguments: [String]) throws -> String {
        try Self.run(["ip", "netns", "exec", "\(prefix)-\(name)"] + arguments)
    }

    /// Starts a program in a namespace, beside the test.
    func start(in name: String, _ arguments: [String]) throws -> (Process, Pipe) {
        try Self.start(["ip", "netns", "exec", "\(prefix)-\(name)"] + arguments)
    }

    private static func start(_ arguments: [String]) throws -> (Process, Pipe) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["timeout", "30"] + arguments
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        return (process, output)
    }

    @discardableResult
    private static func run(_ arguments: [String]) throws -> String {
        let (process, output) = try start(arguments)
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw LabError(description: "\(arguments): \(text)")
        }
        return text
    }

    /// Runs `body` on a thread of its own, in a namespace.
    func inside<Value>(_ name: String, _ body: @escaping () throws -> Value) throws -> Value {
        let path = "/run/netns/\(prefix)-\(name)"
        let work = NamespaceWork(path: path) { try body() }
        let thread = Thread { work.run() }
        thread.start()
        guard work.done.wait(timeout: .now() + .seconds(20)) == .success,
            let result = work.result
        else { throw LabError(description: "no end in \(name)") }
        guard let value = try result.get() as? Value else {
            throw LabError(description: "another type")
        }
        return value
    }
}

struct LabError: Error, CustomStringConvertible {
    let description: String
}

/// Handed to a thread and back; the semaphore orders both.
private final class NamespaceWork: @unchecked Sendable {
    let done = DispatchSemaphore(value: 0)
    private(set) var result: Result<Any, any Error>?
    private let path: String
    private let body: () throws -> Any

    init(path: String, body: @escaping () throws -> Any) {
        self.path = path
        self.body = body
    }

    func run() {
        defer { done.signal() }
        let file = open(path, O_RDONLY)
        defer { close(file) }
        // Not in Swift's Glibc module.
        typealias Enter = @convention(c) (Int32, Int32) -> Int32
        let enter = dlsym(nil, "setns").map { unsafeBitCast($0, to: Enter.self) }
        let networkNamespace: Int32 = 0x4000_0000
        guard file >= 0, enter?(file, networkNamespace) == 0 else {
            result = .failure(LabError(description: "entering \(path): errno \(errno)"))
            return
        }
        result = Result { try body() }
    }
}

/// A node of the segment: captures, answers, keeps what is its own.
final class SegmentNode {
    let capture: SegmentCapture
    let sender: SegmentSender
    var responder: ClusterAddressResponder
    var owned: Set<DistributionIdentifier>
    let distribution: Distribution
    let front: ClusterFront
    let room = PacketRoom()
    /// IP packets that came, in order.
    var packets: [[UInt8]] = []
    var conflicts: [AddressConflict] = []

    init(
        _ distribution: Distribution, _ front: ClusterFront, _ shared: MACAddress, number: Int,
        owned: [DistributionIdentifier]
    ) throws {
        let device = try SegmentDevice(name: "eth0")
        self.distribution = distribution
        self.front = front
        self.owned = Set(owned)
        let program = OwnerFilter(distribution: distribution, front: front)
            .program(owned: owned, view: .frames(own: device.address))
        capture = try SegmentCapture(device, program: program)
        try capture.join(shared)
        for address in front.addresses where address.family == .v6 {
            try capture.join(MACAddress(group: NeighborMessage.solicitedNodeGroup(of: address)))
        }
        let sources = ["10.77.0.1\(number)", "fd77::1\(number)"].compactMap { IPAddress($0) }
        sender = try SegmentSender(
            device, sources: sources,
            routes: [
                SegmentRoute(sources[0], length: 24, gateway: nil),
                SegmentRoute(sources[1], length: 64, gateway: nil),
            ])
        responder = ClusterAddressResponder(
            distribution: distribution, front: front, shared: shared, own: device.address)
    }

    static func now() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

    /// Does what is to be done; frames that came.
    @discardableResult
    func turn() -> Int {
        let now = Self.now()
        var count = 0
        while true {
            let taken = capture.receive(into: room, sort: sort) { frame in
                sender.learn(frame, nowNanoseconds: now)
                let action = responder.receive(frame, nowNanoseconds: now) { owned.contains($0) }
                switch action {
                case .reply(let reply): sender.send(frame: reply)
                case .conflict(let conflict): conflicts.append(conflict)
                case .none: break
                }
            }
            for index in 0..<room.count { packets.append(Array(room.descriptors[index].packet)) }
            room.clear()
            count += taken
            if taken == 0 { break }
        }
        sender.flush()
        return count
    }

    private func sort(_ frame: UnsafeRawBufferPointer) -> SegmentCapture.Use {
        isForResponder(frame) ? .other : .packet
    }

    /// ICMP and neighbor discovery.
    private func isForResponder(_ frame: UnsafeRawBufferPointer) -> Bool {
        let isV4 = frame[12] == 8
        return frame.count > 23 && frame[isV4 ? 23 : 20] == (isV4 ? 1 : 58)
    }
}
