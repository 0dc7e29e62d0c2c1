// Configurations in the hands of a test: texts in, configurations or faults out, no disk.

import Foundation
import GatewayIO
import Testing

let repository = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

/// 2026-11-23.
let testSeconds: Int64 = 1_795_000_000

/// A configuration with the files that it names.
struct ConfigurationText {
    var text: String
    /// By path; with `name` in no folder, as the configuration writes them.
    var files: [String: [UInt8]] = [:]
    var name = "node.yaml"
    var seconds = testSeconds

    init(_ text: String) { self.text = text }

    /// Valid, and short: what tests change.
    static var simple: ConfigurationText {
        var simple = ConfigurationText(
            """
            node:
              addresses: [192.0.2.1]
            secrets: secrets.yaml
            connections:
              office:
                local: {identity: gw.lab.example, auth: psk}
                remote: {identity: p1.lab.example, auth: psk}
                children:
                  net: {local: [10.1.0.0/16], remote: [10.2.0.0/16]}
            """)
        simple.setSecrets(
            """
            preshared_keys:
              - identities: [gw.lab.example, p1.lab.example]
                secret: "a secret of more than 16 octets"
            """)
        return simple
    }

    /// A file with the octets 0 to 31 as key. The tag is python's (hmac, hashlib).
    static let clusterKey = """
        spindle cluster key 1
        tag 9f89909b2739
        key 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

        """

    /// A member of a cluster, as short.
    static var member: ConfigurationText {
        var member = simple.replacing(
            "secrets: secrets.yaml",
            """
            secrets: secrets.yaml
            cluster:
              node: 3
              key: cluster.key
              store: {endpoints: ["127.0.0.1:2379"]}
              link: {address: 10.99.0.3}
              outside: {device: eth0}
              inside: {device: eth1, addresses: [10.88.0.1]}
            """)
        member.files["cluster.key"] = Array(clusterKey.utf8)
        for name in ["ca.pem", "node.pem", "node.key"] {
            member.files[name] = Array("read by others".utf8)
        }
        return member
    }

    mutating func setSecrets(_ text: String) { files["secrets.yaml"] = Array(text.utf8) }

    /// The text with one part replaced. The part has to be there.
    func replacing(_ old: String, _ new: String) -> ConfigurationText {
        var copy = self
        precondition(text.contains(old), "\(old) is not there")
        copy.text = text.replacingOccurrences(of: old, with: new)
        return copy
    }

    /// Lines added at the end.
    func adding(_ lines: String) -> ConfigurationText {
        var copy = self
        copy.text += "\n" + lines
        return copy
    }

    func parse() throws(ConfigurationFaults) -> NodeConfigurationFile {
        try parse(octets: Array(text.utf8))
    }

    func parse(octets: [UInt8]) throws(ConfigurationFaults) -> NodeConfigurationFile {
        try NodeConfigurationFile.parse(text: octets, name: name, seconds: seconds) {
            file throws(NamedFileError) in
            guard let octets = files[file.path] else { throw NamedFileError("no such file") }
            return octets
        }
    }

    /// All that is wrong.
    var faults: [ConfigurationFault] {
        do throws(ConfigurationFaults) {
            _ = try parse()
            return []
        } catch {
            return error.faults
        }
    }
}

extension ConfigurationFault {
    /// Where and what, as tests compare them.
    var summary: String { "\(line):\(column) \(place) \(code.rawValue)" }
}
