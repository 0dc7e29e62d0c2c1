// ARP, neighbor discovery and ICMP errors as octets.
//
// What would fool us: a reader that takes back what the writer wrote wrong. So the octets here are
// written by hand or by scapy and Linux (ScapyFrameTests, and the live tests).

import TestSupport
import Testing
import Wire

@Suite struct NeighborFormatTests {
    private let asker = MACAddress(0x0200_0000_0011)

    @Test func addressesAreTextAndOctets() throws {
        let address = try #require(MACAddress("01:00:5e:7f:00:a"))
        #expect(address.value == 0x0100_5E7F_000A && address.isGroup && !address.isLocal)
        #expect("\(address)" == "01:00:5e:7f:00:0a" && MACAddress(0x0300 << 32).isLocal)
        let wrong = [
            "", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:+6", "1:2:3:4:5:100", "g:0:0:0:0:0",
        ]
        for text in wrong {
            #expect(MACAddress(text) == nil, "\(text)")
        }
        let group = try #require(IPAddress("ff02::1:ff00:1"))
        #expect("\(MACAddress(group: group))" == "33:33:ff:00:00:01")
    }

    @Test func arpIsReadAndWritten() throws {
        let octets = hex(
            """
            ffffffffffff 020000000011 0806 0001 0800 06 04 0001
            020000000011 0a4d0009 000000000000 0a4d0001
            """)
        let message = try #require(octets.withUnsafeBytes { ARPMessage(frame: $0) })
        #expect(message.isRequest && message.senderMAC == asker)
        #expect("\(message.sender) \(message.target)" == "10.77.0.9 10.77.0.1")
        #expect(message.frame(to: .broadcast, from: asker) == octets)
        for length in 0..<octets.count {
            #expect(octets[..<length].withUnsafeBytes { ARPMessage(frame: $0) } == nil)
        }
        for place in [12, 14, 16, 18, 19, 21] {
            var changed = octets
            changed[place] ^= 4
            #expect(changed.withUnsafeBytes { ARPMessage(frame: $0) } == nil, "\(place)")
        }
    }

    @Test func solicitationsAreReadAndWritten() throws {
        let target = try #require(IPAddress("fd77::1"))
        let group = NeighborMessage.solicitedNodeGroup(of: target)
        #expect("\(group)" == "ff02::1:ff00:1")
        let message = NeighborMessage(
            isSolicitation: true, source: try #require(IPAddress("fd77::9")), destination: group,
            target: target, linkAddress: asker)
        let frame = message.frame(to: MACAddress(group: group), from: asker)
        #expect(frame.withUnsafeBytes { NeighborMessage(frame: $0) } == message)
        // The sum of the pseudo-header and everything behind, the slow way.
        let packet = Array(frame[14...])
        let sum = packet[8..<40] + [0, 0, 0, 32, 0, 0, 0, 58] + packet[40...]
        #expect(naiveChecksum(sum) == 0)
        for place in 14..<frame.count where place != 14 + 1 && place > 17 {
            var changed = frame
            changed[place] ^= 1
            #expect(changed.withUnsafeBytes { NeighborMessage(frame: $0) } == nil, "\(place)")
        }
        for length in 0..<frame.count {
            #expect(frame[..<length].withUnsafeBytes { NeighborMessage(frame: $0) } == nil)
        }
    }

    // RFC 4861 §7.1.1, §7.1.2: what must be discarded in silence.
    @Test func whatIsNotValidIsNotRead() throws {
        let target = try #require(IPAddress("fd77::1"))
        let other = try #require(IPAddress("fd77::9"))
        let zero = IPAddress(high: 0, low: 0)
        let group = NeighborMessage.solicitedNodeGroup(of: target)
        func isRead(_ message: NeighborMessage) -> Bool {
            message.frame(to: .broadcast, from: asker).withUnsafeBytes {
                NeighborMessage(frame: $0) != nil
            }
        }
        func solicitation(
            _ source: IPAddress, _ destination: IPAddress, _ address: MACAddress?
        ) -> NeighborMessage {
            NeighborMessage(
                isSolicitation: true, source: source, destination: destination, target: target,
                linkAddress: address)
        }
        #expect(isRead(solicitation(other, target, asker)))
        #expect(isRead(solicitation(zero, group, nil)))
        #expect(!isRead(solicitation(zero, group, asker)))
        #expect(!isRead(solicitation(zero, target, nil)))
        var ofGroup = solicitation(other, group, asker)
        ofGroup.target = group
        #expect(!isRead(ofGroup))
        var advertisement = NeighborMessage(
            isSolicitation: false, source: target, destination: NeighborMessage.allNodes,
            target: target, linkAddress: asker)
        #expect(isRead(advertisement))
        advertisement.isSolicited = true
        #expect(!isRead(advertisement))
    }

