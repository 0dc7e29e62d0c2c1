// Live nodes on real networks, against strongSwan and against each other.
//
// What would fool us: two ends of ours with the same mistake (strongSwan and tshark share no code
// with us); pings that take another way than the tunnel (there is no other route, and the tunnels'
// counters must show them); rekeying that does not happen (SPIs must change).

import Foundation
import Testing

/// What `spindle list --json` tells.
struct Listed: Decodable {
    struct Pair: Decodable {
        let inboundSPI: String
        let encapsulation: String
        let isCurrent: Bool
        let packetsIn: UInt64
        let packetsOut: UInt64
        let suite: String
    }

    let localSPI: String
    let remote: String
    let role: String
    let isEstablished: Bool
    let remoteIdentity: String?
    let pairs: [Pair]
}

@Suite(.serialized, .enabled(if: LiveLab.isPossible, LiveLab.absence), .timeLimit(.minutes(20)))
struct LiveNodeTests {
    private static let gateway = """
        node:
          addresses: [10.77.0.1, "fd77::1"]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          peer:
            local_address: 10.77.0.1
            remote_address: 10.77.0.2
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.1/32]
                proposals: [aes256gcm16-x25519, aes256gcm16]
            timers: {liveness: 1s, retransmission: 200ms, retransmission_base: 1.2,
              retransmission_tries: 3}
          other:
            local_address: 10.77.0.1
            remote_address: 10.77.0.3
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: other.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24, "fd88::/64"]
                remote: [10.102.0.0/24, "fd02::/64"]
                proposals: [aes128-sha256-x25519]
          other6:
            local_address: "fd77::1"
            remote_address: "fd77::3"
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: other.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24, "fd88::/64"]
                remote: [10.102.0.0/24, "fd02::/64"]
                proposals: [aes256gcm16-x25519-esn]
        """

    private static let other = """
        node:
          addresses: [10.77.0.3, "fd77::3"]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          gw:
            local: {identity: other.lab.example, auth: psk}
            remote: {identity: gw.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.102.0.0/24, "fd02::/64"]
                remote: [10.88.0.0/24, "fd88::/64"]
                proposals: [aes128-sha256-x25519, aes256gcm16-x25519-esn]
        """

