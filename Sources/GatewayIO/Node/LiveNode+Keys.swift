// Keys in the files that Wireshark reads, where an operator asks for them: whoever has them can
// read the traffic. The octets are copied into texts here, and only here.

internal import Crypto
internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    func writeKeys(_ request: ControlRequest, _ session: ControlSession) {
        guard let directory = request.directory, directory.hasPrefix("/") else {
            return session.say(.failed("name the folder for the keys by its whole path"))
        }
        do throws(KeyFolder.Fault) {
            let folder = try KeyFolder(directory)
            let files = [("esp_sa", espLines()), ("ikev2_decryption_table", ikeLines())]
            try folder.write(
                files.map { ($0.0, Array($0.1.map { $0 + "\n" }.joined().utf8)) },
                replacing: request.isForced == true)
        } catch {
            return session.say(.failed(error.text))
        }
        log(
            .warning,
            "the keys of all SAs were written to \(printable(path: directory)), as was asked for")
        session.say(.done)
    }

    // MARK: ESP

    private func espLines() -> [String] {
        var lines: [String] = []
        for spi in pairs.keys.sorted() {
            member.gateway.forEachAssociation(of: spi) { lines.append(Self.espLine($0)) }
        }
        return lines
    }

    /// `"IPv4","source","destination","SPI","cipher","key","integrity","key"`
    private static func espLine(_ association: borrowing SecurityAssociation) -> String {
        let parameters = association.parameters
        let transform = parameters.transform
        let keys = association.withSecret { octets -> (cipher: String, integrity: String) in
            let salt = transform.keyBytes + transform.integrityKeyBytes
            return (
                // The salt stands behind the cipher's key there, as in KEYMAT (RFC 4106 §8.1).
                hexadecimal(octets[..<transform.keyBytes]) + hexadecimal(octets[salt...]),
                hexadecimal(octets[transform.keyBytes..<salt])
            )
        }
        let isV4 = parameters.source.family == .v4
        let fields = [
            isV4 ? "IPv4" : "IPv6", "\(parameters.source)", "\(parameters.destination)",
            "0x\(parameters.spi)", transform.encryption.wiresharkESPName, "0x" + keys.cipher,
            transform.integrity?.wiresharkESPName ?? "NULL",
            keys.integrity.isEmpty ? "" : "0x" + keys.integrity,
        ]
        return fields.map { "\"\($0)\"" }.joined(separator: ",")
    }

    // MARK: IKE

    private func ikeLines() -> [String] {
        member.gateway.associations().compactMap { summary in
            var line: String?
            do throws(CryptoError) {
                _ = try member.gateway.withIKEKeys(of: summary.localSPI) { suite, keys in
                    line = Self.ikeLine(summary, suite, keys)
                }
            } catch {
                return nil
            }
            return line
        }
    }

    /// SPIi, SPIr, SK_ei, SK_er, cipher, SK_ai, SK_ar, integrity.
    private static func ikeLine(
        _ summary: IKESummary, _ suite: IKESuite, _ keys: borrowing IKEKeys
    ) -> String {
        let protection = suite.protection
        func text(_ secret: borrowing SecretBytes) -> String {
            secret.withUnsafeBytes { hexadecimal($0[...]) }
        }
        let fields = [
            String(summary.initiatorSPI, radix: 16).leftPadded(to: 16),
            String(summary.responderSPI, radix: 16).leftPadded(to: 16),
            text(keys.initiatorEncryption), text(keys.responderEncryption),
            "\"\(protection.encryption.wiresharkIKEName(keyBits: protection.keyBits))\"",
            text(keys.initiatorIntegrity), text(keys.responderIntegrity),
            "\"\(protection.integrity?.wiresharkIKEName ?? "NONE [RFC4306]")\"",
        ]
        return fields.joined(separator: ",")
    }

    private static func hexadecimal(_ octets: Slice<UnsafeRawBufferPointer>) -> String {
        octets.map { String($0, radix: 16).leftPadded(to: 2) }.joined()
    }
}

extension String {
    func leftPadded(to width: Int) -> String {
        String(repeating: "0", count: max(0, width - utf8.count)) + self
    }
}

/// The names in Wireshark's tables (packet-ipsec.c, packet-isakmp.c).
extension EncryptionAlgorithm {
    fileprivate var wiresharkESPName: String {
        switch self {
        case .aesGCM16: "AES-GCM with 16 octet ICV [RFC4106]"
        case .aesGCM12: "AES-GCM with 12 octet ICV [RFC4106]"
        case .aesGCM8: "AES-GCM with 8 octet ICV [RFC4106]"
        case .chaCha20Poly1305: "ChaCha20 with Poly1305 [RFC7634]"
        case .aesCBC: "AES-CBC [RFC3602]"
        case .aesCTR: "AES-CTR [RFC3686]"
        // Wireshark decrypts none of these.
        case .aesCCM16, .aesCCM12, .aesCCM8, .aesGMAC, .null: "NULL"
        }
    }

    fileprivate func wiresharkIKEName(keyBits: Int) -> String {
        switch self {
        case .aesGCM16: "AES-GCM-\(keyBits) with 16 octet ICV [RFC5282]"
        case .aesGCM12: "AES-GCM-\(keyBits) with 12 octet ICV [RFC5282]"
        case .aesGCM8: "AES-GCM-\(keyBits) with 8 octet ICV [RFC5282]"
        case .aesCCM16: "AES-CCM-\(keyBits) with 16 octet ICV [RFC5282]"
        case .aesCCM12: "AES-CCM-\(keyBits) with 12 octet ICV [RFC5282]"
        case .aesCCM8: "AES-CCM-\(keyBits) with 8 octet ICV [RFC5282]"
        case .aesCBC: "AES-CBC-\(keyBits) [RFC3602]"
        // Wireshark decrypts none of these; IKE uses only the first.
        case .chaCha20Poly1305, .aesGMAC, .aesCTR, .null: "NULL [RFC2410]"
        }
    }
}

extension IntegrityAlgorithm {
    fileprivate var wiresharkESPName: String {
        switch self {
        case .hmacSHA1: "HMAC-SHA-1-96 [RFC2404]"
        case .hmacSHA256: "HMAC-SHA-256-128 [RFC4868]"
        case .hmacSHA384: "HMAC-SHA-384-192 [RFC4868]"
        case .hmacSHA512: "HMAC-SHA-512-256 [RFC4868]"
        }
    }

    fileprivate var wiresharkIKEName: String {
        switch self {
        case .hmacSHA1: "HMAC_SHA1_96 [RFC2404]"
        case .hmacSHA256: "HMAC_SHA2_256_128 [RFC4868]"
        case .hmacSHA384: "HMAC_SHA2_384_192 [RFC4868]"
        case .hmacSHA512: "HMAC_SHA2_512_256 [RFC4868]"
        }
    }
}
