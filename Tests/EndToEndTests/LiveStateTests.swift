// Live nodes that go on where they were: manually keyed tunnels through crashes and stops.
//
// What would fool us: a second life that begins anew, and a peer that does not mind (so the
// capture's numbers and IVs must never repeat, read by a program that shares no code with ours, and
// the peer must count no replays); a crash that comes before anything was sent.

import Foundation
import Testing

extension LiveNodeTests {
    private static let sas = """
        {"esp": [
          {"spi": "0a0b0c01", "src": "10.77.0.1", "dst": "10.77.0.3", "mode": "MODE",
           "encr": "AES_GCM_16", "key_bits": 128, "encr_key": "000102030405060708090a0b0c0d0eKK",
           "salt": "a0a1a2a3", "esn": false, "ts_src": ["LOCAL"], "ts_dst": ["REMOTE"]},
          {"spi": "0a0b0c02", "src": "10.77.0.3", "dst": "10.77.0.1", "mode": "MODE",
           "encr": "AES_GCM_16", "key_bits": 128, "encr_key": "101112131415161718191a1b1c1d1eKK",
           "salt": "b0b1b2b3", "esn": false, "ts_src": ["REMOTE"], "ts_dst": ["LOCAL"]}
        ]}
        """

    private static let manual = """
        node:
          addresses: [ADDRESS]
          control_socket: SOCKET
          state: STATE
        secrets: SECRETS
        associations: SAS
        """

    /// The configuration of one end, with its files in the scratch folder.
    private func configuration(
        _ lab: LiveLab, _ name: String, address: String, key: String = "0f",
        mode: String = "tunnel",
        selectors: (String, String) = ("10.88.0.0/24", "10.102.0.0/24")
    ) throws -> String {
        let text = Self.sas.replacingOccurrences(of: "KK", with: key)
            .replacingOccurrences(of: "MODE", with: mode)
            .replacingOccurrences(of: "LOCAL", with: selectors.0)
            .replacingOccurrences(of: "REMOTE", with: selectors.1)
        let file = try lab.scratch.write(Data(text.utf8), as: "\(name).sas.json")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        return Self.manual.replacingOccurrences(of: "ADDRESS", with: address)
            .replacingOccurrences(of: "STATE", with: lab.scratch.path("\(name).state"))
            .replacingOccurrences(of: "SAS", with: file)
    }

    private struct Sent: Hashable {
        let spi: Substring
        let sequence: UInt64
        let iv: Substring
    }

    /// What a capture shows, and what the peer counted.
    private func sent(_ lab: LiveLab, _ capture: String) throws -> [Sent] {
        let outcome = try Program.judge("esp_numbers", [capture])
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        return try outcome.text.split(separator: "\n").map { line in
            let words = line.split(separator: " ")
            return Sent(
                spi: words[0], sequence: try #require(UInt64(words[1])), iv: words[2])
        }
    }

    @Test func manualTunnelsGoOnThroughCrashes() throws {
        let lab = try LiveLab()
        let own = try configuration(lab, "gw", address: "10.77.0.1")
        let other = try lab.startNode(
            "other", try configuration(lab, "other", address: "10.77.0.3"))
        let capture = lab.scratch.path("capture.pcap")
        let sniffer = try lab.start(
            in: "other",
            ["tshark", "-F", "pcap", "-i", "eth0", "-f", "esp", "-w", capture], log: "sniffer")
        try sniffer.waitFor("Capturing on")
        try lab.waitUntil("the capture began") { FileManager.default.fileExists(atPath: capture) }
        // Beside it, packets that no crash waits for.
        let flood = try lab.start(
            in: "other",
            ["ping", "-i", "0.002", "-w", "60", "-I", "10.102.0.1", "10.88.0.1"], log: "flood")
        var pings = 0
        for life in 1...4 {
            let node = try lab.startNode("gw", own)
            let count = 40
            let there = try lab.ping(from: "gw", "10.88.0.1", "10.102.0.1", count: count)
            let back = try lab.ping(from: "other", "10.102.0.1", "10.88.0.1", count: count)
            let status = try lab.ask("gw", "status").text + lab.ask("other", "status").text
            let listed = try list(lab, "gw")
            #expect(listed.map(\.role) == ["manual"] && listed[0].remote == "10.77.0.3")
            #expect(listed.flatMap(\.pairs).allSatisfy { $0.packetsIn >= UInt64(2 * count) })
            #expect(
                there == count && back == count, "life \(life): \(status) \(other.text)")
            pings += 2 * count
            if life == 3 {
                #expect(node.stop() == 0, "\(node.text)")
            } else {
                node.kill()
                try lab.waitUntil("the node is gone") { !node.isRunning }
            }
        }
        flood.kill()
        // The answers to the flood come beside the pings.
        try lab.waitUntil("all was caught") {
            try sent(lab, capture).filter { $0.spi == "0a0b0c01" }.count > pings + 100
        }
        sniffer.kill()
        let ours = try sent(lab, capture).filter { $0.spi == "0a0b0c01" }
        #expect(Set(ours.map(\.sequence)).count == ours.count, "numbers repeat")
        #expect(Set(ours.map(\.iv)).count == ours.count, "IVs repeat")
        #expect(ours.map(\.sequence) == ours.map(\.sequence).sorted())
        // Four lives, each with a generation of its own in the IV's upper 16 bits.
        #expect(Set(ours.map { $0.iv.prefix(4) }).count == 4)
        let status = try lab.ask("other", "status")
        for reason in ["replayed", "tooOld", "leaseEnded", "integrity"] {
            #expect(status.code == 0 && !status.text.contains("drop.\(reason)"), "\(status.text)")
        }
    }

