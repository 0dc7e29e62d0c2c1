// Filters that are replaced while packets come, and what packets of others cost.
//
// What would fool us: packets that come while nobody replaces anything (so a thread of its own
// sends, and as many replacements as packets are counted); a ring that is full (so the kernel's
// count of such packets must be 0); a price that is somebody else's (so it is a difference, between
// runs that differ in nothing but the captures).

import Cluster
import ESP
import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite(.serialized, .enabled(if: SegmentLab.isPossible, SegmentLab.absence))
struct FilterReplacementTests {
    private let distribution: Distribution
    private let front: ClusterFront
    private let lab: SegmentLab
    private let shared = MACAddress(0x0312_3456_789A)

    init() throws {
        distribution = try Distribution(cookieKey: CookieKey(bytes: 1...20))
        front = ClusterFront(addresses: ["10.77.0.1", "fd77::1"].compactMap { IPAddress($0) })
        lab = try SegmentLab()
        try lab.execute(
            in: "peer",
            ["ip", "neigh", "replace", "10.77.0.1", "lladdr", "\(shared)", "dev", "eth0"]
                + ["nud", "permanent"])
    }

    private func packet(spi: SPI, number: UInt32) -> [UInt8] {
        let esp = bigEndian(spi.value) + bigEndian(number) + Array(repeating: 0, count: 32)
        return OuterPackets.header(
            from: IPAddress(v4: 0x0A4D_0009), to: front.addresses[0], protocol: 50, payload: esp)
            + esp
    }

    /// One of ESP for each number, of associations of one identifier.
    private func packets(of identifier: DistributionIdentifier, count: Int) -> [[UInt8]] {
        (0..<UInt32(count)).map { number -> [UInt8] in
            packet(spi: distribution.spi(for: identifier, low: number), number: number)
        }
    }

    private func capture(_ owned: [DistributionIdentifier]) throws -> SegmentCapture {
        let (distribution, front, shared) = (distribution, front, shared)
        return try lab.inside("node1") {
            let device = try SegmentDevice(name: "eth0")
            let program = OwnerFilter(distribution: distribution, front: front)
                .program(owned: owned, view: .frames(own: device.address))
            let capture = try SegmentCapture(device, program: program)
            try capture.join(shared)
            return capture
        }
    }

    /// Neighbors of the lab speak, too.
    private func sort(_ frame: UnsafeRawBufferPointer) -> SegmentCapture.Use {
        isNoESP(frame) ? .other : .packet
    }

    private func isNoESP(_ frame: UnsafeRawBufferPointer) -> Bool {
        frame[12] != 8 || frame.count < 24 || frame[23] != 50
    }

    /// Until there is something to read, at most a tenth of a second.
    private func wait(for capture: SegmentCapture) {
        var file = pollfd(fd: capture.fileNumber, events: 1, revents: 0)
        poll(&file, 1, 100)
    }

    @Test func noPacketIsLostOrDoubledByAReplacement() throws {
        let always = DistributionIdentifier(77)
        let all: [DistributionIdentifier] = (0..<256).map { DistributionIdentifier($0) }
        let sets = [[always], all, all.filter { !$0.value.isMultiple(of: 2) }]
        let capture = try capture(sets[0])
        let compiler = OwnerFilter(distribution: distribution, front: front)
        let programs = sets.map {
            compiler.program(owned: $0, view: .frames(own: capture.device.address))
        }
        let socket = try lab.inside("peer") { try ESPSocket(IPAddress(v4: 0x0A4D_0009)) }
        let count = 40_000
        let load = Load(
            socket: socket, to: front.addresses[0],
            packets: packets(of: always, count: count))
        load.start()
        var seen = [UInt8](repeating: 0, count: count)
        var replacements = 0
        let room = PacketRoom()
        let end = ContinuousClock.now + .seconds(20)
        var total = 0
        while total < count, ContinuousClock.now < end {
            let isOver = load.isOver
            try capture.replaceFilter(programs[replacements % programs.count])
            replacements += 1
            let taken = capture.receive(into: room, sort: sort, other: { _ in })
            for index in 0..<room.count {
                let octets = room.descriptors[index].packet[24..<28]
                let value: UInt32 = number(octets)
                seen[Int(value)] += 1
            }
            total += room.count
            load.taken(total)
            room.clear()
            if isOver, taken == 0 { wait(for: capture) }
        }
        // What comes twice comes now.
        wait(for: capture)
        _ = capture.receive(into: room, sort: sort, other: { _ in })
        total += room.count
        print("\(replacements) replacements under \(count) packets: \(total) came")
        #expect(load.isOver && load.refused == 0 && capture.statistics.dropped == 0)
        #expect(total == count && seen.allSatisfy { $0 == 1 })
        #expect(replacements > 1000)
    }

