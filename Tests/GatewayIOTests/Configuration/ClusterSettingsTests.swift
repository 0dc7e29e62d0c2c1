// What would fool us: a setting that is read and then kept nowhere (every default is changed in one
// test), a fault that is said at another place than the mistake's (the place is looked up in the
// text), and a file that is not looked at (the files are taken away, one by one).

import Cluster
import EtcdMessages
import Foundation
import Gateway
import GatewayIO
import Testing
import Wire

/// One mistake: what is changed, where the fault is to point at, and what is to be said.
private struct Mistake: CustomTestStringConvertible {
    let old: String
    let new: String
    /// The first place in the changed text where this stands.
    let mark: String
    /// "setting code"
    let summary: String
    /// A part of the text.
    let hint: String

    init(_ old: String, _ new: String, at mark: String, _ summary: String, _ hint: String) {
        self.old = old
        self.new = new
        self.mark = mark
        self.summary = summary
        self.hint = hint
    }

    var testDescription: String { "\(new) → \(summary)" }

    /// "line:column setting code"
    func expected(in text: String) throws -> String {
        let place = try #require(text.range(of: mark)).lowerBound
        let lines = text[..<place].split(separator: "\n", omittingEmptySubsequences: false)
        return "\(lines.count):\(lines[lines.count - 1].count + 1) \(summary)"
    }
}

private let storeEnd = "\"127.0.0.1:2379\"]}"
private let insideEnd = "addresses: [10.88.0.1]}"

private func routes(_ routes: String) -> String { "addresses: [10.88.0.1], routes: \(routes)}" }

private func tls(_ fields: String) -> String { "\"127.0.0.1:2379\"], tls: {\(fields)}}" }

