// Sizes and grounds of one node, as values.

public import Cluster
public import CryptoCardSim
import ESP

/// What one node is made of.
public struct GatewayConfiguration: Sendable {
    /// This node.
    public var node: NodeID
    /// How packets are turned into distribution identifiers; equal on all nodes.
    public var distribution: Distribution
    /// Sessions of the card; a tunnel takes one for each direction.
    public var cardCapacity = 65_536
    /// Key schedules the card keeps ready, about 1 KiB each.
    public var keyedContexts = ESPEngine.defaultKeyedContexts
    /// Tunnels of the common table.
    public var tableCapacity = 1 << 20
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
    /// Which rules hold: all, except in tests of the simulator's checkers.
    public var rules = Rules()

    /// What becomes of a new tunnel that finds the card full.
    public enum FullCardPolicy: Sendable {
        /// It is refused, and the peer is told (NO_ADDITIONAL_SAS).
        case refuse
        /// It stays in the common table, its packets are dropped as `cardFull`, and it is loaded
        /// as soon as there is room: for keys that are set by hand.
        case wait
    }

    /// A node with the default sizes.
    public init(node: NodeID, distribution: Distribution) {
        self.node = node
        self.distribution = distribution
    }
}
