// Signatures, each made by one of two parties and verified by the other: module Crypto and the
// openssl command.

import Crypto
import Foundation
import TestSupport
import Testing

private struct Pair: CustomTestStringConvertible, Sendable {
    let kind: String
    let expected: KeyKind
    var testDescription: String { kind }
}

private let pairs = [
    Pair(kind: "rsa:2048", expected: .rsa(bits: 2048)),
    Pair(kind: "rsa:3072", expected: .rsa(bits: 3072)),
    Pair(kind: "P-256", expected: .ecdsa(.p256)), Pair(kind: "P-384", expected: .ecdsa(.p384)),
    Pair(kind: "P-521", expected: .ecdsa(.p521)), Pair(kind: "ed25519", expected: .ed25519),
]

/// What `openssl pkeyutl` must be told for a scheme.
private func options(_ scheme: SignatureScheme) -> [String] {
    var options = ["-rawin"]
    switch scheme.hash {
    case .sha1: options += ["-digest", "sha1"]
    case .sha256: options += ["-digest", "sha256"]
    case .sha384: options += ["-digest", "sha384"]
    case .sha512: options += ["-digest", "sha512"]
    case nil: break
    }
    if case .rsaPSS(let hash) = scheme {
        options += [
            "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:\(hash.outputBytes)",
        ]
    }
    return options
}

/// r | s as the two INTEGERs of a SEQUENCE, and back: RFC 4754 against RFC 3279, by hand.
private func integer(_ octets: ArraySlice<UInt8>) -> [UInt8] {
    var body = Array(octets.drop { $0 == 0 })
    if body.first.map({ $0 >= 0x80 }) ?? true { body.insert(0, at: 0) }
    return [2, UInt8(body.count)] + body
}

private func derSignature(_ raw: [UInt8]) -> [UInt8] {
    let body = integer(raw[..<(raw.count / 2)]) + integer(raw[(raw.count / 2)...])
    return [0x30] + (body.count < 128 ? [] : [0x81]) + [UInt8(body.count)] + body
}

private func rawSignature(_ der: [UInt8], half: Int) -> [UInt8] {
    var rest = der.dropFirst(der[1] == 0x81 ? 3 : 2)
    return (0..<2).flatMap { _ in
        let count = Int(rest[rest.startIndex + 1])
        let body = rest.dropFirst(2).prefix(count)
        rest = rest.dropFirst(2 + count)
        return [UInt8](repeating: 0, count: max(0, half - count)) + body.suffix(half)
    }
}

private func half(_ hash: Hash) -> Int { hash == .sha512 ? 66 : hash.outputBytes }

private func verify(
    _ key: PublicKey, _ signature: [UInt8], _ message: [UInt8], _ scheme: SignatureScheme
) -> Bool {
    signature.withUnsafeBytes { signature in
        message.withUnsafeBytes { key.verify(signature, of: $0, scheme) }
    }
}

private func sign(
    _ key: borrowing PrivateKey, _ message: [UInt8], _ scheme: SignatureScheme
) throws(CryptoError) -> [UInt8] {
    try secret(message).withUnsafeBytes { message throws(CryptoError) in
        try key.sign(message, scheme)
    }
}

@Suite(.enabled(if: OpenSSLTool.path != nil, "openssl is not installed: no second opinion"))
struct SignatureTests {
    private let tool: OpenSSLTool

    init() throws { tool = try OpenSSLTool() }