private let mistakes: [Mistake] = [
    // What is missing.
    Mistake("  node: 3\n", "", at: "key: cl", "cluster.node missingKey", "add it"),
    Mistake("  key: cluster.key\n", "", at: "node: 3", "cluster.key missingKey", "add it"),
    Mistake(
        "  link: {address: 10.99.0.3}\n", "", at: "node: 3", "cluster.link missingKey", "add it"),
    Mistake(
        "  outside: {device: eth0}\n", "", at: "node: 3", "cluster.outside missingKey", "add it"),
    Mistake("{address: 10.99.0.3}", "{}", at: "{}", "cluster.link.address missingKey", "add it"),
    Mistake("{device: eth0}", "{}", at: "{}", "cluster.outside.device missingKey", "add it"),
    Mistake(
        "device: eth1, ", "", at: "{addresses: [10", "cluster.inside.device missingKey", "add it"),
    Mistake(
        ", addresses: [10.88.0.1]", "", at: "{device: eth1", "cluster.inside.addresses missingKey",
        "add it"),
    Mistake(
        "{endpoints: [\(storeEnd)", "{}", at: "{}", "cluster.store.endpoints missingKey", "add it"),
    Mistake(
        storeEnd, tls("server_name: etcd"), at: "{server", "cluster.store.tls.authority missingKey",
        "add it"),
    Mistake(
        insideEnd, routes("[{to: 10.80.0.0/16}]"), at: "{to",
        "cluster.inside.routes[0].via missingKey",
        "add it"),
    // What is not known.
    Mistake(
        "  node: 3", "  node: 3\n  heartbeats: 4", at: "heartbeats: 4",
        "cluster.\"heartbeats\" unknownKey", "heartbeat (the nearest)"),
    Mistake(
        "{device: eth0}", "{device: eth0, addresses: [192.0.2.1]}", at: "addresses: [192.0.2.1]}",
        "cluster.outside.\"addresses\" unknownKey", "device"),
    Mistake(
        "  node: 3", "  node: 3\n  shared_mac: lokal", at: "lokal",
        "cluster.shared_mac unknownWord",
        "local (the nearest)"),
    Mistake(
        "  node: 3", "  node: 3\n  takeover: guess", at: "guess", "cluster.takeover unknownWord",
        "learn, strict"),
    Mistake(
        "  node: 3", "  node: 3\n  when_full: drop", at: "drop", "cluster.when_full unknownWord",
        "refuse, wait, host"),
    Mistake(
        "  node: 3", "  node: 3\n  backups: none", at: "none", "cluster.backups unknownWord",
        "use all"),
    // Numbers.
    Mistake("node: 3", "node: 0", at: "0\n  key", "cluster.node outOfRange", "1 to 65535"),
    Mistake("node: 3", "node: 65536", at: "65536", "cluster.node outOfRange", "1 to 65535"),
    Mistake("node: 3", "node: \"3\"", at: "\"3\"", "cluster.node wrongType", "without quotes"),
    Mistake(
        "  node: 3", "  node: 3\n  identifiers: 200", at: "200", "cluster.identifiers outOfRange",
        "128 or 256"),
    Mistake(
        "  node: 3", "  node: 3\n  identifiers: 8", at: "8\n  key",
        "cluster.identifiers outOfRange",
        "16 to 4096"),
    Mistake(
        "  node: 3", "  node: 3\n  identifiers: 8192", at: "8192", "cluster.identifiers outOfRange",
        "16 to 4096"),
    Mistake(
        "  node: 3", "  node: 3\n  backups: 0", at: "0\n  key", "cluster.backups outOfRange",
        "from 1"),
    Mistake(
        "{address: 10.99.0.3}", "{address: 10.99.0.3, port: 0}", at: "0}\n  outside",
        "cluster.link.port outOfRange", "1 to 65535"),
    // Times.
    Mistake(
        "  node: 3", "  node: 3\n  heartbeat: 2s", at: "2s", "cluster.heartbeat outOfRange",
        "1ms to 1s"),
    Mistake(
        "  node: 3", "  node: 3\n  heartbeat: 10", at: "10\n", "cluster.heartbeat outOfRange",
        "with its unit"),
    Mistake(
        "  node: 3", "  node: 3\n  heartbeats_missed: 1", at: "1\n  key",
        "cluster.heartbeats_missed outOfRange", "2 to 100"),
    Mistake(
        "  node: 3", "  node: 3\n  session: 1500ms", at: "1500ms", "cluster.session outOfRange",
        "whole seconds"),
    Mistake(
        "  node: 3", "  node: 3\n  session: 61s", at: "61s", "cluster.session outOfRange", "1m"),
    Mistake(
        "  node: 3", "  node: 3\n  session: 3s\n  heartbeat: 1s", at: "3s",
        "cluster.session contradiction", "longer than heartbeat times"),
    Mistake(
        "  node: 3", "  node: 3\n  heartbeat: 1s", at: "1s", "cluster.heartbeat contradiction",
        "session (2s)"),
    // The store.
    Mistake(
        "127.0.0.1:2379", "http://etcd:2379", at: "\"http", "cluster.store.endpoints[0] address",
        "host:port"),
    Mistake(
        "127.0.0.1:2379", "10.99.0.300:2379", at: "\"10.99.0.300",
        "cluster.store.endpoints[0] address", "not an IP address"),
    Mistake(
        "127.0.0.1:2379", "[fe80::1::2]:2379", at: "\"[fe80",
        "cluster.store.endpoints[0] address", "not an IP address"),
    Mistake(
        "127.0.0.1:2379", "2001:db8::1", at: "\"2001", "cluster.store.endpoints[0] address",
        "brackets"),
    Mistake(
        storeEnd, "127.0.0.1, \"127.0.0.1:2379\"]}", at: "[127.0.0.1, ",
        "cluster.store.endpoints clash", "twice"),
    Mistake("[\(storeEnd)", "[]}", at: "[]", "cluster.store.endpoints wrongType", "empty"),
    Mistake(
        "[\(storeEnd)", "[" + (1...17).map { "etcd\($0)" }.joined(separator: ", ") + "]}",
        at: "[etcd1,", "cluster.store.endpoints outOfRange", "at most 16"),
    Mistake(
        storeEnd, "\"127.0.0.1:2379\"], prefix: \"a\\nb\"}", at: "\"a\\n",
        "cluster.store.prefix outOfRange", "control characters"),
    Mistake(
        storeEnd, tls("authority: no.pem"), at: "no.pem", "cluster.store.tls.authority file",
        "no.pem: no such file"),
    Mistake(
        storeEnd, tls("authority: ca.pem, certificate: node.pem"), at: "node.pem",
        "cluster.store.tls.certificate contradiction", "its key"),
    Mistake(
        storeEnd, tls("authority: ca.pem, key: node.key"), at: "node.key",
        "cluster.store.tls.key contradiction", "certificate"),
    Mistake(
        storeEnd, tls("authority: ca.pem, server_name: \"*.lab\""), at: "\"*.lab",
        "cluster.store.tls.server_name outOfRange", "stands in etcd's certificate"),
    // The link.
    Mistake(
        "10.99.0.3", "192.0.2.1", at: "192.0.2.1}", "cluster.link.address contradiction",
        "only this node"),
    Mistake(
        "10.99.0.3", "10.88.0.1", at: "10.88.0.1}", "cluster.link.address contradiction",
        "only this node"),
    Mistake(
        "10.99.0.3", "224.0.0.18", at: "224", "cluster.link.address address", "multicast"),
    Mistake("10.99.0.3", "0.0.0.0", at: "0.0.0.0", "cluster.link.address address", "no address of"),
    Mistake(
        "10.99.0.3", "\"fe80::3\"", at: "\"fe80", "cluster.link.address address", "of one link"),
    // The segments.
    Mistake(
        "eth0", "eth1", at: "eth1, addresses", "cluster.inside.device contradiction",
        "device of outside"),
    Mistake("eth0", "eth/0", at: "eth/0", "cluster.outside.device outOfRange", "can't be a device"),
    Mistake(
        "eth0", "abcdefghijklmnop", at: "abcdef", "cluster.outside.device outOfRange", "15 octets"),
    Mistake(
        "10.88.0.1", "192.0.2.1", at: "192.0.2.1]}", "cluster.inside.addresses[0] clash",
        "node.addresses"),
    Mistake(
        "10.88.0.1", "10.88.0.1, 10.88.0.1", at: "[10.88", "cluster.inside.addresses clash",
        "twice"),
    Mistake(
        "10.88.0.1", "127.0.0.2", at: "127.0.0.2", "cluster.inside.addresses[0] address",
        "loopback"),
    Mistake(
        "10.88.0.1", "\"ff02::1\"", at: "\"ff02", "cluster.inside.addresses[0] address",
        "multicast"),
    Mistake(
        "10.88.0.1", "10.88.0.1, 255.255.255.255", at: "255", "cluster.inside.addresses[1] address",
        "broadcast"),
    Mistake(
        "10.88.0.1", (1...17).map { "10.88.0.\($0)" }.joined(separator: ","), at: "[10.88.0.1,",
        "cluster.inside.addresses outOfRange", "at most 16"),
    Mistake("[192.0.2.1]", "[224.0.0.1]", at: "224", "node.addresses[0] address", "no host's own"),
    Mistake(
        "[192.0.2.1]", "[\"fe80::1\"]", at: "\"fe80", "node.addresses[0] address", "link-local"),
    Mistake(
        "[192.0.2.1]", "[" + (1...17).map { "192.0.2.\($0)" }.joined(separator: ",") + "]",
        at: "[192", "node.addresses outOfRange", "at most 16"),
    // Routes.
    Mistake(
        insideEnd, routes("[{to: 10.80.0.0/16, via: \"2001:db8::2\"}]"), at: "\"2001",
        "cluster.inside.routes[0].via contradiction", "another family"),
    Mistake(
        insideEnd, routes("[{to: \"fd00::/8\", via: \"fe80::2\"}]"), at: "\"fe80",
        "cluster.inside.routes[0].via contradiction", "no address of its family"),
    Mistake(
        insideEnd, routes("[{to: 10.80.0.0/16, via: 10.88.0.1}]"), at: "10.88.0.1}]",
        "cluster.inside.routes[0].via contradiction", "the cluster itself"),
    Mistake(
        insideEnd, routes("[{to: 10.80.0.1/16, via: 10.88.0.2}]"), at: "10.80.0.1",
        "cluster.inside.routes[0].to selector", "10.80.0.0/16"),
    Mistake(
        insideEnd, routes("[{to: 10.80.0.1-10.80.0.9, via: 10.88.0.2}]"), at: "10.80.0.1-",
        "cluster.inside.routes[0].to selector", "a prefix"),
    Mistake(
        insideEnd, routes("[{to: \"10.80.0.0/16[tcp]\", via: 10.88.0.2}]"), at: "\"10.80",
        "cluster.inside.routes[0].to selector", "a prefix"),
    Mistake(
        insideEnd, routes("[{to: 10.0.0.0/8, via: 10.88.0.2}, {to: 10.0.0.0/8, via: 10.88.0.3}]"),
        at: "{to: 10.0.0.0/8, via: 10.88.0.3}", "cluster.inside.routes[1] clash", "already"),
    Mistake(
        insideEnd,
        routes(
            "["
                + (0...256).map { "{to: 10.80.\($0 % 256).\($0 / 256)/32, via: 10.88.0.2}" }
                .joined(separator: ",") + "]"),
        at: "[{to", "cluster.inside.routes outOfRange", "at most 256"),
    // What a member can't have.
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  tunnel: {device: tun7}", at: "{device: tun7}",
        "node.tunnel contradiction", "cluster.inside takes its place"),
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  state: /var/lib/x", at: "/var/lib/x",
        "node.state contradiction", "cluster.store"),
    Mistake(
        "secrets: s", "associations: sas.json\nsecrets: s", at: "sas.json",
        "associations contradiction", "not supported"),
    // Addresses that peers may get.
    Mistake(
        "secrets: s", "pools: {a: {range: 10.88.0.0/24}}\nsecrets: s", at: "10.88.0.1]}",
        "cluster.inside.addresses[0] clash", "pool a"),
    Mistake(
        "secrets: s", "pools: {a: {range: 10.99.0.0/24}}\nsecrets: s", at: "10.99.0.3}",
        "cluster.link.address clash", "pool a"),
    // Types.
    Mistake(
        "{address: 10.99.0.3}", "10.99.0.3", at: "10.99.0.3", "cluster.link wrongType", "mapping"),
    Mistake("[10.88.0.1]", "{a: b}", at: "{a: b", "cluster.inside.addresses wrongType", "a list"),
]

