// Certificates between a live node and strongSwan, made by OpenSSL.
//
// What would fool us: an end that knows the other's intermediate authority already (each has only
// its own); IKE_AUTH that fits into a packet (strongSwan's log must tell of fragments both ways,
// RFC 7383).

import Foundation
import Testing

extension LiveNodeTests {
    private static func gateway(_ folder: String) -> String {
        """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
        connections:
          peer:
            local_address: 10.77.0.1
            remote_address: 10.77.0.2
            local:
              identity: gw.lab.example
              auth: certificate
              certificate: \(folder)/gw.chain.pem
              key: \(folder)/gw.key
            remote:
              identity: peer.lab.example
              auth: certificate
              authorities: [\(folder)/root.pem]
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.1/32]
                proposals: [aes256gcm16-x25519]
        """
    }

    private static func peer(_ folder: String) -> String {
        """
        connections { gw {
          version = 2
          local_addrs = 10.77.0.2
          remote_addrs = 10.77.0.1
          proposals = aes256gcm16-prfsha256-x25519
          mobike = no
          fragmentation = yes
          local { auth = pubkey
                  certs = \(folder)/peer.pem
                  id = peer.lab.example }
          remote { auth = pubkey
                   id = gw.lab.example }
          children { net {
            local_ts = 10.101.0.1/32
            remote_ts = 10.88.0.0/24
            esp_proposals = aes256gcm16-x25519
          } }
        } }
        authorities {
          root { cacert = \(folder)/root.pem }
          own { cacert = \(folder)/peer-ca.pem }
        }
        """
    }

    @Test(arguments: [("ec", "rsa"), ("rsa", "ec")])
    func certificatesComeInFragments(ours: String, theirs: String) throws {
        let lab = try LiveLab()
        let folder = lab.scratch.path("certificates")
        let script = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "Live/certificates").path
        let made = try Program.run(script, [folder, ours, theirs])
        try #require(made.code == 0, "\(made.testDescription)")
        let keys = lab.scratch.path("strongswan") + "/private"
        try FileManager.default.createDirectory(
            atPath: keys, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "\(folder)/peer.key", toPath: "\(keys)/peer.key")

        let node = try lab.startNode("gw", Self.gateway(folder))
        let peer = try lab.startStrongSwan(Self.peer(folder))
        defer { _ = peer.stop() }
        let log = lab.scratch.path("strongswan") + "/charon.log"
        var read = 0
        for role in ["initiator", "responder"] {
            let up =
                role == "initiator"
                ? try lab.ask("gw", "initiate", "peer")
                : try lab.swanctl("--initiate", "--child", "net")
            let told = try String(contentsOfFile: log, encoding: .utf8).dropFirst(read)
            read += told.count
            try #require(up.code == 0, "\(up.testDescription) \(node.text) \(told.suffix(3000))")
            #expect(told.contains("received fragment #2 of"), "\(told)")
            #expect(told.contains("splitting IKE message"), "\(told)")
            let listed = try list(lab, "gw")
            try #require(listed.count == 1)
            #expect(listed[0].role == role && listed[0].remoteIdentity == "peer.lab.example")
            #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5)
            #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5)
            #expect(try lab.ask("gw", "terminate", "peer").code == 0)
            #expect(try lab.swanctl("--list-sas").text.isEmpty)
        }
    }
}
