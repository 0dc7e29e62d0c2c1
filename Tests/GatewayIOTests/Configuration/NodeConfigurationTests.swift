import Crypto
import ESP
import Foundation
import GatewayIO
import IKEStub
import Testing
import Wire

private func example(_ name: String, _ files: [String: [UInt8]] = [:]) throws -> ConfigurationText {
    let folder = repository.appending(path: "docs/examples")
    let data = try Data(contentsOf: folder.appending(path: "\(name).yaml"))
    var example = ConfigurationText(String(decoding: data, as: UTF8.self))
    example.files = files
    let secrets = folder.appending(path: "\(name).secrets.yaml")
    if let data = try? Data(contentsOf: secrets) {
        example.files["\(name).secrets.yaml"] = Array(data)
    }
    return example
}

private func selectors(_ texts: String...) throws -> [TrafficSelector] {
    try texts.map { try TrafficSelector(parsing: $0) }
}

private func fixed(_ selectors: ChildPolicy.Selectors) -> [TrafficSelector]? {
    guard case .fixed(let list) = selectors else { return nil }
    return list
}

@Suite struct NodeConfigurationTests {
    /// What others can reach is warned of, as no password is asked for.
    @Test(arguments: [
        ("127.0.0.1:9700", "127.0.0.1:9700", 0), ("[::1]:1", "[::1]:1", 0),
        ("192.0.2.9:65535", "192.0.2.9:65535", 1), ("[2001:db8::1]:80", "[2001:db8::1]:80", 1),
        ("0.0.0.0:9700", "0.0.0.0:9700", 1),
    ])
    func monitorAddress(text: String, address: String, warnings: Int) throws {
        let file = try ConfigurationText.simple.replacing(
            "[192.0.2.1]", "[192.0.2.1]\n  monitor: \"\(text)\""
        ).parse()
        #expect(file.configuration.monitor?.description == address)
        #expect(file.warnings.count == warnings)
        #expect(try ConfigurationText.simple.parse().configuration.monitor == nil)
    }

    @Test func responderWithKeys() throws {
        let file = try example("psk-responder").parse()
        #expect(file.warnings == [])
        let node = file.configuration
        #expect(node.addresses == [IPAddress(v4: 0xC000_0201)])
        let unset = NodeConfiguration(
            addresses: node.addresses, ike: IKEConfiguration(connections: []))
        #expect(node.ikePort == 500 && node.encapsulationPort == 4500)
        #expect(node.controlSocket == unset.controlSocket)
        #expect(node.cardCapacity == unset.cardCapacity && node.tunnelMTU == unset.tunnelMTU)
        #expect(node.ike.limits == IKELimits())
        #expect(node.ike.presharedKeys.count == 2)
        let connection = try #require(node.ike.connections.first)
        #expect(connection.name == "branches")
        #expect(connection.localIdentity == .fqdn("gw.lab.example"))
        #expect(connection.remoteIdentity == .fqdnBelow("lab.example"))
        #expect(connection.remoteAddress == nil && connection.remoteAddresses == [])
        #expect(connection.proposals.map(\.description) == ["aes256gcm16-prfsha384-x25519-ecp384"])
        #expect(connection.timers.liveness == 10_000_000_000)
        #expect(connection.fragments && !connection.forcesEncapsulation)
        let child = try #require(connection.children.first)
        #expect(child.name == "net" && child.mode == .tunnel && child.replayWindow == 64)
        let groups: [[KeyAgreementGroup]] = [[.x25519], []]
        #expect(child.proposals.map(\.groups) == groups)
        #expect(try fixed(child.local) == selectors("10.88.0.0/24"))
        #expect(try fixed(child.remote) == selectors("10.101.0.0/16"))
    }

    @Test func keyedByHand() throws {
        let folder = repository.appending(path: "docs/examples")
        let octets = try Data(contentsOf: folder.appending(path: "manual.sas.json"))
        let file = try example("manual", ["manual.sas.json": Array(octets)]).parse()
        #expect(file.warnings == [])
        let node = file.configuration
        #expect(node.stateDirectory == "/var/lib/spindle")
        #expect(node.associations?.entries.map(\.spi) == [SPI(0x0A0B_0C01), SPI(0x0A0B_0C02)])
        #expect(node.explanation().contains { $0.contains("has 2 manual SAs of manual.sas.json") })
    }

