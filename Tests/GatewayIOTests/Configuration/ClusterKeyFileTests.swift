// What would fool us: a reader that takes what its own writer never wrote (every octet is changed,
// and every length tried), and a tag that is not the one of docs/cluster-protocol.md (that here is
// python's).

import Crypto
import Foundation
import GatewayIO
import Testing

@Suite struct ClusterKeyFileTests {
    private func faults(_ octets: [UInt8]) -> [ConfigurationFault] {
        var text = ConfigurationText.member
        text.files["cluster.key"] = octets
        return text.faults
    }

    @Test func everyChangedOctetIsRefused() {
        let octets = Array(ConfigurationText.clusterKey.utf8)
        #expect(faults(octets) == [])
        for place in octets.indices {
            for change: UInt8 in [1, 0x20, 0x80, 0xFF] {
                var changed = octets
                changed[place] ^= change
                let found = faults(changed)
                #expect(
                    found.map(\.summary) == ["6:8 cluster.key secret"], "\(place) ^ \(change)")
                // Nothing of the key is said.
                #expect(found.allSatisfy { !"\($0)".contains("0a0b") }, "\(found)")
            }
        }
    }

    @Test func onlyTheBreakAtTheEndMayBeAbsent() {
        let octets = Array(ConfigurationText.clusterKey.utf8)
        for count in 0..<octets.count - 1 {
            #expect(faults(Array(octets[..<count])).map(\.code) == [.secret], "\(count)")
        }
        #expect(faults(Array(octets.dropLast())) == [])
        for more in ["\n", " ", "0", "\n\n", "\0"] {
            #expect(faults(octets + Array(more.utf8)).map(\.code) == [.secret], "\(more)")
        }
    }

    @Test(arguments: [
        ("spindle cluster key 2\ntag 9f89909b2739\nkey 00\n", "another version"),
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n", "spindle cluster-key FILE"),
        ("preshared_keys: []\n", "spindle cluster-key FILE"),
        (String(repeating: "0", count: 64), "spindle cluster-key FILE"),
        (
            ConfigurationText.clusterKey.replacingOccurrences(of: "tag 9", with: "tag 8"),
            "don't belong together"
        ),
        (
            ConfigurationText.clusterKey.replacingOccurrences(of: "key 00", with: "key 01"),
            "don't belong together"
        ),
        (
            ConfigurationText.clusterKey.replacingOccurrences(of: "\n", with: "\r\n"),
            "another version"
        ),
    ])
    func whatItIsInsteadIsSaid(text: String, hint: String) {
        let found = faults(Array(text.utf8))
        #expect(found.count == 1 && found[0].text.contains(hint), "\(found)")
        #expect(found.allSatisfy { $0.text.hasPrefix("cluster.key: ") })
    }

    @Test func aPathIsWantedAndNotTheKey() {
        let text = ConfigurationText.member.replacing(
            "key: cluster.key", "key: \"-----BEGIN PRIVATE KEY-----\"")
        #expect(text.faults.map(\.summary) == ["6:8 cluster.key file"])
    }

    @Test func keysThatAreMadeAreReadAndDiffer() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-key-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        var tags: Set<String> = []
        for number in 1...20 {
            let path = folder.appending(path: "\(number).key").path
            let tag = try ClusterKeyFile.create(path: path)
            var text = ConfigurationText.member
            text.files["cluster.key"] = Array(try Data(contentsOf: URL(filePath: path)))
            #expect(try text.parse().configuration.cluster?.key.tagText == tag)
            tags.insert(tag)
            #expect(throws: ClusterKeyFileError.exists(path)) {
                try ClusterKeyFile.create(path: path)
            }
        }
        #expect(tags.count == 20)
    }

    @Test func aKeyThatOthersMayReadIsRefused() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-key-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ConfigurationText.member.files.merging([
            "node.yaml": Array(ConfigurationText.member.text.utf8)
        ]) { $1 }
        for (name, octets) in files {
            let path = folder.appending(path: name).path
            try Data(octets).write(to: URL(filePath: path))
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        }
        let path = folder.appending(path: "node.yaml").path
        _ = try NodeConfigurationFile(path: path)
        let key = folder.appending(path: "cluster.key").path
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: key)
        do throws(ConfigurationFaults) {
            _ = try NodeConfigurationFile(path: path)
            Issue.record("taken")
        } catch {
            #expect(error.faults.map(\.summary) == ["6:8 cluster.key permissions"])
            #expect(error.faults[0].text.contains("chmod 0600 \(key)"), "\(error)")
        }
    }
}
