// Messages that we build, read by Wireshark and by scapy: both know IKEv2 from elsewhere. Wireshark
// also decrypts, and checks the Integrity Checksum Data.

import Crypto
import ESP
import Foundation
import IKEStub
import TestSupport
import Testing

private let tshark = "/usr/bin/tshark"
private let python = "/usr/bin/python3"

private func run(_ program: String, _ arguments: [String]) throws -> (text: String, code: Int32) {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (text, process.terminationStatus)
}

/// A capture of UDP datagrams from and to port 500, without link layer.
private func capture(_ messages: [[UInt8]]) -> Data {
    var file = hex("a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000065")
    for message in messages {
        let length = UInt16(28 + message.count)
        file += hex("00000000 00000000")
        file += bigEndian(UInt32(length)) + bigEndian(UInt32(length))
        file += [0x45, 0] + bigEndian(length) + hex("0001 0000 4011 0000 c0000201 c0000202")
        file += hex("01f4 01f4") + bigEndian(length - 20) + [0, 0] + message
    }
    return Data(file)
}

/// Wireshark's names; nil for what it does not know.
private func wiresharkName(_ suite: MessageSuite) -> (encryption: String, integrity: String)? {
    let integrity =
        switch suite.integrity {
        case nil: "NONE [RFC4306]"
        case .hmacSHA1: "HMAC_SHA1_96 [RFC2404]"
        case .hmacSHA256: "HMAC_SHA2_256_128 [RFC4868]"
        case .hmacSHA384: "HMAC_SHA2_384_192 [RFC4868]"
        case .hmacSHA512: "HMAC_SHA2_512_256 [RFC4868]"
        }
    if suite.encryption == .aesCBC { return ("AES-CBC-\(suite.keyBits) [RFC3602]", integrity) }
    guard suite.encryption != .chaCha20Poly1305 else { return nil }
    let mode = suite.encryption.rawValue.hasPrefix("AES_GCM") ? "GCM" : "CCM"
    let icv = "with \(suite.icvBytes) octet ICV [RFC5282]"
    return ("AES-\(mode)-\(suite.keyBits) \(icv)", integrity)
}

@Suite(
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: tshark),
        "NOT JUDGED: no /usr/bin/tshark: run 'scripts/prepare test'"))
struct WiresharkTests {
    private let path = FileManager.default.temporaryDirectory
        .appending(path: "spindle-messages-\(UUID().uuidString).pcap").path

    private func read(
        _ messages: [[UInt8]], _ options: [String] = []
    ) throws -> [(types: [String], complaints: String)] {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try capture(messages).write(to: URL(filePath: path))
        let fields = ["isakmp.typepayload", "_ws.malformed", "_ws.expert.message"]
        let found = try run(
            tshark,
            ["-r", path] + options + ["-T", "fields"] + fields.flatMap { ["-e", $0] })
        #expect(found.code == 0)
        return found.text.split(separator: "\n").map { line in
            let columns = line.split(separator: "\t", omittingEmptySubsequences: false)
            return (
                columns[0].split(separator: ",").map(String.init),
                columns[1...].joined().trimmingCharacters(in: .whitespaces)
            )
        }
    }

    /// The types of payloads, without those of proposals (2) and transforms (3).
    private func payloadTypes(_ types: [String]) -> [String] {
        types.filter { $0 != "2" && $0 != "3" }
    }

    @Test func everyPayloadIsUnderstood() throws {
        let payloads = try everyPayload()
        let messages = payloads.map { message([$0]).encoded() } + [message(payloads).encoded()]
        let found = try read(messages)
        try #require(found.count == messages.count)
        for (payload, line) in zip(payloads, found) {
            #expect(payloadTypes(line.types) == ["\(payload.type)"])
            #expect(line.complaints.isEmpty, "\(payload): \(line.complaints)")
        }
        #expect(payloadTypes(found[payloads.count].types) == payloads.map { "\($0.type)" })
    }

    /// A suite that Wireshark knows, with keys and the option that tells it to Wireshark.
    private struct Keyed: ~Copyable {
        let protection: MessageProtection
        let option: String
        let iv: @Sendable (Int) -> MessageIV

