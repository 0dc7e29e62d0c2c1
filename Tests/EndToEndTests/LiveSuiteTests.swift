// The suites of the captures between a live node and strongSwan, each with other algorithms and
// another group of IKE.
//
// What would fool us: both ends fall back to another proposal (each has only the one, and `list`
// must name it); keys that fit until they change (each pair is rekeyed with a new agreement).

import Testing

extension LiveNodeTests {
    struct SuiteCase: Sendable, CustomTestStringConvertible {
        let ike: String
        let esp: String
        /// The group of both, which ends their proposals.
        let group: String

        var testDescription: String { "\(esp) by \(ike)-\(group)" }

        var gateway: String {
            """
            node:
              addresses: [10.77.0.1]
              control_socket: SOCKET
            secrets: SECRETS
            connections:
              peer:
                local_address: 10.77.0.1
                remote_address: 10.77.0.2
                local: {identity: gw.lab.example, auth: psk}
                remote: {identity: peer.lab.example, auth: psk}
                proposals: [\(ike)-\(group)]
                children:
                  net:
                    local: [10.88.0.0/24, "fd88::/64"]
                    remote: [10.101.0.1/32, "fd01::1/128"]
                    proposals: [\(esp)-\(group)]
            """
        }

        var peer: String {
            """
            connections { gw {
              version = 2
              local_addrs = 10.77.0.2
              remote_addrs = 10.77.0.1
              proposals = \(ike)-\(group)
              mobike = no
              local { auth = psk
                      id = peer.lab.example }
              remote { auth = psk
                       id = gw.lab.example }
              children { net {
                local_ts = 10.101.0.1/32, fd01::1/128
                remote_ts = 10.88.0.0/24, fd88::/64
                esp_proposals = \(esp)-\(group)
              } }
            } }
            secrets { ike { secret = "a key for the tests of the live node" } }
            """
        }
    }

    static let suites = [
        SuiteCase(ike: "aes256gcm16-prfsha384", esp: "aes256gcm16", group: "ecp384"),
        SuiteCase(
            ike: "aes128-sha256-prfsha256", esp: "aes128-sha256", group: "ecp256"),
        SuiteCase(
            ike: "aes256-sha512-prfsha512", esp: "aes256-sha512", group: "modp2048"),
        SuiteCase(
            ike: "chacha20poly1305-prfsha256", esp: "chacha20poly1305", group: "x25519"),
        SuiteCase(
            ike: "aes128gcm16-prfsha256", esp: "aes128gcm16", group: "modp3072"),
    ]

    @Test(arguments: suites)
    func strongSwanSpeaksTheSuite(_ suite: SuiteCase) throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", suite.gateway)
        let peer = try lab.startStrongSwan(suite.peer)
        defer { _ = peer.stop() }
        for role in ["initiator", "responder"] {
            let up =
                role == "initiator"
                ? try lab.ask("gw", "initiate", "peer")
                : try lab.swanctl("--initiate", "--child", "net")
            try #require(up.code == 0, "\(up.testDescription) \(up.text) \(node.text)")
            try pingsInBothFamilies(lab, node)
            let first = try list(lab, "gw")
            try #require(first.count == 1 && first[0].pairs.count == 1, "\(first)")
            #expect(first[0].role == role)
            #expect(first[0].pairs[0].suite == suite.esp)
            #expect(first[0].pairs[0].packetsIn == 20 && first[0].pairs[0].packetsOut == 20)

            let rekeyed = try lab.ask("gw", "rekey", "peer")
            #expect(rekeyed.code == 0, "\(rekeyed.testDescription)")
            // The old pair stays a while for what is under way.
            try lab.waitUntil("the new pair is current") {
                let pairs = try current(lab, "gw")
                return pairs.count == 1
                    && pairs[0].inboundSPI != first[0].pairs[0].inboundSPI
            }
            try pingsInBothFamilies(lab, node)
            let down = try lab.ask("gw", "terminate", "peer")
            #expect(down.code == 0, "\(down.testDescription)")
            try lab.waitUntil("strongSwan has nothing left") {
                try lab.swanctl("--list-sas").text.isEmpty
            }
        }
    }

    private func pingsInBothFamilies(_ lab: LiveLab, _ node: Daemon) throws {
        for (inner, ours) in [("10.101.0.1", "10.88.0.1"), ("fd01::1", "fd88::1")] {
            #expect(try lab.ping(from: "peer", inner, ours) == 5, "\(node.text)")
            #expect(try lab.ping(from: "gw", ours, inner) == 5, "\(node.text)")
        }
    }
}