    // Nothing that was taken before a stop is taken again, though no packet told the second life
    // how far the first one had come.
    @Test func whatCameBeforeAStopIsNotTakenAgain() throws {
        let lab = try LiveLab()
        let own = try configuration(lab, "gw", address: "10.77.0.1")
        let other = try lab.startNode(
            "other", try configuration(lab, "other", address: "10.77.0.3"))
        let capture = lab.scratch.path("capture.pcap")
        let sniffer = try lab.start(
            in: "other",
            ["tshark", "-F", "pcap", "-i", "eth0", "-f", "esp", "-w", capture], log: "sniffer")
        try sniffer.waitFor("Capturing on")
        try lab.waitUntil("the capture began") { FileManager.default.fileExists(atPath: capture) }
        let count = 30
        let first = try lab.startNode("gw", own)
        #expect(try lab.ping(from: "other", "10.102.0.1", "10.88.0.1", count: count) == count)
        try lab.waitUntil("all was caught") { try sent(lab, capture).count == 2 * count }
        sniffer.kill()
        #expect(first.stop() == 0)

        let second = try lab.startNode("gw", own)
        let resent = try lab.run(
            in: "other",
            [Program.python, Program.judge(named: "resend_esp"), capture, "0a0b0c02", "eth0"])
        #expect(resent.text == "\(count)\n", "\(resent.testDescription)")
        func status() throws -> String { try lab.ask("gw", "status").text }
        try lab.waitUntil("all came: \(try status())") {
            let words = try status().split(whereSeparator: \.isWhitespace)
            let refused = ["drop.replayed", "drop.tooOld"].map { name in
                words.firstIndex(of: name[...]).flatMap { Int(words[$0 + 1]) } ?? 0
            }
            return refused.reduce(0, +) == count
        }
        #expect(try list(lab, "gw").flatMap(\.pairs).map(\.packetsIn) == [0], "\(second.text)")
        #expect(try lab.ping(from: "other", "10.102.0.1", "10.88.0.1") == 5, "\(other.text)")
    }

    @Test func hostsWithKeysByHandProtectTheirOwnPackets() throws {
        let lab = try LiveLab()
        for (name, address) in [("gw", "10.77.0.1"), ("other", "10.77.0.3")] {
            let text = try configuration(
                lab, name, address: address, mode: "transport",
                selectors: ("10.77.0.1/32", "10.77.0.3/32"))
            // A crash of each, so that the pings are of second lives.
            let first = try lab.startNode(name, text)
            first.kill()
            try lab.waitUntil("the node is gone") { !first.isRunning }
        }
        let nodes = try ["gw", "other"].map { name in
            try lab.startNode(
                name, String(contentsOfFile: lab.scratch.path("\(name).yaml"), encoding: .utf8))
        }
        for (name, target) in [("gw", "10.77.0.3"), ("other", "10.77.0.1")] {
            #expect(try lab.ping(from: name, nil, target) == 5, "\(name)")
        }
        let pairs = try list(lab, "gw").flatMap(\.pairs)
        #expect(pairs.map(\.packetsIn) == [10] && pairs.map(\.packetsOut) == [10])
        #expect(nodes.map { $0.stop() } == [0, 0])
    }