    private static let pooled = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        secrets: SECRETS
        pools:
          clients: {range: 10.99.0.1-10.99.0.200}
          clients6: {range: "fd99::1-fd99::ff"}
        connections:
          clients:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: other.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            pools: [clients, clients6]
            children:
              net:
                local: [10.88.0.0/24, "fd88::/64"]
                remote: dynamic
                proposals: [aes256gcm16-x25519]
        """

    private static let roadWarrior = """
        node:
          addresses: [10.77.0.3]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          home:
            local_address: 10.77.0.3
            remote_address: 10.77.0.1
            local: {identity: other.lab.example, auth: psk}
            remote: {identity: gw.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            request_address: true
            children:
              net:
                local: dynamic
                remote: [0.0.0.0/0, "::/0"]
                proposals: [aes256gcm16-x25519]
        """

    func list(_ lab: LiveLab, _ name: String) throws -> [Listed] {
        let outcome = try lab.ask(name, "list", "--json")
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        return try JSONDecoder().decode([Listed].self, from: outcome.output)
    }

    func current(_ lab: LiveLab, _ name: String) throws -> [Listed.Pair] {
        try list(lab, name).flatMap(\.pairs).filter(\.isCurrent)
    }

    private func pingsBothWays(_ lab: LiveLab) throws {
        #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5)
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5)
    }

    // MARK: strongSwan

    @Test func strongSwanComesToUs() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.gateway)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        let up = try lab.swanctl("--initiate", "--child", "net")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        try pingsBothWays(lab)
        let listed = try list(lab, "gw")
        try #require(listed.count == 1 && listed[0].pairs.count == 1)
        #expect(listed[0].role == "responder" && listed[0].isEstablished)
        #expect(listed[0].remoteIdentity == "peer.lab.example")
        // strongSwan's ESP in user space is always in UDP.
        #expect(listed[0].pairs[0].encapsulation == "udp")
        #expect(listed[0].pairs[0].packetsIn == 10 && listed[0].pairs[0].packetsOut == 10)

        #expect(node.stop() == 0, "\(node.text)")
        let rest = try lab.swanctl("--list-sas")
        #expect(rest.text.isEmpty, "the peer was not told: \(rest.text)")
        let rules = try lab.run(in: "gw", ["ip", "rule"])
        #expect(!rules.text.contains("4500"))
    }

    @Test func weComeToStrongSwanAndKeysChangeUnderTraffic() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.gateway)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        let up = try lab.ask("gw", "initiate", "peer")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        try pingsBothWays(lab)
        let first = try list(lab, "gw")
        #expect(first[0].role == "initiator")

        let pings = 2000
        let flood = try Daemon(
            "/usr/sbin/ip", lab.floodArguments(count: pings), log: lab.scratch.path("flood"))
        var seen: Set<String> = Set(first[0].pairs.map(\.inboundSPI))
        let rekeys: [() throws -> Outcome] = [
            { try lab.ask("gw", "rekey", "peer") },
            { try lab.swanctl("--rekey", "--child", "net") },
            { try lab.ask("gw", "rekey", "peer", "--ike") },
            { try lab.swanctl("--rekey", "--ike", "gw") },
            { try lab.ask("gw", "rekey", "peer") },
        ]
        for (number, rekey) in rekeys.enumerated() {
            let before = try list(lab, "gw").map(\.localSPI)
            let isOfIKE = number == 2 || number == 3
            let done = try rekey()
            #expect(done.code == 0, "\(done.testDescription)")
            try lab.waitUntil("new keys, \(number)") {
                if isOfIKE { return try list(lab, "gw").map(\.localSPI) != before }
                let pairs = try current(lab, "gw")
                return pairs.count == 1 && !seen.contains(pairs[0].inboundSPI)
            }
            seen.formUnion(try current(lab, "gw").map(\.inboundSPI))
        }
        #expect(seen.count == 4)
        try flood.waitFor("received")
        #expect(flood.text.contains(" \(pings) received"), "\(flood.text) \(node.text)")

        #expect(try lab.ask("gw", "terminate", "peer").code == 0)
        #expect(try list(lab, "gw").isEmpty)
        #expect(try lab.swanctl("--list-sas").text.isEmpty)
    }

    @Test func deadPeersAreNoticedAndWrongKeysRefused() throws {
        let lab = try LiveLab()
        let wrong = Self.gateway.replacingOccurrences(of: "SECRETS", with: "WRONG")
        let file = try lab.scratch.write(
            Data(LiveLab.secrets.replacingOccurrences(of: "a key", with: "another key").utf8),
            as: "wrong.yaml")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        let peer = try lab.startStrongSwan()
        do {
            let node = try lab.startNode(
                "gw", wrong.replacingOccurrences(of: "WRONG", with: file))
            let refused = try lab.ask("gw", "initiate", "peer")
            #expect(refused.code == 1 && refused.complaint.contains("AUTHENTICATION_FAILED"))
            #expect(try list(lab, "gw").isEmpty)
            #expect(node.stop() == 0)
        }
        let node = try lab.startNode("gw", Self.gateway)
        #expect(try lab.ask("gw", "initiate", "peer").code == 0, "\(node.text)")
        peer.kill()
        try node.waitFor("taken for dead")
        try lab.waitUntil("the dead peer is forgotten") { try list(lab, "gw").isEmpty }
    }

    // MARK: Each other

    @Test(arguments: ["other", "other6"])
    func twoNodesTalkESPOverIP(connection: String) throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.gateway)
        let other = try lab.startNode("other", Self.other)
        let up = try lab.ask("gw", "initiate", connection)
        try #require(up.code == 0, "\(up.testDescription) \(other.text)")
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1") == 5)
        #expect(try lab.ping(from: "other", "fd02::1", "fd88::1") == 5)
        for name in ["gw", "other"] {
            let pairs = try current(lab, name)
            try #require(pairs.count == 1)
            #expect(pairs[0].encapsulation == "esp")
            #expect(pairs[0].packetsIn >= 10 && pairs[0].packetsOut >= 10)
            #expect(pairs[0].suite.contains("esn") == (connection == "other6"))
        }
        #expect(node.stop() == 0)
        try lab.waitUntil("the other end was told") { try list(lab, "other").isEmpty }
    }

    // What would fool us: an address that is agreed upon and never set, or never taken away.
    @Test func roadWarriorsGetAddressesAndGiveThemBack() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.pooled)
        let other = try lab.startNode("other", Self.roadWarrior)
        let up = try lab.ask("other", "initiate", "home")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        let addresses = ["ip", "-brief", "address", "show", "dev", "spindle0"]
        let during = try lab.run(in: "other", addresses).text
        #expect(during.contains("10.99.0.") && during.contains("fd99::"), "\(during)")
        let words = during.split(separator: " ").map { String($0.prefix { $0 != "/" }) }
        for prefix in ["10.99.0.", "fd99::"] {
            let own = try #require(words.first { $0.hasPrefix(prefix) })
            let host = prefix == "fd99::" ? "fd88::1" : "10.88.0.1"
            #expect(try lab.ping(from: "other", own, host) == 5, "\(other.text)")
            #expect(try lab.ping(from: "gw", host, own) == 5)
        }
        #expect(try lab.ask("other", "rekey", "home", "--ike").code == 0)
        #expect(try lab.run(in: "other", addresses).text == during)
        #expect(try lab.ask("other", "terminate", "home").code == 0)
        let after = try lab.run(in: "other", addresses).text
        #expect(!after.contains("10.99.0.") && !after.contains("fd99::"), "\(after)")
    }

    @Test func tsharkReadsATunnelWithTheKeys() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.gateway)
        let other = try lab.startNode("other", Self.other)
        let capture = lab.scratch.path("capture.pcap")
        let sniffer = try Daemon(
            "/usr/sbin/ip", lab.captureArguments(capture, packets: 14),
            log: lab.scratch.path("sniffer"))
        try sniffer.waitFor("Capturing on")
        try lab.waitUntil("the capture began") { FileManager.default.fileExists(atPath: capture) }
        try #require(try lab.ask("gw", "initiate", "other").code == 0, "\(other.text)")
        let keys = lab.scratch.path("keys")
        let written = try lab.ask("gw", "keys", "--format", "wireshark", keys)
        try #require(written.code == 0, "\(written.testDescription)")
        for name in ["esp_sa", "ikev2_decryption_table"] {
            let mode = try FileManager.default.attributesOfItem(atPath: "\(keys)/\(name)")
            #expect(mode[.posixPermissions] as? Int == 0o600)
        }
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1") == 5)
        try lab.waitUntil("all packets were caught") { !sniffer.isRunning }
        let read = try Program.run(
            "/usr/bin/env",
            [
                "WIRESHARK_CONFIG_DIR=\(keys)", "tshark", "-r", capture, "-o",
                "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
                "-Y", "icmp || isakmp.auth.method", "-T", "fields", "-e", "icmp.type", "-e",
                "isakmp.auth.method", "-e", "esp.icv_good",
            ])
        #expect(!read.complaint.contains("UAT"), "\(read.complaint)")
        let rows = read.text.split(separator: "\n").map { $0.split(separator: "\t") }
        #expect(rows.filter { $0.first == "8" }.count == 5, "\(read.text) \(node.text)")
        #expect(rows.filter { $0.first == "0" }.count == 5)
        // Both AUTH payloads: pre-shared key is method 2.
        #expect(rows.filter { $0.contains("2") }.count == 2, "\(read.text)")
    }

    // MARK: What can't work

    @Test func whatIsMissingIsSaidInOneLine() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.gateway)
        let text = Self.gateway
            .replacingOccurrences(of: "SOCKET", with: lab.scratch.path("second.control"))
            .replacingOccurrences(of: "SECRETS", with: lab.scratch.path("gw.secrets.yaml"))
        let file = try lab.scratch.write(Data(text.utf8), as: "second.yaml")
        let second = try lab.run(
            in: "gw", [Program.path(of: "spindle"), "node", "--config", file])
        #expect(second.code == 1 && second.complaints.count == 1, "\(second.testDescription)")
        #expect(second.complaint.contains("10.77.0.1:500 is in use: stop the other"))
        let same = try lab.run(
            in: "gw",
            [Program.path(of: "spindle"), "node", "--config", lab.scratch.path("gw.yaml")])
        #expect(same.code == 1 && same.complaint.contains("another node listens"))
        // The one that was there has noticed nothing.
        #expect(try list(lab, "gw").isEmpty && node.isRunning)
        let unprivileged = try lab.run(
            in: "peer",
            [
                "setpriv", "--bounding-set", "-all", "--inh-caps", "-all",
                Program.path(of: "spindle"), "node", "--config", file,
            ])
        #expect(unprivileged.code == 1 && unprivileged.complaints.count == 1)
        #expect(unprivileged.complaint.contains("not permitted: run as root"))
        let unknown = try lab.ask("gw", "initiate", "nobody")
        #expect(unknown.code == 1 && unknown.complaint.contains("choose one of peer, other"))
        let absent = try lab.ask("other", "list")
        #expect(absent.code == 1 && absent.complaint.contains("no node listens there"))
    }
}
