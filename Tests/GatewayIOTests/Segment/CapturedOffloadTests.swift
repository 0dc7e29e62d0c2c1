// Packets as virtual devices give them to a capture: joined, with checksums that are not computed.
//
// What would fool us: a checksum that is completed though it was right, or wrong on purpose (then
// the receiver must see that it is wrong); cut streams that miss or repeat octets.

import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite struct CapturedOffloadTests {
    private static let linkBytes = 1500
    private static let packetBytes = 1400

    /// A packet with a TCP or UDP header whose checksum is only the sum of the pseudo header.
    private func partial(isV4: Bool, isTCP: Bool, _ payload: [UInt8]) -> [UInt8] {
        let transport: [UInt8] =
            isTCP
            ? [0, 80, 1, 2, 0, 0, 16, 0, 0, 0, 0, 9, 0x50, 0x18, 1, 0, 0, 0, 0, 0]
            : [0, 80, 1, 2] + octets(8 + payload.count) + [0, 0]
        let length = transport.count + payload.count
        let kind: UInt8 = isTCP ? 6 : 17
        let ends: [UInt8] =
            isV4
            ? [10, 88, 0, 2, 10, 101, 1, 1]
            : [UInt8](repeating: 0xFD, count: 16) + [UInt8](repeating: 0xFE, count: 16)
        var ip: [UInt8]
        if isV4 {
            ip = [0x45, 0] + octets(20 + length) + [0, 7, 0x40, 0, 64, kind, 0, 0] + ends
            let sum = naiveChecksum(ip)
            ip[10] = UInt8(sum >> 8)
            ip[11] = UInt8(sum & 0xFF)
        } else {
            ip = [0x60, 0, 0, 0] + octets(length) + [kind, 64] + ends
        }
        var packet = ip + transport + payload
        let sum = ~naiveChecksum(ends + [0, kind] + octets(length))
        let place = ip.count + (isTCP ? 16 : 6)
        packet[place] = UInt8(sum >> 8)
        packet[place + 1] = UInt8(sum & 0xFF)
        return packet
    }

    private func octets(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }

    private func header(_ packet: [UInt8]) -> OffloadHeader? {
        packet.withUnsafeBytes {
            OffloadHeader(
                captured: $0, linkBytes: Self.linkBytes, packetBytes: Self.packetBytes)
        }
    }

    /// 0 when the checksum of the transport is right.
    private func remainder(_ packet: [UInt8]) -> UInt16 {
        let isV4 = packet[0] >> 4 == 4
        let start = isV4 ? 20 : 40
        let kind = packet[isV4 ? 9 : 6]
        return naiveChecksum(
            Array(packet[(isV4 ? 12 : 8)..<start]) + [0, kind] + octets(packet.count - start)
                + packet[start...])
    }

    @Test(arguments: [true, false], [true, false])
    func checksumsAreCompleted(isV4: Bool, isTCP: Bool) throws {
        var random = SeededGenerator()
        for count in [0, 1, 2, 33, 999] {
            var packet = partial(isV4: isV4, isTCP: isTCP, random.bytes(count))
            let header = try #require(self.header(packet))
            #expect(header.row == .none && header.checksumStart != nil)
            #expect(remainder(packet) != 0)
            #expect(packet.withUnsafeMutableBytes { header.completeChecksum($0) })
            #expect(remainder(packet) == 0)
            // What is right stays, and so does what is wrong.
            #expect(self.header(packet) == .complete)
            packet[packet.count - 1] ^= 0x40
            #expect(self.header(packet) == .complete)
        }
    }

    @Test(arguments: [true, false])
    func streamsAreCut(isV4: Bool) throws {
        var random = SeededGenerator()
        for count in [1500, 5000, 64_000] {
            let payload = random.bytes(count)
            let row = partial(isV4: isV4, isTCP: true, payload)
            let header = try #require(self.header(row))
            #expect(header.row == (isV4 ? .tcpV4 : .tcpV6))
            var whole: [UInt8] = []
            let room = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 16)
            defer { room.deallocate() }
            try row.withUnsafeBytes { bytes in
                var cutter = try #require(PacketCutter(bytes, header))
                while let length = cutter.next(room) {
                    let piece = Array(UnsafeRawBufferPointer(start: room, count: length))
                    #expect(length <= Self.packetBytes && remainder(piece) == 0)
                    #expect(!isV4 || naiveChecksum(piece[..<20]) == 0)
                    whole += piece[(isV4 ? 40 : 60)...]
                }
            }
            #expect(whole == payload)
        }
    }

    @Test func whatNobodyCanCutIsRefused() {
        let payload = [UInt8](repeating: 1, count: 3000)
        #expect(header(partial(isV4: true, isTCP: false, payload)) == nil)
        // Joined by a device that checked and kept the first one's checksum.
        var row = partial(isV4: true, isTCP: true, payload)
        row[36] ^= 1
        #expect(header(row) == nil)
        // TCP's header is longer than the packet says, or shorter than it can be.
        var odd = partial(isV4: true, isTCP: true, payload)
        odd[32] = 0x40
        #expect(header(odd) == nil)
        // Not an IP packet, or none that ends: not our business.
        #expect(header([]) == .complete && header([0x45]) == .complete)
        for count in 0..<100 { _ = header(Array(odd[..<count])) }
    }
}
