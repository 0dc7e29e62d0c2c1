// The file with a cluster's key. It is made once and copied to every node (docs/formats.md):
//
//     spindle cluster key 1
//     tag 0a1b2c3d4e5f
//     key 64 hexadecimal digits
//
// The tag follows from the key. It can be shown to anybody, and tells a damaged key.

public import Cluster
internal import Crypto
internal import Glibc

/// Why a file is no cluster key, or is not made.
public enum ClusterKeyFileError: Error, Equatable, CustomStringConvertible {
    /// Nothing of the form that `spindle cluster-key` writes.
    case notAKey
    /// Written by another version.
    case version
    /// Key and tag don't belong together.
    case damaged
    /// The file is there already.
    case exists(String)
    /// The file can't be written, in the kernel's words.
    case system(String, reason: String)
    /// OpenSSL can't serve.
    case secret(ClusterSecretError)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .notAKey:
            "no cluster key: make one with `spindle cluster-key FILE`, once, and copy the file as "
                + "it is to every node"
        case .version: "a cluster key of another version: use that one's program, or a new key"
        case .damaged:
            "its key and its tag don't belong together: copy the file again from another node"
        case .exists(let path):
            "\(printable(path: path)) is there already: a cluster that uses this key would be lost "
                + "with it; name another file, or remove it first"
        case .system(let path, let reason):
            "\(printable(path: path)): \(reason): check the folder and its permissions"
        case .secret(let error): error.description
        }
    }
}

/// Makes and reads files with a cluster's key.
public enum ClusterKeyFile {
    private static let title = Array("spindle cluster key ".utf8)
    private static let head = title + Array("1\ntag ".utf8)
    private static let middle = Array("\nkey ".utf8)
    private static let tagDigits = 12
    private static let keyBytes = ClusterSecret.keyBytesMinimum
    private static let digitsStart = head.count + tagDigits + middle.count
    /// Octets without the line break at the end.
    private static let byteCount = digitsStart + 2 * keyBytes

    /// Makes a file with a new random key, which only its owner may use; it is on the disk then.
    /// Returns the key's tag. Throws when there is such a file already, or when it can't be
    /// written; then nothing is left of it.
    public static func create(path: String) throws(ClusterKeyFileError) -> String {
        var random = SystemRandomSource()
        let key = random.secret(keyBytes)
        let tag = try secret(key).tagText
        var text = SecretBytes(count: byteCount + 1)
        text.withUnsafeMutableBytes { text in
            key.withUnsafeBytes { key in
                let start = head + Array(tag.utf8) + middle
                text.copyBytes(from: start)
                let digits = Array("0123456789abcdef".utf8)
                for (index, octet) in key.enumerated() {
                    text[digitsStart + 2 * index] = digits[Int(octet >> 4)]
                    text[digitsStart + 2 * index + 1] = digits[Int(octet & 15)]
                }
            }
            text[byteCount] = UInt8(ascii: "\n")
        }
        try write(text, path)
        return tag
    }

    /// The key in the octets of a file, which stay the caller's to wipe.
    static func key(in octets: [UInt8]) throws(ClusterKeyFileError) -> ClusterKey {
        guard octets.starts(with: title) else { throw .notAKey }
        guard octets.starts(with: head) else { throw .version }
        let tag = octets.dropFirst(head.count).prefix(tagDigits)
        let hasBreak = octets.last == UInt8(ascii: "\n")
        guard octets.count == byteCount + (hasBreak ? 1 : 0),
            octets[tag.endIndex...].starts(with: middle)
        else { throw .notAKey }
        var key = SecretBytes(count: keyBytes)
        let isWhole = key.withUnsafeMutableBytes { key in
            for index in key.indices {
                guard let high = nibble(octets[digitsStart + 2 * index]),
                    let low = nibble(octets[digitsStart + 2 * index + 1])
                else { return false }
                key[index] = high << 4 | low
            }
            return true
        }
        guard isWhole else { throw .notAKey }
        let secret = try secret(key)
        guard tag.elementsEqual(secret.tagText.utf8) else { throw .damaged }
        return ClusterKey(secret)
    }

    private static func secret(
        _ key: borrowing SecretBytes
    ) throws(ClusterKeyFileError) -> ClusterSecret {
        do throws(ClusterSecretError) {
            return try ClusterSecret(key: key)
        } catch {
            throw .secret(error)
        }
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    private static func write(
        _ text: borrowing SecretBytes, _ path: String
    ) throws(ClusterKeyFileError) {
        // Also a link that leads nowhere is something that is there (open(2), O_EXCL).
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            throw errno == EEXIST
                ? .exists(path) : .system(path, reason: String(cString: strerror(errno)))
        }
        defer { close(file) }
        // A umask may have taken away even what the owner needs.
        let isWritten =
            fchmod(file, 0o600) == 0
            && text.withUnsafeBytes { octets in
                var rest = octets[...]
                while !rest.isEmpty {
                    let count = Glibc.write(
                        file, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { return false }
                    rest = rest.dropFirst(count)
                }
                return true
            } && fsync(file) == 0
        guard isWritten else {
            let reason = String(cString: strerror(errno))
            unlink(path)
            throw .system(path, reason: reason)
        }
    }
}

extension ClusterKey {
    /// The cluster tag in 12 hexadecimal digits: public, and equal wherever the key is.
    public var tagText: String { secret.tagText }
}
