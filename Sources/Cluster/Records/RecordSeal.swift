// Values leave a node sealed: the store, and whoever can read its disks, sees no key. The name of a
// value is authenticated with it, so that it can't be moved to another name.

public import Crypto
internal import Wire

/// The cluster's key for stored records.
///
///     version (1) = 1 │ nonce (12) │ ciphertext │ tag (16)
public struct RecordSeal: ~Copyable {
    /// Octets of the nonce that ``seal(_:key:nonce:)`` takes.
    public static let nonceBytes = MessageSeal.nonceBytes
    /// Octets that a seal adds.
    public static let overheadBytes = headBytes + MessageSeal.tagBytes

    private static let version: UInt8 = 1
    private static let headBytes = 1 + nonceBytes
    private static let label = "spindle record 1"

    private let sealing: MessageSeal
    private let opening: MessageSeal

    /// The record key of a cluster. Throws when OpenSSL lacks memory.
    public init(_ secret: borrowing ClusterSecret) throws(CryptoError) {
        let key = secret.recordKey()
        let sealing = try MessageSeal(key: key, for: .sealing)
        let opening = try MessageSeal(key: key, for: .opening)
        self.sealing = sealing
        self.opening = opening
    }

    /// Seals a value for its place in the store. `nonce`: ``nonceBytes`` random octets, drawn for
    /// this one call; never to be used again.
    public borrowing func seal(
        _ plain: UnsafeRawBufferPointer, key: StoreKey, nonce: [UInt8]
    ) -> [UInt8] {
        precondition(nonce.count == Self.nonceBytes)
        let aad = Self.aad(key)
        return OctetWriter.array(count: plain.count + Self.overheadBytes) { writer in
            let base = writer.position
            writer.uint8(Self.version)
            nonce.withUnsafeBytes { writer.octets($0) }
            writer.octets(plain)
            writer.skip(MessageSeal.tagBytes)
            aad.withUnsafeBytes { aad in
                sealing.seal(Self.layout(aad, base, data: base + Self.headBytes, plain.count))
            }
        }
    }

    /// The value of a place in the store.
    public borrowing func open(
        _ sealed: UnsafeRawBufferPointer, key: StoreKey
    ) throws(RecordError) -> SecretBytes {
        guard let base = sealed.baseAddress, sealed.count > 0 else {
            throw .malformed(.truncated)
        }
        let version = load8(base, 0)
        guard version == Self.version else { throw .version(version) }
        let count = sealed.count - Self.overheadBytes
        guard count >= 0 else { throw .malformed(.truncated) }
        var plain = SecretBytes(
            copying: UnsafeRawBufferPointer(start: base + Self.headBytes, count: count))
        let isAuthentic = Self.aad(key).withUnsafeBytes { aad in
            plain.withUnsafeMutableBytes { data in
                // Opening only reads what lies at `base`.
                opening.open(
                    Self.layout(
                        aad, UnsafeMutableRawPointer(mutating: base),
                        data: data.baseAddress.unsafelyUnwrapped, count))
            }
        }
        guard isAuthentic else { throw .forged }
        return plain
    }

    /// `base` is where the sealed value begins; its plaintext lies at `data`.
    private static func layout(
        _ aad: UnsafeRawBufferPointer, _ base: UnsafeMutableRawPointer,
        data: UnsafeMutableRawPointer, _ count: Int
    ) -> MessageLayout {
        MessageLayout(
            aad: aad.baseAddress.unsafelyUnwrapped, aadBytes: aad.count, iv: base + 1,
            ivBytes: nonceBytes, data: data, dataBytes: count, tag: base + headBytes + count)
    }

    private static func aad(_ key: StoreKey) -> [UInt8] { Array((label + key.text).utf8) }
}
