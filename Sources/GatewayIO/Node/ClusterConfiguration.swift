// What makes a live node a member of a cluster, whatever file it came from.

public import Cluster
public import EtcdMessages
public import Gateway
public import Wire

/// The cluster's one secret, kept in one place.
public final class ClusterKey {
    let secret: ClusterSecret

    /// Takes over the secret.
    public init(_ secret: consuming ClusterSecret) { self.secret = secret }
}

/// A node's place on a segment where all nodes hear what is sent to the cluster.
public struct SegmentConfiguration: Hashable, Sendable {
    /// The Ethernet device.
    public var device: String
    /// The addresses there that all nodes answer for with one MAC address. The host must not speak
    /// for them (docs/decisions/0021).
    public var addresses: [IPAddress]
    /// Ways to what is not on the segment itself. On the outer segment the kernel knows them.
    public var routes: [Route] = []

    /// Packets to a prefix go to a router.
    public struct Route: Hashable, Sendable {
        /// An address of the prefix.
        public var prefix: IPAddress
        /// Its bits.
        public var length: Int
        /// The router, on the segment.
        public var gateway: IPAddress

        /// A route of these parts.
        public init(prefix: IPAddress, length: Int, gateway: IPAddress) {
            self.prefix = prefix
            self.length = length
            self.gateway = gateway
        }
    }

    /// A segment without routers.
    public init(device: String, addresses: [IPAddress]) {
        self.device = device
        self.addresses = addresses
    }
}

/// A member of a cluster. All but ``node``, ``linkAddress`` and the devices' names must be equal on
/// all of its nodes.
public struct ClusterConfiguration {
    /// The UDP port of the HA link, unless the configuration says otherwise.
    public static let defaultLinkPort: UInt16 = 4501

    /// Which member this is.
    public var node: NodeID
    /// What all nodes share.
    public var key: ClusterKey
    /// Where the members agree.
    public var store: EtcdConfiguration
    /// This node's address on the network between the nodes.
    public var linkAddress: IPAddress
    /// The UDP port of the HA link.
    public var linkPort = defaultLinkPort
    /// Toward the peers; its addresses are those of the node's configuration.
    public var outside: SegmentConfiguration
    /// Toward the protected network.
    public var inside: SegmentConfiguration
    /// How the shared MAC addresses are made.
    public var sharedAddressForm = SharedAddressForm.local
    /// How many distribution identifiers there are: a power of two from 16 to 4096.
    public var identifierCount = 256
    /// Times of failure detection.
    public var timing = ClusterTiming()
    /// What a new owner does about possible replays.
    public var takeoverPolicy = TakeoverPolicy.learn
    /// How many nodes besides its owner hold a tunnel; nil: all.
    public var backups: Int?
    /// What becomes of a new tunnel whose owner's card is full.
    public var whenFull = GatewayConfiguration.FullCardPolicy.refuse

    /// What has no default.
    public init(
        node: NodeID, key: ClusterKey, store: EtcdConfiguration, linkAddress: IPAddress,
        outside: SegmentConfiguration, inside: SegmentConfiguration
    ) {
        self.node = node
        self.key = key
        self.store = store
        self.linkAddress = linkAddress
        self.outside = outside
        self.inside = inside
    }
}
