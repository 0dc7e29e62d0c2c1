// Weights: what an operator says of how much of the load a node shall take. They are in the store,
// so that they outlive every node, and whichever node decides acts on them (docs/decisions/0015).

public import Cluster

extension Gateway {
    /// How much of the load a node shall take, as far as this node knows: 1 unless an operator said
    /// otherwise. 0: nothing, it is drained.
    public func weight(of node: NodeID) -> UInt16 { weights[node] ?? 1 }

    /// Writes the weight of a node, of this one or another, to the store; nil: what it weighs by
    /// default. ``weight(of:)`` tells when it is done; a store that is away does not take it, and
    /// then it has to be said again (``isWritingWeight(of:)``).
    public mutating func setWeight(
        _ weight: UInt16?, of node: NodeID, nowNanoseconds now: UInt64
    ) {
        let key = StoreKey.weight(node)
        let operation: CoordinationTransaction.Operation =
            if let weight {
                .put(
                    key: key.text,
                    value: Self.sealed(WeightRecord(weight: weight).encode(), key, seal, &random),
                    lease: nil)
            } else {
                .delete(key: key.text)
            }
        let request = client.submit(
            .transaction(CoordinationTransaction(conditions: [], operations: [operation])),
            nowNanoseconds: now)
        balance.weightRequests.append((request, node, weight))
        pump(now)
    }

    /// True while the store has not answered to a weight of that node.
    public func isWritingWeight(of node: NodeID) -> Bool {
        balance.weightRequests.contains { $0.node == node }
    }

    /// False when the request is not for a weight.
    mutating func finishWeight(_ reply: CoordinationReply, _ request: UInt64) -> Bool {
        guard let place = balance.weightRequests.firstIndex(where: { $0.request == request })
        else { return false }
        let written = balance.weightRequests.remove(at: place)
        // What the watch has told already may be newer.
        if case .committed(let revision) = reply, client.revision < revision {
            weights[written.node] = written.weight
            balance.nextLookAt = 0
        }
        return true
    }
}
