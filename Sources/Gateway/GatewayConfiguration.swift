// Sizes and grounds of one node, as values.

public import Cluster
public import CryptoCardSim
import ESP

/// Which tunnels the card of a node holds (docs/decisions/0013). Raw values are names for options
/// and reports.
public enum CardContents: String, CaseIterable, Sendable {
    /// Those of its own identifiers (the patent's two structures, Fig. 2).
    case ownTunnels = "two-tables"
    /// All of the cluster (the patent's prior art, Fig. 1B): what one card holds bounds the whole
    /// cluster, and a takeover loads nothing.
    case allTunnels = "replicate-all"
}

/// What one node is made of.
public struct GatewayConfiguration: Sendable {
    /// This node.
    public var node: NodeID
    /// How packets are turned into distribution identifiers; equal on all nodes.
    public var distribution: Distribution
    /// Where the other nodes reach this one; nil where all are in one process.
    public var endpoint: MemberEndpoint?
    /// Sessions of the card; a tunnel takes one for each direction.
    public var cardCapacity = 65_536
    /// Key schedules the card keeps ready, about 1 KiB each.
    public var keyedContexts = ESPEngine.defaultKeyedContexts
    /// Tunnels of the common table.
    public var tableCapacity = 1 << 20
    /// How many nodes besides its owner hold the entries of an identifier, at least 1; nil: all.
    /// Equal on all nodes (docs/decisions/0014).
    public var backups: Int?
    /// Whether the common table holds the keys of the node's own tunnels too. False: they are on
    /// the card only, and read from the store again when the tunnel leaves it.
    public var tableHoldsOwn = true
    /// The card's speed; nil: every batch is done at once.
    public var cardTiming: CardTiming?
    /// Times of failure detection and fencing; equal on all nodes.
    public var timing = ClusterTiming()
    /// When load moves identifiers; equal on all nodes.
    public var balancing = LoadBalancing()
    /// What a new owner does about possible replays; equal on all nodes.
    public var takeoverPolicy = TakeoverPolicy.learn
    /// How many numbers are published ahead; equal on all nodes. nil: what fits the policy.
    public var leaseSizing: LeaseSizing?
    /// What becomes of a new tunnel whose owner's card is full.
    public var whenFull = FullCardPolicy.refuse
    /// Which tunnels a card holds; equal on all nodes.
    public var cardContents = CardContents.ownTunnels
    /// Which rules hold: all, except in tests of the simulator's checkers.
    public var rules = Rules()

    /// What becomes of a tunnel that finds the card full. Raw values are names for options and
    /// reports.
    public enum FullCardPolicy: String, CaseIterable, Sendable {
        /// It is refused, and the peer is told (NO_ADDITIONAL_SAS).
        case refuse
        /// It stays in the common table, its packets are dropped as `cardFull`, and it is loaded
        /// as soon as there is room: for keys that are set by hand.
        case wait
        /// The same engine serves it from host memory, slower than a card would, until there is
        /// room; then it moves to the card with its exact state.
        case serveFromHost = "host"
    }

    /// Traps on what can't work: better when a node starts than when it first decides.
    func check() {
        precondition(cardContents == .ownTunnels || (backups == nil && tableHoldsOwn))
        if let backups { precondition(backups >= 1, "no backup is no cluster") }
        let percents = [
            balancing.startPercent, balancing.aimPercent, balancing.marginPercent,
        ]
        precondition(percents.allSatisfy { $0 <= 150 } && balancing.movesMaximum >= 1)
        // So that no sum of times overflows.
        let day: UInt64 = 86_400_000_000_000
        precondition(balancing.reportNanoseconds <= day && balancing.reportsMissed <= 1000)
        precondition(
            max(balancing.persistenceNanoseconds, balancing.intervalNanoseconds) <= 400 * day)
    }

    /// A node with the default sizes.
    public init(node: NodeID, distribution: Distribution) {
        self.node = node
        self.distribution = distribution
    }
}
