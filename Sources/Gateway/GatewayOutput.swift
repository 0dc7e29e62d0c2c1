// What a node wants done, and what it has to tell.

public import Cluster
public import IKEStub
public import Wire

/// Something for the caller to carry out, in order.
public enum GatewayOutput: Sendable {
    /// A sealed datagram for the HA link.
    case datagram(to: NodeID, [UInt8])
    /// A request to the coordination store; the answer goes to `receive(_:to:nowNanoseconds:)`.
    case request(id: UInt64, CoordinationRequest)
    /// An inner packet that was held during a planned move.
    case inner([UInt8])
    /// An outer packet whose inner one was held during a planned move.
    case outer([UInt8])
    /// An IKE message for a peer, without the marker.
    case message([UInt8], IKEPath)
    /// One octet 0xFF that keeps a NAT's mapping alive (RFC 3948 §2.3).
    case keepalive(IKEPath)
    /// A line for the operator.
    case report(IKEReport)
    /// News.
    case event(GatewayEvent)
}

/// News for the log, and for those who wait.
public enum GatewayEvent: Equatable, Sendable {
    /// The tunnel is in the store: the peer may be answered.
    case established(SPI)
    /// The tunnel is not, and will not be; why, and what to do.
    case refused(SPI, String)
    /// The tunnel, which an IKE SA had made, sends no more; packets under way are still taken.
    case lingering(SPI)
    /// The tunnel, which an IKE SA had made, is over.
    case cleared(SPI)
    /// An IKE SA with this local SPI is established, or took over from its predecessor.
    case ikeEstablished(UInt64)
    /// An IKE SA is gone.
    case ikeClosed(UInt64)
    /// This node goes on with an IKE SA of another.
    case ikeAdopted(UInt64)
    /// A new allocation is in force, and everything for it is loaded and cleared.
    case reallocated(ReallocationReport)
    /// The store holds something that can't be right; what, and why it was not believed.
    case recordRefused(key: String, reason: String)
    /// An identifier of this node has come close to the end of its generations: so many are left.
    /// Renew the keys of its tunnels and found the cluster anew before they are used up.
    case generationsLow(DistributionIdentifier, left: Int)
    /// An identifier of this node has used up its generations, and nobody may serve it: its tunnels
    /// were cleared, so many, and new ones are refused. Found the cluster anew to use it again.
    case generationsSpent(DistributionIdentifier, cleared: Int)
    /// An entry of the store found no room in the common table.
    case tableRefused(SPI, String)
}

/// An entry that found no room on its owner's card.
public struct EntryRefusal: Equatable, Sendable {
    /// Whose entry.
    public let spi: SPI
    /// What the card said, and what to do about it.
    public let reason: String
}

/// What a node did for one reallocation.
public struct ReallocationReport: Equatable, Sendable {
    /// The epoch that took force.
    public let epoch: UInt64
    /// Who.
    public let node: NodeID
    /// Identifiers gained.
    public let gained: Int
    /// Identifiers lost.
    public let lost: Int
    /// Tunnels copied from the common table to the card (613).
    public internal(set) var loaded = 0
    /// Tunnels that were on the card already, and were set to where the ownership begins.
    public internal(set) var updated = 0
    /// Tunnels copied to the host's memory, for want of room on the card.
    public internal(set) var hosted = 0
    /// Tunnels that found no room on the card, also after it was cleared.
    public internal(set) var refusals: [EntryRefusal] = []
    /// Tunnels cleared from the card (616).
    public internal(set) var cleared = 0

    /// How many tunnels found no room.
    public var refused: Int { refusals.count }
}
