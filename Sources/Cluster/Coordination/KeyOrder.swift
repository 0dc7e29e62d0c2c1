// The order of keys: by octets, as in etcd. Swift's own order and equality of strings follow
// Unicode, where two different keys can be equal and a combining mark hides a prefix.

extension String {
    /// Whether the UTF-8 octets of this key come before those of `other`.
    func precedesInOctets(_ other: String) -> Bool {
        let (left, right) = (utf8Span.span, other.utf8Span.span)
        let common = min(left.count, right.count)
        for index in 0..<common where left[index] != right[index] {
            return left[index] < right[index]
        }
        return left.count < right.count
    }

    /// Whether both keys have the same UTF-8 octets.
    func equalsInOctets(_ other: String) -> Bool {
        utf8.count == other.utf8.count && beginsInOctets(with: other)
    }

    /// Whether the UTF-8 octets of this key begin with those of `prefix`.
    func beginsInOctets(with prefix: String) -> Bool {
        let (octets, wanted) = (utf8Span.span, prefix.utf8Span.span)
        guard octets.count >= wanted.count else { return false }
        for index in wanted.indices where octets[index] != wanted[index] { return false }
        return true
    }
}
