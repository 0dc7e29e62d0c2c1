// Cookies against floods of set-ups from forged addresses (RFC 7296 §2.6).

internal import Crypto
internal import Wire

/// Makes cookies and knows them again, without remembering any of them.
///
///     cookie = version (1 octet) | HMAC-SHA256(secret of that version, Ni | IPi | SPIi), 16 octets
struct CookieJar: ~Copyable {
    /// A secret serves for this long, and its cookies for as long again.
    static let secretNanoseconds: UInt64 = 60 * 1_000_000_000

    private static let tagBytes = 16
    private var version: UInt8 = 0
    private var current: SecretBytes
    private var previous: SecretBytes?
    private var renewAt: UInt64

    init(_ random: inout some RandomSource, now: UInt64) {
        current = random.secret(32)
        renewAt = now &+ Self.secretNanoseconds
    }

    mutating func renew(_ random: inout some RandomSource, now: UInt64) {
        guard now >= renewAt else { return }
        let isRecent = now < renewAt &+ Self.secretNanoseconds
        let old = exchange(&current, with: random.secret(32))
        previous = isRecent ? consume old : nil
        version &+= 1
        renewAt = now &+ Self.secretNanoseconds
    }

    borrowing func cookie(
        nonce: [UInt8], _ address: IPAddress, initiatorSPI: UInt64
    ) throws(CryptoError) -> [UInt8] {
        [version] + (try Self.tag(current, nonce, address, initiatorSPI))
    }

    borrowing func isOurs(
        _ cookie: [UInt8], nonce: [UInt8], _ address: IPAddress, initiatorSPI: UInt64
    ) throws(CryptoError) -> Bool {
        guard cookie.count == 1 + Self.tagBytes else { return false }
        let expected: [UInt8]
        if cookie[0] == version {
            expected = try Self.tag(current, nonce, address, initiatorSPI)
        } else if cookie[0] == version &- 1,
            let found = try tagOfPrevious(
                nonce, address, initiatorSPI)
        {
            expected = found
        } else {
            return false
        }
        return SecretBytes(expected).equals(Array(cookie[1...]))
    }

    private borrowing func tagOfPrevious(
        _ nonce: [UInt8], _ address: IPAddress, _ initiatorSPI: UInt64
    ) throws(CryptoError) -> [UInt8]? {
        switch previous {
        case .some(let secret): try Self.tag(secret, nonce, address, initiatorSPI)
        case .none: nil
        }
    }

    private static func tag(
        _ secret: borrowing SecretBytes, _ nonce: [UInt8], _ address: IPAddress,
        _ initiatorSPI: UInt64
    ) throws(CryptoError) -> [UInt8] {
        let data = SecretBytes(nonce + address.octets + initiatorSPI.octets)
        return try hmacSHA256(key: secret, data: data).withUnsafeBytes { Array($0[..<tagBytes]) }
    }
}
