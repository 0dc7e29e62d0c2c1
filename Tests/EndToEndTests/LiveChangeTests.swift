// What changes while tunnels live: the configuration, and routes.
//
// What would fool us: a file that is not read again (the second one has a connection more), and
// tunnels that were lost and came back (SPIs and pings tell).

import Foundation
import Testing

extension LiveNodeTests {
    private static let one = """
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
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.1/32]
                proposals: [aes256gcm16-x25519, aes256gcm16]
        """

    private static let two =
        one
            + """

              later:
                local_address: 10.77.0.1
                remote_address: 10.77.0.3
                local: {identity: gw.lab.example, auth: psk}
                remote: {identity: other.lab.example, auth: psk}
                proposals: [aes256gcm16-prfsha256-x25519]
                children:
                  net:
                    local: [10.88.0.0/24]
                    remote: [10.102.0.0/24]
                    proposals: [aes128-sha256-x25519]
            """

    private static let other = """
        node:
          addresses: [10.77.0.3]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          gw:
            local: {identity: other.lab.example, auth: psk}
            remote: {identity: gw.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.102.0.0/24]
                remote: [10.88.0.0/24]
                proposals: [aes128-sha256-x25519]
        """

    @Test func aNewFileIsReadWithoutLosingATunnel() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.one)
        let other = try lab.startNode("other", Self.other)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        let up = try lab.ask("gw", "initiate", "peer")
        try #require(up.code == 0, "\(up.testDescription) \(node.text)")
        let before = try list(lab, "gw")
        #expect(try lab.ask("gw", "initiate", "later").code == 1)
        let file = lab.scratch.path("gw.yaml")
        let good = try String(contentsOfFile: file, encoding: .utf8)
        func write(_ text: String) throws {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        }

        let pings = 1000
        let flood = try Daemon(
            "/usr/sbin/ip", lab.floodArguments(count: pings), log: lab.scratch.path("flood"))
        try flood.waitFor("PING")
        // Line 8: a key that is not known, in column 5.
        try write(good.replacingOccurrences(of: "remote_address:", with: "remote_adress:"))
        node.signal(SIGHUP)
        try node.waitFor("the configuration is as it was")
        #expect(node.text.contains("gw.yaml:8:5: connections.peer."), "\(node.text)")
        #expect(try lab.ask("gw", "initiate", "later").code == 1)
        // The old one is in force: it still knows where the peer is.
        #expect(try lab.ask("gw", "rekey", "peer").code == 0)

        let paths = good.components(separatedBy: "\n").filter {
            $0.contains("control_socket") || $0.contains("secrets:")
        }
        var text = Self.two
        text = text.replacingOccurrences(of: "  control_socket: SOCKET", with: paths[0])
        text = text.replacingOccurrences(of: "secrets: SECRETS", with: paths[1])
        try write(text)
        node.signal(SIGHUP)
        try node.waitFor("the configuration was read again")
        let later = try lab.ask("gw", "initiate", "later")
        #expect(later.code == 0, "\(later.testDescription) \(node.text) \(other.text)")
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1") == 5)
        try flood.waitFor("received")
        #expect(flood.text.contains(" \(pings) received"), "\(flood.text) \(node.text)")
        let after = try list(lab, "gw").filter { $0.remoteIdentity == "peer.lab.example" }
        #expect(after.map(\.localSPI) == before.map(\.localSPI))
    }

    /// The rule for routes is the namespace's: a second node there would take it away at its end.
    @Test func aSecondNodeLeavesTheFirstItsRoutes() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.one)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        try #require(try lab.ask("gw", "initiate", "peer").code == 0, "\(node.text)")
        let own = "  ike_port: 600\n  encapsulation_port: 601\n  tunnel: {device: second0}\n"
        let first = try String(contentsOfFile: lab.scratch.path("gw.yaml"), encoding: .utf8)
        let second = first.replacingOccurrences(of: "gw.control\n", with: "second\n" + own)
        try #require(second != first)
        let file = try lab.scratch.write(Data(second.utf8), as: "second.yaml")
        let outcome = try lab.run(
            in: "gw", ["timeout", "20", Program.path(of: "spindle"), "node", "--config", file])
        #expect(outcome.code == 1, "\(outcome.testDescription)")
        #expect(
            outcome.complaint.contains("another node has the routes"),
            "\(outcome.testDescription)")
        #expect(try lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5)
        let down = try lab.ask("gw", "terminate", "peer")
        #expect(down.code == 0 && down.complaint.contains("closed"), "\(down.testDescription)")
    }

    // A pair that was deleted receives for 5 s more.
    @Test func routesGoWithTheirPair() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.one)
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        try #require(try lab.ask("gw", "initiate", "peer").code == 0, "\(node.text)")
        func hasRoute() throws -> Bool {
            try lab.run(in: "gw", ["ip", "route", "show", "table", "4500"]).text
                .contains("10.101.0.1")
        }
        let old = try #require(try current(lab, "gw").first?.inboundSPI)
        // A successor covers what the old pair did.
        #expect(try lab.ask("gw", "rekey", "peer").code == 0)
        try lab.waitUntil("the successor is there and the old pair was deleted") {
            try current(lab, "gw").count == 1
                && !current(lab, "gw").contains { $0.inboundSPI == old }
                && node.text.contains("\(old) closed")
        }
        #expect(try hasRoute() && lab.ping(from: "gw", "10.88.0.1", "10.101.0.1") == 5)
        let last = try #require(try current(lab, "gw").first?.inboundSPI)
        #expect(try lab.swanctl("--terminate", "--child", "net").code == 0)
        try node.waitFor("\(last) closed")
        #expect(try !hasRoute(), "\(node.text)")
        let pairs = try list(lab, "gw").flatMap(\.pairs)
        #expect(pairs.contains { $0.inboundSPI == last }, "it was gone before: \(node.text)")
    }
}