    // MARK: ICMP errors

    private func error(
        _ version: Int, type: UInt8, code: UInt8, word: UInt32, quoting quoted: [UInt8]
    ) -> [UInt8] {
        var body = [type, code, 0, 0] + bigEndian(word) + quoted
        guard version == 6 else {
            body.replaceSubrange(2..<4, with: bigEndian(naiveChecksum(body)))
            var packet = IPv4Packet(payload: body)
            packet.transport = 1
            return packet.bytes
        }
        var packet = IPv6Packet(payload: body)
        packet.transport = 58
        let octets = packet.bytes
        let sum = octets[8..<40] + bigEndian(UInt32(body.count)) + [0, 0, 0, 58] + body
        packet.payload.replaceSubrange(2..<4, with: bigEndian(naiveChecksum(sum)))
        return packet.bytes
    }

    private func read(_ packet: [UInt8]) -> ICMPError? {
        withGuarded(packet) {
            ICMPError(packet: UnsafeRawBufferPointer(start: $0, count: packet.count))
        }
    }

    @Test func errorsSayWhichTunnel() throws {
        var quoted = IPv4Packet(payload: hex("c0ffee01 00000007"))
        quoted.transport = 50
        // As long as it was, though only eight octets of it are here.
        var octets = quoted.bytes
        octets.replaceSubrange(2..<4, with: bigEndian(UInt16(1420)))
        let tooBig = try #require(
            read(error(4, type: 3, code: 4, word: 1400, quoting: octets)))
        #expect(tooBig.reason == .tooBig(mtu: 1400) && tooBig.quoted == .esp(SPI(0xC0FF_EE01)))
        #expect("\(tooBig.source) \(tooBig.destination)" == "10.1.0.1 10.2.0.2")
        quoted.transport = 17
        quoted.payload = udpDatagram(from: 4500, to: 61_000, [])
        let port = try #require(
            read(error(4, type: 3, code: 3, word: 0, quoting: quoted.bytes)))
        #expect(port.reason == .unreachable(code: 3))
        #expect(port.quoted == .udp(sourcePort: 4500, destinationPort: 61_000, spi: nil))
        var six = IPv6Packet(payload: hex("c0ffee02 00000007 00000000"))
        six.transport = 50
        six.extensions = [.init(60), .init(fragmentOffset: 0, more: true)]
        let big = try #require(read(error(6, type: 2, code: 0, word: 1280, quoting: six.bytes)))
        #expect(big.reason == .tooBig(mtu: 1280) && big.quoted == .esp(SPI(0xC0FF_EE02)))
    }

    @Test func whatQuotesNothingOfOursIsNotRead() throws {
        var quoted = IPv4Packet(payload: hex("c0ffee01 00000007"))
        quoted.transport = 50
        quoted.fragment = 1
        #expect(read(error(4, type: 3, code: 4, word: 0, quoting: quoted.bytes)) == nil)
        quoted.fragment = 0
        quoted.transport = 6
        #expect(read(error(4, type: 3, code: 4, word: 0, quoting: quoted.bytes)) == nil)
        quoted.transport = 50
        #expect(read(error(4, type: 8, code: 0, word: 0, quoting: quoted.bytes)) == nil)
        let right = error(4, type: 11, code: 0, word: 0, quoting: quoted.bytes)
        #expect(read(right)?.reason == .timeExceeded)
        for place in 20..<right.count {
            var changed = right
            changed[place] ^= 0x10
            #expect(read(changed) == nil, "\(place)")
        }
        for length in 0..<right.count { #expect(read(Array(right[..<length])) == nil) }
        for length in 0..<28 {
            let cut = Array(quoted.bytes[..<length])
            let said = read(error(4, type: 3, code: 1, word: 0, quoting: cut))
            #expect((said != nil) == (length >= 24), "\(length)")
        }
    }
}
