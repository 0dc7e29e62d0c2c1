// Exact sets of numbers that mostly come in rising order: as runs, so that a million packets of a
// tunnel cost as little as one.

/// For each of some lists, a set of numbers, each with a tag.
///
/// The highest run of a list grows in place; everything else is a binary search.
struct NumberRuns {
    private struct Run {
        var low: UInt64
        var high: UInt64
        var tag: UInt16
    }

    /// The highest run's end, kept apart from its run, whose own `high` is out of date.
    private struct Top {
        var high: UInt64 = 0
        /// -1: the list is empty.
        var tag: Int32 = -1
        /// Numbers of the list.
        var count: UInt32 = 0
    }

    private var tops: [Top]
    /// By list: ascending, disjoint; neighbours that touch have different tags.
    private var runs: [[Run]]

    init(lists: Int) {
        precondition(lists >= 0)
        tops = Array(repeating: Top(), count: lists)
        runs = Array(repeating: [], count: lists)
    }

    /// How many lists there are.
    var lists: Int { tops.count }

    /// Adds empty lists until there are so many.
    mutating func grow(to lists: Int) {
        while tops.count < lists {
            tops.append(Top())
            runs.append([])
        }
    }

    /// Adds a number; when it is there already, changes nothing and returns its tag.
    @inline(__always)
    mutating func insert(_ number: UInt64, tag: UInt16, list: Int) -> UInt16? {
        let top = tops[list]
        if number &- 1 == top.high, number > top.high, Int32(tag) == top.tag {
            tops[list] = Top(high: number, tag: top.tag, count: top.count &+ 1)
            return nil
        }
        return insertElsewhere(number, tag, list)
    }

    /// The highest number; nil: none.
    func highest(_ list: Int) -> UInt64? { tops[list].tag < 0 ? nil : tops[list].high }

    /// How many numbers.
    func count(_ list: Int) -> Int { Int(tops[list].count) }

    /// How many runs: what the memory goes with.
    func runCount(_ list: Int) -> Int { runs[list].count }

    /// True when the number is there.
    func contains(_ number: UInt64, list: Int) -> Bool {
        let place = lastRun(startingAtMost: number, list)
        return place >= 0 && number <= high(place, list)
    }

    private func high(_ place: Int, _ list: Int) -> UInt64 {
        place == runs[list].count - 1 ? tops[list].high : runs[list][place].high
    }

    /// -1: none does.
    private func lastRun(startingAtMost number: UInt64, _ list: Int) -> Int {
        var low = 0
        var high = runs[list].count
        while low < high {
            let middle = (low + high) / 2
            if runs[list][middle].low <= number { low = middle + 1 } else { high = middle }
        }
        return low - 1
    }

    @inline(never)
    private mutating func insertElsewhere(
        _ number: UInt64, _ tag: UInt16, _ list: Int
    ) -> UInt16? {
        let count = runs[list].count
        if count > 0 { runs[list][count - 1].high = tops[list].high }
        let place = lastRun(startingAtMost: number, list)
        if place >= 0, number <= runs[list][place].high { return runs[list][place].tag }
        let extends =
            place >= 0 && runs[list][place].high &+ 1 == number && runs[list][place].tag == tag
        let joins =
            place + 1 < count && runs[list][place + 1].low == number &+ 1
            && runs[list][place + 1].tag == tag
        if extends, joins {
            runs[list][place].high = runs[list][place + 1].high
            runs[list].remove(at: place + 1)
        } else if extends {
            runs[list][place].high = number
        } else if joins {
            runs[list][place + 1].low = number
        } else {
            runs[list].insert(Run(low: number, high: number, tag: tag), at: place + 1)
        }
        let last = runs[list][runs[list].count - 1]
        tops[list] = Top(
            high: last.high, tag: Int32(last.tag), count: tops[list].count &+ 1)
        return nil
    }
}
