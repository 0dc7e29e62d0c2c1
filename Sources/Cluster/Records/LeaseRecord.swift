// Which numbers may be used and accepted, published before they are.

public import Wire

/// The numbers of one tunnel.
public struct TunnelLease: Hashable, Sendable {
    /// The tunnel's inbound SPI, which names the tunnel.
    public var spi: SPI
    /// Outbound numbers below or equal to this may have been used.
    public var sendLimit: UInt64
    /// The highest inbound number accepted when this was written.
    public var receiveEdge: UInt64
    /// Inbound numbers up to this may be accepted; not below ``receiveEdge``.
    public var receiveLimit: UInt64

    /// A lease; see the properties.
    public init(spi: SPI, sendLimit: UInt64, receiveEdge: UInt64, receiveLimit: UInt64) {
        self.spi = spi
        self.sendLimit = sendLimit
        self.receiveEdge = receiveEdge
        self.receiveLimit = receiveLimit
    }
}

/// The leases of all tunnels of one identifier, in one record: batched, since a write to the store
/// costs much more than the octets in it.
public struct LeaseRecord: Hashable, Sendable {
    /// The most leases of one record.
    public static let leasesMaximum = 65536

    /// Whose tunnels.
    public var identifier: DistributionIdentifier
    /// The generation of the owner that wrote it, at least 1.
    public var generation: UInt16
    /// Ascending by SPI, each once; at most ``leasesMaximum``.
    public var leases: [TunnelLease]

    /// A record; see the properties.
    public init(identifier: DistributionIdentifier, generation: UInt16, leases: [TunnelLease]) {
        self.identifier = identifier
        self.generation = generation
        self.leases = leases
    }
}
