// Keys as nodes know them, and as they stand in etcd: behind a prefix that is the cluster's own.

/// What stands before all keys of this cluster.
package struct KeySpace: Sendable {
    private let prefix: [UInt8]

    package init(prefix: String) { self.prefix = Array(prefix.utf8) }

    /// The key in etcd.
    package func octets(of key: String) -> [UInt8] { prefix + Array(key.utf8) }

    /// The key as nodes know it; nil if it is not UTF-8, as no key of theirs is.
    /// Precondition: the octets are in the range of some prefix.
    package func key(of octets: [UInt8]) -> String? {
        String(validating: octets.dropFirst(prefix.count), as: UTF8.self)
    }

    /// The range of all keys with a prefix: from `first` to before `end`. In etcd a range of two
    /// zero octets has all keys, and one that ends at a zero octet has all from the first on.
    package func range(of prefix: String) -> KeyRange {
        let first = octets(of: prefix)
        var end = first
        while let last = end.popLast() {
            guard last < 0xFF else { continue }
            return KeyRange(prefix: first, first: first, end: end + [last + 1])
        }
        return KeyRange(prefix: first, first: first.isEmpty ? [0] : first, end: [0])
    }
}

/// All keys with one prefix, as etcd wants to be asked for them.
package struct KeyRange: Sendable {
    /// What all keys in it begin with.
    package let prefix: [UInt8]
    /// The first key that may be in it.
    package var first: [UInt8]
    /// The first key that is not in it any more.
    package let end: [UInt8]

    /// Whether a key is in it.
    package func contains(_ key: [UInt8]) -> Bool { key.starts(with: prefix) }
}
