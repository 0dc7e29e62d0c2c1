// Tunnels that found no room on the card.

import ESP

/// The tunnels that are to be on the card as soon as there is room: each once, in the order in
/// which they came.
struct WaitingTunnels {
    private var order: [AssociationHandle] = []
    private var members: Set<AssociationHandle> = []

    var isEmpty: Bool { order.isEmpty }

    mutating func append(_ tunnel: AssociationHandle) {
        if members.insert(tunnel).inserted { order.append(tunnel) }
    }

    mutating func remove(_ tunnels: [AssociationHandle]) {
        let leaving = Set(tunnels)
        members.subtract(leaving)
        order.removeAll(where: leaving.contains)
    }

    /// Takes all of them out, in order.
    mutating func takeAll() -> [AssociationHandle] {
        defer {
            order.removeAll(keepingCapacity: true)
            members.removeAll(keepingCapacity: true)
        }
        return order
    }
}
