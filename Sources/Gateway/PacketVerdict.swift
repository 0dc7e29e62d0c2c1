// What became of a packet at one node.

public import ESP

/// One node's answer to one packet of the untrusted side.
public enum PacketVerdict: Equatable, Sendable {
    /// Decrypted; the descriptor names the inner packet.
    case delivered
    /// This node owns the packet and refused it.
    case dropped(DropReason)
    /// ESP or IKE of another node's distribution identifier: ignored.
    case foreign
    /// An IKE message of this node's.
    case ike
    /// A NAT keepalive: ignored by everyone (RFC 3948 §4).
    case natKeepalive
    /// Not ESP and not IKE.
    case other
}

/// What a node counts. In the cluster, every ESP packet is delivered or dropped by exactly one
/// node.
public struct GatewayCounters: Equatable, Sendable {
    /// Inner packets given to the protected side.
    public internal(set) var delivered: UInt64 = 0
    /// IKE messages of its own identifiers.
    public internal(set) var ike: UInt64 = 0
    /// Packets that other nodes own.
    public internal(set) var foreign: UInt64 = 0
    /// Refusals by reason.
    public internal(set) var drops = DropCounters()
    /// Packets after which an association asked for a rekey.
    public internal(set) var softLifetimes: UInt64 = 0
}