    @Test(arguments: pairs)
    fileprivate func bothPartiesAgree(pair: Pair) throws {
        let certificate = try tool.makeCertificate("gw", pair.kind)
        let key = try tool.privateKey("gw")
        #expect(key.kind == pair.expected)
        #expect(certificate.publicKey.kind == pair.expected)
        let isTheirs = key.matches(certificate)
        #expect(isTheirs)
        var random = SeededGenerator()
        for scheme in key.schemes {
            let message = random.bytes(1 + Int(random.next() % 3000))
            try tool.write(message, to: "message")
            var signature = try sign(key, message, scheme)
            if case .ecdsaRaw(let hash) = scheme {
                #expect(signature.count == 2 * half(hash))
                signature = derSignature(signature)
            }
            try tool.write(signature, to: "ours")
            #expect(
                tool.succeeds(
                    ["pkeyutl", "-verify", "-in", "message", "-sigfile", "ours", "-certin"]
                        + ["-inkey", "gw.pem"] + options(scheme)), "\(scheme)")
            try tool.run(
                ["pkeyutl", "-sign", "-in", "message", "-out", "theirs", "-inkey", "gw.key"]
                    + options(scheme))
            var theirs = try tool.read("theirs")
            if case .ecdsaRaw(let hash) = scheme {
                theirs = rawSignature(theirs, half: half(hash))
            }
            #expect(verify(certificate.publicKey, theirs, message, scheme), "\(scheme)")
            try checkRefusals(certificate.publicKey, theirs, message, scheme, &random)
        }
    }

    /// One flipped bit anywhere, other lengths, other schemes.
    private func checkRefusals(
        _ key: PublicKey, _ signature: [UInt8], _ message: [UInt8], _ scheme: SignatureScheme,
        _ random: inout SeededGenerator
    ) throws {
        for _ in 0..<8 {
            var other = signature
            other[Int(random.next() % UInt64(other.count))] ^= 1 << UInt8(random.next() % 8)
            #expect(!verify(key, other, message, scheme))
        }
        var other = message
        other[0] ^= 1
        #expect(!verify(key, signature, other, scheme))
        for wrong in [[], signature + [0], Array(signature.dropLast()), [0] + signature] {
            #expect(!verify(key, wrong, message, scheme))
        }
        for another in SignatureScheme.allCases where another != scheme {
            #expect(!verify(key, signature, message, another), "\(another)")
        }
        #expect(hasNoPendingErrors())
    }

    // A salt of another length is another scheme: what the identifier does not say is not verified.
    @Test func saltsOfOtherLengthsAreRefused() throws {
        let key = try tool.makeCertificate("gw", "rsa:2048").publicKey
        try tool.write([1, 2, 3], to: "message")
        for (salt, isGood) in [("32", true), ("20", false), ("0", false), ("max", false)] {
            try tool.run(
                "pkeyutl -sign -in message -out signature -inkey gw.key -rawin -digest sha256 "
                    + "-pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:\(salt)")
            let signature = try tool.read("signature")
            #expect(verify(key, signature, [1, 2, 3], .rsaPSS(.sha256)) == isGood, "\(salt)")
        }
    }

    @Test func emptyMessagesCanBeSigned() throws {
        for kind in ["rsa:2048", "P-256", "ed25519"] {
            let certificate = try tool.makeCertificate("gw", kind)
            let key = try tool.privateKey("gw")
            let scheme = try #require(key.schemes.first)
            let signature = try key.sign(UnsafeRawBufferPointer(start: nil, count: 0), scheme)
            #expect(verify(certificate.publicKey, signature, [], scheme))
        }
    }

    // Zeros for r and s verified under any key in some libraries (CVE-2022-21449).
    @Test func zeroIsNoSignature() throws {
        let key = try tool.makeCertificate("gw", "P-256").publicKey
        let zero = [UInt8](repeating: 0, count: 64)
        #expect(!verify(key, zero, [1], .ecdsaRaw(.sha256)))
        #expect(!verify(key, hex("3006020100020100"), [1], .ecdsa(.sha256)))
        #expect(hasNoPendingErrors())
    }

    @Test func shortRSAKeysVerifyNothing() throws {
        let certificate = try tool.makeCertificate("weak", "rsa:1024")
        try tool.write([1], to: "message")
        try tool.run(
            "pkeyutl -sign -in message -out signature -inkey weak.key -rawin -digest sha256")
        #expect(certificate.publicKey.kind == .rsa(bits: 1024))
        let signature = try tool.read("signature")
        #expect(!verify(certificate.publicKey, signature, [1], .rsaPKCS1(.sha256)))
        #expect(throws: KeyFileFault.tooShort(bits: 1024)) { _ = try tool.privateKey("weak") }
    }
}

@Suite(.enabled(if: OpenSSLTool.path != nil, "openssl is not installed: no key files"))
struct PrivateKeyTests {
    private let tool: OpenSSLTool

    init() throws { tool = try OpenSSLTool() }

    @Test func olderFormsAreRead() throws {
        for (kind, name, option) in [("rsa:2048", "rsa", " -traditional"), ("P-384", "ec", "")] {
            let certificate = try tool.makeCertificate("gw", kind)
            try tool.run("\(name) -in gw.key -out old.key\(option)")
            let text = String(decoding: try tool.read("old.key"), as: UTF8.self)
            #expect(text.contains("BEGIN \(name.uppercased()) PRIVATE KEY"))
            let isSame = try tool.privateKey("old").matches(certificate)
            #expect(isSame)
        }
        // The parameters stand in a block of their own before the key.
        try tool.run("ecparam -name prime256v1 -genkey -out parameters.key")
        #expect(try tool.privateKey("parameters").kind == .ecdsa(.p256))
    }

    @Test func otherKeysDoNotMatch() throws {
        let one = try tool.makeCertificate("one", "P-256")
        let other = try tool.makeCertificate("other", "ed25519")
        let twin = try tool.makeCertificate("twin", "P-256")
        let key = try tool.privateKey("one")
        let matches = [key.matches(one), key.matches(other), key.matches(twin)]
        #expect(matches == [true, false, false])
        #expect(hasNoPendingErrors())
    }

    @Test func encryptedKeysSayWhatToDo() throws {
        try tool.makeKey("gw", "rsa:2048")
        try tool.run("pkcs8 -topk8 -in gw.key -out a.key -passout pass:secret")
        try tool.run("rsa -in gw.key -traditional -aes128 -out b.key -passout pass:secret")
        for name in ["a", "b"] {
            #expect(throws: KeyFileFault.encrypted) { _ = try tool.privateKey(name) }
        }
        #expect(KeyFileFault.encrypted.description.contains("openssl pkey -in"))
        #expect(hasNoPendingErrors())
    }

    @Test func otherFilesAreNoKeys() throws {
        try tool.makeCertificate("gw")
        let key = try tool.read("gw.key")
        var damaged = key
        damaged[60] = UInt8(ascii: "!")
        let files = [
            [], [0], octets("-----BEGIN PRIVATE KEY-----\n"), damaged, try tool.read("gw.pem"),
        ]
        for file in files + [Array(key.prefix(100))] {
            #expect(throws: KeyFileFault.noKey) { _ = try PrivateKey(pem: secret(file)) }
        }
        #expect(hasNoPendingErrors())
    }

    @Test func otherAlgorithmsAreNamed() throws {
        for (kind, name) in [("ed448", "ED448"), ("x25519", "X25519")] {
            try tool.makeKey("gw", kind)
            #expect(throws: KeyFileFault.unsupported(name)) { _ = try tool.privateKey("gw") }
        }
        try tool.run("ecparam -name brainpoolP256r1 -genkey -noout -out gw.key")
        #expect(throws: KeyFileFault.unsupported("EC")) { _ = try tool.privateKey("gw") }
        #expect(hasNoPendingErrors())
    }
}
