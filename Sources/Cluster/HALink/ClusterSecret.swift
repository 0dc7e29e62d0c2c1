// The one secret that all nodes of a cluster share, and the keys that come of it. Each key has a
// label of its own, so that none says anything about another (docs/cluster-protocol.md).

public import Crypto
internal import Wire

/// Why a cluster has no secret.
public enum ClusterSecretError: Error, Equatable, CustomStringConvertible {
    /// Fewer octets than ``ClusterSecret/keyBytesMinimum``.
    case tooShort(bytes: Int)
    /// OpenSSL can't serve.
    case crypto(CryptoError)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .tooShort(let bytes):
            "a cluster key of \(bytes) octets is too short: "
                + "use \(ClusterSecret.keyBytesMinimum) or more random ones"
        case .crypto(let error): error.description
        }
    }
}

/// The cluster key, and what is derived from it with HMAC-SHA256.
public struct ClusterSecret: ~Copyable {
    /// The least octets of a cluster key.
    public static let keyBytesMinimum = 32
    /// Octets of the cluster tag.
    static let tagBytes = 6

    private let key: SecretBytes
    /// Tells the datagrams of clusters apart before any key is tried; public, in the low 48 bits.
    let tag: UInt64

    /// The cluster tag in 12 hexadecimal digits. It is public, and equal wherever the key is: by it
    /// people compare the keys of nodes.
    public var tagText: String {
        let digits = String(tag, radix: 16)
        return String(repeating: "0", count: 2 * Self.tagBytes - digits.count) + digits
    }

    /// Takes a copy of the cluster key, which should be uniformly random.
    public init(key: borrowing SecretBytes) throws(ClusterSecretError) {
        guard key.count >= Self.keyBytesMinimum else { throw .tooShort(bytes: key.count) }
        let copy = Self.copy(of: key)
        do throws(CryptoError) {
            // What works here works later: all keys are derived in this way and used like this one.
            let tag = try hmacSHA256(key: copy, data: Self.text("spindle cluster tag 1"))
            _ = try MessageSeal(key: tag, for: .opening)
            self.tag = tag.withUnsafeBytes { load64($0.baseAddress.unsafelyUnwrapped, 0) >> 16 }
        } catch {
            throw .crypto(error)
        }
        self.key = copy
    }

    private init(key: consuming SecretBytes, tag: UInt64) {
        self.key = key
        self.tag = tag
    }

    /// A second owner of the same secret.
    borrowing func copy() -> ClusterSecret {
        ClusterSecret(key: Self.copy(of: key), tag: tag)
    }

    /// The key of the hash of initiator cookies.
    public borrowing func cookieKey() -> CookieKey {
        derive(Self.text("spindle cookie key 1")).withUnsafeBytes { bytes in
            let base = bytes.baseAddress.unsafelyUnwrapped
            return CookieKey(
                multipliers: SIMD4(
                    load32(base, 0), load32(base, 4), load32(base, 8), load32(base, 12)),
                offset: load32(base, 16))
        }
    }

    /// The key of stored records.
    borrowing func recordKey() -> SecretBytes { derive(Self.text("spindle record key 1")) }

    /// The key of the datagrams from one process to another.
    borrowing func linkKey(from sender: HALinkEnd, to receiver: HALinkEnd) -> SecretBytes {
        let label = Self.text("spindle ha link 1")
        var data = SecretBytes(count: label.count + Self.tagBytes + 20)
        data.withUnsafeMutableBytes { bytes in
            var writer = OctetWriter(bytes)
            label.withUnsafeBytes { writer.octets($0) }
            writer.uint16(UInt16(tag >> 32))
            writer.uint32(UInt32(truncatingIfNeeded: tag))
            writer.uint16(sender.node.value)
            writer.uint16(receiver.node.value)
            writer.uint64(sender.incarnation)
            writer.uint64(receiver.incarnation)
        }
        return derive(data)
    }

    private borrowing func derive(_ data: borrowing SecretBytes) -> SecretBytes {
        do {
            return try hmacSHA256(key: key, data: data)
        } catch {
            preconditionFailure("out of memory: \(error)")
        }
    }

    private static func copy(of key: borrowing SecretBytes) -> SecretBytes {
        var copy = SecretBytes(count: key.count)
        key.withUnsafeBytes { source in copy.withUnsafeMutableBytes { $0.copyMemory(from: source) }
        }
        return copy
    }

    private static func text(_ text: String) -> SecretBytes {
        var octets = SecretBytes(count: text.utf8.count)
        octets.withUnsafeMutableBytes { $0.copyBytes(from: text.utf8) }
        return octets
    }
}
