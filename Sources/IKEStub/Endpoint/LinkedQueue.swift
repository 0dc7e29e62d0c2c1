// A queue out of which any element can be taken, at the same cost wherever it stands.

/// Distinct elements in the order in which they came.
struct LinkedQueue<Element: Hashable> {
    private struct Neighbours {
        var previous: Element?
        var next: Element?
    }

    private var neighbours: [Element: Neighbours] = [:]
    /// The oldest.
    private(set) var first: Element?
    private var last: Element?

    var isEmpty: Bool { first == nil }
    var count: Int { neighbours.count }

    /// Precondition: it is not in the queue.
    mutating func append(_ element: Element) {
        let old = neighbours.updateValue(
            Neighbours(previous: last, next: nil), forKey: element)
        precondition(old == nil, "an element stands in a queue once")
        if let last { neighbours[last]?.next = element } else { first = element }
        last = element
    }

    /// Does nothing when it is not in the queue.
    mutating func remove(_ element: Element) {
        guard let links = neighbours.removeValue(forKey: element) else { return }
        if let previous = links.previous {
            neighbours[previous]?.next = links.next
        } else {
            first = links.next
        }
        if let next = links.next {
            neighbours[next]?.previous = links.previous
        } else {
            last = links.previous
        }
    }
}
