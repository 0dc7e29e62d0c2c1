// The openssl command as the other party: it makes keys and certificates, and judges ours.

import COpenSSL
import Crypto
import Foundation
import TestSupport

/// True when OpenSSL's queue of errors is empty, as every call must leave it.
func hasNoPendingErrors() -> Bool { ERR_peek_error() == 0 }

/// A directory of its own for each test, and the command working in it.
final class OpenSSLTool {
    struct Failed: Error { let arguments: [String], output: String }

    let directory: URL

    init() throws {
        directory = FileManager.default.temporaryDirectory
            .appending(path: "spindle-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    static let path = ["/usr/bin/openssl", "/usr/local/bin/openssl"]
        .first(where: FileManager.default.isExecutableFile)

    /// Whether the command ends with 0; its output goes nowhere.
    func succeeds(_ arguments: [String]) -> Bool { (try? run(arguments)) != nil }

    @discardableResult
    func run(_ arguments: [String]) throws -> String {
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
        return text
    }

    /// Words separated by spaces.
    @discardableResult
    func run(_ line: String) throws -> String {
        try run(line.split(separator: " ").map(String.init))
    }

    func read(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: directory.appending(path: name)))
    }

    func write(_ octets: [UInt8], to name: String) throws {
        try Data(octets).write(to: directory.appending(path: name))
    }

    /// Makes NAME.key. `kind`: "rsa:2048", "P-256", "ed25519".
    func makeKey(_ name: String, _ kind: String) throws {
        var arguments = ["genpkey", "-out", "\(name).key"]
        if kind.hasPrefix("rsa:") {
            arguments += ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:\(kind.dropFirst(4))"]
        } else if kind.hasPrefix("P-") {
            arguments += ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:\(kind)"]
        } else {
            arguments += ["-algorithm", kind]
        }
        try run(arguments)
    }

    func privateKey(_ name: String) throws -> PrivateKey {
        try PrivateKey(pem: secret(try read("\(name).key")))
    }

    /// Makes NAME.key and NAME.pem. Without an issuer it signs itself.
    @discardableResult
    func makeCertificate(
        _ name: String, _ kind: String = "P-256", issuer: String? = nil, days: Int = 100,
        subject: String? = nil, extensions: [String] = [], options: [String] = []
    ) throws -> Certificate {
        try makeKey(name, kind)
        // Without the file's extensions: only those that are asked for.
        try write(octets("[req]\ndistinguished_name=dn\n[dn]\n"), to: "empty.cnf")
        var arguments = [
            "req", "-config", "empty.cnf", "-x509", "-new", "-utf8", "-key", "\(name).key", "-out",
            "\(name).pem", "-days", "\(days)", "-subj", subject ?? "/C=CH/O=Lab/CN=\(name)",
        ]
        if let issuer { arguments += ["-CA", "\(issuer).pem", "-CAkey", "\(issuer).key"] }
        for text in extensions { arguments += ["-addext", text] }
        try run(arguments + options)
        return try certificate(name)
    }

    /// An authority's extensions.
    static let authority = [
        "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
    ]

    func certificate(_ name: String) throws -> Certificate {
        let read = try Certificate.readPEM(read("\(name).pem"))
        guard let first = read.first, read.count == 1 else {
            throw Failed(arguments: [name], output: "\(read.count) certificates")
        }
        return first
    }
}
