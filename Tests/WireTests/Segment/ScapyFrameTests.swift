// Packets that scapy made: the seeds of the fuzz targets, of which each holds some, with two octets
// of length before each.
//
// What would fool us: seeds that are read and say nothing (so what scapy was given is compared).

import Foundation
import TestSupport
import Testing
import Wire

@Suite struct ScapyFrameTests {
    private func seed(_ name: String) throws -> [[UInt8]] {
        let corpus = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fuzz/Corpus")
        var rest = [UInt8](try Data(contentsOf: corpus.appending(path: name)))[...]
        var pieces: [[UInt8]] = []
        while rest.count >= 2 {
            let length: UInt16 = number(rest.prefix(2))
            pieces.append(Array(rest.dropFirst(2).prefix(Int(length))))
            rest = rest.dropFirst(2 + Int(length))
        }
        return pieces
    }

    private func results(_ name: String) throws -> [AssemblyResult] {
        var assembly = PacketAssembly()
        return try seed(name).map { piece in
            piece.withUnsafeBytes { assembly.take($0, nowNanoseconds: 0) }
        }
    }

    @Test(arguments: ["ipv4", "ipv4-reversed"])
    func fragmentsOfIPv4(name: String) throws {
        let results = try results("fragments/\(name)")
        guard case .whole(let packet) = results.last else {
            Issue.record("\(results)")
            return
        }
        #expect(results.dropLast().allSatisfy { $0 == .waiting } && results.count > 2)
        let body = (0..<512).map { UInt8(truncatingIfNeeded: $0) }
        #expect(Array(packet[28...]) == body)
        #expect(naiveChecksum(packet[..<20]) == 0 && Array(packet[6..<8]) == [0, 0])
        // The whole datagram's checksum, of scapy, over what was put together.
        let pseudo = packet[12..<20] + [0, 17] + packet[24..<26]
        #expect(naiveChecksum(Array(pseudo) + packet[20...]) == 0)
    }

    @Test func fragmentsOfIPv6() throws {
        let results = try results("fragments/ipv6")
        guard case .whole(let packet) = results.last else {
            Issue.record("\(results)")
            return
        }
        #expect(packet.count == 40 + 8 + 1500 && packet[6] == 17)
        #expect(packet[48...].allSatisfy { $0 == UInt8(ascii: "b") })
        #expect(naiveUDPChecksum(ipv6: packet, at: 40) == number(packet[46..<48]))
        let atomic = try self.results("fragments/ipv6-atomic")
        guard case .whole(let whole) = atomic.first else {
            Issue.record("\(atomic)")
            return
        }
        #expect(whole.count == 104 && whole[6] == 50)
        let overlap = try self.results("fragments/ipv6-overlap")
        #expect(overlap == [.waiting, .waiting, .refused(.overlap), .refused(.givenUp)])
    }

    @Test func questionsAndClaims() throws {
        let asker = try #require(MACAddress("02:00:00:00:00:11"))
        let arp = try seed("segment-frame/arp-request").map { frame in
            frame.withUnsafeBytes { ARPMessage(frame: $0) }
        }
        #expect(arp.first??.senderMAC == asker && arp.first??.isRequest == true)
        #expect(arp.first??.target == IPAddress("10.77.0.1"))
        let messages = try seed("segment-frame/neighbor").compactMap { frame in
            frame.withUnsafeBytes { NeighborMessage(frame: $0) }
        }
        #expect(messages.map(\.isSolicitation) == [true, true, false])
        #expect(messages.map(\.linkAddress) == [asker, nil, asker])
        #expect(messages.allSatisfy { $0.target == IPAddress("fd77::1") })
        #expect(messages.map(\.overrides) == [false, false, true])
        // Written again they are the same octets, but for scapy's solicited flag and router flag.
        for (message, frame) in zip(messages.prefix(2), try seed("segment-frame/neighbor")) {
            let destination = MACAddress(group: message.destination)
            #expect(message.frame(to: destination, from: asker) == frame)
        }
    }

    @Test func errorsThatQuoteESP() throws {
        let spi = SPI(0xC0FF_EE01)
        let quoted: [(String, [ICMPError.Quoted], [ICMPError.Reason])] = [
            ("too-big", [.esp(spi)], [.tooBig(mtu: 1400)]),
            (
                "udp", [.udp(sourcePort: 4500, destinationPort: 7, spi: spi)],
                [.unreachable(code: 3)]
            ),
            ("v6", [.esp(spi), .esp(spi)], [.tooBig(mtu: 1280), .timeExceeded]),
        ]
        for (name, kinds, reasons) in quoted {
            let errors = try seed("icmp-error/\(name)").compactMap { packet in
                packet.withUnsafeBytes { ICMPError(packet: $0) }
            }
            #expect(errors.map(\.quoted) == kinds && errors.map(\.reason) == reasons)
            let ends = errors.map { "\($0.source) \($0.destination)" }
            #expect(ends.allSatisfy { $0.hasSuffix(".0.9") || $0.hasSuffix("::9") })
        }
    }
}
