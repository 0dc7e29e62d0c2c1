// When load moves identifiers, and how many (patent Fig. 6A, 604 and 605). docs/decisions/0015 has
// the reasons.

/// Thresholds and times of load balancing; equal on all nodes. Per cent are of the mean load, which
/// is all load by all weight.
public struct LoadBalancing: Hashable, Sendable {
    /// Load moves begin when a node is more than this above the mean, or more than twice this
    /// below it. Load that swings by less moves nothing.
    public var startPercent: UInt64 = 25

    /// Once begun, nodes are brought down to this much above the mean.
    public var aimPercent: UInt64 = 10

    /// What moves must gain: the worst node comes this much nearer to the mean, and no receiver
    /// comes nearer than this to what its giver had. So nothing is passed around in circles.
    public var marginPercent: UInt64 = 5

    /// The most identifiers under way at once.
    public var movesMaximum = 32

    /// Between two reports of a node's loads, in nanoseconds.
    public var reportNanoseconds: UInt64 = 1_000_000_000

    /// An identifier without a report for more than so many intervals stops load moves.
    public var reportsMissed: UInt64 = 4

    /// How long the load must be out of balance, in nanoseconds.
    public var persistenceNanoseconds: UInt64 = 3_000_000_000

    /// From the last change of any owner to the next load move, in nanoseconds.
    public var intervalNanoseconds: UInt64 = 10_000_000_000

    /// What one packet per second costs.
    public var packetCost: UInt16 = 1

    /// What one tunnel costs, used or not: idle clusters are balanced by tunnels.
    public var tunnelCost: UInt16 = 1

    /// What an identifier costs, so that an empty cluster is balanced by their number.
    public var identifierCost: UInt16 = 1

    /// Identifiers that have come to this generation are not moved for load any more: what is left
    /// is kept for crashes and drains.
    public var generationReserve: UInt16 = 60_000

    /// The default thresholds.
    public init() {}

    /// Identifiers are counted and nothing else, and none is moved for load.
    public static var byCount: LoadBalancing {
        var balancing = LoadBalancing()
        balancing.packetCost = 0
        balancing.tunnelCost = 0
        balancing.movesMaximum = .max
        balancing.generationReserve = 0
        return balancing
    }
}

/// What decides who shall take how much.
public struct ClusterLoad: Sendable {
    /// By identifier: what it costs its owner, above 0; see ``costMaximum``.
    public var costs: [UInt64]
    /// Shares are in proportion to it. A node without one weighs 1; one of weight 0 is drained.
    public var weights: [NodeID: UInt16]

    /// Higher costs count as this one, so that nothing overflows: 2^27. In the unit of
    /// ``SmoothedLoads`` these are 8 million packets a second.
    public static let costMaximum: UInt64 = 1 << 27

    /// Costs between 1 and ``costMaximum``; others are brought there.
    public init(costs: [UInt64], weights: [NodeID: UInt16] = [:]) {
        self.costs = costs.map { min(max($0, 1), Self.costMaximum) }
        self.weights = weights
    }

    /// Nothing is known: identifiers count alike.
    public init(identifierCount: Int, weights: [NodeID: UInt16] = [:]) {
        self.init(costs: Array(repeating: 1, count: identifierCount), weights: weights)
    }

    func weight(of node: NodeID) -> UInt64 { UInt64(weights[node] ?? 1) }
}

/// The loads that members told, smoothed. Integers only: equal reports make equal figures on every
/// machine.
public struct SmoothedLoads: Sendable {
    /// By identifier: packets per second in 1/16, smoothed.
    private var rates: [UInt64]
    private var tunnels: [UInt32]
    /// By identifier: when it was last told; nil: never.
    private var toldAt: [UInt64?]

    /// Nothing was told yet.
    public init(identifierCount: Int) {
        rates = Array(repeating: 0, count: identifierCount)
        tunnels = Array(repeating: 0, count: identifierCount)
        toldAt = Array(repeating: nil, count: identifierCount)
    }

    /// Takes a report in. Of the rates, a new one counts a quarter; the first counts whole. Unknown
    /// identifiers are passed over.
    public mutating func note(_ load: LoadReport.Load, nowNanoseconds now: UInt64) {
        let place = Int(load.identifier.value)
        guard place < rates.count else { return }
        let rate = UInt64(load.packetsPerSecond) * 16
        // A rising one is rounded up, so that it comes all the way to a rate that stays.
        let sum = rates[place] * 3 + rate + (rate > rates[place] ? 3 : 0)
        rates[place] = toldAt[place] == nil ? rate : sum / 4
        tunnels[place] = load.tunnels
        toldAt[place] = now
    }

    /// Packets per second of an identifier, rounded to the nearest.
    public func packetsPerSecond(of identifier: DistributionIdentifier) -> UInt64 {
        (rates[Int(identifier.value)] + 8) / 16
    }

    /// What every identifier costs, by identifier; in 1/16 of the costs in `balancing`.
    public func costs(_ balancing: LoadBalancing) -> [UInt64] {
        rates.indices.map { place in
            // Each below 2^36 · 2^16.
            rates[place] * UInt64(balancing.packetCost)
                + UInt64(tunnels[place]) * 16 * UInt64(balancing.tunnelCost)
                + 16 * UInt64(balancing.identifierCost)
        }
    }

    /// True when every identifier was told of within the last intervals.
    public func isFresh(_ balancing: LoadBalancing, nowNanoseconds now: UInt64) -> Bool {
        let age = balancing.reportNanoseconds * balancing.reportsMissed
        return toldAt.allSatisfy { told in told.map { now <= $0 + age } ?? false }
    }
}
