// AEADs and HMACs of test vectors through the contexts of the packet path: two of them are re-keyed
// for every case, as the key pool does.

import Crypto

/// A message with its tag, as published. `iv` is the whole nonce.
struct AEADMessage {
    let key: [UInt8]
    let iv: [UInt8]
    let aad: [UInt8]
    let plaintext: [UInt8]
    let ciphertext: [UInt8]
    let tag: [UInt8]
}

/// What a published message is for.
enum KnownVerdict {
    case valid, invalid
    /// Legal but weak; refusing it is right too.
    case acceptable
}

/// The AEADs of ESP.
enum AEADFamily: String {
    case gcm = "AES-GCM"
    case ccm = "AES-CCM"
    case chaCha20Poly1305 = "CHACHA20-POLY1305"
    /// GCM over AAD alone.
    case gmac = "AES-GMAC"

    /// nil when there are no keys of that length.
    func cipher(keyBytes: Int) -> Cipher? {
        switch (self, keyBytes) {
        case (.gcm, 16), (.gmac, 16): .aes128GCM
        case (.gcm, 24), (.gmac, 24): .aes192GCM
        case (.gcm, 32), (.gmac, 32): .aes256GCM
        case (.ccm, 16): .aes128CCM
        case (.ccm, 24): .aes192CCM
        case (.ccm, 32): .aes256CCM
        case (.chaCha20Poly1305, 32): .chaCha20Poly1305
        default: nil
        }
    }

    /// Why ESP has no such message; nil when it has. CCM's nonce is 11 octets in ESP (RFC 4309 §4),
    /// but the context takes the others of NIST SP 800-38C too, so they are run.
    func reasonToSkip(ivBytes: Int, tagBytes: Int) -> String? {
        let ivs = self == .ccm ? 7...13 : 12...12
        if !ivs.contains(ivBytes) { return "nonce of \(ivBytes) octets" }
        let tags = self == .gcm || self == .ccm ? [8, 12, 16] : [16]
        return tags.contains(tagBytes) ? nil : "tag of \(tagBytes) octets"
    }
}

/// Keeps one context per direction.
final class KnownAnswerCipher {
    private let library: CryptoLibrary
    private var sealing = KeyedContext()
    private var opening = KeyedContext()

    init(library: CryptoLibrary) { self.library = library }

    /// nil when both directions do what `verdict` demands.
    func run(_ message: AEADMessage, _ family: AEADFamily, _ verdict: KnownVerdict) -> String? {
        guard let cipher = family.cipher(keyBytes: message.key.count) else {
            return verdict == .valid
                ? "\(family.rawValue) has no keys of \(message.key.count) octets" : nil
        }
        let opened = transform(message, cipher, encrypts: false)
        switch (verdict, opened) {
        case (.invalid, nil), (.acceptable, nil): return nil
        case (.invalid, _?): return "expected a refusal, but the tag was accepted"
        case (.valid, nil): return "expected acceptance, but the tag was refused"
        case (_, let opened?):
            if let wrong = difference("plaintext", expected: message.plaintext, got: opened.data) {
                return wrong
            }
        }
        guard let sealed = transform(message, cipher, encrypts: true) else {
            return "encryption failed"
        }
        return difference("ciphertext", expected: message.ciphertext, got: sealed.data)
            ?? difference("tag", expected: message.tag, got: sealed.tag)
    }

    /// Runs one direction in place; nil when it is refused.
    private func transform(
        _ message: AEADMessage, _ cipher: Cipher, encrypts: Bool
    ) -> (data: [UInt8], tag: [UInt8])? {
        let recipe = KeyRecipe(
            cipher: cipher, cipherKeyBytes: message.key.count, tagBytes: message.tag.count,
            hash: nil, hashKeyBytes: 0, encrypts: encrypts)
        let data = encrypts ? message.plaintext : message.ciphertext
        // Key, IV, AAD, data and tag lie one after the other; one octet more, so that the block has
        // an address even when all are empty.
        var block = message.key + message.iv + message.aad + data
        block += encrypts ? [UInt8](repeating: 0, count: message.tag.count) : message.tag
        block.append(0)
        let iv = message.key.count
        let aad = iv + message.iv.count
        let start = aad + message.aad.count
        let end = start + data.count
        let isDone = block.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            let layout = MessageLayout(
                aad: base + aad, aadBytes: message.aad.count, iv: base + iv,
                ivBytes: message.iv.count, data: base + start, dataBytes: data.count,
                tag: base + end)
            do throws(CryptoError) {
                if encrypts {
                    try sealing.key(
                        recipe, library: library, key: base, hashKey: base,
                        ccmNonceBytes: message.iv.count)
                    return sealing.seal(layout)
                }
                try opening.key(
                    recipe, library: library, key: base, hashKey: base,
                    ccmNonceBytes: message.iv.count)
                return opening.open(layout)
            } catch {
                return false
            }
        }
        guard isDone else { return nil }
        return (Array(block[start..<end]), Array(block[end..<end + message.tag.count]))
    }

    /// The full HMAC by the packet path's context.
    func hmac(_ hash: Hash, key: [UInt8], data: [UInt8]) -> [UInt8]? {
        let recipe = KeyRecipe(
            cipher: nil, cipherKeyBytes: 0, tagBytes: 0, hash: hash, hashKeyBytes: key.count,
            encrypts: true)
        let block = key + data + [0]
        var output = [UInt8](repeating: 0, count: maximumHashBytes)
        let isDone = block.withUnsafeBytes { bytes in
            output.withUnsafeMutableBytes { output in
                guard let base = bytes.baseAddress, let target = output.baseAddress,
                    (try? sealing.key(recipe, library: library, key: base, hashKey: base)) != nil
                else { return false }
                return sealing.authenticate(
                    base + key.count, count: data.count, tail: base, tailBytes: 0, output: target)
            }
        }
        let sizes: [Hash: Int] = [.sha1: 20, .sha256: 32, .sha384: 48, .sha512: 64]
        return isDone ? Array(output.prefix(sizes[hash] ?? 0)) : nil
    }
}
