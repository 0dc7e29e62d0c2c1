import GatewayIO
import Testing

/// One mistake: what is changed, and what must be said about it.
private struct Mistake: CustomTestStringConvertible {
    let old: String
    let new: String
    /// "line:column setting code"
    let summary: String
    /// A part of the text.
    let hint: String

    init(_ old: String, _ new: String, _ summary: String, _ hint: String = "") {
        self.old = old
        self.new = new
        self.summary = summary
        self.hint = hint
    }

    var testDescription: String { "\(new) → \(summary)" }
}

private let mistakes: [Mistake] = [
    // Keys.
    Mistake(
        "addresses:", "adresses:", "2:3 node.\"adresses\" unknownKey", "addresses (the nearest)"),
    Mistake("secrets: s", "secret: s", "3:1 \"secret\" unknownKey", "secrets (the nearest)"),
    Mistake(
        "auth: psk}\n    r", "auth: psk, psk: 1}\n    r",
        "6:50 connections.office.local.\"psk\" unknownKey", "auth"),
    Mistake("remote: {", "local: {", "6:5  duplicateKey", "second time"),
    Mistake("identity: gw.lab.example, ", "", "6:12 connections.office.local.identity missingKey"),
    Mistake("  office:", "  \"of fice\":", "5:3 connections.\"of fice\" outOfRange", "letters"),
    // Types.
    Mistake("[192.0.2.1]", "{a: b}", "2:14 node.addresses wrongType", "a list"),
    Mistake("[192.0.2.1]", "[]", "2:14 node.addresses wrongType", "empty"),
    Mistake("  addresses: [192.0.2.1]", "  addresses:", "2:3 node.addresses wrongType", "nothing"),
    Mistake(
        "{identity: p1.lab.example, auth: psk}", "psk",
        "7:13 connections.office.remote wrongType", "a mapping"),
    Mistake(
        "{local: [10.1.0.0/16]", "{replay_window: \"64\", local: [10.1.0.0/16]",
        "9:28 connections.office.children.net.replay_window wrongType", "without quotes"),
    // Values.
    Mistake("192.0.2.1", "192.0.2.256", "2:15 node.addresses[0] address", "\"192.0.2.256\""),
    Mistake("192.0.2.1", "0.0.0.0", "2:15 node.addresses[0] address", "no host's own"),
    Mistake("192.0.2.1", "224.0.0.18", "2:15 node.addresses[0] address", "no host's own"),
    Mistake("192.0.2.1", "255.255.255.255", "2:15 node.addresses[0] address", "no host's own"),
    Mistake("192.0.2.1", "\"::\"", "2:15 node.addresses[0] address", "no host's own"),
    Mistake("192.0.2.1", "\"febf::1\"", "2:15 node.addresses[0] address", "link-local"),
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  monitor: \"127.0.0.1\"", "3:12 node.monitor address",
        "127.0.0.1:9700"),
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  monitor: \"::1:9700\"", "3:12 node.monitor address",
        "[::1]:9700"),
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  monitor: \"127.0.0.1:0\"", "3:12 node.monitor address"),
    Mistake(
        "[192.0.2.1]", "[192.0.2.1]\n  monitor: \"localhost:9700\"", "3:12 node.monitor address"),
    Mistake("[192.0.2.1]", "[192.0.2.1, 192.0.2.1]", "2:14 node.addresses clash", "twice"),
    Mistake(
        "auth: psk}\n    r", "auth: pks}\n    r",
        "6:45 connections.office.local.auth unknownWord", "psk (the nearest)"),
    Mistake(
        "10.1.0.0/16", "10.1.0.1/16",
        "9:21 connections.office.children.net.local[0] selector", "10.1.0.0/16"),
    Mistake(
        "{local: [10.1.0.0/16]", "{mode: transprt, local: [10.1.0.0/16]",
        "9:19 connections.office.children.net.mode unknownWord", "transport (the nearest)"),
    Mistake(
        "{local: [10.1.0.0/16]", "{replay_window: 16, local: [10.1.0.0/16]",
        "9:28 connections.office.children.net.replay_window outOfRange", "32 to 4096"),
    Mistake(
        "{local: [10.1.0.0/16]",
        "{proposals: [aes256" + String(repeating: "-sha256, aes256", count: 32)
            + "-sha256], local: [10.1.0.0/16]",
        "9:24 connections.office.children.net.proposals outOfRange", "at most 32"),
    Mistake(
        "{local: [10.1.0.0/16]", "{proposals: aes257gcm16, local: [10.1.0.0/16]",
        "9:24 connections.office.children.net.proposals proposal", "aes257gcm16"),
    Mistake(
        "{local: [10.1.0.0/16]", "{proposals: aes128-sha256-prfsha256, local: [10.1.0.0/16]",
        "9:24 connections.office.children.net.proposals proposal", "PRF"),
    Mistake(
        "{local: [10.1.0.0/16]",
        "{proposals: aes256gcm16-esn, replay_window: 0, local: [10.1.0.0/16]",
        "9:56 connections.office.children.net.replay_window contradiction", "RFC 4303"),
    Mistake(
        "10.2.0.0/16", "2001:db8::/64",
        "9:43 connections.office.children.net.remote contradiction", "family"),
    // What is named must be there.
    Mistake("secrets.yaml", "nowhere.yaml", "3:10 secrets file", "nowhere.yaml: no such file"),
    Mistake("secrets: secrets.yaml\n", "", "5:45 connections.office.local.auth missingKey", "FILE"),
    Mistake(
        "p1.lab.example", "p2.lab.example",
        "6:45 connections.office.local.auth unknownName", "no pre-shared key is for gw.lab"),
    Mistake(
        "    children:", "    pools: [guests]\n    children:",
        "8:13 connections.office.pools[0] unknownName", "add it to pools"),
    Mistake(
        "    children:", "    local_address: 192.0.2.2\n    children:",
        "8:20 connections.office.local_address contradiction", "node.addresses"),
    Mistake(
        "    children:", "    remote_address: 192.0.2.1\n    children:",
        "8:21 connections.office.remote_address contradiction", "our own"),
    Mistake(
        "    children:", "    remote_address: 2001:db8::1\n    children:",
        "8:21 connections.office.remote_address contradiction", "other family"),
    Mistake(
        "    children:", "    request_address: true\n    children:",
        "8:22 connections.office.request_address contradiction", "remote_address"),
    Mistake(
        "p1.lab.example, auth: psk}", "p1.lab.example, auth: psk, authorities: [ca.pem]}",
        "7:64 connections.office.remote.authorities contradiction", "auth: psk"),
    Mistake(
        "p1.lab.example, auth: psk}", "p1.lab.example, auth: certificate}",
        "7:13 connections.office.remote.authorities missingKey"),
    // Times.
    Mistake(
        "    children:", "    timers: {rekey_ike: 4}\n    children:",
        "8:25 connections.office.timers.rekey_ike outOfRange", "with its unit"),
    Mistake(
        "    children:", "    timers: {rekey_ike: 1s}\n    children:",
        "8:25 connections.office.timers.rekey_ike outOfRange", "10s to 7d"),
    Mistake(
        "    children:", "    timers: {rekey_child: 5m}\n    children:",
        "8:27 connections.office.timers.rekey_child contradiction", "6m"),
    Mistake(
        "    children:", "    timers: {retransmission_base: 0.5}\n    children:",
        "8:35 connections.office.timers.retransmission_base outOfRange", "1.8"),
    // YAML.
    Mistake("p1.lab.example", "*.lab.example", "7:25  syntax", "in quotes"),
    Mistake("p1.lab.example", "%any", "7:24  syntax", "in quotes"),
    Mistake("  office:", "  office", "6:10  syntax", "not YAML"),
]