    @Test func initiatorBetweenSites() throws {
        let file = try example("site-to-site").parse()
        #expect(file.warnings == [])
        let connection = try #require(file.configuration.ike.connections.first)
        #expect(connection.localAddress == IPAddress("198.51.100.7"))
        #expect(connection.remoteAddress == IPAddress("192.0.2.1"))
        #expect(try connection.remoteAddresses == selectors("192.0.2.1"))
        #expect(connection.timers == IKETimers())
        #expect(connection.children.map(\.name) == ["offices", "management"])
        #expect(connection.children[0].proposals[0].extendedSequenceNumbers == [true, false])
        #expect(try fixed(connection.children[1].local) == selectors("10.2.0.5[tcp/22]"))
        // The defaults are proposals, too: none of them was left out.
        #expect(connection.children[1].proposals.count == 4)
    }

    @Test func everySettingArrives() throws {
        var text = ConfigurationText(
            """
            node:
              addresses: [192.0.2.1, "2001:db8::1"]
              ike_port: 1500
              encapsulation_port: 14500
              tunnel: {device: tun7, mtu: 1300, routes: false}
              control_socket: /tmp/control
              card_capacity: 77
            secrets: secrets.yaml
            pools:
              a: {range: 10.9.0.0/24, dns: [10.1.0.53, 10.1.0.54]}
            limits:
              cookies_above: 1
              half_open_per_address: 2
              half_open: 3
              associations: 4
              children_per_association: 5
              fragment_bytes: 1400
            connections:
              first:
                local: {identity: keyid:we, auth: psk}
                remote: {identity: "%any", auth: psk}
                remote_addresses: [198.51.100.0/24, 203.0.113.5]
                pools: a
                fragmentation: false
                associations_per_identity: 300
                counter_sync: false
                force_encapsulation: true
                children:
                  ours: {mode: transport, replay_window: 0}
                timers: {rekey_ike: 1d, rekey_child: 1h30m, rekey_jitter: 0s, overtime: 1m,
                  liveness: off, keepalive: 5s, retransmission: 500ms, retransmission_base: 2,
                  retransmission_tries: 3, half_open: 10s}
              second:
                local_address: "2001:db8::1"
                remote_address: 2001:db8::2
                request_address: true
                local: {identity: keyid:we, auth: psk}
                remote: {identity: "%any", auth: psk}
            """)
        text.setSecrets(
            "preshared_keys: [{identities: [\"%any\"], secret: \"more than sixteen octets\"}]")
        let node = try text.parse().configuration
        #expect(node.addresses.map(\.description) == ["192.0.2.1", "2001:db8::1"])
        #expect(node.ikePort == 1500 && node.encapsulationPort == 14500)
        #expect(node.tunnelDevice == "tun7" && node.tunnelMTU == 1300 && !node.setsRoutes)
        #expect(node.controlSocket == "/tmp/control" && node.cardCapacity == 77)
        let pool = try #require(node.ike.pools.first)
        #expect(try [pool.range] == selectors("10.9.0.1-10.9.0.254"))
        #expect(pool.nameServers.map(\.description) == ["10.1.0.53", "10.1.0.54"])
        var limits = IKELimits()
        limits.cookiesAbove = 1
        limits.halfOpenPerAddress = 2
        limits.halfOpen = 3
        limits.associations = 4
        limits.childrenPerAssociation = 5
        limits.fragmentBytes = 1400
        #expect(node.ike.limits == limits)
        try expectConnections(node.ike.connections)
    }

    private func expectConnections(_ connections: [Connection]) throws {
        let first = connections[0]
        #expect(first.localIdentity == .keyID(Array("we".utf8)) && first.remoteIdentity == .any)
        #expect(try first.remoteAddresses == selectors("198.51.100.0/24", "203.0.113.5"))
        #expect(first.pools == ["a"] && !first.fragments && first.forcesEncapsulation)
        #expect(first.associationsPerIdentity == 300 && !first.synchronizesCounters)
        #expect(first.children[0].mode == .transport && first.children[0].replayWindow == 0)
        #expect(fixed(first.children[0].local) == nil && fixed(first.children[0].remote) == nil)
        let timers = first.timers
        #expect(timers.rekeyIKE == 86_400_000_000_000 && timers.rekeyChild == 5_400_000_000_000)
        #expect(timers.rekeyJitter == 0 && timers.overtime == 60_000_000_000)
        #expect(timers.liveness == 0 && timers.keepalive == 5_000_000_000)
        #expect(timers.retransmission == 500_000_000 && timers.retransmissionBase == 200)
        #expect(timers.retransmissionTries == 3 && timers.halfOpen == 10_000_000_000)
        let second = connections[1]
        #expect(second.name == "second" && second.asksForAddress)
        #expect(second.associationsPerIdentity == 16 && second.synchronizesCounters)
        #expect(second.localAddress?.description == "2001:db8::1" && second.children.isEmpty)
    }

