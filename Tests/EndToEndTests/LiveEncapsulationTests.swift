// ESP in UDP where nothing demands it, over IPv6, and at other ports; and strongSwan as a road
// warrior.
//
// What would fool us: packets that go as plain ESP after all (the capture must have none), and
// addresses that are agreed upon but never used.

import Foundation
import Testing

extension LiveNodeTests {
    private static func end(
        _ own: String, _ peer: String?, _ names: (String, String), nets: (String, String),
        options: String = "", node: String = ""
    ) -> String {
        """
        node:
          addresses: ["\(own)"]
          control_socket: SOCKET
        \(node)
        secrets: SECRETS
        connections:
          end:
            local_address: "\(own)"
        \(peer.map { "    remote_address: \"\($0)\"" } ?? "")
        \(options)
            local: {identity: \(names.0), auth: psk}
            remote: {identity: \(names.1), auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [\(nets.0)]
                remote: [\(nets.1)]
                proposals: [aes256gcm16-x25519]
        """
    }

    private static let gwNets = "10.88.0.0/24, \"fd88::/64\""
    private static let otherNets = "10.102.0.0/24, \"fd02::/64\""

    private static func gw(_ own: String, _ peer: String, _ options: String) -> String {
        end(
            own, peer, ("gw.lab.example", "other.lab.example"), nets: (gwNets, otherNets),
            options: options)
    }

    private static func other(_ own: String, node: String = "") -> String {
        end(
            own, nil, ("other.lab.example", "gw.lab.example"), nets: (otherNets, gwNets),
            node: node)
    }

    /// What a capture at the other end has, by a filter of tshark.
    private func count(_ capture: String, _ filter: String) throws -> Int {
        let read = try Program.run("/usr/bin/tshark", ["-r", capture, "-Y", filter])
        return read.text.split(separator: "\n").count
    }

    @Test(arguments: [
        ("10.77.0.1", "10.77.0.3", nil), ("fd77::1", "fd77::3", nil),
        ("10.77.0.1", "10.77.0.3", 14_500), ("fd77::1", "fd77::3", 14_500),
    ])
    func encapsulationCanBeForced(own: String, peer: String, port: Int?) throws {
        let lab = try LiveLab()
        let at = port.map { "    remote_port: \($0)\n" } ?? ""
        let node = try lab.startNode(
            "gw", Self.gw(own, peer, at + "    force_encapsulation: true"))
        let ports = port.map { "  ike_port: 1500\n  encapsulation_port: \($0)" } ?? ""
        let other = try lab.startNode("other", Self.other(peer, node: ports))
        let capture = lab.scratch.path("capture.pcap")
        let sniffer = try lab.start(
            in: "other", ["tshark", "-i", "eth0", "-f", "udp or esp", "-w", capture],
            log: "sniffer")
        try sniffer.waitFor("Capturing on")
        try lab.waitUntil("the capture began") { FileManager.default.fileExists(atPath: capture) }
        let up = try lab.ask("gw", "initiate", "end")
        try #require(up.code == 0, "\(up.testDescription) \(node.text) \(other.text)")
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1") == 5, "\(other.text)")
        #expect(try lab.ping(from: "other", "fd02::1", "fd88::1") == 5, "\(node.text)")
        for name in ["gw", "other"] {
            let pair = try #require(try current(lab, name).first)
            #expect(pair.encapsulation == "udp")
            #expect(pair.packetsIn >= 10 && pair.packetsOut >= 10)
        }
        try lab.waitUntil("all was caught") {
            try count(capture, "udp.dstport == \(port ?? 4500)") >= 10
        }
        sniffer.kill()
        #expect(try count(capture, "ip.proto == 50 || ipv6.nxt == 50") == 0)
        // Where the port is known, no message goes to the usual one.
        #expect(try (count(capture, "udp.dstport == 500") == 0) == (port != nil))
        #expect(node.stop() == 0)
        try lab.waitUntil("the other end was told") { try list(lab, "other").isEmpty }
    }

