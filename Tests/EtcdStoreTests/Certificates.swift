// Throw-away authorities and certificates, made by the openssl program.

import EtcdMessages
import EtcdStore
import Foundation

/// An authority with a certificate for etcd and one for a node.
final class Certificates {
    private let scratch: Scratch

    func path(_ name: String) -> String { "\(scratch.path)/\(name)" }

    init() throws {
        scratch = try Scratch()
        for name in ["authority", "other"] {
            try openssl(
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", "\(name).key", "-out", "\(name).pem", "-days", "2",
                "-subj", "/CN=\(name)")
        }
        try issue("server", names: "DNS:localhost,IP:127.0.0.1", by: "authority")
        try issue("elsewhere", names: "DNS:elsewhere.example", by: "authority")
        try issue("node", names: "DNS:node.example", by: "authority")
        try issue("stranger", names: "DNS:node.example", by: "other")
    }

    private func issue(_ name: String, names: String, by authority: String) throws {
        try "subjectAltName=\(names)\nextendedKeyUsage=serverAuth,clientAuth\n"
            .write(toFile: path("\(name).ext"), atomically: true, encoding: .utf8)
        try openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "\(name).key", "-out", "\(name).csr", "-subj", "/CN=\(name)")
        try openssl(
            "x509", "-req", "-in", "\(name).csr", "-CA", "\(authority).pem", "-CAkey",
            "\(authority).key", "-CAcreateserial", "-days", "2", "-extfile", "\(name).ext",
            "-out", "\(name).pem")
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o600], ofItemAtPath: path("\(name).key"))
    }

    private func openssl(_ arguments: String...) throws {
        let made = try run("/usr/bin/openssl", arguments, in: scratch.path)
        guard made.code == 0 else { throw TestTrouble("openssl \(arguments[0]) failed") }
    }

    /// For etcd: it wants certificates of clients, too.
    var serverOptions: [String] {
        [
            "--cert-file", path("server.pem"), "--key-file", path("server.key"),
            "--client-cert-auth", "--trusted-ca-file", path("authority.pem"),
        ]
    }

    /// For etcdctl.
    var clientOptions: [String] {
        [
            "--cacert", path("authority.pem"), "--cert", path("node.pem"), "--key",
            path("node.key"),
        ]
    }

    /// For the client, with whatever is to be wrong.
    func settings(
        authority: String = "authority", identity: String? = "node", serverName: String? = nil
    ) -> EtcdTLS {
        EtcdTLS(
            authority: path("\(authority).pem"), certificate: identity.map { path("\($0).pem") },
            key: identity.map { path("\($0).key") }, serverName: serverName)
    }
}