    @Test func namedFilesAreRelativeToTheConfiguration() throws {
        var text = ConfigurationText.simple
        text.name = "/etc/spindle/node.yaml"
        #expect("\(text.faults)".contains("/etc/spindle/secrets.yaml: no such file"))
        text.files["/etc/spindle/secrets.yaml"] = text.files.removeValue(forKey: "secrets.yaml")
        _ = try text.parse()
    }

    @Test func manualAssociationsMustBeOurs() throws {
        let folder = repository.appending(path: "vectors/captures")
        let octets = Array(
            try Data(contentsOf: folder.appending(path: "aes256gcm16.json")))
        let captured = try AssociationFile(json: octets, name: "captured")
        let first = try #require(captured.entries.first).parameters
        var text = ConfigurationText(
            "node: {addresses: [\"\(first.destination)\"], state: kept}\nassociations: sas.json")
        text.files["sas.json"] = octets
        let node = try text.parse().configuration
        #expect(node.stateDirectory == "kept")
        let forgetful = text.replacing(", state: kept", "")
        #expect("\(forgetful.faults)".contains("must go on after a restart: name a directory"))
        #expect(node.associations?.entries.count == captured.entries.count)
        #expect(node.explanation().contains { $0.contains("manual SAs of sas.json") })
        let other = text.replacing("\(first.destination)", "203.0.113.1")
        #expect(other.faults.first?.summary == "2:15 associations associations")
        text.files["sas.json"] = Array("{\"esp\": [{\"spi\": 1}]}".utf8)
        #expect("\(text.faults)".contains("sas.json: esp[0]"))
    }