        /// nil when Wireshark does not know the suite. `number` makes keys and SPIi differ.
        init?(_ suite: MessageSuite, number: Int, library: CryptoLibrary) {
            guard let names = wiresharkName(suite) else { return nil }
            let lengths = suite.keyLengths
            let key = (0..<lengths.encryption).map { UInt8($0 + number) }
            let integrityKey = (0..<lengths.integrity).map { UInt8($0 + 50) }
            protection = MessageProtection(
                suite, encryptionKey: secret(copying: key),
                integrityKey: secret(copying: integrityKey), library: library)
            let spi = digits(bigEndian(cookies.initiator + UInt64(number)))
            let integrity = integrityKey.isEmpty ? "\"\"" : digits(integrityKey)
            option =
                "uat:ikev2_decryption_table:\(spi),\(digits(bigEndian(cookies.responder))),"
                + "\(digits(key)),\(digits(key)),\"\(names.encryption)\","
                + "\(integrity),\(integrity),\"\(names.integrity)\""
            let ivBytes = suite.ivBytes
            iv = { index in
                ivBytes == 8
                    ? .counter(UInt64(index)) : .random(Array(repeating: UInt8(index), count: 16))
            }
        }
    }

    @Test func everySuiteIsDecrypted() throws {
        let library = try CryptoLibrary()
        let payloads = try everyPayload()
        var messages: [[UInt8]] = []
        var options: [String] = []
        for suite in everySuite {
            guard let keyed = Keyed(suite, number: messages.count, library: library) else {
                continue
            }
            let spi = cookies.initiator + UInt64(messages.count)
            messages.append(
                try keyed.protection.seal(message(payloads, initiator: spi), iv: keyed.iv(9)))
            options += ["-o", keyed.option]
        }
        #expect(messages.count == 30)
        let found = try read(messages, options)
        #expect(found.count == messages.count)
        for line in found {
            #expect(payloadTypes(line.types) == ["46"] + payloads.map { "\($0.type)" })
            #expect(line.complaints.isEmpty, "\(line.complaints)")
        }
    }

    /// RFC 7383 does not say that the fragment numbers are associated data; others agree that they
    /// are.
    @Test func fragmentsAreDecryptedAndPutTogether() throws {
        let library = try CryptoLibrary()
        let payloads = try everyPayload()
        for suite in everySuite where suite.keyBits == 128 && suite.integrity != .hmacSHA1 {
            guard let keyed = Keyed(suite, number: 0, library: library) else { continue }
            let datagrams = try keyed.protection.seal(
                message(payloads), lengthMaximum: 250, iv: keyed.iv)
            try #require(datagrams.count > 3)
            let found = try read(datagrams, ["-o", keyed.option])
            try #require(found.count == datagrams.count)
            #expect(found.allSatisfy { $0.complaints.isEmpty }, "\(suite): \(found)")
            #expect(found.dropLast().allSatisfy { $0.types == ["53"] })
            let whole = payloadTypes(try #require(found.last).types)
            #expect(whole == ["53"] + payloads.map { "\($0.type)" })
        }
    }
}

private func digits(_ octets: [UInt8]) -> String {
    octets.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

@Suite(
    .enabled(
        if: (try? run(python, ["-c", "import scapy.contrib.ikev2"]))?.code == 0,
        "NOT JUDGED: no python3 with scapy: run 'scripts/prepare test'"))
struct ScapyTests {
    /// One line: the names of the layers, and whether scapy writes the same octets.
    private static let program = """
        import sys
        from scapy.contrib.ikev2 import IKEv2
        for text in sys.argv[1:]:
            octets = bytes.fromhex(text)
            layer, names = IKEv2(octets), []
            while layer:
                names.append(type(layer).__name__.replace("IKEv2_payload_", ""))
                layer = layer.payload
            again = IKEv2(octets)
            # Or it would write what it has read.
            again.clear_cache()
            print(",".join(names), bytes(again) == octets)
        """

    @Test func everyPayloadIsUnderstood() throws {
        let payloads = try everyPayload()
        let texts = payloads.map { digits(message([$0]).encoded()) }
        let found = try run(python, ["-c", Self.program] + texts)
        #expect(found.code == 0)
        let names: [UInt8: String] = [
            33: "SA", 34: "KE", 35: "IDi", 36: "IDr", 37: "CERT_STR", 38: "CERTREQ", 39: "AUTH",
            40: "Nonce", 41: "Notify", 42: "Delete", 43: "VendorID", 44: "TSi", 45: "TSr",
            47: "CP", 48: "IKEv2_payload",
        ]
        let lines = found.text.split(separator: "\n")
        try #require(lines.count == payloads.count)
        for (payload, line) in zip(payloads, lines) {
            let name = try #require(names[payload.type])
            #expect(line == "IKEv2,\(name) True", "\(payload)")
        }
    }
}