    // Without forcing it, the other ports change nothing about ESP.
    @Test func aPeerAtOtherPortsIsReached() throws {
        let lab = try LiveLab()
        let node = try lab.startNode(
            "gw", Self.gw("10.77.0.1", "10.77.0.3", "    remote_port: 14500"))
        let other = try lab.startNode(
            "other",
            Self.other("10.77.0.3", node: "  ike_port: 1500\n  encapsulation_port: 14500"))
        let up = try lab.ask("gw", "initiate", "end")
        try #require(up.code == 0, "\(up.testDescription) \(node.text) \(other.text)")
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1") == 5, "\(other.text)")
        #expect(try current(lab, "gw").map(\.encapsulation) == ["esp"])
        #expect(try lab.ask("gw", "rekey", "end").code == 0)
        #expect(try lab.ping(from: "other", "10.102.0.1", "10.88.0.1") == 5, "\(node.text)")
    }

    // MARK: strongSwan

    private static func swan(
        _ own: String, _ gateway: String, options: String, selectors: String
    ) -> String {
        """
        connections { gw {
          version = 2
          local_addrs = \(own)
          remote_addrs = \(gateway)
          proposals = aes256gcm16-prfsha256-x25519
          mobike = no
          rekey_time = 0
          \(options)
          local { auth = psk
                  id = peer.lab.example }
          remote { auth = psk
                   id = gw.lab.example }
          children { net {
            \(selectors)
            esp_proposals = aes256gcm16-x25519
            rekey_time = 0
          } }
        } }
        secrets { ike { secret = "a key for the tests of the live node" } }
        """
    }

    @Test func strongSwanComesOverIPv6() throws {
        let lab = try LiveLab()
        let node = try lab.startNode(
            "gw",
            Self.end(
                "fd77::1", nil, ("gw.lab.example", "peer.lab.example"),
                nets: ("\"fd88::/64\"", "\"fd01::1/128\"")))
        let peer = try lab.startStrongSwan(
            Self.swan(
                "fd77::2", "fd77::1", options: "",
                selectors: "local_ts = fd01::1/128\n    remote_ts = fd88::/64"))
        defer { _ = peer.stop() }
        let up = try lab.swanctl("--initiate", "--child", "net")
        try #require(up.code == 0, "\(up.testDescription) \(up.text) \(node.text)")
        #expect(try lab.ping(from: "peer", "fd01::1", "fd88::1") == 5, "\(node.text)")
        #expect(try lab.ping(from: "gw", "fd88::1", "fd01::1") == 5, "\(node.text)")
        let listed = try list(lab, "gw")
        #expect(listed.count == 1 && listed[0].remote.hasPrefix("fd77::2 "))
        let pairs = listed.flatMap(\.pairs)
        #expect(pairs.map(\.encapsulation) == ["udp"])
        #expect(pairs.allSatisfy { $0.packetsIn == 10 && $0.packetsOut == 10 })
    }

    private static let pool = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        secrets: SECRETS
        pools:
          clients: {range: 10.99.0.0/30}
        connections:
          clients:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            pools: [clients]
            children:
              net:
                local: [10.88.0.0/24]
                remote: dynamic
                proposals: [aes256gcm16-x25519]
        """

    // The pool has two addresses: three visits show that they come back.
    @Test func strongSwanGetsAnAddress() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.pool)
        let peer = try lab.startStrongSwan(
            Self.swan(
                "10.77.0.2", "10.77.0.1", options: "vips = 0.0.0.0",
                selectors: "remote_ts = 10.88.0.0/24"))
        defer { _ = peer.stop() }
        for visit in 1...3 {
            let up = try lab.swanctl("--initiate", "--child", "net")
            try #require(up.code == 0, "\(visit): \(up.text) \(node.text)")
            let addresses = try lab.run(in: "peer", ["ip", "-brief", "-4", "address"]).text
            let own = try #require(
                addresses.split(whereSeparator: \.isWhitespace)
                    .first { $0.hasPrefix("10.99.0.") }?.prefix { $0 != "/" }, "\(addresses)")
            #expect(own == "10.99.0.1" || own == "10.99.0.2")
            #expect(try lab.ping(from: "peer", String(own), "10.88.0.1") == 5, "\(node.text)")
            #expect(try lab.ping(from: "gw", "10.88.0.1", String(own)) == 5, "\(node.text)")
            let pairs = try current(lab, "gw")
            #expect(pairs.map(\.packetsIn) == [10] && pairs.map(\.packetsOut) == [10])
            #expect(try lab.swanctl("--terminate", "--ike", "gw").code == 0)
            try lab.waitUntil("the node was told") { try list(lab, "gw").isEmpty }
        }
    }
}
