// What became of a packet at one node.

public import ESP

/// One node's answer to one packet.
public enum PacketVerdict: Equatable, Sendable {
    /// Opened or sealed; the descriptor names the result.
    case delivered
    /// This node owns the packet and refused it.
    case dropped(DropReason)
    /// A packet of another node's distribution identifier: ignored.
    case foreign
    /// Kept until a planned move of its identifier is complete, here or at the other node.
    case held
    /// An IKE message of this node's.
    case ike
    /// A NAT keepalive: ignored by everyone (RFC 3948 §4).
    case natKeepalive
    /// Not ESP and not IKE.
    case other
}

/// What a node counts. In the cluster, every packet is delivered or dropped by at most one node.
public struct GatewayCounters: Equatable, Sendable {
    /// Inner packets given to the protected side.
    public internal(set) var delivered: UInt64 = 0
    /// Outer packets given to the untrusted side.
    public internal(set) var sealed: UInt64 = 0
    /// IKE messages of its own identifiers.
    public internal(set) var ike: UInt64 = 0
    /// Packets that other nodes own.
    public internal(set) var foreign: UInt64 = 0
    /// Refusals by reason, both ways.
    public internal(set) var drops = DropCounters()
    /// Packets after which an association asked for a rekey.
    public internal(set) var softLifetimes: UInt64 = 0
    /// Packets held during planned moves.
    public internal(set) var held: UInt64 = 0
    /// Held packets that the old owner had handled, or that the move was given up for.
    public internal(set) var heldForeign: UInt64 = 0
    /// Packets that could not be held, as too many were.
    public internal(set) var holdOverflows: UInt64 = 0
    /// Packets accepted after takeovers that may have been replays (`TakeoverPolicy.learn`).
    public internal(set) var exposed: UInt64 = 0
    /// Packets that the engine handled from host memory, as their tunnels had no room on the card;
    /// they are delivered, sealed or dropped too.
    public internal(set) var hostPackets: UInt64 = 0
    /// Identifiers that this node had moved from one member to another because of load.
    public internal(set) var loadMoves: UInt64 = 0
    /// Refusals among the packets that had been held; they are in `drops` too.
    public internal(set) var heldDrops = DropCounters()

    /// All zero.
    public init() {}

    /// Adds another node's, or another life's.
    public mutating func add(_ other: GatewayCounters) {
        delivered += other.delivered
        sealed += other.sealed
        ike += other.ike
        foreign += other.foreign
        drops += other.drops
        softLifetimes += other.softLifetimes
        held += other.held
        heldForeign += other.heldForeign
        holdOverflows += other.holdOverflows
        exposed += other.exposed
        hostPackets += other.hostPackets
        loadMoves += other.loadMoves
        heldDrops += other.heldDrops
    }
}