@Suite struct ConfigurationFaultTests {
    @Test(arguments: mistakes)
    private func isSaidWhereItIs(mistake: Mistake) throws {
        let faults = ConfigurationText.simple.replacing(mistake.old, mistake.new).faults
        let fault = faults.first { $0.summary == mistake.summary }
        let found = faults.map { "\($0.summary): \($0.text)" }.joined(separator: "\n")
        #expect(fault != nil, "\(found)")
        #expect(fault?.text.contains(mistake.hint) == true, "\(found)")
        #expect(fault.map { "\($0)".hasPrefix("node.yaml:\($0.line):\($0.column): ") } == true)
    }

    @Test func nothingIsWrongWithTheSimpleOne() throws {
        let file = try ConfigurationText.simple.parse()
        #expect(file.warnings == [])
    }

    @Test func allFaultsAreSaidAtOnceInOrder() {
        let faults = ConfigurationText.simple
            .replacing("192.0.2.1", "192.0.2.1000")
            .replacing("auth: psk}\n    r", "auth: pks}\n    r")
            .replacing("10.2.0.0/16", "10.2.0.0/33")
            .adding("pools: {a: {range: \"10.9.0.0/24[tcp]\"}}\nlimits: {half_opn: 1}").faults
        #expect(
            faults.map(\.summary) == [
                "2:15 node.addresses[0] address", "6:45 connections.office.local.auth unknownWord",
                "9:44 connections.office.children.net.remote[0] selector",
                "10:20 pools.a.range selector", "11:10 limits.\"half_opn\" unknownKey",
            ])
    }

    @Test func aFileWithoutContentNamesWhatIsMissing() {
        for text in ["", "# nothing\n", "---\n", "~"] {
            let faults = ConfigurationText(text).faults
            #expect(faults.map(\.place).contains("node"), "\(faults)")
            #expect(faults.map(\.place).contains("connections"), "\(faults)")
        }
        #expect(ConfigurationText("[1, 2]").faults.map(\.summary) == ["1:1  wrongType"])
        #expect(ConfigurationText("a: 1\n---\nb: 2").faults.map(\.code) == [.syntax])
    }

    @Test func poolsAndSelectorsThatClashAreNamed() throws {
        let pools = "pools:\n  a: {range: 10.9.0.0/24}\n  b: {range: 10.9.0.254-10.9.1.9}"
        #expect(
            ConfigurationText.simple.adding(pools).faults.map(\.summary) == [
                "12:6 pools.b clash"
            ])
        let own = "pools:\n  a: {range: 192.0.2.0/24}"
        #expect(
            ConfigurationText.simple.adding(own).faults.map(\.summary) == ["11:6 pools.a clash"])
        let unused = ConfigurationText.simple
            .replacing("    children:", "    pools: [a]\n    children:")
            .adding("pools:\n  a: {range: 10.9.0.0/24}")
        #expect(unused.faults.map(\.summary) == ["8:12 connections.office.pools clash"])
        let dynamic = unused.replacing("remote: [10.2.0.0/16]", "remote: dynamic")
        #expect(dynamic.faults == [])

        let two = ConfigurationText.simple.adding(
            """
              branch:
                local: {identity: gw.lab.example, auth: psk}
                remote: {identity: p1.lab.example, auth: psk}
                children:
                  other: {local: [10.0.0.0/8], remote: [10.2.3.0/24]}
            """)
        let warnings = try two.parse().warnings
        #expect(warnings.map(\.summary) == ["14:14 connections.branch.children.other clash"])
        #expect(try two.replacing("10.2.3.0/24", "10.3.3.0/24").parse().warnings == [])
    }

    @Test func weakChoicesAreNamed() throws {
        func warnings(_ ike: String, _ child: String) throws -> [String] {
            try ConfigurationText.simple
                .replacing("    children:", "    proposals: \(ike)\n    children:")
                .replacing("{local: [10.1", "{proposals: \(child), local: [10.1")
                .parse().warnings.map { "\($0.line) \($0.code.rawValue) \($0.text)" }
        }
        let good = "aes256gcm16-x25519"
        #expect(try warnings("aes256gcm16-prfsha384-x25519", good) == [])
        for (ike, word) in [
            ("aes128-sha1-x25519", "sha1"), ("aes128gcm16-prfsha1-x25519", "prfsha1"),
            ("aes128-sha256-modp2048", "modp2048"), ("aes128gcm8-prfsha256-ecp256", "AES_GCM_8"),
        ] {
            let found = try warnings(ike, good)
            #expect(found.count == 1 && found[0].hasPrefix("8 weak \(word)"), "\(found)")
        }
        for (child, word) in [
            ("null-sha256-x25519", "NULL"), ("aes128gmac-x25519", "AES_GMAC"),
            ("aes256gcm16", "no key agreement group"),
        ] {
            let found = try warnings("aes256gcm16-prfsha384-x25519", child)
            #expect(found.count == 1 && found[0].hasPrefix("10 weak \(word)"), "\(found)")
        }
        let never = try warnings(
            "[aes256-aes128-sha256-x25519, aes128-sha256-x25519, aes128-sha256-ecp256]", good)
        #expect(never.count == 1 && never[0].contains("never chosen"), "\(never)")
    }
}
