// The openssl command as an authority: it makes keys and certificates for both ends.

import Crypto
import Foundation

@testable import IKEStub

final class CertificateAuthority {
    private struct Failed: Error { let arguments: [String], output: String }

    private let directory: URL

    static let path = ["/usr/bin/openssl", "/usr/local/bin/openssl"]
        .first(where: FileManager.default.isExecutableFile)

    init() throws {
        directory = FileManager.default.temporaryDirectory
            .appending(path: "spindle-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        try Data("[req]\ndistinguished_name=dn\n[dn]\n".utf8).write(
            to: directory.appending(path: "empty.cnf"))
        try makeKey("root", "EC:P-256")
        try makeCertificate(
            "root", issuer: nil, days: 100,
            extensions: [
                "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
                "subjectKeyIdentifier=hash",
            ])
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func anchors() throws -> TrustAnchors {
        TrustAnchors(try Certificate.readPEM(read("root.pem")))
    }

    /// A key with its certificate. `kind`: "RSA:2048", "EC:P-256", "ED25519".
    func identity(
        _ name: String, _ kind: String, days: Int = 100, padding: Int = 0
    ) throws -> SigningIdentity? {
        try makeKey(name, kind)
        var extensions = ["subjectAltName=DNS:\(name)"]
        if padding > 0 {
            extensions.append("nsComment=\(String(repeating: "x", count: padding))")
        }
        try makeCertificate(name, issuer: "root", days: days, extensions: extensions)
        let pem = try read("\(name).key")
        let key = try PrivateKey(pem: SecretBytes(pem))
        return SigningIdentity(key: key, chain: try Certificate.readPEM(read("\(name).pem")))
    }

    private func makeKey(_ name: String, _ kind: String) throws {
        let parts = kind.split(separator: ":").map(String.init)
        var arguments = ["genpkey", "-out", "\(name).key", "-algorithm", parts[0]]
        if parts[0] == "RSA" { arguments += ["-pkeyopt", "rsa_keygen_bits:\(parts[1])"] }
        if parts[0] == "EC" { arguments += ["-pkeyopt", "ec_paramgen_curve:\(parts[1])"] }
        try run(arguments)
    }

    private func makeCertificate(
        _ name: String, issuer: String?, days: Int, extensions: [String]
    ) throws {
        var arguments = [
            "req", "-config", "empty.cnf", "-x509", "-new", "-key", "\(name).key", "-out",
            "\(name).pem", "-days", "\(days)", "-subj", "/C=CH/O=Lab/CN=\(name)",
        ]
        if let issuer { arguments += ["-CA", "\(issuer).pem", "-CAkey", "\(issuer).key"] }
        try run(arguments + extensions.flatMap { ["-addext", $0] })
    }

    private func read(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: directory.appending(path: name)))
    }

    private func run(_ arguments: [String]) throws {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(filePath: Self.path ?? "/usr/bin/openssl")
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failed(arguments: arguments, output: text)
        }
    }
}
