// Rows of segments: cut into packets on their way into tunnels, joined on their way out.
//
// What would fool us: cutting and joining with the same mistake. Hence each packet is built here
// from its fields, with a checksum computed two octets at a time, and compared octet by octet.
// That the kernel thinks the same of them, LiveStreamTests shows.

import TestSupport
import Testing
import Wire

@testable import GatewayIO

/// The fields of a TCP segment or UDP datagram.
private struct Fields {
    var isV4 = true
    var isTCP = true
    var trafficClass: UInt8 = 0
    var identification: UInt16 = 7
    var fragmentation: UInt16 = 0x4000
    var hops: UInt8 = 64
    var ports: [UInt8] = [0x30, 0x39, 0x14, 0x51]
    var sequence: UInt32 = 0xFFFF_F000
    var acknowledgement: UInt32 = 77
    var flags: UInt8 = 0x10
    var window: UInt16 = 501
    var urgent: UInt16 = 0
    /// A multiple of four octets.
    var options: [UInt8] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]
    var payload: [UInt8] = []
    /// Between IPv6's header and the transport's, with the next header in front of each.
    var extensions: [UInt8] = []

    private static func octets(_ value: UInt16) -> [UInt8] {
        [UInt8(value >> 8), UInt8(value & 0xFF)]
    }

    private static func octets(_ value: UInt32) -> [UInt8] {
        octets(UInt16(value >> 16)) + octets(UInt16(value & 0xFFFF))
    }

    /// RFC 1071, word by word.
    static func sum(_ octets: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for place in stride(from: 0, to: octets.count, by: 2) {
            let low = place + 1 < octets.count ? octets[place + 1] : 0
            sum += UInt32(octets[place]) << 8 | UInt32(low)
            if sum > 0xFFFF { sum -= 0xFFFF }
        }
        return UInt16(sum)
    }

    private var addresses: [UInt8] {
        isV4
            ? [10, 101, 0, 1, 10, 88, 0, 1]
            : [0xFD, 1] + [UInt8](repeating: 0, count: 13) + [1]
                + [0xFD, 0x88] + [UInt8](repeating: 0, count: 13) + [1]
    }

    private var transport: UInt8 { isTCP ? 6 : 17 }
    var transportOffset: Int { isV4 ? 20 : 40 + extensions.count }
    var headerBytes: Int { transportOffset + (isTCP ? 20 + options.count : 8) }

    private var transportHeader: [UInt8] {
        guard isTCP else {
            return ports + Self.octets(UInt16(8 + payload.count)) + [0, 0]
        }
        let start = ports + Self.octets(sequence) + Self.octets(acknowledgement)
        let length = UInt8(20 + options.count) << 2
        let middle = [length, flags] + Self.octets(window) + [0, 0] + Self.octets(urgent)
        return start + middle + options
    }

    private func pseudo(_ length: Int) -> [UInt8] {
        addresses + Self.octets(UInt32(length)) + [0, 0, 0, transport]
    }

    private func ipHeader(_ length: Int) -> [UInt8] {
        guard isV4 else {
            let first = 6 << 28 | UInt32(trafficClass) << 20 | 0x12345
            let next = extensions.isEmpty ? transport : 60
            return Self.octets(first) + Self.octets(UInt16(length + extensions.count))
                + [next, hops] + addresses + extensions
        }
        var header =
            [0x45, trafficClass] + Self.octets(UInt16(20 + length)) + Self.octets(identification)
            + Self.octets(fragmentation) + [hops, transport, 0, 0] + addresses
        header.replaceSubrange(10..<12, with: Self.octets(~Self.sum(header)))
        return header
    }

    /// The packet. A partial one has the sum of the pseudo header where the checksum should be.
    func packet(isPartial: Bool = false) -> [UInt8] {
        var rest = transportHeader + payload
        let pseudo = pseudo(rest.count)
        let sum = Self.sum(pseudo + (isPartial ? [] : rest))
        let place = isTCP ? 16 : 6
        // RFC 768: a checksum of 0 says that there is none.
        let checksum = ~sum == 0 && !isTCP ? 0xFFFF : ~sum
        rest.replaceSubrange(place..<place + 2, with: Self.octets(isPartial ? sum : checksum))
        return ipHeader(rest.count) + rest
    }

    /// What the kernel says of a row of them.
    func header(segmentBytes: Int) -> OffloadHeader {
        OffloadHeader(
            row: isTCP ? (isV4 ? .tcpV4 : .tcpV6) : .udp, segmentBytes: segmentBytes,
            headerBytes: headerBytes, checksumStart: transportOffset,
            checksumOffset: isTCP ? 16 : 6)
    }
}

