// The members' keys in the store, as this node last saw them.

import Cluster

/// Which processes have a session with the store.
struct MemberKeys {
    struct Key {
        let node: NodeID
        var incarnation: UInt64
        /// Where it is.
        var endpoint: MemberEndpoint?
        /// When this node saw the key go; nil while it is there.
        var missingSince: UInt64?
    }

    /// By node.
    private(set) var keys: [Key] = []

    /// Notes a key; true when it is of another process than before.
    mutating func note(_ node: NodeID, _ record: MemberRecord) -> Bool {
        let key = Key(node: node, incarnation: record.incarnation, endpoint: record.endpoint)
        if let place = keys.firstIndex(where: { $0.node == node }) {
            let isOther = keys[place].incarnation != record.incarnation
            keys[place] = key
            return isOther
        }
        let place = keys.firstIndex { $0.node > node } ?? keys.endIndex
        keys.insert(key, at: place)
        return true
    }

    mutating func noteMissing(_ node: NodeID, _ now: UInt64) {
        if let place = keys.firstIndex(where: { $0.node == node }) {
            if keys[place].missingSince == nil { keys[place].missingSince = now }
        } else {
            let place = keys.firstIndex { $0.node > node } ?? keys.endIndex
            keys.insert(Key(node: node, incarnation: 0, missingSince: now), at: place)
        }
    }

    func key(of node: NodeID) -> Key? { keys.first { $0.node == node } }

    /// Nodes that have a key now, ascending.
    var present: [NodeID] { keys.filter { $0.missingSince == nil }.map(\.node) }
}
