import Crypto
import Foundation
import GatewayIO
import IKEStub
import Testing
import Wire

/// Keys and certificates by the openssl command, made once for all tests.
private final class TestAuthority: Sendable {
    let files: [String: [UInt8]]

    static let shared = Result { try TestAuthority() }

    private init() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "spindle-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data("[req]\ndistinguished_name=dn\n[dn]\n".utf8)
            .write(to: folder.appending(path: "empty.cnf"))
        func make(_ name: String, _ rest: String) throws {
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/openssl")
            process.currentDirectoryURL = folder
            let line =
                "req -config empty.cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                + "-keyout \(name).key -out \(name).pem -days 3650 -subj /C=CH/O=Lab/CN=\(name) "
                + rest
            process.arguments = line.split(separator: " ").map(String.init)
            process.standardError = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0, "openssl \(line)")
        }
        let byCA = "-CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:"
        try make("ca", "-addext basicConstraints=critical,CA:TRUE")
        try make("gw", byCA + "gw.lab.example,email:gw@lab.example,IP:192.0.2.1")
        try make("p1", byCA + "p1.lab.example")
        try make("crypt", byCA + "gw.lab.example -addext keyUsage=keyEncipherment")
        var files: [String: [UInt8]] = [:]
        for name in ["ca", "gw", "p1", "crypt"] {
            for suffix in ["key", "pem"] {
                let data = try Data(contentsOf: folder.appending(path: "\(name).\(suffix)"))
                files["\(name).\(suffix)"] = Array(data)
            }
        }
        self.files = files
    }
}

private func warrior() throws -> ConfigurationText {
    let path = repository.appending(path: "docs/examples/road-warrior.yaml")
    var text = ConfigurationText(String(decoding: try Data(contentsOf: path), as: UTF8.self))
    text.files = try TestAuthority.shared.get().files
    text.seconds = Int64(Date().timeIntervalSince1970) + 60
    return text
}

@Suite struct CertificateSettingsTests {
    @Test func theExampleIsTaken() throws {
        let file = try warrior().parse()
        #expect(file.warnings == [])
        let node = file.configuration
        #expect(node.ike.pools.map(\.name) == ["guests", "guests6"])
        let connection = try #require(node.ike.connections.first)
        guard case .signature(let signer) = connection.localAuthentication,
            case .certificate(let anchors) = connection.remoteAuthentication
        else {
            Issue.record("both ends prove themselves by certificates")
            return
        }
        #expect(signer.chain.map(\.subject.description) == ["C=CH, O=Lab, CN=gw"])
        #expect(anchors.authorities.map(\.subject.description) == ["C=CH, O=Lab, CN=ca"])
        #expect(connection.pools == ["guests", "guests6"])
        let text = node.explanation().joined(separator: "\n")
        #expect(text.contains("certificate of \"C=CH, O=Lab, CN=gw\", valid until 2"))
        #expect(text.contains("everybody of C=CH, O=Lab, CN=* from any address"))
        #expect(!text.contains("PRIVATE"))
    }

    @Test(arguments: [
        ("key: gw.key", "key: p1.key", "connections.warriors.local.key key", "belong together"),
        ("key: gw.key", "key: gw.pem", "connections.warriors.local.key key", "no private key"),
        ("key: gw.key", "key: no.key", "connections.warriors.local.key file", "no such file"),
        ("      key: gw.key\n", "", "connections.warriors.local.key missingKey", "add it"),
        (
            "certificate: gw.pem", "certificate: gw.key",
            "connections.warriors.local.certificate certificate", "BEGIN CERTIFICATE"
        ),
        (
            "certificate: gw.pem\n      key: gw.key",
            "certificate: crypt.pem\n      key: crypt.key",
            "connections.warriors.local.certificate certificate", "digitalSignature"
        ),
        (
            "identity: gw.lab.example", "identity: gw.lab.exampel",
            "connections.warriors.local.identity certificate", "gw.lab.example"
        ),
        (
            "[ca.pem]", "[p1.pem]",
            "connections.warriors.remote.authorities[0] certificate", "is no authority"
        ),
        (
            "[ca.pem]", "[ca.pem]\n      revocations: [ca.pem]",
            "connections.warriors.remote.revocations[0] certificate", "revocation list"
        ),
        (
            "\"C=CH, O=Lab, CN=*\"", "keyid:x",
            "connections.warriors.remote.identity contradiction", "key ID"
        ),
    ])
    func mistakesAreNamed(old: String, new: String, summary: String, hint: String) throws {
        let faults = try warrior().replacing(old, new).faults
        let found = faults.first { "\($0.place) \($0.code.rawValue)" == summary }
        #expect(found?.text.contains(hint) == true, "\(faults)")
        #expect(faults.allSatisfy { $0.line > 0 && !$0.text.contains("PRIVATE KEY-") })
    }

    @Test func aKeyInTheWrongPlaceIsNotRepeated() throws {
        let pem = String(decoding: try warrior().files["gw.key"] ?? [], as: UTF8.self)
        let lines = pem.split(separator: "\n")
        for text in [
            "|\n" + lines.map { "        " + $0 }.joined(separator: "\n"),
            "\"\(lines.joined(separator: " "))\"",
        ] {
            let faults = try warrior().replacing("key: gw.key", "key: \(text)").faults
            #expect(faults.map(\.place) == ["connections.warriors.local.key"])
            #expect(!"\(faults)".contains(lines[1].prefix(8)))
        }
    }

