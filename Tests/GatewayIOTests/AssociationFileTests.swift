import ESP
import Foundation
import GatewayIO
import Testing
import Wire

private let captures = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "vectors/captures")

/// A valid association; fields given here replace those of the same name, nil removes them.
private func entry(_ changes: [String: String?] = [:]) -> String {
    var fields: [String: String] = [
        "spi": "\"c0ffee01\"", "src": "\"192.0.2.1\"", "dst": "\"198.51.100.7\"",
        "mode": "\"tunnel\"", "encr": "\"AES_GCM_16\"", "key_bits": "128",
        "encr_key": "\"000102030405060708090a0b0c0d0e0f\"", "salt": "\"0a0b0c0d\"",
        "esn": "false",
    ]
    for (name, value) in changes { fields[name] = value }
    for (name, value) in changes where value == nil { fields.removeValue(forKey: name) }
    let members = fields.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }
    return "{\(members.joined(separator: ","))}"
}

private func file(_ entries: String...) throws(AssociationFileError) -> AssociationFile {
    try file(entries)
}

private func file(_ entries: [String]) throws(AssociationFileError) -> AssociationFile {
    let text = "{\"esp\":[\(entries.joined(separator: ","))]}"
    return try AssociationFile(json: Array(text.utf8), name: "sas.json")
}

private func refusal(of entries: [String]) -> AssociationFileError? {
    refusal(json: "{\"esp\":[\(entries.joined(separator: ","))]}")
}

private func refusal(json: String) -> AssociationFileError? {
    do throws(AssociationFileError) {
        _ = try AssociationFile(json: Array(json.utf8), name: "sas.json")
        return nil
    } catch {
        return error
    }
}

