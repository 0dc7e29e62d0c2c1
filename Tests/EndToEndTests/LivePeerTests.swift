// What peers do to a live node: many at once, and an end of SAs that the peer wants.
//
// What would fool us: SAs that are told and carry nothing (each pair's own counters must show its
// ping, and no more); routes that stay when nobody is behind them.

import Foundation
import Testing

extension LiveNodeTests {
    private static let many = 50

    private static let responder = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        secrets: SECRETS
        limits: {half_open_per_address: 100, cookies_above: 0}
        connections:
          peers:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: "*.lab.example", auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.0/16]
                proposals: [aes256gcm16-x25519]
        """

    /// So many connections, each with its own name and one address behind it.
    private static func peers(_ count: Int) -> String {
        let connections = (1...count).map { number in
            """
            peer\(number) {
              version = 2
              local_addrs = 10.77.0.2
              remote_addrs = 10.77.0.1
              proposals = aes256gcm16-prfsha256-x25519
              mobike = no
              local { auth = psk
                      id = peer\(number).lab.example }
              remote { auth = psk
                       id = gw.lab.example }
              children { net\(number) {
                local_ts = 10.101.1.\(number)/32
                remote_ts = 10.88.0.0/24
                esp_proposals = aes256gcm16-x25519
                start_action = start
              } }
            }

            """
        }
        return """
            connections {
            \(connections.joined())
            }
            secrets { ike { secret = "a key for the tests of the live node" } }
            """
    }

    // Each has to return a cookie (RFC 7296 §2.6). strongSwan overlooks an answer that comes while
    // it still handles the cookie (both have message ID 0), and then asks again after 4 s.
    @Test func manyPeersComeAtOnce() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.responder)
        let added = try lab.run(
            in: "peer",
            [
                "bash", "-c",
                "for n in {1..\(Self.many)}; do ip address add 10.101.1.$n/32 dev lo; done",
            ])
        try #require(added.code == 0, "\(added.testDescription)")
        let peer = try lab.startStrongSwan(Self.peers(Self.many))
        defer { _ = peer.stop() }
        try lab.waitUntil("all are there: \(node.text.suffix(2000))") {
            try current(lab, "gw").count == Self.many
        }
        try lab.waitForStrongSwan(pairs: Self.many)
        for number in 1...Self.many {
            let came = try lab.ping(from: "peer", "10.101.1.\(number)", "10.88.0.1", count: 1)
            #expect(came == 1, "peer\(number): \(node.text.suffix(2000))")
        }
        let told = try String(
            contentsOfFile: lab.scratch.path("strongswan") + "/charon.log", encoding: .utf8)
        #expect(told.components(separatedBy: "[ N(COOKIE) ]").count - 1 >= Self.many)
        let listed = try list(lab, "gw")
        #expect(listed.count == Self.many)
        #expect(
            Set(listed.map(\.remoteIdentity))
                == Set((1...Self.many).map { "peer\($0).lab.example" }))
        for association in listed {
            let name = "\(association.remoteIdentity ?? "nobody")"
            try #require(association.pairs.count == 1, "\(name)")
            let pair = association.pairs[0]
            #expect(pair.packetsIn == 1 && pair.packetsOut == 1, "\(name): \(pair)")
        }
    }

    @Test func whatThePeerDeletesIsForgotten() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.responder)
        let added = try lab.run(in: "peer", ["ip", "address", "add", "10.101.1.1/32", "dev", "lo"])
        try #require(added.code == 0, "\(added.testDescription)")
        let peer = try lab.startStrongSwan(Self.peers(1))
        defer { _ = peer.stop() }
        func hasRoute() throws -> Bool {
            try lab.run(in: "gw", ["ip", "route", "show", "table", "all"]).text
                .contains("10.101.1.1")
        }
        try lab.waitUntil("the peer came") { try current(lab, "gw").count == 1 }
        try lab.waitForStrongSwan(pairs: 1)
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.1.1") == 5, "\(node.text)")
        #expect(try hasRoute())

        let withoutChild = try lab.swanctl("--terminate", "--child", "net1")
        try #require(withoutChild.code == 0, "\(withoutChild.testDescription)")
        try lab.waitUntil("the CHILD SA is forgotten") {
            try list(lab, "gw").flatMap(\.pairs).isEmpty
        }
        #expect(try !hasRoute(), "\(node.text)")
        let rest = try list(lab, "gw")
        #expect(rest.count == 1 && rest[0].isEstablished)

        // The IKE SA still makes others, and takes them with it.
        let again = try lab.swanctl("--initiate", "--child", "net1")
        try #require(again.code == 0, "\(again.testDescription)")
        #expect(try lab.ping(from: "peer", "10.101.1.1", "10.88.0.1") == 5, "\(node.text)")
        #expect(try list(lab, "gw").map(\.localSPI) == rest.map(\.localSPI))
        #expect(try hasRoute())
        let without = try lab.swanctl("--terminate", "--ike", "peer1")
        try #require(without.code == 0, "\(without.testDescription)")
        try lab.waitUntil("the IKE SA is forgotten") { try list(lab, "gw").isEmpty }
        #expect(try !hasRoute(), "\(node.text)")
    }
}
