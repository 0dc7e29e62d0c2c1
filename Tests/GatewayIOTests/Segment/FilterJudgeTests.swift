// The kernel and libpcap run our filters: they share nothing with the compiler but the meaning of
// the instructions.
//
// What would fool us: a kernel that does not filter at all (so what it must drop is counted, too).

import CPcap
import Cluster
import Glibc
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite struct FilterJudgeTests {
    private let own = MACAddress(0x0200_0000_0001)

    /// What libpcap's interpreter says; nil when its checker refuses the program.
    private func libpcap(_ program: [FilterInstruction], _ frame: [UInt8]) -> Bool? {
        let instructions = program.map { one in
            bpf_insn(code: one.code, jt: one.jumpTrue, jf: one.jumpFalse, k: one.value)
        }
        guard bpf_validate(instructions, Int32(instructions.count)) != 0 else { return nil }
        let length = UInt32(frame.count)
        return bpf_filter(instructions, frame, length, length) != 0
    }

    @Test(arguments: [16, 256, 4096])
    func theKernelAndLibpcapDecideAlike(count: Int) throws {
        var random = SeededGenerator()
        var ends: [Int32] = [-1, -1]
        try #require(
            socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends)
                == 0)
        let (sender, receiver) = (FileDescriptor(ends[0]), FileDescriptor(ends[1]))
        var taken = 0
        var dropped = 0
        for _ in 0..<20 {
            let distribution = try Distribution(
                identifierCount: count, cookieKey: CookieKey(bytes: random.bytes(20)))
            let owned = randomSet(count, &random)
            let program = OwnerFilter(distribution: distribution, front: segmentFront)
                .program(owned: owned, view: .storedFrames(own: own))
            try LentDescriptor(number: receiver.number).attach(program)
            var packets = SegmentPackets(
                distribution: distribution, front: segmentFront, random: random)
            for _ in 0..<300 {
                let packet = packets.next()
                var frame = SegmentPackets.frame(packet.octets, to: MACAddress(0x0300 << 32))
                var share = packet.share
                if packet.octets[0] & 3 == 0, packet.octets[10] & 1 == 0 {
                    // Cut off; then the share is what our own reader says.
                    frame.removeLast(frame.count / 3)
                    share = frame.withUnsafeBytes {
                        distribution.share(ofFrame: $0, front: segmentFront, own: own)
                    }
                }
                #expect(libpcap(program, frame) == share.isFor(owned), "\(packet.name)")
                #expect(send(sender.number, frame, frame.count, 0) == frame.count)
                var room = [UInt8](repeating: 0, count: 4096)
                let length = recv(receiver.number, &room, room.count, 0)
                #expect((length == frame.count) == share.isFor(owned), "\(packet.name)")
                if length > 0 { taken += 1 } else { dropped += 1 }
            }
            random = packets.random
        }
        #expect(taken > 1000 && dropped > 1000, "\(taken) \(dropped)")
    }

    // What the kernel refuses must not be compiled: views that only a device has.
    @Test func everyViewIsTaken() throws {
        var random = SeededGenerator()
        let distribution = try Distribution(
            identifierCount: 4096, cookieKey: CookieKey(bytes: random.bytes(20)))
        let filter = OwnerFilter(distribution: distribution, front: segmentFront)
        let scattered = (0..<2048).map { DistributionIdentifier(UInt16(2 * $0)) }
        let number = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        let descriptor = FileDescriptor(number)
        let views: [FilterView] = [
            .frames(own: own), .packets, .datagrams(hasMarker: true), .datagrams(hasMarker: false),
        ]
        for view in views {
            try LentDescriptor(number: descriptor.number)
                .attach(filter.program(owned: scattered, view: view))
        }
        try LentDescriptor(number: descriptor.number).attach(OwnerFilter.insideProgram())
    }

    // A datagram socket with a filter: what is not its own does not wake it.
    @Test func datagramsOfOthersDoNotCome() throws {
        var random = SeededGenerator()
        let distribution = try Distribution(cookieKey: CookieKey(bytes: random.bytes(20)))
        let owned = (0..<128).map { DistributionIdentifier(UInt16(2 * $0)) }
        let loopback = IPAddress(v4: 0x7F00_0001)
        let port = UInt16(40_000 + getpid() % 20_000)
        let receiver = try DatagramSocket(loopback, port: port, hasMarker: true)
        let filter = OwnerFilter(
            distribution: distribution, front: ClusterFront(addresses: [loopback]))
        try receiver.attach(filter.program(owned: owned, view: .datagrams(hasMarker: true)))
        let sender = try DatagramSocket(loopback, port: port + 1, hasMarker: true)
        var expected: [[UInt8]] = []
        for number in 0..<200 {
            let spi = UInt32(truncatingIfNeeded: random.next()) | 1
            let datagram = bigEndian(spi) + bigEndian(UInt32(number))
            sender.send(datagram, to: loopback, port)
            if owned.contains(distribution.identifier(of: SPI(spi))) { expected.append(datagram) }
        }
        var received: [[UInt8]] = []
        var room = [UInt8](repeating: 0, count: 100)
        while case let length = recv(receiver.descriptor.number, &room, 100, 0), length > 0 {
            received.append(Array(room[..<length]))
        }
        #expect(received == expected)
    }
}