private func cut(_ row: [UInt8], _ header: OffloadHeader) -> [[UInt8]]? {
    row.withUnsafeBytes { bytes in
        guard var cutter = PacketCutter(bytes, header) else { return nil }
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: cutter.pieceMaximum, alignment: 16)
        defer { room.deallocate() }
        var pieces: [[UInt8]] = []
        let count = cutter.count
        while let length = room.baseAddress.flatMap({ cutter.next($0) }) {
            pieces.append([UInt8](room[..<length]))
        }
        #expect(pieces.count == count)
        return pieces
    }
}

/// What becomes of packets that come one after the other: each train as one packet, with its
/// header.
private func joined(_ packets: [[UInt8]]) -> [(octets: [UInt8], header: OffloadHeader)] {
    let buffers = packets.map { packet in
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(packet.count, 1), alignment: 16)
        buffer.copyBytes(from: packet)
        return buffer
    }
    defer { for buffer in buffers { buffer.deallocate() } }
    var result: [(octets: [UInt8], header: OffloadHeader)] = []
    var train: SegmentTrain?
    var members: [(first: UnsafeMutableRawBufferPointer, payloads: [UInt8])] = []
    func finish() {
        guard let last = members.last, let train else { return }
        let header = train.finish()
        result.append(([UInt8](last.first) + last.payloads, header))
    }
    for (packet, buffer) in zip(packets, buffers) {
        guard let base = buffer.baseAddress else { continue }
        if let segment = train?.append(base, count: packet.count) {
            members[members.count - 1].payloads += packet[segment.headerBytes...]
        } else {
            finish()
            train = SegmentTrain(base, count: packet.count)
            members.append((UnsafeMutableRawBufferPointer(rebasing: buffer[..<packet.count]), []))
        }
    }
    finish()
    return result
}

