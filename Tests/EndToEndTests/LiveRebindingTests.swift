// A NAT between strongSwan and a live node loses its mappings.
//
// What would fool us: a mapping that stays as it was (the NAT of Live/nat.py takes other ports each
// time, and closes the old ones; `list` must show the new address).

import Foundation
import Testing

extension LiveNodeTests {
    private static let behindNAT = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          peers:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.1/32]
                proposals: [aes256gcm16-x25519]
        """

    /// It asks whether we live, and so tells that it moved.
    private static let asking = """
        connections { gw {
          version = 2
          local_addrs = 10.77.0.2
          remote_addrs = 10.77.0.1
          proposals = aes256gcm16-prfsha256-x25519
          mobike = no
          dpd_delay = 1s
          local { auth = psk
                  id = peer.lab.example }
          remote { auth = psk
                   id = gw.lab.example }
          children { net {
            local_ts = 10.101.0.1/32
            remote_ts = 10.88.0.0/24
            esp_proposals = aes256gcm16-x25519
          } }
        } }
        secrets { ike { secret = "a key for the tests of the live node" } }
        """

    @Test func trafficFollowsAPeerBehindANewMapping() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.behindNAT)
        let nat = try startNAT(lab)
        let peer = try lab.startStrongSwan(Self.asking)
        defer { _ = peer.stop() }
        let up = try lab.swanctl("--initiate", "--child", "net")
        try #require(up.code == 0, "\(up.testDescription) \(up.text) \(node.text) \(nat.text)")
        #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5, "\(node.text)")
        let first = try list(lab, "gw")
        try #require(first.count == 1)
        #expect(first[0].remote.hasPrefix("10.77.0.3 "), "\(first)")

        // Another address, the first one with another port, and again.
        var seen: Set<String> = [first[0].remote]
        for address in ["10.77.0.4", "10.77.0.3", "10.77.0.4"] {
            nat.signal(SIGUSR1)
            try lab.waitUntil("the node knows of \(address) and a new port: \(seen)") {
                let now = try list(lab, "gw").map(\.remote)
                return now.count == 1 && now[0].hasPrefix(address + " ") && !seen.contains(now[0])
            }
            seen.formUnion(try list(lab, "gw").map(\.remote))
            #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5, "\(node.text)")
            #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5, "\(node.text)")
        }
        let last = try list(lab, "gw")
        #expect(last.map(\.localSPI) == first.map(\.localSPI), "the SA stays: \(node.text)")
        #expect(last[0].pairs.map(\.inboundSPI) == first[0].pairs.map(\.inboundSPI))
    }

    /// A NAT in the namespace of the other node, through which strongSwan reaches the gateway.
    private func startNAT(_ lab: LiveLab) throws -> Daemon {
        let address = try lab.run(in: "other", ["cat", "/sys/class/net/eth0/address"])
        let hardware = address.text.trimmingCharacters(in: .whitespacesAndNewlines)
        let commands: [(String, [String])] = [
            ("other", ["ip", "address", "add", "10.77.0.4/24", "dev", "eth0"]),
            (
                "peer",
                [
                    "ip", "neighbour", "replace", "10.77.0.1", "lladdr", hardware, "dev", "eth0",
                    "nud", "permanent",
                ]
            ),
        ]
        for (name, command) in commands {
            let done = try lab.run(in: name, command)
            try #require(done.code == 0, "\(done.testDescription)")
        }
        let script = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "Live/nat.py").path
        let nat = try lab.start(
            in: "other",
            [Program.python, script, "10.77.0.2", "10.77.0.1", "10.77.0.3", "10.77.0.4"],
            log: "nat")
        try nat.waitFor("ready")
        return nat
    }
}
