// `spindle cluster-key` as a user runs it. What would fool us: a key that is always the same (two
// are compared), a tag that is not the one of docs/cluster-protocol.md (python computes it), and a
// file that is safe only as long as the umask is (it is widened, and narrowed).

import Foundation
import Testing

@Suite struct ClusterKeyCommandTests {
    private let scratch: Scratch
    private let key: String

    init() throws {
        scratch = try Scratch()
        key = scratch.path("cluster.key")
    }

    private func mode(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    private func text(_ name: String) throws -> String {
        String(decoding: try scratch.read(name), as: UTF8.self)
    }

    @Test func aKeyIsMadeOnceAndItsTagSaid() throws {
        let outcome = try Program.spindle("cluster-key", key)
        #expect(outcome.code == 0 && outcome.complaint.isEmpty, "\(outcome)")
        #expect(try mode(key) == 0o600)
        let made = try text("cluster.key")
        let lines = made.split(separator: "\n", omittingEmptySubsequences: false)
        try #require(lines.count == 4 && lines[0] == "spindle cluster key 1" && lines[3].isEmpty)
        let tag = lines[1].dropFirst("tag ".count)
        let digits = lines[2].dropFirst("key ".count)
        #expect(outcome.text == "\(key): a new cluster key with the tag \(tag)\n")
        #expect(digits.count == 64 && !outcome.text.contains(digits))

        let python = try Program.run(
            Program.python,
            [
                "-c",
                "import hashlib, hmac, sys; print(hmac.new(bytes.fromhex(sys.argv[1]), "
                    + "b'spindle cluster tag 1', hashlib.sha256).hexdigest()[:12])",
                String(digits),
            ])
        #expect(python.text == "\(tag)\n", "\(python)")

        let again = try Program.spindle("cluster-key", key)
        #expect(again.code == 1 && again.output.isEmpty, "\(again)")
        #expect(again.complaint.hasPrefix("spindle: \(key) is there already: "), "\(again)")
        #expect(try text("cluster.key") == made)

        let other = try Program.spindle("cluster-key", scratch.path("other.key"))
        #expect(other.code == 0 && !other.text.contains(tag))
        #expect(try !text("other.key").contains(digits))
    }

    @Test(arguments: ["000", "777"])
    func theModeDoesNotDependOnTheUmask(umask: String) throws {
        let spindle = Program.path(of: "spindle")
        let outcome = try Program.run(
            "/bin/sh", ["-c", "umask \(umask) && exec \"$0\" cluster-key \"$1\"", spindle, key])
        #expect(outcome.code == 0, "\(outcome)")
        #expect(try mode(key) == 0o600)
    }

    @Test func alsoALinkThatLeadsNowhereIsThere() throws {
        try FileManager.default.createSymbolicLink(
            atPath: key, withDestinationPath: scratch.path("elsewhere"))
        let outcome = try Program.spindle("cluster-key", key)
        #expect(outcome.code == 1 && outcome.complaint.contains("is there already"), "\(outcome)")
        #expect(!FileManager.default.fileExists(atPath: scratch.path("elsewhere")))
    }

    @Test func aFolderThatIsNotThereIsNamed() throws {
        let path = scratch.path("none/cluster.key")
        let outcome = try Program.spindle("cluster-key", path)
        #expect(outcome.code == 1, "\(outcome)")
        #expect(outcome.complaint.contains("\(path): No such file or directory: check the folder"))
        #expect(try Program.spindle("cluster-key").code == 2)
    }

    /// Half a key must not stay there, where it would be in the way.
    @Test func nothingIsLeftOfAKeyThatIsNotWritten() throws {
        let spindle = Program.path(of: "spindle")
        let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" cluster-key \"$1\""
        // Through pipes: the outputs of a test are files, too.
        let outcome = try Program.run(
            "/bin/sh", ["-c", "(\(limited)) 2>&1 | cat", spindle, key])
        #expect(outcome.text.hasPrefix("spindle: \(key): File too large: check"), "\(outcome)")
        #expect(!FileManager.default.fileExists(atPath: key))
    }

    @Test func checkSaysTheTag() throws {
        let folder = URL(filePath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "docs/examples")
        for name in ["cluster-node.yaml", "cluster-node.secrets.yaml"] {
            _ = try scratch.write(Data(contentsOf: folder.appending(path: name)), as: name)
        }
        for name in ["etcd-ca.pem", "node.pem", "node.key"] {
            _ = try scratch.write(Data("looked at by who speaks to etcd".utf8), as: name)
        }
        let config = scratch.path("cluster-node.yaml")
        let missing = try Program.spindle("check", "--config", config)
        #expect(missing.code == 1, "\(missing)")
        #expect(missing.complaint.contains("cluster.key: \(key): no such file"), "\(missing)")
        #expect(try Program.spindle("cluster-key", key).code == 0)
        for name in ["node.key", "cluster-node.secrets.yaml"] {
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o600], ofItemAtPath: scratch.path(name))
        }
        let outcome = try Program.spindle("check", "--config", config)
        #expect(outcome.code == 0 && outcome.complaint.isEmpty, "\(outcome)")
        let lines = try text("cluster.key").split(separator: "\n")
        #expect(outcome.text.contains("with the key tag \(lines[1].dropFirst(4)), which"))
        #expect(!outcome.text.contains(lines[2].dropFirst(4)))
    }
}