    // What would fool us: a tunnel that sends with one end's selectors and receives with another's.
    @Test func manualAssociationsMirrorEachOther() throws {
        func association(_ spi: Int, _ ends: (String, String), _ more: String) -> String {
            "{\"spi\": \"0000100\(spi)\", \"src\": \"\(ends.0)\", \"dst\": \"\(ends.1)\", "
                + "\"mode\": \"tunnel\", \"encr\": \"AES_GCM_16\", \"key_bits\": 128, "
                + "\"encr_key\": \"0123456789abcdef0123456789abcdef\", \"salt\": \"01020304\", "
                + "\"esn\": false, \(more)}"
        }
        let (ours, peer) = ("192.0.2.1", "192.0.2.2")
        let out = association(
            1, (ours, peer), "\"ts_src\": [\"10.1.0.0/16\"], \"ts_dst\": [\"10.2.0.0/16\"]")
        func faults(_ other: String?) -> [ConfigurationFault] {
            var text = ConfigurationText(
                "node: {addresses: [\(ours)], state: kept}\nassociations: sas.json")
            let list = [other, out].compactMap { $0 }.joined(separator: ", ")
            text.files["sas.json"] = Array("{\"esp\": [\(list)]}".utf8)
            return text.faults
        }
        let mirrored = "\"ts_src\": [\"10.2.0.0/16\"], \"ts_dst\": [\"10.1.0.0/16\"]"
        #expect(faults(association(2, (peer, ours), mirrored)) == [])
        #expect("\(faults(nil))".contains("esp[0]: no association of the file receives"))
        let narrower = mirrored.replacingOccurrences(of: "10.1.0.0/16", with: "10.1.0.0/17")
        let inUDP = mirrored + ", \"sport\": 4500, \"dport\": 4500"
        for more in [narrower, inUDP] {
            #expect("\(faults(association(2, (peer, ours), more)))".contains("no association of"))
        }
        let elsewhere = mirrored + ", \"sport\": 4500, \"dport\": 4501"
        #expect(
            "\(faults(association(2, (peer, ours), elsewhere)))".contains("our dport is 4501, but"))
        #expect("\(faults(association(2, (peer, "192.0.2.3"), mirrored)))".contains("exactly one"))
    }

    // What would fool us: a range that loses its ends, too.
    @Test(arguments: [
        ("10.1.0.0/24", "10.1.0.1-10.1.0.254"), ("10.1.0.0/30", "10.1.0.1-10.1.0.2"),
        ("10.1.0.0/31", "10.1.0.0/31"), ("10.1.0.7/32", "10.1.0.7"),
        ("10.1.0.0-10.1.0.255", "10.1.0.0/24"), ("10.1.0.7", "10.1.0.7"),
        ("fd00::/120", "fd00::1-fd00::ff"), ("fd00::/127", "fd00::/127"),
        ("fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:ffff"),
    ])
    func poolsGiveAddressesOfHosts(range: String, given: String) throws {
        let net = range.contains(":") ? "\"fd88::/64\"" : "10.1.0.0/16"
        let text = ConfigurationText.simple
            .replacing(
                "net: {local: [10.1.0.0/16], remote: [10.2.0.0/16]}", "net: {local: [\(net)]}"
            )
            .adding("    pools: [guests]\npools: {guests: {range: \"\(range)\"}}")
        #expect(
            try text.parse().configuration.explanation().contains {
                $0.hasSuffix("gives \(given) to peers")
            })
    }

    // What would fool us: a port that is read and then not gone to (LiveEncapsulationTests).
    @Test func peersMayHavePortsOfTheirOwn() throws {
        var text = try example("site-to-site")
        text = text.replacing(
            "remote_address: 192.0.2.1", "remote_address: 192.0.2.1\n    remote_port: 14500")
        let node = try text.parse().configuration
        #expect(node.remotePorts == ["headquarters": 14_500])
        #expect(node.explanation().contains { $0.contains("begin it with 192.0.2.1 port 14500") })
        let plain = text.replacing("remote_port: 14500", "remote_port: 500")
        #expect("\(plain.faults)".contains("500 is where IKE has no marker"))
        let nowhere = text.replacing("remote_address: 192.0.2.1\n", "\n")
        #expect("\(nowhere.faults)".contains("without remote_address nobody goes there"))
    }

    @Test func explanationsReadAsTheFileWasMeant() throws {
        let lines = try example("site-to-site").parse().configuration.explanation()
        let text = lines.joined(separator: "\n")
        for part in [
            "IKE at 198.51.100.7, UDP 500 and 4500", "Connection headquarters (1 of 1)",
            "we are branch.lab.example", "the peer is gw.lab.example from 192.0.2.1",
            "10.2.0.5[tcp/22] here and 10.3.0.0/24[tcp] there",
            // 2 s with 5 repetitions, each waiting 1.8 times as long: 2 × (1.8^6 − 1) / 0.8.
            "does not answer for 1m22s",
        ] {
            #expect(text.contains(part), "\(part) in \(text)")
        }
        #expect(!text.contains("an example that everybody can read"))
    }

    @Test(arguments: [
        ("30s", 30_000_000_000), ("4h", 14_400_000_000_000), ("1h30m", 5_400_000_000_000),
        ("90m", 5_400_000_000_000), ("12000ms", 12_000_000_000), ("1m500ms", 60_500_000_000),
    ])
    func durationsHaveUnits(text: String, nanoseconds: UInt64) throws {
        let configuration = ConfigurationText.simple
            .replacing("    children:", "    timers: {liveness: \(text)}\n    children:")
        let connection = try #require(
            try configuration.parse().configuration.ike.connections.first)
        #expect(connection.timers.liveness == nanoseconds)
    }

    @Test(arguments: [
        "30", "s", "-1s", "1.5h", "30 s", "30S", "1m1h", "1s1s", "1sm", "٣s",
        "99999999999999999999s", "213504d", "30s ago",
    ])
    func otherDurationsAreRefused(text: String) {
        let configuration = ConfigurationText.simple
            .replacing("    children:", "    timers: {liveness: \"\(text)\"}\n    children:")
        #expect(
            configuration.faults.map(\.summary) == [
                "8:24 connections.office.timers.liveness outOfRange"
            ])
    }
}