    @Test(arguments: ["gw@lab.example", "192.0.2.1", "\"C=CH, O=Lab, CN=GW\""])
    func everyNameOfTheCertificateServes(name: String) throws {
        #expect(
            try warrior().replacing("identity: gw.lab.example", "identity: \(name)").faults == [])
    }

    @Test func withoutAnIdentityWeAreTheSubject() throws {
        let text = try warrior().replacing("      identity: gw.lab.example\n", "")
        let connection = try #require(try text.parse().configuration.ike.connections.first)
        #expect(connection.localIdentity.description == "C=CH, O=Lab, CN=gw")
    }

    @Test func expiredCertificatesAreWarnedOf() throws {
        var text = try warrior()
        text.seconds += 20 * 365 * 86_400
        let warnings = try text.parse().warnings
        #expect(
            warnings.map { "\($0.place) \($0.code.rawValue)" } == [
                "connections.warriors.local.certificate expired",
                "connections.warriors.remote.authorities[0] expired",
            ])
        text.seconds = 0
        #expect(try text.parse().warnings.allSatisfy { $0.text.contains("not valid before") })
        #expect(try text.parse().warnings.count == 2)
    }

    /// The judge of what was read: both ends, each from its own file, come to an understanding.
    @Test func twoFilesUnderstandEachOther() throws {
        let gateway = try warrior()
        var peer = ConfigurationText(
            """
            node: {addresses: [192.0.2.2]}
            connections:
              home:
                remote_address: 192.0.2.1
                request_address: true
                local: {auth: certificate, certificate: p1.pem, key: p1.key}
                remote: {identity: gw.lab.example, auth: certificate, authorities: ca.pem}
                children:
                  all: {local: [0.0.0.0/0], remote: [0.0.0.0/0]}
            """)
        peer.files = gateway.files
        peer.seconds = gateway.seconds
        try expectTunnel(peer, "home", "all", gateway, to: "192.0.2.1", child: "everything")
    }

    @Test func twoFilesWithOneKeyUnderstandEachOther() throws {
        let folder = repository.appending(path: "docs/examples")
        let names = ["site-to-site.yaml", "site-to-site.secrets.yaml"]
        let contents = try names.map { try Data(contentsOf: folder.appending(path: $0)) }
        var branch = ConfigurationText(String(decoding: contents[0], as: UTF8.self))
        branch.files[names[1]] = Array(contents[1])
        var headquarters = ConfigurationText(
            """
            node: {addresses: [192.0.2.1]}
            secrets: secrets.yaml
            connections:
              branch:
                local: {identity: gw.lab.example, auth: psk}
                remote: {identity: "*.lab.example", auth: psk}
                children:
                  net: {local: [10.1.0.0/16], remote: [10.2.0.0/16]}
            """)
        headquarters.setSecrets(
            """
            preshared_keys:
              - identities: ["%any"]
                secret: "an example that everybody can read"
            """)
        try expectTunnel(
            branch, "headquarters", "offices", headquarters, to: "192.0.2.1", child: "net")
    }

    private func expectTunnel(
        _ left: ConfigurationText, _ connection: String, _ child: String,
        _ right: ConfigurationText, to address: String, child answered: String
    ) throws {
        let ends = try [left, right].map { text in
            IKEEndpoint(
                IKEEnvironment(
                    library: try CryptoLibrary(), configuration: try text.parse().configuration.ike,
                    random: SystemRandomSource(), resources: LocalResources(capacity: 10)),
                now: 1)
        }
        let remote = try #require(IPAddress(address))
        let local = try #require(IPAddress("192.0.2.2"))
        var policies: [[String]] = [[], []]
        var reports: [String] = []
        var wire: [(to: Int, octets: [UInt8], path: IKEPath)] = []
        func take(_ outcome: IKEOutcome, of end: Int) {
            for event in outcome.events {
                switch event {
                case .send(let datagrams, let path):
                    wire += datagrams.map { (1 - end, $0, path) }
                case .install(let child): policies[end].append(child.policy)
                case .report(let report): reports.append("\(report)")
                default: break
                }
            }
        }
        let path = IKEPath(
            local: local, localPort: 500, remote: remote, remotePort: 500, hasMarker: false)
        let begun = try #require(
            ends[0].initiate(connection, child: child, path: path, now: 1, seconds: right.seconds))
        take(begun.1, of: 0)
        while !wire.isEmpty {
            let (end, octets, sent) = wire.removeFirst()
            let path = IKEPath(
                local: sent.remote, localPort: sent.remotePort, remote: sent.local,
                remotePort: sent.localPort, hasMarker: sent.hasMarker)
            let outcome = octets.withUnsafeBytes {
                ends[end].receive($0, path: path, now: 2, seconds: right.seconds)
            }
            take(outcome, of: end)
        }
        #expect(policies == [[child], [answered]], "\(reports)")
    }
}
