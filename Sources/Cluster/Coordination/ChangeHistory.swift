// The latest changes of the store, for watches: whoever was away for a while gets what it missed,
// or learns that it must read again.

/// Changes ascending by revision, bounded in number. The newest revision always stays.
struct ChangeHistory: Sendable {
    /// More changes than this are dropped, the oldest revisions first.
    let maximum: Int

    /// Every change with this revision or a later one is kept.
    private(set) var oldest: UInt64 = 1

    /// Those before ``head`` are dropped and emptied; they leave the array in large groups.
    private var changes: [CoordinationChange] = []
    private var head = 0

    init(maximum: Int) {
        precondition(maximum >= 1, "a history holds at least one change")
        self.maximum = maximum
    }

    /// How many changes are kept.
    var count: Int { changes.count - head }

    /// Adds the changes of a new revision.
    mutating func append(_ revision: [CoordinationChange]) {
        guard let newest = revision.first?.revision else { return }
        changes.append(contentsOf: revision)
        // Whole revisions: half of one would look like all of it.
        while count > maximum, changes[head].revision < newest {
            drop(before: changes[head].revision + 1)
        }
    }

    /// Drops the revisions before this one. The caller keeps it at or below the newest.
    mutating func drop(before revision: UInt64) {
        guard revision > oldest else { return }
        oldest = revision
        while head < changes.count, changes[head].revision < revision {
            // The value is not kept waiting for the array to be tidied.
            changes[head].kind = .delete(key: "")
            head += 1
        }
        // Moving the rest down costs less than what was dropped did.
        if head > changes.count / 2 {
            changes.removeFirst(head)
            head = 0
        }
    }

    /// What changed below a prefix in a revision and after it; nil if that is no longer known.
    func changes(prefix: String, from revision: UInt64) -> [CoordinationChange]? {
        guard max(revision, 1) >= oldest else { return nil }
        var (low, high) = (head, changes.count)
        while low < high {
            let middle = (low + high) / 2
            if changes[middle].revision >= revision { high = middle } else { low = middle + 1 }
        }
        return changes[low...].filter { $0.key.beginsInOctets(with: prefix) }
    }
}
