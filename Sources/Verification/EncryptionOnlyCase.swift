// Packets whose source has no ICV: no association of ours would carry them, so the cipher alone is
// run over the payload, both ways.

import Crypto
import ESP
import GatewayIO
import Wire

/// A case with `encryption_only`: AES-CBC or AES-CTR.
struct EncryptionOnlyCase {
    private let cipher: Cipher
    private let key: [UInt8]
    private let salt: [UInt8]
    private let iv: [UInt8]
    private let isTransport: Bool
    private let esp: [UInt8]
    private let inner: [UInt8]

    init(_ view: JSONView) throws(FieldError) {
        let association = try view.view("association")
        let ciphers: [String: [Int: Cipher]] = [
            "AES_CBC": [16: .aes128CBC, 24: .aes192CBC, 32: .aes256CBC],
            "AES_CTR": [16: .aes128CTR, 24: .aes192CTR, 32: .aes256CTR],
        ]
        key = try association.octets("encr_key")
        let name = try association.text("encr")
        guard let cipher = ciphers[name]?[key.count] else {
            throw association.refuse(
                "encr", .unknownValue,
                "\(quoted(name)) with \(key.count) octets of key: \"encryption_only\" is for "
                    + "AES_CBC and AES_CTR")
        }
        self.cipher = cipher
        salt = try association.octets("salt")
        iv = try view.octets("iv")
        guard salt.count + iv.count == (name == "AES_CBC" ? 16 : 12) else {
            throw view.refuse("iv", .keyLength, "salt and IV have not the octets of \(name)")
        }
        isTransport = try association.text("mode") == "transport"
        switch try ESPCase.packet(view) {
        case .esp(let esp): self.esp = esp
        case .outer(let outer):
            let place = outer.withUnsafeBytes { bytes in
                bytes.baseAddress.map { OuterPacket.classify(at: $0, count: bytes.count) }
            }
            guard case .esp(let location) = place else {
                throw view.refuse("outer", .contradiction, "not an ESP packet: correct it")
            }
            esp = Array(outer[Int(location.espOffset)..<Int(location.end)])
        }
        inner = try view.octets("inner")
    }

    /// nil when decryption gives the payload and encryption the packet.
    func run(library: CryptoLibrary) -> String? {
        let start = ESPLocation.espHeaderBytes + iv.count
        guard esp.count >= start + 2, Array(esp[8..<start]) == iv else {
            return "the packet does not begin with SPI, sequence number and the IV"
        }
        let ciphertext = Array(esp[start...])
        guard let plaintext = apply(ciphertext, encrypts: false, library) else {
            return "decryption failed"
        }
        let padBytes = Int(plaintext[plaintext.count - 2])
        let payloadBytes = plaintext.count - 2 - padBytes
        guard payloadBytes >= 0,
            plaintext[payloadBytes...].prefix(padBytes).enumerated().allSatisfy({
                $1 == UInt8(truncatingIfNeeded: $0 + 1)
            })
        else { return "the padding is not 1, 2, 3, …" }
        let headerBytes = isTransport ? Int((inner.first ?? 0) & 15) * 4 : 0
        guard inner.count >= max(headerBytes, 20) else { return "\"inner\" is not a packet" }
        let nextHeader = isTransport ? inner[9] : inner[0] >> 4 == 4 ? 4 : 41
        guard plaintext[plaintext.count - 1] == nextHeader else {
            return "expected next header \(nextHeader), got \(plaintext[plaintext.count - 1])"
        }
        if let difference = difference(
            "payload", expected: Array(inner[headerBytes...]),
            got: Array(plaintext[..<payloadBytes]))
        {
            return difference
        }
        guard let again = apply(plaintext, encrypts: true, library) else {
            return "encryption failed"
        }
        return difference("ciphertext", expected: ciphertext, got: again)
    }

    private func apply(_ data: [UInt8], encrypts: Bool, _ library: CryptoLibrary) -> [UInt8]? {
        let isCounter = iv.count == 8
        guard isCounter || data.count % 16 == 0 else { return nil }
        var context = KeyedContext()
        let recipe = KeyRecipe(
            cipher: cipher, cipherKeyBytes: key.count, tagBytes: 0, hash: nil, hashKeyBytes: 0,
            // Counter mode has one direction only.
            encrypts: encrypts || isCounter)
        // RFC 3686 §4: nonce | IV | 1.
        let block = isCounter ? salt + iv + [0, 0, 0, 1] : iv
        var result = data
        let isDone = key.withUnsafeBytes { key in
            block.withUnsafeBytes { block in
                result.withUnsafeMutableBytes { data in
                    guard let key = key.baseAddress, let block = block.baseAddress,
                        let base = data.baseAddress,
                        (try? context.key(recipe, library: library, key: key, hashKey: key)) != nil
                    else { return false }
                    return context.run(
                        encrypts: encrypts || isCounter, iv: block, data: base, count: data.count)
                }
            }
        }
        return isDone ? result : nil
    }
}