    // The goal is 200 ns, and what a filter of one instruction costs is the kernel's. The best of
    // some rounds counts: other tests and other machines take time as well.
    @Test func foreignPacketsAreCheap() throws {
        let all: [DistributionIdentifier] = (0..<256).map { DistributionIdentifier($0) }
        let owned = all.filter { $0.value.isMultiple(of: 2) }
        let socket = try lab.inside("peer") { try ESPSocket(IPAddress(v4: 0x0A4D_0009)) }
        let foreign = all.filter { !$0.value.isMultiple(of: 2) }
            .flatMap { packets(of: $0, count: 8) }
        let captures = 8
        let rounds = 60
        var (without, least, with) = (Double.infinity, Double.infinity, Double.infinity)
        for _ in 0..<rounds { without = min(without, try nanosecondsEach(socket, foreign)) }
        let open = try (0..<captures).map { _ in try capture(owned) }
        let compiler = OwnerFilter(distribution: distribution, front: front)
        for _ in 0..<rounds {
            for one in open {
                try one.replaceFilter(
                    compiler.program(owned: owned, view: .frames(own: one.device.address)))
            }
            with = min(with, try nanosecondsEach(socket, foreign))
            for one in open {
                let room = PacketRoom()
                _ = one.receive(into: room, sort: sort, other: { _ in })
                #expect(room.count == 0)
                try one.replaceFilter([FilterInstruction(code: 6, value: 0)])
            }
            least = min(least, try nanosecondsEach(socket, foreign))
        }
        let price = (with - without) / Double(captures)
        let floor = (least - without) / Double(captures)
        print("a foreign packet: \(Int(price)) ns per capture, \(Int(floor)) ns by any filter")
        #expect(price < 2 * max(floor, 100) + 200)
    }

    /// What sending costs with everything that the kernel does meanwhile: on a pair of virtual
    /// devices it receives in the same breath.
    private func nanosecondsEach(_ socket: ESPSocket, _ packets: [[UInt8]]) throws -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        for packet in packets {
            try #require(packet.withUnsafeBytes { socket.send($0, to: front.addresses[0]) })
        }
        return Double(DispatchTime.now().uptimeNanoseconds - start) / Double(packets.count)
    }

    @Test func capturedPacketsAreTakenInBatches() throws {
        let always = DistributionIdentifier(77)
        let capture = try capture([always])
        let socket = try lab.inside("peer") { try ESPSocket(IPAddress(v4: 0x0A4D_0009)) }
        let packets = packets(of: always, count: 500)
        let room = PacketRoom()
        var best = Double.infinity
        for _ in 0..<40 {
            for packet in packets {
                packet.withUnsafeBytes { _ = socket.send($0, to: front.addresses[0]) }
            }
            var count = 0
            var spent: UInt64 = 0
            let end = ContinuousClock.now + .seconds(5)
            while count < packets.count, ContinuousClock.now < end {
                wait(for: capture)
                let start = threadNanoseconds()
                while capture.receive(into: room, sort: sort, other: { _ in }) > 0 {
                    count += room.count
                    room.clear()
                }
                spent += threadNanoseconds() - start
            }
            #expect(count == packets.count)
            best = min(best, Double(spent) / Double(count))
        }
        print("a captured packet: \(Int(best)) ns of the receiving thread, in a debug build")
        // One call of the kernel for each would cost more.
        #expect(best < 2000)
    }

    private func threadNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// A thread that sends.
private final class Load: Sendable {
    private let socket: Sender
    private let to: IPAddress
    private let packets: [[UInt8]]
    private let over = Atomic(false)
    private let refusals = Atomic(0)
    private let received = Atomic(0)
    /// Never more on the way than the kernel holds between two devices (1000).
    private static let onTheWay = 500

    /// The socket goes to the thread, and nobody else uses it.
    private struct Sender: @unchecked Sendable { let socket: ESPSocket }

    init(socket: ESPSocket, to: IPAddress, packets: [[UInt8]]) {
        self.socket = Sender(socket: socket)
        self.to = to
        self.packets = packets
    }

    var isOver: Bool { over.load(ordering: .acquiring) }
    var refused: Int { refusals.load(ordering: .relaxed) }

    /// The receiver has so many.
    func taken(_ count: Int) { received.store(count, ordering: .releasing) }

    func start() {
        let thread = Thread { [self] in
            let end = ContinuousClock.now + .seconds(20)
            for (number, packet) in packets.enumerated() {
                while number - received.load(ordering: .acquiring) > Self.onTheWay,
                    ContinuousClock.now < end
                { sched_yield() }
                let isSent = packet.withUnsafeBytes { socket.socket.send($0, to: to) }
                if !isSent { refusals.add(1, ordering: .relaxed) }
            }
            over.store(true, ordering: .releasing)
        }
        thread.start()
    }
}
