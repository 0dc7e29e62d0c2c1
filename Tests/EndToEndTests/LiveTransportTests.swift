// Hosts that protect their own packets to each other, in transport mode.
//
// What would fool us: packets that go beside the tunnel (none may be seen on the wire in the
// clear); tunnel mode (tshark decrypts, and must find ICMP in ESP, not IP); a host that sends from
// an address of its own that is not the tunnel's.

import Foundation
import Testing

extension LiveNodeTests {
    private static func host(_ own: String, _ peer: String, _ names: (String, String)) -> String {
        """
        node:
          addresses: ["\(own)"]
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          host:
            local_address: "\(own)"
            remote_address: "\(peer)"
            local: {identity: \(names.0), auth: psk}
            remote: {identity: \(names.1), auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              own: {mode: transport, proposals: [aes256gcm16-x25519]}
        """
    }

    private static let server = """
        import hashlib, socket, sys
        family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
        listener = socket.create_server((sys.argv[1], 5001), family=family)
        print("listening", flush=True)
        connection, peer = listener.accept()
        octets = b"".join(iter(lambda: connection.recv(65536), b""))
        print("from", peer[0], len(octets), hashlib.sha256(octets).hexdigest(), flush=True)
        """

    private static let client = """
        import hashlib, socket, sys
        octets = bytes(range(251)) * 2000
        with socket.create_connection((sys.argv[1], 5001), timeout=10) as connection:
            connection.sendall(octets)
        print(len(octets), hashlib.sha256(octets).hexdigest())
        """

    @Test(arguments: [("10.77.0.1", "10.77.0.3"), ("fd77::1", "fd77::3")])
    func hostsProtectTheirOwnPackets(own: String, peer: String) throws {
        let lab = try LiveLab()
        let node = try lab.startNode(
            "gw", Self.host(own, peer, ("gw.lab.example", "other.lab.example")))
        let other = try lab.startNode(
            "other", Self.host(peer, own, ("other.lab.example", "gw.lab.example")))
        let capture = lab.scratch.path("capture.pcap")
        let sniffer = try lab.start(
            in: "other", ["tshark", "-i", "eth0", "-w", capture], log: "sniffer")
        try sniffer.waitFor("Capturing on")
        try lab.waitUntil("the capture began") { FileManager.default.fileExists(atPath: capture) }
        let up = try lab.ask("gw", "initiate", "host")
        try #require(up.code == 0, "\(up.testDescription) \(other.text)")
        let keys = lab.scratch.path("keys")
        try #require(try lab.ask("gw", "keys", "--format", "wireshark", keys).code == 0)

        // No source is named: routes have to choose it.
        for (name, target) in [("gw", peer), ("other", own)] {
            #expect(try lab.ping(from: name, nil, target) == 5, "\(name): \(node.text)")
        }
        let server = try lab.start(
            in: "other", [Program.python, "-c", Self.server, peer], log: "server")
        try server.waitFor("listening")
        let sent = try lab.run(in: "gw", [Program.python, "-c", Self.client, peer])
        try #require(sent.code == 0, "\(sent.testDescription)")
        try server.waitFor("from \(own) " + sent.text.trimmingCharacters(in: .newlines))

        let pair = try #require(try current(lab, "gw").first)
        #expect(pair.encapsulation == "esp" && pair.packetsOut > 300)
        sniffer.kill()
        let read = try Program.run(
            "/usr/bin/env",
            [
                "WIRESHARK_CONFIG_DIR=\(keys)", "tshark", "-r", capture, "-o",
                "esp.enable_encryption_decode:TRUE", "-Y",
                "icmp.type == 8 || icmp.type == 0 || icmpv6.type == 128 || icmpv6.type == 129 "
                    + "|| tcp", "-T", "fields", "-e", "esp.protocol",
            ])
        let rows = read.text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        // ICMP, ICMPv6 and TCP at once in ESP; an empty row is a packet in the clear.
        #expect(
            rows.allSatisfy { ["0x01", "0x3a", "0x06"].contains($0) }, "\(read.text.prefix(99))")
        #expect(rows.filter { $0 != "0x06" }.count == 20, "\(read.complaint)")
        #expect(node.stop() == 0 && other.stop() == 0)
        let rest = try lab.run(in: "gw", ["ip", "route", "show", "table", "all"])
        #expect(!rest.text.contains("spindle0"))
    }
}
