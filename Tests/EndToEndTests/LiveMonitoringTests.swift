// What a live node tells operators and monitoring systems, asked for with public tools.
//
// What would fool us: figures that nothing happened to (so a packet is sent that must be refused,
// and appears in the trace, the status and the metrics), and a log that says what nobody asked for.

import Foundation
import Testing

@Suite(.serialized, .enabled(if: LiveLab.isPossible, LiveLab.absence), .timeLimit(.minutes(5)))
struct LiveMonitoringTests {
    private static let alone = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
          monitor: "127.0.0.1:9700"
        secrets: SECRETS
        connections:
          peer:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            children: {net: {local: [10.88.0.0/24], remote: [10.101.0.1/32]}}
        """

    private struct Refused: Decodable {
        let reason: String
        let spi: String?
        let sequence: UInt32?
        let source: String?
        let destination: String?
        let isInbound: Bool
        let owner: UInt16?
    }

    private struct Status: Decodable {
        struct Gateway: Decodable {
            let servingLeftNanoseconds: UInt64
            let tunnels: Int
        }

        let isAlone: Bool
        let gateway: Gateway
        let counters: [String: UInt64]
    }

    private func curl(_ lab: LiveLab, _ path: String) throws -> String {
        try lab.run(
            in: "gw", ["curl", "-s", "-S", "--max-time", "5", "http://127.0.0.1:9700" + path]
        ).text
    }

    @Test func refusedPacketsAreTraced() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.alone)
        #expect(node.text.contains(" info serving metrics and health at http://127.0.0.1:9700/"))
        #expect(try curl(lab, "/healthz") == "serving\n")
        // ESP in UDP with an SPI that nobody gave out.
        let sender = """
            import socket
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("10.77.0.2", 4500))
            for number in range(3):
                octets = bytes.fromhex("c0ffee01") + (number + 7).to_bytes(4, "big") + bytes(40)
                s.sendto(octets, ("10.77.0.1", 4500))
            """
        #expect(try lab.run(in: "peer", [Program.python, "-c", sender]).code == 0)
        var lines: [Substring] = []
        try lab.waitUntil("three refusals are traced") {
            lines = try lab.ask("gw", "trace", "--spi", "c0ffee01", "--json").text.split(
                separator: "\n")
            return lines.count >= 3
        }
        let refusals = try lines.map {
            try JSONDecoder().decode(Refused.self, from: Data($0.utf8))
        }
        #expect(refusals.map(\.sequence) == [7, 8, 9])
        for refusal in refusals {
            #expect(refusal.reason == "unknownSPI" && refusal.spi == "c0ffee01")
            #expect(refusal.source == "10.77.0.2" && refusal.destination == "10.77.0.1")
            #expect(refusal.isInbound && refusal.owner == nil, "it is alone")
        }
        let ofOne = try lab.ask("gw", "trace", "--spi", "C0FFEE01", "-n", "1")
        #expect(ofOne.text.contains("from the peer, 10.77.0.2 → 10.77.0.1"))
        #expect(ofOne.text.contains("SPI c0ffee01, number 9: unknownSPI, no association has"))
        #expect(ofOne.text.split(separator: "\n").count == 1)
        #expect(ofOne.complaint == "SPI c0ffee01 is no tunnel of this node\n")
        let ofNone = try lab.ask("gw", "trace", "--spi", "c0ffee02")
        #expect(ofNone.text == "" && ofNone.complaint.contains("no refused packets"))

        // An answer may be a tenth of a second old.
        var metrics = ""
        try lab.waitUntil("the metrics count them") {
            metrics = try curl(lab, "/metrics")
            return metrics.contains("\nspindle_packets_dropped_total{reason=\"unknownSPI\"} 3\n")
        }
        #expect(metrics.contains("\nspindle_serving 1\n"))
        #expect(!metrics.contains("spindle_member_"), "it has no members")
        let outcome = try lab.ask("gw", "status", "--json")
        let status = try JSONDecoder().decode(Status.self, from: outcome.output)
        #expect(status.isAlone && status.gateway.servingLeftNanoseconds > 0)
        #expect(status.counters["drop.unknownSPI"] == 3 && status.gateway.tunnels == 0)
        let text = try lab.ask("gw", "status").text
        #expect(text.hasPrefix("Node alone, serving, for ") && text.contains("drop.unknownSPI 3"))
        #expect(node.stop() == 0)
    }

    @Test func aNodeAloneHasNoCluster() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", Self.alone, options: ["--log-level", "debug"])
        for command in [["drain", "1"], ["undrain", "1"], ["rebalance"], ["move", "3", "1"]] {
            let outcome = try Program.spindle(
                command + ["--socket", lab.scratch.path("gw.control")])
            #expect(outcome.code == 1)
            #expect(
                outcome.complaint
                    == "spindle: this node is alone: there is nobody to give tunnels to or take "
                    + "them from\n")
        }
        #expect(node.text.contains(" debug asked by the control socket: drain\n"))
        // What this program would never ask: an answer, and no harm.
        let odd = """
            import json, socket, sys
            requests = [
                {"command": "trace", "count": -1}, {"command": "trace", "after": 2**64 - 1},
                {"command": "trace", "spi": "-1"}, {"command": "trace", "spi": ""},
                {"command": "trace", "count": 2**70}, {"command": "move", "identifier": 65535},
                {"command": "drain", "node": 0}, {"command": "drain", "node": 65536},
                {"command": "weight", "node": 1, "weight": -1, "seconds": -2**63},
                {"command": "rebalance", "seconds": 2**63 - 1}, {"command": "status",
                "withIdentifiers": True},
            ]
            for request in requests:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(5)
                    connection.connect(sys.argv[1])
                    connection.sendall(json.dumps(request).encode() + b"\\n")
                    octets = b""
                    while part := connection.recv(65536):
                        octets += part
                    last = json.loads(octets.splitlines()[-1])
                    assert "isDone" in last or last["error"], (request, last)
            """
        let asked = try Program.run(
            Program.python, ["-c", odd, lab.scratch.path("gw.control")])
        #expect(asked.code == 0, "\(asked.complaint)")
        #expect(try Program.spindle("drain", "0").code == 2)
        #expect(try Program.spindle("weight", "1", "0").code == 2)
        #expect(try Program.spindle("trace", "--spi", "xyz").code == 2)
        #expect(node.stop() == 0)
    }

    /// Lines below the threshold are not written, and a port that is taken is an error at once.
    @Test func thresholdsAndPortsAreObeyed() throws {
        let lab = try LiveLab()
        let first = try lab.startNode("gw", Self.alone)
        let other = Self.alone.replacingOccurrences(of: "SOCKET", with: lab.scratch.path("2"))
            .replacingOccurrences(of: "[10.77.0.1]", with: "[10.88.0.1]")
            .replacingOccurrences(of: "secrets: SECRETS", with: "secrets: gw.secrets.yaml")
            .replacingOccurrences(
                of: "  addresses", with: "  tunnel: {device: second, routes: false}\n  addresses")
        let file = try lab.scratch.write(Data(other.utf8), as: "second.yaml")
        let second = try lab.run(
            in: "gw", [Program.path(of: "spindle"), "node", "--config", file])
        #expect(second.code == 1)
        #expect(
            second.complaint.hasSuffix(
                "spindle: metrics can't be served at 127.0.0.1:9700: Address already in use; "
                    + "choose another node.monitor\n"))
        #expect(first.stop() == 0)
        let quiet = try lab.start(
            in: "gw",
            [
                Program.path(of: "spindle"), "node", "--config", lab.scratch.path("gw.yaml"),
                "--log-level", "warning",
            ], log: "quiet.log")
        try lab.waitUntil("it serves") { try curl(lab, "/healthz") == "serving\n" }
        #expect(quiet.stop() == 0)
        #expect(quiet.text == "")
    }
}
