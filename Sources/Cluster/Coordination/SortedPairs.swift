// The pairs of the store in the order of their keys. Chunks of a few hundred pairs, each a sorted
// array: inserting moves some kilobytes at most, and a prefix is one run, also with 100 000 keys
// that come and go in any order.

/// Pairs ascending by the octets of their keys; each key once.
struct SortedPairs: Sendable {
    /// A chunk that grows beyond this is cut in halves.
    static let chunkMaximum = 256

    /// None is empty, and all keys of a chunk come before those of the next.
    private var chunks: [[CoordinationPair]] = []

    /// Where a key is or would be inserted.
    private struct Position {
        var chunk: Int
        var offset: Int
        var isFound: Bool
    }

    /// The pair of a key.
    subscript(key: String) -> CoordinationPair? {
        let position = find(key)
        return position.isFound ? chunks[position.chunk][position.offset] : nil
    }

    /// The revision that changed the key last; 0 if it is absent.
    func modRevision(of key: String) -> UInt64 {
        let position = find(key)
        return position.isFound ? chunks[position.chunk][position.offset].modRevision : 0
    }

    /// Writes a value and gives back the pair as it stands then.
    mutating func put(
        key: String, value: [UInt8], lease: UInt64?, revision: UInt64
    ) -> CoordinationPair {
        let position = find(key)
        var pair = CoordinationPair(
            key: key, value: value, createRevision: revision, modRevision: revision, lease: lease)
        if position.isFound {
            pair.createRevision = chunks[position.chunk][position.offset].createRevision
            chunks[position.chunk][position.offset] = pair
        } else if chunks.isEmpty {
            chunks.append([pair])
        } else {
            chunks[position.chunk].insert(pair, at: position.offset)
            cut(position.chunk)
        }
        return pair
    }

    /// Removes a key; false if it is absent.
    mutating func remove(_ key: String) -> Bool {
        let position = find(key)
        guard position.isFound else { return false }
        chunks[position.chunk].remove(at: position.offset)
        if chunks[position.chunk].isEmpty {
            chunks.remove(at: position.chunk)
        } else {
            join(position.chunk)
        }
        return true
    }

    /// All pairs whose keys begin with `prefix`, ascending.
    func pairs(prefix: String) -> [CoordinationPair] {
        var found: [CoordinationPair] = []
        var position = find(prefix)
        while position.chunk < chunks.count {
            let chunk = chunks[position.chunk]
            let rest = chunk[position.offset...]
            // Keys with the prefix are one run that begins here: the last one tells for all.
            if let last = rest.last, last.key.beginsInOctets(with: prefix) {
                found.append(contentsOf: rest)
            } else {
                found.append(contentsOf: rest.prefix { $0.key.beginsInOctets(with: prefix) })
                if !rest.isEmpty { break }
            }
            position = Position(chunk: position.chunk + 1, offset: 0, isFound: false)
        }
        return found
    }

    /// The keys that go with a lease, ascending. Looks at every pair: leases end seldom.
    func keys(lease: UInt64) -> [String] {
        var keys: [String] = []
        for chunk in chunks {
            for pair in chunk where pair.lease == lease { keys.append(pair.key) }
        }
        return keys
    }

    private func find(_ key: String) -> Position {
        guard !chunks.isEmpty else { return Position(chunk: 0, offset: 0, isFound: false) }
        // The last chunk that begins at or before the key, or the first one.
        let after = Self.firstIndex(chunks.count) { key.precedesInOctets(chunks[$0][0].key) }
        let number = max(after - 1, 0)
        let chunk = chunks[number]
        let offset = Self.firstIndex(chunk.count) { !chunk[$0].key.precedesInOctets(key) }
        let isFound = offset < chunk.count && chunk[offset].key.equalsInOctets(key)
        return Position(chunk: number, offset: offset, isFound: isFound)
    }

    /// The first of `count` indices from which on the test holds; `count` if there is none.
    private static func firstIndex(_ count: Int, where holds: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(middle) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    private mutating func cut(_ number: Int) {
        let count = chunks[number].count
        guard count > Self.chunkMaximum else { return }
        let tail = Array(chunks[number][(count / 2)...])
        chunks[number].removeSubrange((count / 2)...)
        chunks.insert(tail, at: number + 1)
    }

    /// Joins a chunk with a neighbour if both are small, so that few keys take few chunks.
    private mutating func join(_ number: Int) {
        for first in [number, number - 1] where first >= 0 && first + 1 < chunks.count {
            guard chunks[first].count + chunks[first + 1].count <= Self.chunkMaximum / 2 else {
                continue
            }
            chunks[first].append(contentsOf: chunks[first + 1])
            chunks.remove(at: first + 1)
            return
        }
    }
}
