// One and the same traffic in every kind of capture file gives the same inner packets.
//
// What would fool us: files that this test's own writer understands only together with the
// product's reader; so tshark is asked whether they hold the ESP packets that the original holds.

import Foundation
import Testing

/// How the frames of an Ethernet capture are written down.
private enum Format: String, CaseIterable, CustomTestStringConvertible {
    case nanoseconds, bigEndian, bigEndianNanoseconds
    case vlan, vlanInVLAN, rawIP, rawIPOld, loopback, linuxSLL, linuxSLL2
    case pcapng, modified, nsecpcap

    var testDescription: String { rawValue }

    /// What editcap calls it; nil: written here.
    var editcapName: String? {
        switch self {
        case .pcapng: "pcapng"
        case .modified: "modpcap"
        case .nsecpcap: "nsecpcap"
        default: nil
        }
    }

    var linkType: UInt32 {
        switch self {
        case .rawIP: 101
        case .rawIPOld: 12
        case .loopback: 0
        case .linuxSLL: 113
        case .linuxSLL2: 276
        default: 1
        }
    }

    /// An Ethernet frame as this format has it.
    func frame(_ ethernet: [UInt8]) -> [UInt8] {
        let (addresses, type) = (Array(ethernet[..<12]), Array(ethernet[12..<14]))
        let packet = Array(ethernet[14...])
        switch self {
        case .vlan: return addresses + [0x81, 0x00, 0xE0, 0x07] + type + packet
        case .vlanInVLAN:
            return addresses + [0x88, 0xA8, 0, 100, 0x81, 0x00, 0x20, 7] + type + packet
        case .rawIP, .rawIPOld: return packet
        // The address family; 30 is IPv6 on macOS.
        case .loopback: return [type == [0x86, 0xDD] ? 30 : 2, 0, 0, 0] + packet
        // Packet type, ARPHRD, address length, address padded to eight, protocol.
        case .linuxSLL:
            return [0, 0, 0, 1, 0, 6] + addresses[6...] + [0, 0] + type + packet
        // Protocol, reserved, interface, ARPHRD, packet type, address length, address.
        case .linuxSLL2:
            return type + [0, 0, 0, 0, 0, 3, 0, 1, 0, 6] + addresses[6...] + [0, 0] + packet
        default: return ethernet
        }
    }
}

@Suite(.enabled(if: Judges.areInstalled, Judges.absence))
struct CaptureFormatTests {
    /// Writes the capture anew and returns the path.
    private func convert(_ set: CaptureSet, to format: Format, _ scratch: Scratch) throws -> String
    {
        let path = scratch.path("converted")
        if let name = format.editcapName {
            let outcome = try Program.run("/usr/bin/editcap", ["-F", name, set.capture, path])
            try #require(outcome.code == 0, "\(outcome.testDescription)")
            return path
        }
        var capture = try Capture(contentsOf: set.capture)
        try #require(capture.linkType == Capture.ethernet)
        capture.linkType = format.linkType
        for index in capture.records.indices {
            capture.records[index].octets = format.frame(capture.records[index].octets)
            // Digits that microseconds could not hold.
            if format == .nanoseconds || format == .bigEndianNanoseconds {
                capture.records[index].nanoseconds += UInt64(index % 1000)
            }
        }
        let isBigEndian = format == .bigEndian || format == .bigEndianNanoseconds
        let hasNanoseconds = format == .nanoseconds || format == .bigEndianNanoseconds
        return try scratch.write(
            capture.file(isBigEndian: isBigEndian, hasNanoseconds: hasNanoseconds), as: "converted")
    }

    private func fields(_ path: String) throws -> String {
        let outcome = try Program.run(
            "/usr/bin/tshark",
            [
                "-r", path, "-T", "fields", "-e", "esp.spi", "-e", "esp.sequence", "-e",
                "isakmp.ispi",
            ])
        #expect(outcome.code == 0, "\(outcome.testDescription)")
        return outcome.text
    }

    @Test(arguments: Format.allCases)
    private func theSameInnerPackets(format: Format) throws {
        for name in ["aes256gcm16", "scapy-tunnel66-aes128gcm16", "kernel-transport-aes256gcm16"] {
            let set = CaptureSet.inRepository(name)
            let scratch = try Scratch()
            let converted = try convert(set, to: format, scratch)
            let told = try fields(set.capture)
            #expect(told.contains("0x"))
            #expect(try fields(converted) == told, "tshark sees the same ESP and IKE")
            let middle = try Capture(contentsOf: set.capture).records.count / 2
            let events = [Event.fail(2, middle)]
            let report = try Report.replay(
                set.capture, sas: set.sas, nodes: 3, events: events, write: scratch.path("before"))
            let again = try Report.replay(
                converted, sas: set.sas, nodes: 3, events: events, write: scratch.path("after"))
            #expect(again.packets == report.packets)
            #expect(again.delivered == report.delivered && again.dropped.isEmpty)
            let before = try Capture(contentsOf: scratch.path("before"))
            let after = try Capture(contentsOf: scratch.path("after"))
            #expect(after.records.map(\.octets) == before.records.map(\.octets))
            let frames = try Capture(contentsOf: set.capture).records.enumerated()
            let delivered = Set(before.records.map(\.nanoseconds))
            let expected = frames.filter { delivered.contains($0.element.nanoseconds) }
                .map { index, record in
                    let isFiner = format == .nanoseconds || format == .bigEndianNanoseconds
                    return record.nanoseconds + (isFiner ? UInt64(index % 1000) : 0)
                }
            #expect(after.records.map(\.nanoseconds) == expected)
        }
    }
}
