// A tunnel with strongSwan that outlives the process of its node.
//
// What would fool us: a peer that sets the tunnel up anew (so the IKE SA must keep its SPIs, and
// the node must never say that one was established); keys that work only until they change (so
// both ends rekey both kinds of SAs in the last life).

import Foundation
import Testing

extension LiveNodeTests {
    private static let kept = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
          state: STATE
        secrets: SECRETS
        connections:
          peer:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net: {local: [10.88.0.0/24], remote: [10.101.0.1/32], proposals: [aes256gcm16-x25519]}
        """

    @Test(arguments: [false, true])
    func tunnelsOutliveTheirNode(isHandedOver: Bool) throws {
        let lab = try LiveLab()
        let text = Self.kept.replacingOccurrences(
            of: "STATE", with: lab.scratch.path("gw.state"))
        func start() throws -> Daemon {
            try lab.startNode("gw", text, options: isHandedOver ? ["--handover"] : [])
        }
        var node = try start()
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        let up = try lab.swanctl("--initiate", "--child", "net")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        let before = try list(lab, "gw")
        try #require(before.count == 1 && before[0].pairs.count == 1, "\(before)")
        for life in 2...4 {
            if isHandedOver { #expect(node.stop() == 0) } else { node.kill() }
            try lab.waitUntil("the node is gone") { !node.isRunning }
            node = try start()
            try lab.waitUntil("the tunnel is there again") { try list(lab, "gw").count == 1 }
            #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5, "\(node.text)")
            #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5, "\(node.text)")
            let after = try list(lab, "gw")
            #expect(after.map(\.localSPI) == before.map(\.localSPI), "life \(life)")
            #expect(after[0].pairs.map(\.inboundSPI) == before[0].pairs.map(\.inboundSPI))
        }
        let rekeys: [() throws -> Outcome] = [
            { try lab.ask("gw", "rekey", "peer") },
            { try lab.swanctl("--rekey", "--child", "net") },
            { try lab.ask("gw", "rekey", "peer", "--ike") },
            { try lab.swanctl("--rekey", "--ike", "gw") },
        ]
        for (number, rekey) in rekeys.enumerated() {
            let known = try (list(lab, "gw").map(\.localSPI), current(lab, "gw"))
            let done = try rekey()
            #expect(done.code == 0, "\(done.testDescription)")
            try lab.waitUntil("new keys, \(number)") {
                if number >= 2 { return try list(lab, "gw").map(\.localSPI) != known.0 }
                let pairs = try current(lab, "gw")
                return pairs.count == 1 && pairs[0].inboundSPI != known.1[0].inboundSPI
            }
            #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5, "\(node.text)")
        }
        #expect(!node.text.contains("established with"), "\(node.text)")
    }
}