    @Test func aHandoverTellsPeersNothing() throws {
        let lab = try LiveLab()
        let text = Self.answering.replacingOccurrences(
            of: "STATE", with: "state: " + lab.scratch.path("gw.state"))
        let node = try lab.startNode("gw", text, options: ["--handover"])
        let peer = try lab.startStrongSwan()
        defer { _ = peer.stop() }
        try #require(try lab.swanctl("--initiate", "--child", "net").code == 0, "\(node.text)")
        #expect(try lab.ping(from: "peer", "10.101.0.1", "10.88.0.1") == 5)
        #expect(node.stop() == 0, "\(node.text)")
        let rest = try lab.swanctl("--list-sas")
        #expect(
            rest.text.contains("ESTABLISHED") && rest.text.contains("INSTALLED"), "\(rest.text)")

        let file = try lab.scratch.write(
            Data(
                Self.answering.replacingOccurrences(of: "  STATE\n", with: "")
                    .replacingOccurrences(of: "SOCKET", with: lab.scratch.path("gw.control"))
                    .replacingOccurrences(
                        of: "SECRETS", with: lab.scratch.path("gw.secrets.yaml")
                    ).utf8),
            as: "without.yaml")
        let refused = try lab.run(
            in: "gw", [Program.path(of: "spindle"), "node", "--config", file, "--handover"])
        #expect(refused.code == 1 && refused.complaints.count == 1)
        #expect(refused.complaint.contains("--handover leaves the tunnels to the next start"))
        #expect(refused.complaint.contains("state: /var/lib/spindle"))
    }

    private static let answering = """
        node:
          addresses: [10.77.0.1]
          control_socket: SOCKET
          STATE
        secrets: SECRETS
        connections:
          peer:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net: {local: [10.88.0.0/24], remote: [10.101.0.1/32], proposals: [aes256gcm16-x25519]}
        """

    @Test func keysWhoseNumbersAreForgottenAreRefused() throws {
        let lab = try LiveLab()
        func start(_ configuration: String) throws -> String {
            let file = try lab.scratch.write(
                Data(
                    configuration
                        .replacingOccurrences(of: "SOCKET", with: lab.scratch.path("gw.control"))
                        .replacingOccurrences(
                            of: "secrets: SECRETS\n", with: ""
                        ).utf8), as: "try.yaml")
            let outcome = try lab.run(
                in: "gw", [Program.path(of: "spindle"), "node", "--config", file])
            #expect(outcome.code == 1, "\(outcome.testDescription)")
            return outcome.complaint
        }
        let first = try configuration(lab, "gw", address: "10.77.0.1")
        let node = try lab.startNode("gw", first)
        let second = try start(
            first.replacingOccurrences(of: "gw.control", with: "second.control"))
        #expect(second.contains("another node has the state in"), "\(second)")
        #expect(node.stop() == 0)

        // Other settings under the same keys.
        let narrowed = try configuration(
            lab, "gw", address: "10.77.0.1", selectors: ("10.88.0.1/32", "10.102.0.0/24"))
        #expect(try start(narrowed).contains("same keys and other settings"))
        // Other keys are new ones, and then the old ones are used up.
        let rekeyed = try configuration(lab, "gw", address: "10.77.0.1", key: "10")
        #expect(try lab.startNode("gw", rekeyed).stop() == 0)
        let back = try configuration(lab, "gw", address: "10.77.0.1")
        #expect(try start(back).contains("were in use before"))

        // What was there and is gone is no fresh start.
        let store = lab.scratch.path("gw.state/store")
        let octets = try Data(contentsOf: URL(filePath: store))
        try FileManager.default.removeItem(atPath: store)
        #expect(try start(back).contains("is missing, but was there"))
        var damaged = octets
        damaged[60] ^= 1
        try damaged.write(to: URL(filePath: store))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: store)
        #expect(try start(back).contains("is damaged at octet 44"))
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o755], ofItemAtPath: lab.scratch.path("gw.state"))
        #expect(try start(back).contains("chmod 0700"))
        let without = back.split(separator: "\n").filter { !$0.contains("state:") }
        #expect(try start(without.joined(separator: "\n")).contains("name a directory for that"))
    }
}