@Suite struct ClusterSettingsTests {
    @Test(arguments: mistakes)
    private func isSaidWhereItIs(mistake: Mistake) throws {
        let text = ConfigurationText.member.replacing(mistake.old, mistake.new)
        let faults = text.faults
        let found = faults.map { "\($0.summary): \($0.text)" }.joined(separator: "\n")
        let expected = try mistake.expected(in: text.text)
        // Nothing else is said: one mistake, one fault.
        #expect(faults.map(\.summary) == [expected], "\(found)")
        #expect(faults.first?.text.contains(mistake.hint) == true, "\(found)")
    }

    @Test func whatHasADefaultNeedNotBeSaid() throws {
        let file = try ConfigurationText.member.parse()
        #expect(file.warnings == [])
        let node = file.configuration
        let cluster = try #require(node.cluster)
        #expect(cluster.node == NodeID(3) && cluster.key.tagText == "9f89909b2739")
        #expect(cluster.store == EtcdConfiguration(endpoints: [EtcdEndpoint(host: "127.0.0.1")]))
        #expect(cluster.linkAddress == IPAddress("10.99.0.3") && cluster.linkPort == 4501)
        let outside = SegmentConfiguration(device: "eth0", addresses: node.addresses)
        #expect(cluster.outside == outside && node.addresses == [IPAddress("192.0.2.1")])
        #expect(cluster.inside.addresses == [IPAddress("10.88.0.1")])
        #expect(cluster.inside.device == "eth1" && cluster.inside.routes == [])
        #expect(cluster.timing == ClusterTiming() && cluster.identifierCount == 256)
        #expect(cluster.sharedAddressForm == .local && cluster.takeoverPolicy == .learn)
        #expect(cluster.backups == nil && cluster.whenFull == .refuse)
        #expect(node.stateDirectory == nil && node.associations == nil)
        #expect(try ConfigurationText.simple.parse().configuration.cluster == nil)
    }

