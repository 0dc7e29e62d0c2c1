// Tunnels that found no room on the card.

import ESP

/// The tunnels that are to be on the card as soon as there is room: each once, in the order in
/// which they came.
struct WaitingTunnels {
    private var order: [AssociationHandle] = []
    /// Those before it have been taken out.
    private var first = 0
    private var members: Set<AssociationHandle> = []

    var isEmpty: Bool { first == order.count }

    /// The one that has waited longest.
    var longest: AssociationHandle? { isEmpty ? nil : order[first] }

    mutating func removeLongest() {
        members.remove(order[first])
        first += 1
        if first > 64, first * 2 > order.count {
            order.removeFirst(first)
            first = 0
        }
    }

    mutating func append(_ tunnel: AssociationHandle) {
        if members.insert(tunnel).inserted { order.append(tunnel) }
    }

    mutating func remove(_ tunnels: [AssociationHandle]) {
        let leaving = Set(tunnels)
        members.subtract(leaving)
        order.removeFirst(first)
        first = 0
        order.removeAll(where: leaving.contains)
    }
}
