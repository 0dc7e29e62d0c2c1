// What operators do to a live node that can't be done, and what they are told.
//
// What would fool us: messages that are right about something else (each names what was typed), and
// files that were changed though the command was refused (their octets are compared).

import Foundation
import Testing

extension LiveNodeTests {
    private static let operated = """
        node:
          addresses: ADDRESSES
          control_socket: SOCKET
        secrets: SECRETS
        connections:
          peer:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: peer.lab.example, auth: psk}
            children:
              net: {local: [10.88.0.0/24], remote: [10.101.0.1/32]}
          second:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: other.lab.example, auth: psk}
            children:
              net: {local: [10.88.0.0/24], remote: [10.102.0.0/24]}
        """

    private func operated(_ addresses: String = "[10.77.0.1]") -> String {
        Self.operated.replacingOccurrences(of: "ADDRESSES", with: addresses)
    }

    @Test func whatCannotBeEndedIsNamed() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", operated())
        defer { _ = node.stop() }
        for command in ["terminate", "rekey"] {
            let unknown = try lab.ask("gw", command, "nosuch")
            #expect(unknown.code == 1, "\(unknown)")
            #expect(
                unknown.complaints == [
                    "spindle: no connection is named \"nosuch\": choose one of peer, second"
                ], "\(unknown)")
            let idle = try lab.ask("gw", command, "second")
            #expect(idle.code == 1 && idle.complaint.contains("second has no IKE SA"), "\(idle)")
            let spi = try lab.ask("gw", command, "--spi", "0xAbC")
            #expect(
                spi.complaint.contains("no IKE SA has the SPI 0000000000000abc:"), "\(spi)")
        }
    }

    @Test func keysReplaceNothingUnasked() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", operated())
        defer { _ = node.stop() }
        func keys(_ folder: String, _ options: String...) throws -> Outcome {
            try Program.spindle(
                ["keys", "--format", "wireshark", folder] + options
                    + ["--socket", lab.scratch.path("gw.control")])
        }
        let file = try lab.scratch.write(Data("mine".utf8), as: "file")
        let noFolder = try keys(file)
        #expect(noFolder.code == 1 && noFolder.complaint.contains("\(file) is a file: name"))
        let below = try keys(file + "/below")
        #expect(below.code == 1 && below.complaint.contains("/below can't be made"), "\(below)")
        #expect(try lab.scratch.read("file") == Data("mine".utf8))

        let folder = lab.scratch.path("wireshark")
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        let table = folder + "/ikev2_decryption_table"
        try Data("mine too".utf8).write(to: URL(filePath: table))
        let refused = try keys(folder)
        #expect(refused.code == 1, "\(refused)")
        #expect(refused.complaint.contains("\(table) is there already: name another folder, or"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).count == 1)
        #expect(try String(contentsOfFile: table, encoding: .utf8) == "mine too")

        // A link to somebody else's file, and a file that others may read.
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/esp_sa", withDestinationPath: file)
        let forced = try keys(folder, "--force")
        #expect(forced.code == 0, "\(forced)")
        #expect(try lab.scratch.read("file") == Data("mine".utf8))
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        #expect(names == ["esp_sa", "ikev2_decryption_table"])
        for name in names {
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(folder)/\(name)")
            #expect(attributes[.type] as? FileAttributeType == .typeRegular)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
        }
        #expect(try String(contentsOfFile: table, encoding: .utf8) != "mine too")
    }

    /// The path of the control socket is cleared of what a dead node left, and of nothing else.
    @Test func aFileInThePlaceOfTheControlSocketStays() throws {
        let lab = try LiveLab()
        let first = try lab.startNode("gw", operated())
        first.kill()
        try lab.waitUntil("the node is gone") { !first.isRunning }
        let control = lab.scratch.path("gw.control")
        #expect(FileManager.default.fileExists(atPath: control), "it left its socket")
        #expect(try lab.startNode("gw", operated()).stop() == 0)
        let file = try lab.scratch.write(Data("mine".utf8), as: "gw.control")
        let refused = try lab.run(
            in: "gw",
            [Program.path(of: "spindle"), "node", "--config", lab.scratch.path("gw.yaml")])
        #expect(refused.code == 1 && refused.complaints.count == 1, "\(refused)")
        #expect(refused.complaint.contains("\(file) is there, and is no socket"), "\(refused)")
        #expect(try lab.scratch.read("gw.control") == Data("mine".utf8))
    }

    /// What would fool us: a node that had nothing to write. It has a line at its start, and one
    /// for each SIGHUP.
    @Test(arguments: ["exec 2>/dev/full", "exec 2> >(exec true)"])
    func aLogThatCannotBeWrittenEndsNothing(redirection: String) throws {
        let lab = try LiveLab()
        #expect(try lab.startNode("gw", operated()).stop() == 0)
        let command = "\(Program.path(of: "spindle")) node --config \(lab.scratch.path("gw.yaml"))"
        let node = try lab.start(
            in: "gw", ["bash", "-c", "\(redirection); exec \(command)"], log: "unwritten")
        try lab.waitUntil("the node answers") { try lab.ask("gw", "list").code == 0 }
        for _ in 0..<3 {
            node.signal(SIGHUP)
            #expect(try lab.ask("gw", "list").code == 0)
        }
        #expect(node.isRunning && node.text.isEmpty)
        #expect(node.stop() == 0)
    }

    /// Whoever may open the control socket can't end the node by what is said there.
    @Test func garbageAtTheControlSocketIsAnswered() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", operated())
        let said = try Program.run(
            Program.python,
            [
                "-c",
                """
                import os, socket, sys
                def ask(octets, waits=True):
                    end = socket.socket(socket.AF_UNIX)
                    # With a timeout, connect() fails while many others wait.
                    end.connect(sys.argv[1])
                    end.settimeout(10)
                    end.sendall(octets)
                    answer = b""
                    while waits:
                        part = end.recv(4096)
                        if not part: break
                        answer += part
                    end.close()
                    return answer.decode().strip()
                print(ask(b"\\n"))
                print(ask(b"GET / HTTP/1.1\\r\\n\\r\\n"))
                print(ask(b'{"command":"destroy"}\\n'))
                print(ask(b'{"command":"terminate","spi":"\\\\u0000zz"}\\n'))
                print(ask(b'{"command":"keys","directory":"../../etc"}\\n'))
                print(ask(b"[" * 4000 + b"\\n"))
                for _ in range(200): ask(os.urandom(3000), waits=False)
                held = []
                for _ in range(100):
                    end = socket.socket(socket.AF_UNIX)
                    end.connect(sys.argv[1])
                    held.append(end)
                print(ask(b'{"command":"list"}\\n'))
                """, lab.scratch.path("gw.control"),
            ])
        let lines = said.text.split(separator: "\n")
        try #require(said.code == 0 && lines.count == 7, "\(said) \(said.text)")
        for line in [lines[0], lines[1], lines[2], lines[5]] {
            #expect(line.contains("that is no request of this version"), "\(line)")
        }
        #expect(lines[3].contains("is no SPI"), "\(lines[3])")
        #expect(lines[4].contains("by its whole path"), "\(lines[4])")
        #expect(lines[6].contains("associations"), "\(lines[6])")
        #expect(node.stop() == 0, "\(node.text)")
    }

    @Test func settingsThatNeedAStartAreNamed() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", operated())
        defer { _ = node.stop() }
        node.signal(SIGHUP)
        try node.waitFor("the configuration was read again")
        #expect(!node.text.contains("was changed"), "\(node.text)")
        let file = lab.scratch.path("gw.yaml")
        let text = try String(contentsOfFile: file, encoding: .utf8)
            .replacingOccurrences(of: "10.77.0.1]", with: "10.77.0.1, 10.77.0.8]")
            .replacingOccurrences(of: "node:\n", with: "node:\n  card_capacity: 7\n")
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        node.signal(SIGHUP)
        try lab.waitUntil("it was read twice") {
            node.text.components(separatedBy: "was read again").count == 3
        }
        let changed = node.text.split(separator: "\n").filter { $0.contains("was changed") }
        #expect(changed.count == 2 && changed.allSatisfy { $0.contains(" warning SIGHUP: node.") })
        #expect(changed.first?.contains("node.addresses was changed") == true, "\(changed)")
        #expect(changed.last?.contains("node.card_capacity was changed") == true, "\(changed)")
    }

    /// What would fool us: advice that doesn't help. So it is typed.
    @Test func addressesThatAreNotThereAreSaid() throws {
        let lab = try LiveLab()
        let node = try lab.startNode("gw", operated("[10.77.0.1, 10.77.0.9, \"fd77::9\"]"))
        defer { _ = node.stop() }
        let warnings = node.text.split(separator: "\n").filter { $0.contains(" warning ") }
        #expect(warnings.count == 2, "\(node.text)")
        for (warning, address) in zip(warnings, ["10.77.0.9", "fd77::9"]) {
            #expect(warning.contains("does not have the address \(address),"), "\(warning)")
            let parts = warning.split(separator: "`")
            try #require(parts.count == 3, "\(warning)")
            let typed = parts[1].replacing("DEVICE", with: "eth0").split(separator: " ")
            let outcome = try lab.run(in: "gw", typed.map(String.init))
            #expect(outcome.code == 0, "\(outcome)")
        }
        #expect(node.stop() == 0)
        let again = try lab.startNode(
            "gw", operated("[10.77.0.1, 10.77.0.9, \"fd77::9\"]"))
        #expect(!again.text.contains("warning"), "\(again.text)")
        #expect(try lab.ping(from: "peer", "10.77.0.2", "10.77.0.9", count: 1) >= 1)
        #expect(again.stop() == 0)
    }
}
