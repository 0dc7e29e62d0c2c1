// New tunnels on their way into the store, and to their owners.

import Cluster
import ESP
import Wire

/// A tunnel of this node whose entry is not known to be in the store yet.
struct PendingEntry {
    let spi: SPI
    let identifier: DistributionIdentifier
    /// Who determined it, if not this node, and the number it asked with.
    var origin: (node: NodeID, request: UInt64)?
    /// It sends as soon as it is stored, instead of `replaced`.
    var sends = false
    var replaced: SPI?
    /// It goes to the store with a step of its IKE SA, not by itself.
    var isOfStep = false
    /// An IKE SA made it, maybe another node's.
    var isNegotiated = false
    /// The request under way, if any.
    var request: UInt64?
    var triedAt: UInt64
    let beganAt: UInt64
}

/// A foreign entry that was sent to its owner, or word of one that the owner has.
struct ForeignRequest {
    let number: UInt64
    let spi: SPI
    let identifier: DistributionIdentifier
    var sends: Bool
    let replaced: SPI?
    let sealed: [UInt8]
    /// A step of an IKE SA waits for it, and its peer for the step: it is not given up soon.
    let isOfStep: Bool
    var triedAt: UInt64
    let beganAt: UInt64
}

/// A tunnel that is being cleared from the store.
struct PendingClearing {
    let spi: SPI
    let identifier: DistributionIdentifier
    /// The store's revision of its entry, as far as it is known.
    var revision: UInt64
    /// The one that the request is for.
    var tried: UInt64 = 0
    var request: UInt64?
    var triedAt: UInt64
}

/// All of them, in the order in which they began.
struct PendingEntries {
    var adding: [PendingEntry] = []
    var foreign: [ForeignRequest] = []
    var clearing: [PendingClearing] = []
    var lastForeign: UInt64 = 0
    /// By whatever node.
    var cleared = ClearedTunnels()
    /// By this one.
    var clearedHere = ClearedTunnels()
    var unclaimed = UnclaimedTunnels()
}