@Suite struct AssociationFileTests {
    @Test func everyCaptureHasAssociations() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: captures.path)
            .filter { $0.hasSuffix(".json") && !$0.hasSuffix(".verify.json") }
        #expect(names.count == 11)
        for name in names {
            let file = try AssociationFile(path: captures.appending(path: name).path)
            #expect(file.entries.count >= 2)
            for entry in file.entries {
                for direction in [Direction.inbound, .outbound] {
                    let association = try entry.association(
                        direction: direction, createdNanoseconds: 7)
                    #expect(association.parameters.direction == direction)
                    #expect(association.parameters.spi == entry.spi)
                    #expect(association.parameters.createdNanoseconds == 7)
                }
            }
        }
    }

    @Test func absentFieldsHaveTheirDefaults() throws {
        let parameters = try #require(try file(entry()).entries.first).parameters
        #expect(parameters.spi == SPI(0xc0ff_ee01) && parameters.replayWindow == 64)
        #expect(parameters.firstSequence == 1 && parameters.udp == nil)
        #expect(parameters.selectors == .any && parameters.lifetimes == Lifetimes())
        #expect(parameters.headers == TunnelHeaderPolicy() && parameters.mode == .tunnel)
        #expect(parameters.transform == (try Transform(.aesGCM16, keyBits: 128)))
    }

    @Test func everyFieldArrives() throws {
        let text = entry([
            "name": "\"to the moon\"", "comment": "{\"any\": [1]}", "spi": "\"0xABC\"",
            "sport": "4500", "dport": "4501", "esn": "true", "replay_window": "4096",
            "first_seq": "281474976710655", "tfc_bytes": "1400", "dscp": "46",
            "ecn": "\"compatibility\"", "df": "\"clear\"", "hop_limit": "\"copy\"",
            "path_mtu": "1400", "icv_len": "16", "integ": "null", "integ_key": "\"\"",
            "ts_src": "[\"10.1.0.0/16[tcp/80-90]\",\"10.2.0.0/16\"]", "ts_dst": "[\"fd00::/8\"]",
            "lifetime": """
            {"soft_packets": 1, "hard_packets": 2, "soft_bytes": 3,
             "hard_bytes": 18446744073709551615, "soft_seconds": 5, "hard_seconds": 6}
            """,
        ])
        let entry = try #require(try file(text).entries.first)
        let parameters = entry.parameters
        #expect(entry.name == "to the moon" && entry.spi == SPI(0xabc))
        #expect(parameters.udp == UDPPorts(source: 4500, destination: 4501))
        #expect(parameters.usesESN && parameters.replayWindow == 4096)
        #expect(parameters.firstSequence == 0xFFFF_FFFF_FFFF)
        #expect(
            parameters.selectors.source.count == 2 && parameters.selectors.destination.count == 1)
        var lifetimes = Lifetimes()
        (lifetimes.softPackets, lifetimes.hardPackets, lifetimes.softBytes) = (1, 2, 3)
        (lifetimes.softNanoseconds, lifetimes.hardNanoseconds) = (5_000_000_000, 6_000_000_000)
        #expect(parameters.lifetimes == lifetimes)
        var headers = TunnelHeaderPolicy()
        (headers.tfcBytes, headers.dscp, headers.ecn) = (1400, 46, .compatibility)
        (headers.dontFragment, headers.hopLimit, headers.pathMTU) = (.clear, nil, 1400)
        #expect(parameters.headers == headers)
    }

    @Test(arguments: [
        (["encr": "\"CHACHA20_POLY1305\"", "key_bits": "256"], 32, 4, 0),
        (["encr": "\"AES_CCM_8\"", "key_bits": "192"], 24, 3, 0),
        (["encr": "\"AES_CBC\"", "integ": "\"HMAC_SHA2_512_256\""], 16, 0, 64),
        (["encr": "\"AES_CTR\"", "integ": "\"HMAC_SHA1_96\""], 16, 4, 20),
        (["encr": "\"NULL\"", "key_bits": "0", "integ": "\"HMAC_SHA2_384_192\""], 0, 0, 48),
    ])
    func otherTransformsHaveTheirKeys(
        changes: [String: String], key: Int, salt: Int, integrity: Int
    ) throws {
        func digits(_ octets: Int) -> String? {
            octets == 0 ? nil : "\"\(String(repeating: "5a", count: octets))\""
        }
        var fields: [String: String?] = changes.mapValues { $0 }
        fields["encr_key"] = .some(digits(key))
        fields["salt"] = .some(digits(salt))
        fields["integ_key"] = .some(digits(integrity))
        #expect(try file(entry(fields)).entries.count == 1)
    }

    @Test(
        arguments: [
            (["spi": "\"00000042\""], AssociationFileError.Code.outOfRange, "spi", "reserved"),
            (["spi": "\"1000\""], .notHexadecimal, "spi", "eight hexadecimal digits"),
            (["spi": "3237998081"], .wrongType, "spi", "a number where a text"),
            (["spi": nil], .missingField, "spi", "add it"),
            (["src": "\"192.0.2.256\""], .unknownValue, "src", "IPv4 or IPv6 address"),
            (["dst": "\"2001:db8::1\""], .contradiction, "dst", "both IPv4 or both IPv6"),
            (["mode": "\"Tunnel\""], .unknownValue, "mode", "use tunnel (the nearest)"),
            (["encr": "\"AES_GCM_61\""], .unknownValue, "encr", "CHACHA20_POLY1305, AES_GMAC"),
            (["key_bits": "129"], .keyLength, "key_bits", "128, 192, 256"),
            (["key_bits": "256"], .keyLength, "encr_key", "32 octets, not 16"),
            (["encr_key": "\"00x1\""], .notHexadecimal, "encr_key", "digits 0-9"),
            (["encr_key": "\"001\""], .notHexadecimal, "encr_key", "odd number"),
            (["encr_key": nil], .missingField, "encr_key", "add it"),
            (["salt": "\"0a0b0c\""], .keyLength, "salt", "4 octets, not 3"),
            (["integ": "\"HMAC_SHA1_96\""], .contradiction, "integ", "authenticates by itself"),
            (["encr": "\"AES_CBC\""], .missingField, "integ", "name an integrity algorithm"),
            (["integ_key": "\"00\""], .keyLength, "integ_key", "0 octets, not 1"),
            (["icv_len": "12"], .contradiction, "icv_len", "16"),
            (["esn": "\"yes\""], .wrongType, "esn", "true or false"),
            (["esn": nil], .missingField, "esn", "add it"),
            (["sport": "4500"], .missingField, "dport", "both"),
            (["sport": "0", "dport": "4500"], .outOfRange, "sport", "1 to 65535"),
            (["replay_window": "31"], .outOfRange, "replay_window", "32 to 4096"),
            (["replay_window": "5000"], .outOfRange, "replay_window", "0 to 4096"),
            (["first_seq": "4294967296"], .outOfRange, "first_seq", "4294967295"),
            (["first_seq": "0"], .outOfRange, "first_seq", "starts at 1"),
            (["first_seq": "18446744073709551616"], .outOfRange, "first_seq", "whole number"),
            (["first_seq": "1.5"], .outOfRange, "first_seq", "whole number"),
            (["ts_src": "[]"], .contradiction, "ts_src", "leave the field out"),
            (["ts_src": "[\"10.1.0.0/16\", 5]"], .wrongType, "ts_src[1]", "a text"),
            (["ts_dst": "[\"10.1.2.0/16\"]"], .unknownValue, "ts_dst[0]", "10.1.0.0/16"),
            (["dscp": "64"], .outOfRange, "dscp", "0 to 63"),
            (["ecn": "\"no\""], .unknownValue, "ecn", "normal"),
            (["df": "true"], .wrongType, "df", "a text"),
            (["hop_limit": "0"], .outOfRange, "hop_limit", "1 to 255"),
            (["hop_limit": "\"inherit\""], .unknownValue, "hop_limit", "copy"),
            (["path_mtu": "67"], .outOfRange, "path_mtu", "68"),
            (["sport": "500", "dport": "4501"], .contradiction, "dport", "RFC 3948 §2"),
            (
                ["first_seq": "281474976710656", "esn": "true"], .outOfRange, "first_seq",
                "up to 281474976710655"
            ),
            (
                ["tfc_bytes": "100", "mode": "\"transport\""], .contradiction, "tfc_bytes",
                "tunnel mode"
            ),
            (
                ["lifetime": "{\"hard_packet\": 1}"], .unknownField, "lifetime.\"hard_packet\"",
                "hard_packets"
            ),
            (
                ["lifetime": "{\"soft_bytes\": 9, \"hard_bytes\": 8}"], .contradiction,
                "lifetime.soft_bytes", "never be reached"
            ),
            (
                ["lifetime": "{\"hard_seconds\": 18446744074}"], .outOfRange,
                "lifetime.hard_seconds", "1 to"
            ),
            (
                ["replay_windw": "64"], .unknownField, "\"replay_windw\"",
                "replay_window (the nearest)"
            ),
            (["scr": "true"], .unknownField, "\"scr\"", "src (the nearest)"),
            (["ESN": "true"], .unknownField, "\"ESN\"", "esn (the nearest)"),
            (["qqqqqqqqqqqq": "1"], .unknownField, "\"qqqqqqqqqqqq\"", "one of spi, src, dst"),
        ] as [([String: String?], AssociationFileError.Code, String, String)])
    func eachMistakeIsNamed(
        changes: [String: String?], code: AssociationFileError.Code, place: String, words: String
    ) throws {
        let error = try #require(
            refusal(of: [entry(["spi": "\"00000100\""]), entry(changes)]))
        #expect(error.code == code && error.place == "esp[1].\(place)", "\(error)")
        #expect(error.text.contains(words), "\(error)")
        let line = error.description
        #expect(line.hasPrefix("sas.json: esp[1].\(place): ") && !line.contains("\n"))
    }

    @Test func eitherPortMayBeTheOneOfNATTraversal() throws {
        for (source, destination) in [(4500, 61_000), (61_000, 4500), (4500, 4500)] {
            let text = entry(["sport": "\(source)", "dport": "\(destination)"])
            let udp = try #require(try file(text).entries.first?.parameters.udp)
            #expect(udp == UDPPorts(source: UInt16(source), destination: UInt16(destination)))
        }
    }

    // Random IVs leave all 64 bits to the number.
    @Test func cipherBlockChainingHasNoLastNumberOfItsOwn() throws {
        let text = entry([
            "encr": "\"AES_CBC\"", "integ": "\"HMAC_SHA1_96\"", "salt": nil, "esn": "true",
            "integ_key": "\"\(String(repeating: "5a", count: 20))\"",
            "first_seq": "18446744073709551615",
        ])
        #expect(try file(text).entries.first?.parameters.firstSequence == .max)
    }

    // What is wiped are the octets in memory, and only after the keys were taken from them.
    @Test func keysOutliveTheFile() throws {
        let directory = try TemporaryDirectory()
        let text = "{\"esp\":[\(GatewayIOTests.entry())]}"
        let path = try directory.write(Array(text.utf8), to: "sas.json")
        let entry = try #require(try AssociationFile(path: path).entries.first)
        #expect(try Data(contentsOf: URL(filePath: path)) == Data(text.utf8), "wiped the file")
        for _ in 0..<2 {
            _ = try entry.association(direction: .inbound, createdNanoseconds: 0)
        }
    }

    @Test func receivingHasConditionsOfItsOwn() throws {
        let entry = try #require(
            try file(entry(["esn": "true", "replay_window": "0"])).entries.first)
        _ = try entry.association(direction: .outbound, createdNanoseconds: 0)
        let error = #expect(throws: AssociationFileError.self) {
            _ = try entry.association(direction: .inbound, createdNanoseconds: 0)
        }
        #expect(error?.code == .contradiction && error?.place == "esp[0].replay_window")
    }

    @Test func oneSPICannotServeTwice() throws {
        let other = entry(["dst": "\"203.0.113.9\""])
        let error = try #require(
            refusal(of: [entry(), entry(["spi": "\"00000100\""]), other]))
        #expect(error.code == .duplicateSPI && error.place == "esp[2].spi")
        #expect(error.text.contains("esp[0]") && error.text.contains("RFC 4301 §4.1"))
    }

    @Test(arguments: [
        ("", AssociationFileError.Code.notJSON), ("[]", .wrongType), ("{}", .missingField),
        ("{\"esp\":{}}", .wrongType), ("{\"esp\":[]}", .noAssociation),
        ("{\"esp\":[7]}", .wrongType),
        ("{\"esp\":[{]}", .notJSON), ("\u{0}", .notJSON),
    ])
    func otherFilesAreRefused(json: String, code: AssociationFileError.Code) {
        #expect(refusal(json: json)?.code == code)
    }

    @Test func pathsAreNamed() throws {
        let directory = try TemporaryDirectory()
        let empty = try directory.write([], to: "empty.json")
        for (path, code) in [
            (directory.path("none.json"), AssociationFileError.Code.notFound),
            (directory.url.path, .isDirectory), (empty, .empty),
        ] {
            let error = #expect(throws: AssociationFileError.self) {
                _ = try AssociationFile(path: path)
            }
            #expect(error?.code == code && error?.description.hasPrefix(path) == true)
        }
        let name = try directory.write(Array("{".utf8), to: "a\nb.json")
        let error = #expect(throws: AssociationFileError.self) {
            _ = try AssociationFile(path: name)
        }
        #expect(error?.description.contains("\n") == false)
    }

    @Test func filesOfAnySizeAreBounded() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([])
        let handle = try FileHandle(forWritingTo: URL(filePath: path))
        try handle.truncate(atOffset: UInt64(AssociationFile.bytesMaximum) + 1)
        try handle.close()
        let error = #expect(throws: AssociationFileError.self) {
            _ = try AssociationFile(path: path)
        }
        #expect(error?.code == .tooLarge)
    }

    @Test func keysStayOutOfTextsAndErrors() throws {
        let secret = "000102030405060708090a0b0c0d0e0f"
        let entry = try #require(try file(entry()).entries.first)
        var dumped = ""
        dump(entry, to: &dumped)
        for text in ["\(entry)", String(reflecting: entry), dumped] {
            #expect(!text.contains(secret) && !text.contains("0a0b0c0d"))
        }
        let misspelt = GatewayIOTests.entry(["encr_key": "\"\(secret)zz\""])
        let error = try #require(refusal(of: [misspelt]))
        #expect(!error.description.contains("0001"))
    }

    /// A spoke of its own SPI.
    private func spoke(
        _ number: Int, _ destination: String?, _ source: String? = nil, peer: Int = 0
    ) -> String {
        entry([
            "spi": "\"0x\(String(4096 + number, radix: 16))\"",
            "src": "\"192.0.2.\(1 + peer)\"", "dst": "\"198.51.100.1\"",
            "ts_dst": destination.map { "[\"\($0)\"]" },
            "ts_src": source.map { "[\"\($0)\"]" },
        ])
    }

    private func ambiguity(_ spokes: String...) throws -> [Int]? {
        try file(spokes).firstAmbiguity(.outbound).map { [$0.0, $0.1] }
    }

    @Test func ambiguousSelectorsAreFound() throws {
        let apart = try ambiguity(
            spoke(0, "10.3.0.0/16"), spoke(1, "10.1.0.0/16"), spoke(2, "fd00::/8"),
            spoke(3, "10.2.0.0-10.2.0.9"))
        #expect(apart == nil)
        let sources = try ambiguity(
            spoke(0, "10.1.0.0/16", "10.8.0.0/16"), spoke(1, "10.1.0.0/16", "10.9.0.0/16"))
        #expect(sources == nil)
        let ports = try ambiguity(
            spoke(0, "10.1.0.0/16[tcp/80]"), spoke(1, "10.1.0.0/16[tcp/81]"),
            spoke(2, "10.1.0.0/16[udp]"))
        #expect(ports == nil)
        let nested = try ambiguity(
            spoke(0, "10.2.0.0/16"), spoke(1, "10.1.7.0/24"), spoke(2, "10.1.0.0/16"))
        #expect(nested == [1, 2])
        let nestedSources = try ambiguity(
            spoke(0, "10.1.0.0/16", "10.8.0.0/16"), spoke(1, "10.1.0.0/16", "10.9.0.0/16"),
            spoke(2, "10.1.0.0/16", "10.9.1.0/24"))
        #expect(nestedSources == [1, 2])
    }

    @Test func successorsAndOpenAssociationsAreNotAmbiguous() throws {
        #expect(try ambiguity(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.0.0/16")) == nil)
        #expect(
            try ambiguity(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.0.0/16", peer: 1)) == nil,
            "of two senders")
        #expect(try ambiguity(spoke(0, "fd00::1"), spoke(1, nil)) == nil)
        #expect(try ambiguity(spoke(0, nil), spoke(1, nil)) == nil)
    }

    // Receiving: what two peers claim is ambiguous; a rekey or the other direction is not.
    @Test func receivingRefusesOnlyWhatTwoPeersClaim() throws {
        func inbound(_ spokes: String...) throws -> [Int]? {
            try file(spokes).firstAmbiguity(.inbound).map { [$0.0, $0.1] }
        }
        let narrowed = try inbound(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.7.0/24"))
        #expect(narrowed == nil)
        let moved = try inbound(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.0.0/16", peer: 1))
        #expect(moved == nil)
        let claimed = try inbound(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.7.0/24", peer: 1))
        #expect(claimed == [0, 1])
    }

    @Test func anAmbiguityIsOneLineThatNamesBoth() throws {
        let file = try file(spoke(0, "10.1.0.0/16"), spoke(1, "10.1.7.0/24"))
        let error = try #require(throws: AssociationFileError.self) {
            try file.requireUnambiguousSelectors(for: .outbound)
        }
        #expect(error.code == .ambiguousSelectors)
        #expect(error.place == "esp[1]")
        #expect("\(error)".contains("esp[0]"))
        #expect(!"\(error)".contains("\n"))
    }
}

@Suite struct TrafficSelectorTextTests {
    @Test(arguments: [
        ("10.1.0.0/16", "10.1.0.0", "10.1.255.255", 0, 0, 65_535),
        ("10.1.0.5-10.1.0.9", "10.1.0.5", "10.1.0.9", 0, 0, 65_535),
        ("10.1.0.5", "10.1.0.5", "10.1.0.5", 0, 0, 65_535),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255", 0, 0, 65_535),
        ("fd00::/8[udp]", "fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 17, 0, 65_535),
        ("fd00::1[tcp/443]", "fd00::1", "fd00::1", 6, 443, 443),
        ("10.0.0.0/8[icmp/2048-2303]", "10.0.0.0", "10.255.255.255", 1, 2048, 2303),
        ("10.0.0.0/8[132/0-65535]", "10.0.0.0", "10.255.255.255", 132, 0, 65_535),
    ])
    func textsAreRead(
        text: String, first: String, last: String, number: UInt8, low: UInt16, high: UInt16
    ) throws {
        let selector = try TrafficSelector(parsing: text)
        #expect(selector.first.description == first && selector.last.description == last)
        #expect(selector.ipProtocol == number)
        #expect(selector.firstPort == low && selector.lastPort == high)
    }

    @Test(arguments: [
        ("", "not a traffic selector"), ("10.1.0.0/33", "0 to 32"), ("fd00::/129", "0 to 128"),
        ("10.1.0.0/", "prefix length"), ("10.1.0.0/+8", "prefix length"),
        ("10.1.2.0/16", "write 10.1.0.0/16"), ("10.1.0.9-10.1.0.5", "smaller one first"),
        ("10.1.0.9-fd00::1", "same family"), ("10.1.0.9-10.1.0.10-10.1.0.11", "not a traffic"),
        ("10.1.0.0/16/16", "not a traffic"), ("10.1.0.0/16[tcp", "']'"),
        ("10.1.0.0/16[]", "protocol"),
        ("10.1.0.0/16[TCP]", "protocol"), ("10.1.0.0/16[256]", "protocol"),
        ("10.1.0.0/16[-1]", "protocol"), ("10.1.0.0/16[tcp/]", "port"),
        ("10.1.0.0/16[tcp/65536]", "port"), ("10.1.0.0/16[tcp/9-8]", "port"),
        ("10.1.0.0/16[tcp/1-2-3]", "port"), ("10.1.0.0/16[tcp/80]x", "']'"),
        ("10.1.0.0/16[tcp/80/81]", "port"), ("\n", "not a traffic"),
    ])
    func mistakesAreNamed(text: String, words: String) {
        let error = #expect(throws: TrafficSelectorTextError.self) {
            _ = try TrafficSelector(parsing: text)
        }
        #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        #expect(error?.description.contains("\n") == false)
    }
}