@Suite struct SegmentTests {
    private func octets(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    /// A flow's segments, all of one length but the last, and what they are when they are joined.
    private func flow(
        _ random: inout SeededGenerator, isTCP: Bool = true
    ) -> (segments: [Fields], row: Fields, segmentBytes: Int) {
        var row = Fields()
        row.isTCP = isTCP
        row.isV4 = Bool.random(using: &random)
        row.trafficClass = UInt8.random(in: 0...255, using: &random)
        row.identification = UInt16.random(in: 0...UInt16.max, using: &random)
        row.fragmentation = Bool.random(using: &random) ? 0x4000 : 0
        row.sequence = UInt32.random(in: 0...UInt32.max, using: &random)
        row.options = Array(row.options.prefix(Int.random(in: 0...3, using: &random) * 4))
        let segmentBytes = Int.random(in: 1...1400, using: &random)
        let count = Int.random(in: 2...40, using: &random)
        let last = Int.random(in: 1...segmentBytes, using: &random)
        row.payload = octets((count - 1) * segmentBytes + last, &random)
        let segments = (0..<count).map { index in
            var segment = row
            let start = index * segmentBytes
            segment.payload = Array(row.payload[start...].prefix(segmentBytes))
            segment.sequence &+= UInt32(start)
            segment.identification &+= UInt16(index)
            return segment
        }
        return (segments, row, segmentBytes)
    }

    @Test func rowsAreCutAsTheirFieldsSay() throws {
        var random = SeededGenerator()
        for _ in 0..<200 {
            let isTCP = Bool.random(using: &random)
            let (segments, row, segmentBytes) = flow(&random, isTCP: isTCP)
            let pieces = cut(
                row.packet(isPartial: true), row.header(segmentBytes: segmentBytes))
            #expect(pieces == segments.map { $0.packet() })
        }
    }

    // RFC 9293: FIN and PSH belong behind the last octet. RFC 3168 §6.1.2: CWR is said once.
    @Test func flagsStandWhereTheyBelong() throws {
        var random = SeededGenerator()
        var (segments, row, segmentBytes) = flow(&random)
        row.flags = 0x10 | 0x80 | 0x08 | 0x01
        segments[0].flags = 0x10 | 0x80
        segments[segments.count - 1].flags = 0x10 | 0x08 | 0x01
        let pieces = cut(row.packet(isPartial: true), row.header(segmentBytes: segmentBytes))
        #expect(pieces == segments.map { $0.packet() })
    }

    @Test func extensionHeadersStayInEveryPiece() throws {
        var random = SeededGenerator()
        var row = Fields()
        row.isV4 = false
        // Destination options with padding only (RFC 8200 §4.6).
        row.extensions = [6, 0, 1, 4, 0, 0, 0, 0]
        row.payload = octets(2000, &random)
        var segments = [row, row]
        segments[0].payload = Array(row.payload[..<1300])
        segments[1].payload = Array(row.payload[1300...])
        segments[1].sequence &+= 1300
        let pieces = cut(row.packet(isPartial: true), row.header(segmentBytes: 1300))
        #expect(pieces == segments.map { $0.packet() })
        // They are not joined again.
        #expect(joined(segments.map { $0.packet() }).count == 2)
    }

    @Test func checksumsThatWereLeftToUsAreComputed() throws {
        var random = SeededGenerator()
        for _ in 0..<100 {
            let (segments, _, _) = flow(&random, isTCP: Bool.random(using: &random))
            var header = segments[0].header(segmentBytes: 0)
            header.row = .none
            var packet = segments[0].packet(isPartial: true)
            #expect(packet.withUnsafeMutableBytes { header.completeChecksum($0) })
            #expect(packet == segments[0].packet())
            header.checksumOffset = packet.count - segments[0].transportOffset - 1
            #expect(packet.withUnsafeMutableBytes { header.completeChecksum($0) } == false)
            #expect(packet == segments[0].packet())
        }
    }

    // The whole has the headers of its fields, and the kernel may cut it into what came.
    @Test func segmentsAreJoinedAsTheirFieldsSay() throws {
        var random = SeededGenerator()
        for _ in 0..<200 {
            let isTCP = Bool.random(using: &random)
            var (segments, row, segmentBytes) = flow(&random, isTCP: isTCP)
            if isTCP, Bool.random(using: &random) {
                row.flags |= 0x08
                segments[segments.count - 1].flags |= 0x08
            }
            let trains = joined(segments.map { $0.packet() })
            try #require(trains.count == 1)
            #expect(trains[0].octets == row.packet(isPartial: true))
            #expect(trains[0].header == row.header(segmentBytes: segmentBytes))
        }
    }

    // Kernels before Linux 6.2 refuse rows of datagrams.
    @Test func datagramsAreLeftAloneWhereTheKernelTakesNoRows() {
        var random = SeededGenerator()
        var fields = Fields()
        fields.isTCP = false
        fields.payload = octets(1000, &random)
        var packet = fields.packet()
        var next = packet
        packet.withUnsafeMutableBytes { first in
            next.withUnsafeMutableBytes { second in
                guard let one = first.baseAddress, let two = second.baseAddress else { return }
                var train = SegmentTrain(one, count: first.count, joinsDatagrams: false)
                #expect(train.append(two, count: second.count) == nil)
                #expect(train.finish() == .complete)
            }
        }
    }

    // What came by itself goes by itself, and not an octet of it is changed.
    @Test(arguments: 0..<Self.strangers.count)
    func whatDoesNotFollowIsLeftAlone(number: Int) throws {
        var random = SeededGenerator()
        for isV4 in [true, false] {
            var first = Fields()
            first.isV4 = isV4
            first.isTCP = !Self.strangers[number].isOfDatagrams
            first.payload = octets(1000, &random)
            var second = first
            second.sequence &+= 1000
            second.identification += 1
            #expect(joined([first.packet(), second.packet()]).count == 1)
            let stranger = Self.strangers[number]
            guard isV4 || !stranger.isV4Only else { continue }
            stranger.change(&first, &second)
            var packets = [first.packet(), second.packet()]
            stranger.damage(&packets)
            let trains = joined(packets)
            #expect(trains.map(\.octets) == packets, "\(stranger.name), v4: \(isV4)")
            #expect(trains.allSatisfy { $0.header == .complete })
        }
    }

    private struct Stranger: Sendable {
        let name: String
        /// True: it can't be with IPv6.
        var isV4Only = false
        /// True: datagrams instead of TCP.
        var isOfDatagrams = false
        var change: @Sendable (inout Fields, inout Fields) -> Void = { _, _ in }
        var damage: @Sendable (inout [[UInt8]]) -> Void = { _ in }
    }

    private static let strangers: [Stranger] = [
        Stranger(
            name: "other port of datagrams", isOfDatagrams: true,
            change: { _, next in next.ports[0] ^= 1 }),
        Stranger(
            name: "longer datagram", isOfDatagrams: true,
            change: { _, next in next.payload.append(1) }),
        Stranger(
            name: "damaged datagram", isOfDatagrams: true,
            damage: { $0[1][$0[1].count - 1] ^= 1 }),
        Stranger(
            name: "TCP after a datagram", isOfDatagrams: true,
            change: { _, next in next.isTCP = true }),
        Stranger(name: "gap", change: { _, next in next.sequence += 1 }),
        Stranger(name: "repetition", change: { first, next in next.sequence = first.sequence }),
        Stranger(name: "other port", change: { _, next in next.ports[3] ^= 1 }),
        Stranger(name: "acknowledgement", change: { _, next in next.acknowledgement += 1 }),
        Stranger(name: "other window", change: { _, next in next.window += 1 }),
        Stranger(name: "urgent flag", change: { _, next in next.flags |= 0x20 }),
        Stranger(name: "urgent pointer", change: { _, next in next.urgent = 1 }),
        Stranger(name: "fin", change: { _, next in next.flags |= 0x01 }),
        Stranger(name: "syn before", change: { first, _ in first.flags = 0x02 }),
        Stranger(name: "reset", change: { _, next in next.flags |= 0x04 }),
        Stranger(name: "no acknowledgement", change: { _, next in next.flags = 0 }),
        Stranger(name: "window reduced", change: { _, next in next.flags |= 0x80 }),
        Stranger(name: "congestion echo", change: { _, next in next.flags |= 0x40 }),
        Stranger(name: "push before", change: { first, _ in first.flags |= 0x08 }),
        Stranger(name: "other options", change: { _, next in next.options[11] ^= 1 }),
        Stranger(name: "fewer options", change: { _, next in next.options = [1, 1, 1, 1] }),
        Stranger(name: "longer", change: { _, next in next.payload.append(1) }),
        Stranger(name: "empty", change: { _, next in next.payload = [] }),
        Stranger(name: "congestion", change: { _, next in next.trafficClass |= 3 }),
        Stranger(name: "other hops", change: { _, next in next.hops -= 1 }),
        Stranger(
            name: "other fragmentation", isV4Only: true,
            change: { _, next in next.fragmentation = 0 }),
        Stranger(
            name: "first fragments", isV4Only: true,
            change: { first, next in
                first.fragmentation = 0x2000
                next.fragmentation = 0x2000
            }),
        Stranger(
            name: "later fragments", isV4Only: true,
            change: { first, next in
                first.fragmentation = 64
                next.fragmentation = 64
            }),
        Stranger(
            name: "identification that does not count", isV4Only: true,
            change: { first, next in
                first.fragmentation = 0
                next.fragmentation = 0
                next.identification += 1
            }),
        Stranger(
            name: "datagrams without checksums", isV4Only: true, isOfDatagrams: true,
            damage: { packets in
                for index in packets.indices {
                    packets[index].replaceSubrange(26..<28, with: [0, 0])
                }
            }),
        Stranger(name: "broken payload", damage: { $0[1][$0[1].count - 1] ^= 1 }),
        Stranger(name: "broken payload of the first", damage: { $0[0][$0[0].count - 1] ^= 1 }),
        Stranger(name: "broken IP header", isV4Only: true, damage: { $0[1][10] ^= 1 }),
        Stranger(name: "octets behind", damage: { $0[1].append(0) }),
        Stranger(name: "cut off", damage: { $0[1].removeLast() }),
    ]

    @Test func aWholeIsNeverLongerThanAPacketMayBe() throws {
        var random = SeededGenerator()
        var segments: [Fields] = []
        var next = Fields()
        for _ in 0..<60 {
            next.payload = octets(1400, &random)
            segments.append(next)
            next.sequence &+= 1400
            next.identification += 1
        }
        let trains = joined(segments.map { $0.packet() })
        #expect(trains.map(\.octets.count) == [52 + 46 * 1400, 52 + 14 * 1400])
    }

    // Whatever a peer sends, and whatever the kernel says: no trap, and no piece beyond its room.
    @Test func nonsenseIsRefused() throws {
        var random = SeededGenerator()
        for _ in 0..<1000 {
            var (segments, row, _) = flow(&random, isTCP: Bool.random(using: &random))
            row.payload = Array(row.payload.prefix(Int.random(in: 0...3000, using: &random)))
            var packet = row.packet(isPartial: true)
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let place = Int.random(in: 0..<min(packet.count, 80), using: &random)
                packet[place] = UInt8.random(in: 0...255, using: &random)
            }
            packet.removeLast(Int.random(in: 0...packet.count, using: &random) / 8)
            var header = row.header(segmentBytes: Int.random(in: 0...3000, using: &random))
            if Int.random(in: 0...3, using: &random) == 0 {
                header.checksumStart = Int.random(in: 0...3000, using: &random)
            }
            for piece in cut(packet, header) ?? [] { #expect(piece.count <= packet.count) }
            header.row = .none
            _ = packet.withUnsafeMutableBytes { header.completeChecksum($0) }
            segments.removeLast(segments.count - 1)
            _ = joined([packet, segments[0].packet(), packet, octets(40, &random)])
        }
    }

    // Linux's own numbers: include/uapi/linux/virtio_net.h.
    @Test func theHeaderIsTheKernels() throws {
        var row = Fields()
        row.payload = [1]
        var octets = [UInt8](repeating: 0xEE, count: OffloadHeader.byteCount)
        octets.withUnsafeMutableBytes { bytes in
            if let base = bytes.baseAddress { row.header(segmentBytes: 1348).write(base) }
        }
        #expect(octets == [1, 1, 52, 0, 0x44, 0x05, 20, 0, 16, 0])
        let ecn: [UInt8] = [1, 0x84, 72, 0, 0x44, 0x05, 40, 0, 16, 0]
        row.isV4 = false
        #expect(
            ecn.withUnsafeBytes { $0.baseAddress.flatMap { OffloadHeader(at: $0) } }
                == row.header(segmentBytes: 1348))
        // Fragments of UDP (3) were not asked for.
        let fragments: [UInt8] = [1, 3, 28, 0, 0x44, 0x05, 20, 0, 6, 0]
        #expect(
            fragments.withUnsafeBytes { $0.baseAddress.flatMap { OffloadHeader(at: $0) } }
                == nil)
    }
}
