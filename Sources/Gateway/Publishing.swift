// What a node publishes: leases to the store, checkpoints to the other nodes.

import Cluster

/// The state of all publishing of one node.
struct Publishing {
    /// By identifier: its leases are to be published.
    var isWanted: [Bool]
    /// By identifier: numbers beyond the lease may be used, since the store is away.
    var isAllowed: [Bool]
    /// By identifier: numbers beyond the lease may be in use, and the store does not know.
    var isOverrun: [Bool]
    /// By identifier: when it was last visited.
    var visitedAt: [UInt64]
    /// Identifiers whose traffic does not pay for their checkpoints, longest waiting first, and by
    /// identifier whether it is among them.
    var unpaid: [Int] = []
    var isUnpaid: [Bool]

    /// The request under way, and what it publishes.
    var request: UInt64?
    var underWay: [LeaseRecord] = []
    /// The revision of the record that it depends on.
    var revision: UInt64 = 0
    var nextAttemptAt: UInt64 = 0

    /// Where the next round of visits begins.
    var cursor = 0
    /// Octets of checkpoints that may be sent whatever the traffic is; below 0, some were sent in
    /// advance.
    var allowanceBytes = 0
    var allowedAt: UInt64 = 0

    init(identifierCount: Int) {
        isWanted = Array(repeating: false, count: identifierCount)
        isAllowed = isWanted
        isOverrun = isWanted
        visitedAt = Array(repeating: 0, count: identifierCount)
        isUnpaid = isWanted
    }

    var isOverrunning: Bool { isOverrun.contains(true) }

    mutating func noteUnpaid(_ place: Int) {
        guard !isUnpaid[place] else { return }
        isUnpaid[place] = true
        unpaid.append(place)
    }
}
