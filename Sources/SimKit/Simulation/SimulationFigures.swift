// What a run comes to.

public import ESP
public import Gateway

/// Figures of the IKE side of one run, of all peers together.
public struct IKEFigures: Equatable, Sendable {
    /// IKE SAs that were set up with authentication.
    public internal(set) var setUps = 0
    /// IKE SAs that came to their end at their peer's wish.
    public internal(set) var deletes = 0
    /// IKE SAs that were lost although their peer wanted them.
    public internal(set) var losses = 0
    /// IKE SAs that got a successor.
    public internal(set) var rekeysOfIKE = 0
    /// Pairs of CHILD SAs that got a successor.
    public internal(set) var rekeysOfChildren = 0
    /// CREATE_CHILD_SA requests of both ends that crossed.
    public internal(set) var collisions = 0
    /// IKE messages on the wire, repetitions included.
    public internal(set) var messages: UInt64 = 0
    /// How often a node went on with an IKE SA of another.
    public internal(set) var adoptions = 0
    /// IKE SAs in the store at the end.
    public internal(set) var records = 0

    /// Nothing yet.
    public init() {}

    /// The figures of two runs together.
    public static func + (left: IKEFigures, right: IKEFigures) -> IKEFigures {
        var sum = left
        sum.setUps += right.setUps
        sum.deletes += right.deletes
        sum.losses += right.losses
        sum.rekeysOfIKE += right.rekeysOfIKE
        sum.rekeysOfChildren += right.rekeysOfChildren
        sum.collisions += right.collisions
        sum.messages += right.messages
        sum.adoptions += right.adoptions
        sum.records += right.records
        return sum
    }
}

/// Figures of one run. Times are nanoseconds of virtual time.
public struct SimulationFigures: Sendable {
    /// Who served what from a moment on; 0: nobody.
    public struct Ownership: Sendable {
        /// From when.
        public let time: UInt64
        /// By identifier.
        public let owners: [UInt16]
    }

    /// Follows from every packet and every change: equal for equal seeds, on every machine.
    public internal(set) var traceHash: UInt64 = 0
    /// Events handled.
    public internal(set) var events: UInt64 = 0
    /// Packets that peers and servers sent.
    public internal(set) var packets: UInt64 = 0
    /// Inner packets that came out of the cluster.
    public internal(set) var delivered: UInt64 = 0
    /// ESP packets that gateways sent.
    public internal(set) var sealed: UInt64 = 0
    /// Inner packets that peers accepted.
    public internal(set) var received: UInt64 = 0
    /// Packets that peers refused.
    public internal(set) var peerDrops: UInt64 = 0
    /// Refusals by gateways.
    public internal(set) var drops = DropCounters()
    /// Packets that came while nobody owned their tunnels.
    public internal(set) var unowned: UInt64 = 0
    /// Packets of established tunnels that came out nowhere; nil when links and nodes may lose
    /// some, or the run stopped before its end.
    public internal(set) var lost: UInt64?
    /// Packets that an attacker sent again.
    public internal(set) var replayed: UInt64 = 0
    /// Packets accepted twice, with `learn`.
    public internal(set) var duplicates: UInt64 = 0
    /// Packets counted as possible replays.
    public internal(set) var exposed: UInt64 = 0
    /// Tunnels set up.
    public internal(set) var established = 0
    /// Tunnels deleted by their peers, and gone from the cluster.
    public internal(set) var cleared = 0
    /// Allocations that took force, summed over the nodes.
    public internal(set) var reallocations = 0
    /// What the cards held, and what moving tunnels cost.
    public internal(set) var cards = CardFigures()
    /// Identifiers that were moved from one node to another because of load.
    public var loadMoves: UInt64 { counters.loadMoves }
    /// Datagrams on the HA link, and their octets.
    public internal(set) var datagrams: UInt64 = 0
    /// Octets of these.
    public internal(set) var datagramBytes: UInt64 = 0
    /// Transactions of the store.
    public internal(set) var storeWrites: UInt64 = 0
    /// Octets of their values.
    public internal(set) var storeBytes: UInt64 = 0
    /// Records of the store that were not believed.
    public internal(set) var recordsRefused = 0
    /// The longest time without a delivery, over the tunnels.
    public internal(set) var outages = OutageSummary([])
    /// What all nodes counted, in all their lives.
    public internal(set) var counters = GatewayCounters()
    /// What came of IKE; nil where the cluster was given its tunnels, or the run stopped before its
    /// end.
    public internal(set) var ike: IKEFigures?
    /// The ownership map over time, if the run was to record it.
    public internal(set) var ownership: [Ownership] = []
    /// What happened to the cluster as a whole, by time, if the run was to record it.
    public internal(set) var milestones: [Milestone] = []
    /// The first deliveries, 4 194 304 at most, by time, if the run was to record them.
    public internal(set) var deliveries: [Delivery] = []
    /// The longest time without a delivery of each tunnel that was set up.
    public internal(set) var tunnelOutages: [UInt64] = []
}
