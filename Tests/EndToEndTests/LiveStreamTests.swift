// Long streams and rows of datagrams through live nodes, which cut and join packets as they like.
//
// What would fool us: a wrong checksum that nobody looks at, since the ends of a virtual link trust
// each other (strongSwan gives its kernel packets one by one and without a word about checksums, so
// that the kernel looks at every one); a stream that is repaired by repetition (what was refused is
// counted); and rows that never were (the device counts what it was given).

import Foundation
import Testing

extension LiveNodeTests {
    private static let octets = 8 << 20

    private static func node(_ own: String, _ other: String, encapsulation: Bool) -> String {
        let (number, otherNumber) = own == "gw" ? (1, 3) : (3, 1)
        let inner = ["10.88.0.0/24, \"fd88::/64\"", "10.102.0.0/24, \"fd02::/64\""]
        return """
            node:
              addresses: [10.77.0.\(number)]
              control_socket: SOCKET
            secrets: SECRETS
            connections:
              \(other):
                remote_address: 10.77.0.\(otherNumber)
                local: {identity: \(own).lab.example, auth: psk}
                remote: {identity: \(other).lab.example, auth: psk}
                proposals: [aes256gcm16-prfsha256-x25519]
                force_encapsulation: \(encapsulation)
                children:
                  net:
                    local: [\(own == "gw" ? inner[0] : inner[1])]
                    remote: [\(own == "gw" ? inner[1] : inner[0])]
                    proposals: [\(encapsulation ? "aes256gcm16" : "aes128-sha256")-x25519]
            """
    }

    private static let towardStrongSwan = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          peer:
            remote_address: 10.77.0.2
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.1/32]
                proposals: [aes256gcm16-x25519]
        """

    /// A stream and a row of datagrams there, and the same back.
    private func stream(
        _ lab: LiveLab, from source: (name: String, address: String),
        to destination: (name: String, address: String)
    ) throws {
        let script = LiveLab.path(of: "stream.py")
        let server = try lab.start(
            in: destination.name,
            [Program.python, script, "serve", destination.address, "7000"], log: "serve.log")
        try server.waitFor("listening")
        let outcome = try lab.run(
            in: source.name,
            [
                Program.python, script, "send", source.address, destination.address, "7000",
                "\(Self.octets)",
            ])
        #expect(outcome.code == 0, "\(outcome.testDescription) \(server.text)")
    }

    /// What the kernel of a namespace found to be wrong: packets with a bad header or checksum.
    private func refusals(_ lab: LiveLab, _ name: String) throws -> [String: Int] {
        var found: [String: Int] = [:]
        let text = try lab.run(in: name, ["cat", "/proc/net/snmp", "/proc/net/snmp6"]).text
        var heads: [Substring: [Substring]] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if words.count == 2, words[0].hasPrefix("Ip6") || words[0].hasPrefix("Udp6") {
                found[String(words[0])] = Int(words[1])
            } else if let head = heads[words[0]] {
                for (key, value) in zip(head, words).dropFirst() {
                    found["\(words[0])\(key)"] = Int(value)
                }
            } else {
                heads[words[0]] = words
            }
        }
        #expect(found["Tcp:InCsumErrors"] != nil && found["Ip6InHdrErrors"] != nil)
        return found.filter { $0.key.hasSuffix("CsumErrors") || $0.key.hasSuffix("HdrErrors") }
            .filter { $0.value != 0 }
    }

    /// Packets that the device took and gave.
    private func packets(_ lab: LiveLab, _ name: String) throws -> (in: UInt64, out: UInt64) {
        let folder = "/sys/class/net/spindle0/statistics"
        let text = try lab.run(in: name, ["cat", "\(folder)/rx_packets", "\(folder)/tx_packets"])
            .text
        let numbers = text.split(separator: "\n").compactMap { UInt64($0) }
        try #require(numbers.count == 2, "\(text)")
        return (numbers[0], numbers[1])
    }

    @Test func streamsToStrongSwanAreRightOctetByOctet() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.towardStrongSwan)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        let up = try lab.ask("gw", "initiate", "peer")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        try stream(lab, from: ("gw", "10.88.0.1"), to: ("peer", "10.101.0.1"))
        let pair = try #require(try current(lab, "gw").first)
        let device = try packets(lab, "gw")
        // Rows came out of the device, and were cut.
        #expect(device.out * 2 < pair.packetsOut, "\(device) \(pair)")
        #expect(device.in <= pair.packetsIn)
        for name in ["gw", "peer"] { #expect(try refusals(lab, name).isEmpty) }
    }

    @Test(arguments: [true, false])
    func streamsBetweenNodesAreRightOctetByOctet(encapsulation: Bool) throws {
        let lab = try LiveLab()
        let node = try lab.startNode(
            "gw", Self.node("gw", "other", encapsulation: encapsulation))
        let other = try lab.startNode(
            "other", Self.node("other", "gw", encapsulation: encapsulation))
        let up = try lab.ask("gw", "initiate", "other")
        try #require(up.code == 0, "\(up.testDescription) \(node.text) \(other.text)")
        try stream(lab, from: ("gw", "10.88.0.1"), to: ("other", "10.102.0.1"))
        try stream(lab, from: ("other", "fd02::1"), to: ("gw", "fd88::1"))
        for name in ["gw", "other"] {
            let pair = try #require(try current(lab, name).first)
            #expect(pair.encapsulation == (encapsulation ? "udp" : "esp"))
            let device = try packets(lab, name)
            #expect(device.out * 2 < pair.packetsOut, "\(device) \(pair)")
            // In UDP, rows come in one piece; over IP it depends on who is faster.
            #expect(device.in * (encapsulation ? 2 : 1) <= pair.packetsIn, "\(device) \(pair)")
            #expect(try refusals(lab, name).isEmpty)
        }
    }
}