    @Test func everySettingArrives() throws {
        var text = ConfigurationText.member
            .replacing("[192.0.2.1]", "[192.0.2.1, \"2001:db8::1\"]")
            .replacing(
                "  node: 3",
                """
                  node: 65535
                  shared_mac: multicast
                  identifiers: 4096
                  heartbeat: 100ms
                  heartbeats_missed: 5
                  session: 9s
                  takeover: strict
                  backups: 2
                  when_full: host
                """
            )
            .replacing(
                storeEnd,
                "etcd-1.lab, \"[2001:db8::9]:12379\"], prefix: lab/, tls: {authority: ca.pem, "
                    + "certificate: node.pem, key: node.key, server_name: etcd.lab}}"
            )
            .replacing("{address: 10.99.0.3}", "{address: \"2001:db8:99::3\", port: 14501}")
            .replacing(
                "[10.88.0.1]}",
                "[10.88.0.1, \"fe80::1\"], routes: [{to: 0.0.0.0/0, via: 10.88.0.2}, "
                    + "{to: \"fd00:80::/32\", via: \"fe80::2\"}, {to: 10.9.9.9, via: 10.88.0.3}]}")
        text.name = "etc/node.yaml"
        for (name, octets) in text.files { text.files["etc/\(name)"] = octets }
        let node = try text.parse().configuration
        let cluster = try #require(node.cluster)
        #expect(cluster.node == NodeID(65_535))
        let tls = EtcdTLS(
            authority: "etc/ca.pem", certificate: "etc/node.pem", key: "etc/node.key",
            serverName: "etcd.lab")
        #expect(
            cluster.store
                == EtcdConfiguration(
                    endpoints: [
                        EtcdEndpoint(host: "etcd-1.lab"),
                        EtcdEndpoint(host: "2001:db8::9", port: 12379),
                    ], tls: tls, keyPrefix: "lab/"))
        #expect(cluster.linkAddress == IPAddress("2001:db8:99::3") && cluster.linkPort == 14_501)
        #expect(cluster.outside.addresses.count == 2)
        #expect(cluster.inside.addresses.map(\.description) == ["10.88.0.1", "fe80::1"])
        let routes = cluster.inside.routes.map { "\($0.prefix)/\($0.length) \($0.gateway)" }
        #expect(
            routes == ["0.0.0.0/0 10.88.0.2", "fd00:80::/32 fe80::2", "10.9.9.9/32 10.88.0.3"])
        #expect(cluster.sharedAddressForm == .multicast && cluster.identifierCount == 4096)
        #expect(cluster.timing.heartbeatNanoseconds == 100_000_000)
        #expect(cluster.timing.heartbeatsMissed == 5 && cluster.timing.sessionSeconds == 9)
        #expect(cluster.takeoverPolicy == .strict && cluster.backups == 2)
        #expect(cluster.whenFull == .serveFromHost)
        for (word, policy) in [("refuse", "refuse"), ("wait", "wait")] {
            let full = try text.replacing("when_full: host", "when_full: \(word)").parse()
            #expect(full.configuration.cluster?.whenFull.rawValue == policy)
        }
        let all = try text.replacing("backups: 2", "backups: all").parse()
        #expect(all.configuration.cluster != nil && all.configuration.cluster?.backups == nil)
    }

    @Test func allFaultsAreSaidAtOnceInOrder() {
        let text = ConfigurationText.member
            .replacing("[192.0.2.1]", "[192.0.2.1]\n  state: x")
            .replacing("node: 3", "node: 0")
            .replacing("cluster.key", "none.key")
            .replacing("127.0.0.1:2379", "http://x")
            .replacing("10.99.0.3", "10.99.0.333")
            .replacing("eth0", "a/b")
            .replacing("[10.88.0.1]", "[192.0.2.1], routes: [{to: 10.80.0.0/16, via: 224.0.0.1}]")
            .replacing("connections:", "connektions:")
        #expect(
            text.faults.map(\.summary) == [
                "1:1 connections missingKey", "3:10 node.state contradiction",
                "6:9 cluster.node outOfRange", "7:8 cluster.key file",
                "8:23 cluster.store.endpoints[0] address", "9:19 cluster.link.address address",
                "10:21 cluster.outside.device outOfRange",
                "11:38 cluster.inside.addresses[0] clash",
                "11:83 cluster.inside.routes[0].via address", "12:1 \"connektions\" unknownKey",
            ])
    }

    @Test(arguments: [
        ("node: 3", "node: 3\n  takeover: strict", "cluster.takeover unusual", "RFC 6311"),
        ("node: 3", "node: 3\n  when_full: wait", "cluster.when_full unusual", "dropped"),
        ("node: 3", "node: 3\n  backups: 17", "cluster.backups unusual", "18 nodes"),
        ("node: 3", "node: 3\n  heartbeat: 4ms", "cluster.heartbeat unusual", "12ms"),
        (
            "node: 3", "node: 3\n  heartbeats_missed: 100\n  heartbeat: 15ms",
            "cluster.heartbeat unusual", "1s500ms"
        ),
        ("node: 3", "node: 3\n  session: 1s", "cluster.session unusual", "before 2s"),
        ("node: 3", "node: 3\n  session: 11s", "cluster.session unusual", "11s"),
        ("127.0.0.1:2379", "10.99.0.9:2379", "cluster.store.endpoints weak", "without tls"),
        ("127.0.0.1:2379", "localhost.lab", "cluster.store.endpoints weak", "without tls"),
        ("2379\"]", "2379\"], prefix: lab", "cluster.store.prefix unusual", "labspindle/"),
        ("10.99.0.3", "127.0.0.3", "cluster.link.address unusual", "same host"),
    ])
    func whatIsHardlyMeantIsNamed(old: String, new: String, summary: String, hint: String) throws {
        let warnings = try ConfigurationText.member.replacing(old, new).parse().warnings
        #expect(warnings.map { "\($0.place) \($0.code.rawValue)" } == [summary], "\(warnings)")
        #expect(warnings.first?.text.contains(hint) == true, "\(warnings)")
        #expect(warnings.first.map { $0.line > 4 } == true)
    }

    @Test(arguments: ["127.0.0.1", "localhost:2379", "[::1]:2379", "127.9.9.9:1"])
    func nobodyIsBetweenTheHostAndItself(endpoint: String) throws {
        let text = ConfigurationText.member.replacing("127.0.0.1:2379", endpoint)
        #expect(try text.parse().warnings == [])
        let remote = text.replacing("\"\(endpoint)\"", "\"\(endpoint)\", etcd.lab")
        #expect(try remote.parse().warnings.map(\.code) == [.weak])
        let tls = remote.replacing("etcd.lab]", "etcd.lab], tls: {authority: ca.pem}")
        #expect(try tls.parse().warnings == [])
    }
}
