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
    /// Sessions of the card.
    public var cardCapacity = 65_536
    /// Key schedules the card keeps ready, about 1 KiB each.
    public var keyedContexts = ESPEngine.defaultKeyedContexts
    /// Entries of the common table.
    public var tableCapacity = 1 << 20
    /// The card's speed; nil: every batch is done at once.
    public var cardTiming: CardTiming?

    /// A node with the default sizes.
    public init(node: NodeID, distribution: Distribution) {
        self.node = node
        self.distribution = distribution
    }
}
