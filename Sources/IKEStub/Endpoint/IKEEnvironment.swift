// What an endpoint needs from outside, beside messages and time.

public import Crypto
public import ESP
public import Wire

/// Numbers and addresses of which only the node, or its cluster, knows which are free.
public protocol IKEResources {
    /// An SPI for an IKE SA that we begin. In a cluster its distribution identifier is ours, and
    /// when it replaces another: that of `sibling`, a pair of its, or else of `predecessor`, its
    /// initiator's SPI.
    mutating func initiatorSPI(
        replacing predecessor: UInt64?, sibling: SPI?, _ random: inout any RandomSource
    ) -> UInt64
    /// An SPI for an IKE SA that a peer began.
    mutating func responderSPI(
        initiatorSPI: UInt64, _ random: inout any RandomSource
    ) -> UInt64
    /// An SPI for what we receive in a tunnel of that IKE SA; nil: there is no room for another
    /// (NO_ADDITIONAL_SAS). In a cluster it has the identifier of `sibling`, a pair that the IKE SA
    /// has already, or else of the initiator's SPI.
    mutating func inboundSPI(
        initiatorSPI: UInt64, sibling: SPI?, _ random: inout any RandomSource
    ) -> SPI?
    /// The SPI is in use by an IKE SA that came from another node.
    mutating func claim(_ spi: SPI)
    /// The peer of an IKE SA that came from another node has the address.
    mutating func claim(_ address: IPAddress, for identity: Identity)
    /// The SPI was not used, or its pair is gone.
    mutating func release(_ spi: SPI)
    /// An address of the pool for the peer, the same one as before if it is free; nil: none left.
    mutating func address(from pool: AddressPool, for identity: Identity) -> IPAddress?
    /// The peer is gone.
    mutating func release(_ address: IPAddress)
    /// The generation of whoever owns an IKE SA with this initiator's SPI now; see
    /// ``IKEAssociation``.
    func generation(initiatorSPI: UInt64) -> UInt16
    /// When the last good packet came in through the pair, in nanoseconds of the owner's clock.
    func lastReceived(_ spi: SPI) -> UInt64?
}

/// Where the cluster knows by itself what is taken, nothing need be claimed.
extension IKEResources {
    /// Does nothing.
    public mutating func claim(_ spi: SPI) {}
    /// Does nothing.
    public mutating func claim(_ address: IPAddress, for identity: Identity) {}
}

/// Everything of the outside, in one place that all IKE SAs of an endpoint share.
public final class IKEEnvironment {
    let library: CryptoLibrary
    /// Replaced as a whole when the configuration file was read again.
    public var configuration: IKEConfiguration
    /// Where all random numbers come from.
    public var random: any RandomSource
    /// Numbers and addresses.
    public var resources: any IKEResources

    /// See the properties.
    public init(
        library: CryptoLibrary, configuration: IKEConfiguration, random: any RandomSource,
        resources: any IKEResources
    ) {
        self.library = library
        self.configuration = configuration
        self.random = random
        self.resources = resources
    }
}

/// Addresses that peers get (RFC 7296 §2.19), with what they must know besides.
public struct AddressPool: Hashable, Sendable {
    /// Its name in the configuration.
    public let name: String
    /// First and last address.
    public let range: TrafficSelector
    /// Name servers for its peers.
    public let nameServers: [IPAddress]

    /// See the properties.
    public init(name: String, range: TrafficSelector, nameServers: [IPAddress] = []) {
        self.name = name
        self.range = range
        self.nameServers = nameServers
    }
}
