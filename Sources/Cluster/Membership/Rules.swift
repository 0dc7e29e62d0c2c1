// The rules that the simulator's checkers must be able to miss: in debug builds each can be
// switched off, to show that a checker notices. Release builds have no such switch.

/// A rule of the cluster protocol whose breach a checker of the simulator must catch.
public enum Rule: String, CaseIterable, Hashable, Sendable {
    /// Numbers are used only after their lease is in the store.
    case leaseAwaited
    /// A new owner sends from the end of the old owner's lease on.
    case startAfterLease
    /// Every change of owner raises the generation.
    case generationRaised
    /// The entries of a gained identifier are loaded before it is switched.
    case loadBeforeSwitch
    /// The sessions of a lost identifier are cleared.
    case lostCleared
    /// A new owner's window is closed up to the last checkpoint.
    case windowClosed
    /// Packets that may be replays after a takeover are counted.
    case exposureCounted
    /// A node serves only while enough members vouch for it.
    case votesAwaited
    /// A node serves only while its session in the store lasts.
    case sessionAwaited
    /// Only as many suspicions as block the suspect may remove it.
    case blockingSet
    /// Who has told its suspicion does not vouch again in the same epoch.
    case suspicionKept
    /// Votes of a newer epoch than one's own do not count.
    case votesOfOwnEpoch
    /// A node that has promised to decide nothing while the store is away keeps the promise.
    case promiseKept
    /// After an outage of the store, a new owner starts beyond what the old one may have overrun.
    case overrunRespected
    /// A node takes nothing before its common table is complete.
    case snapshotAwaited
    /// An identifier is served only after its entries, where they were not kept, have been read.
    case entriesRead
    /// A restarted node does not serve under the generations of its former life.
    case renewedAfterRestart
    /// A tunnel is promised to the peer only after its entry is in the store.
    case entryStored
    /// A message of IKE leaves only after the state that it comes from is in the store.
    case ikeStored
    /// A cleared entry is cleared on all nodes.
    case clearingTold
    /// After changes were missed, the table is compared with the store again.
    case resynchronised
    /// A successor commits a planned move only with the owner's exact state.
    case handoverAwaited
    /// An owner that has handed its state over serves the identifier no more.
    case frozenAfterHandover
    /// A successor holds the packets that arrive while it takes over.
    case packetsHeld
    /// Held packets that the owner has sent already are not sent again.
    case heldCompared
    /// The card's capacity is respected.
    case capacityKept
    /// A tunnel that moves to the card leaves host memory.
    case oneStore
    /// Where cards hold all tunnels, a new owner brings its sessions to where its ownership begins.
    case updatedInPlace
}

/// Which rules hold: all of them, but for one in a debug build.
public struct Rules: Sendable {
    #if RULE_BREAKS
        /// The rule that is switched off.
        public var broken: Rule?
    #endif

    /// All rules hold.
    public init() {}

    /// True when the rule is to be followed.
    @inline(__always)
    public func hold(_ rule: Rule) -> Bool {
        #if RULE_BREAKS
            return broken != rule
        #else
            return true
        #endif
    }
}
