// Settings that a running node can't take over: each is named when it changes.
//
// What would fool us: a setting of the node that is in neither list, so that its change is silent.
// So the file is written with every key that `node` knows.

import Foundation
import Testing

@testable import GatewayIO

@Suite struct FixedSettingsTests {
    private static let text = """
        node:
          addresses: [192.0.2.1]
          ike_port: 500
          encapsulation_port: 4500
          tunnel: {device: tun1, mtu: 1400, routes: true}
          control_socket: /run/spindle/a
          card_capacity: 1000
          state: kept
        associations: a.json
        """

    private static let changes = [
        ("192.0.2.1]", "192.0.2.1, 192.0.2.2]", "node.addresses"),
        ("ike_port: 500", "ike_port: 501", "node.ike_port"),
        ("encapsulation_port: 4500", "encapsulation_port: 4501", "node.encapsulation_port"),
        ("tun1", "tun2", "node.tunnel.device"),
        ("1400", "1300", "node.tunnel.mtu"),
        ("true", "false", "node.tunnel.routes"),
        ("/run/spindle/a", "/run/spindle/b", "node.control_socket"),
        ("1000", "2000", "node.card_capacity"),
        ("kept", "elsewhere", "node.state"),
    ]

    private func configuration() throws -> ConfigurationText {
        var text = ConfigurationText(Self.text)
        let example = repository.appending(path: "docs/examples/manual.sas.json")
        text.files["a.json"] = Array(try Data(contentsOf: example))
        return text
    }

    @Test(arguments: changes)
    func eachIsNamed(old: String, new: String, name: String) throws {
        let text = try configuration()
        let before = try text.parse().configuration
        #expect(try before.fixedSettings(changedIn: text.parse().configuration) == [])
        let after = try text.replacing(old, new).parse().configuration
        #expect(before.fixedSettings(changedIn: after) == [name])
        #expect(after.fixedSettings(changedIn: before) == [name])
    }

    @Test func keysByHandAreComparedByWhatIsInTheirFile() throws {
        let text = try configuration()
        var before = try text.parse().configuration
        // As a running node has it: only card and tables have the keys.
        before.associations = nil
        #expect(try before.fixedSettings(changedIn: text.parse().configuration) == [])
        var other = text
        let octets = String(decoding: other.files["a.json"] ?? [], as: UTF8.self)
        let changed = octets.replacing("\"esn\": true", with: "\"esn\": false")
        try #require(octets != changed)
        other.files["a.json"] = Array(changed.utf8)
        #expect(
            try before.fixedSettings(changedIn: other.parse().configuration) == ["associations"])
    }
}
