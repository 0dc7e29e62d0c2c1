// What a node knows of the load of the whole cluster, and when it may act on it.

import Cluster

/// The state of load balancing of one node.
struct Balance {
    /// What the members told.
    var loads: SmoothedLoads
    /// By identifier: when this node's ownership began; what it handled before is not all.
    var ownedSince: [UInt64]
    /// By identifier: packets that were reported so far.
    var packets: [UInt64]
    var nextReportAt: UInt64 = 0
    var lastReportAt: UInt64 = 0
    /// Until then nothing can have changed that would move anything.
    var nextLookAt: UInt64 = 0
    /// Since when load would move something.
    var imbalancedSince: UInt64?
    /// When an owner last changed.
    var movedAt: UInt64?
    /// The last plan was cut off, or an operator wants balance.
    var isDemanded = false
    /// What an operator wants moved, and where, until it is there.
    var wishes: [(identifier: DistributionIdentifier, node: NodeID, tries: Int)] = []
    /// Requests by which weights are written to the store.
    var weightRequests: [(request: UInt64, node: NodeID, weight: UInt16?)] = []
    /// Identifiers that move because of load in the record that was proposed last.
    var proposedForLoad = 0
    /// What that record, once it is in force, makes of `isDemanded`; nil: nothing.
    var proposedDemand: Bool?

    init(identifierCount: Int) {
        loads = SmoothedLoads(identifierCount: identifierCount)
        ownedSince = Array(repeating: 0, count: identifierCount)
        packets = ownedSince
    }
}
