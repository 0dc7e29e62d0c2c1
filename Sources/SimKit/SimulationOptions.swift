// What a simulated cluster is like. What is not asked for is drawn from the seed, so that many
// seeds are also many kinds of clusters.

public import Cluster
public import ESP
public import Gateway

/// How the peers of a run come to their tunnels by IKE.
public struct SimulatedIKE: Sendable {
    /// After every so many IKE messages, of all peers together, the identifier that the message
    /// belongs to moves to another node; 0: never.
    public var restless: UInt64 = 0
    /// Of four peers, so many wait until the cluster begins. From 0 to 4.
    public var clusterBegins = 1

    /// Nothing moves because of messages, and every fourth peer waits.
    public init() {}
}

/// One run's cluster, traffic and faults. Times are nanoseconds of virtual time.
public struct SimulationOptions: Sendable {
    /// What all else that is random follows from.
    public var seed: UInt64
    /// Nodes at the start.
    public var nodes = 3
    /// Tunnels, all of which are set up through the cluster.
    public var tunnels = 30
    /// From the first packet to the last.
    public var duration: UInt64 = 10_000_000_000
    /// What may go wrong.
    public var kinds: [FaultKind] = FaultKind.allCases
    /// What goes wrong, if it is not to be drawn.
    public var faults: [Fault]?
    /// Distribution identifiers.
    public var identifiers = 64
    /// Times of the cluster protocol.
    public var timing = ClusterTiming()
    /// When load moves identifiers.
    public var balancing = LoadBalancing()
    /// The busiest tunnels send so many times as often as others; 1: all send alike. Which tunnels
    /// these are changes every few seconds.
    public var loadSkew: UInt64 = 1
    /// What a new owner does about possible replays.
    public var policy = TakeoverPolicy.learn
    /// How many numbers are published ahead; nil: what fits the policy.
    public var leaseSizing: LeaseSizing?
    /// Between two packets of a tunnel in one direction.
    public var packetInterval: UInt64 = 20_000_000
    /// Tunnels come and go while things go wrong; else all are there before.
    public var churns = false
    /// Octets of inner payload.
    public var payloadBytes = 64
    /// One way between nodes, to the store, and from peers to the cluster.
    public var linkDelay: UInt64 = 1_000_000
    /// What delays vary by.
    public var jitter: UInt64 = 100_000
    /// What the store takes to answer.
    public var storeDelay: UInt64 = 300_000
    /// The copies of one packet reach the nodes so far apart, at most.
    public var skew: UInt64 = 0
    /// The nodes of the beginning start within this time, so that their heartbeats are not in
    /// step; 0: all at once.
    public var startSpread: UInt64 = 0
    /// Sessions of each node's card.
    public var cardCapacity = SimulationOptions.ampleCard
    /// Which tunnels a card holds.
    public var cardContents = CardContents.ownTunnels
    /// What becomes of tunnels that find a card full.
    public var whenFull = GatewayConfiguration.FullCardPolicy.refuse
    /// How many nodes besides the owner hold the entries of an identifier; nil: all.
    public var backups: Int?
    /// Whether common tables hold the keys of their own nodes' tunnels too.
    public var tableHoldsOwn = true
    /// Algorithms, in turn.
    public var transforms = SimulationOptions.counterModes(1)
    /// How peers speak IKE; nil: the cluster is given its tunnels.
    public var ike: SimulatedIKE?
    /// Which rules hold.
    public var rules = Rules()
    /// Stores what becomes of every identifier and every tunnel, for a report.
    public var records = false

    /// Sessions of a card that only a fault can fill.
    public static let ampleCard = 4096

    /// A run with the defaults.
    public init(seed: UInt64) { self.seed = seed }

    /// A run of which everything follows from the seed.
    public static func drawn(seed: UInt64) -> SimulationOptions {
        var random = SimulationRandom(seed: seed).fork(0x6F70_7469_6F6E)
        var options = SimulationOptions(seed: seed)
        options.nodes = Int(random.between(2, 5))
        options.tunnels = Int(random.between(8, 40))
        options.identifiers = 16 << Int(random.below(4))
        options.packetInterval = random.between(5_000_000, 40_000_000)
        options.linkDelay = random.between(50_000, 2_000_000)
        options.jitter = random.between(0, options.linkDelay / 2)
        options.storeDelay = random.between(100_000, 3_000_000)
        if random.chance(1, in: 3) { options.skew = random.between(1000, 200_000) }
        if random.chance(1, in: 4) { options.policy = .strict }
        if random.chance(1, in: 4) { options.timing.heartbeatNanoseconds = 5_000_000 }
        if random.chance(1, in: 4) { options.timing.heartbeatNanoseconds = 20_000_000 }
        options.churns = true
        options.payloadBytes = Int(random.between(16, 200))
        options.transforms = counterModes(Int(random.between(1, 3)))
        var sizing = LeaseSizing(policy: options.policy)
        if options.policy == .strict {
            // What is refused after all takeovers must pass before the run is over.
            options.packetInterval = random.between(3_000_000, 8_000_000)
            sizing.receiveMinimum = 32
            sizing.receiveStart = 16
            sizing.receiveAllowance = 8
            // Long enough for the changes of the record in a planned move: a lease is published on
            // the condition of the record in force, and again when that has changed.
            sizing.receiveHorizonNanoseconds = 400_000_000
        }
        if random.chance(1, in: 2) {
            // Leases that are used up all the time.
            sizing.sendMinimum = random.between(16, 256)
            sizing.sendStart = random.between(16, 256)
        }
        options.leaseSizing = sizing
        options.drawCards()
        options.drawTable()
        options.drawLoad()
        return options
    }

    /// What common tables hold: a stream of its own, so that nothing else depends on it.
    private mutating func drawTable() {
        var random = SimulationRandom(seed: seed).fork(0x7461_626C_65)
        if random.chance(1, in: 2) { backups = Int(random.between(1, 3)) }
        tableHoldsOwn = !random.chance(1, in: 3)
    }

    /// Draws what becomes of tunnels that find a card full, unless it is given, and how large the
    /// cards are: where the host serves what has no room, half of them are too small for all.
    public mutating func drawCards(whenFull given: GatewayConfiguration.FullCardPolicy? = nil) {
        // A stream of its own, and nothing else depends on it.
        var random = SimulationRandom(seed: seed).fork(0x6361_7264_73)
        let policies = GatewayConfiguration.FullCardPolicy.allCases
        let drawn = policies[Int(random.below(UInt64(policies.count)))]
        let isSmall = random.chance(1, in: 2)
        let sessions = Int(random.between(1, UInt64(tunnels) * 2))
        whenFull = given ?? drawn
        cardCapacity = whenFull == .serveFromHost && isSmall ? sessions : Self.ampleCard
    }

    /// Makes the busiest tunnels `skew` times as busy as the others, and leases as much larger:
    /// small ones are used up faster than they can be renewed.
    public mutating func makeUneven(_ skew: UInt64) {
        let more = max(skew / max(loadSkew, 1), 1)
        loadSkew = skew
        leaseSizing?.sendMinimum *= more
        leaseSizing?.sendStart *= more
        leaseSizing?.receiveMinimum *= more
        leaseSizing?.receiveStart *= more
        leaseSizing?.receiveAllowance *= more
    }

    /// Uneven load, and moves that follow it within the few seconds of a run; from a stream of its
    /// own.
    private mutating func drawLoad() {
        var random = SimulationRandom(seed: seed).fork(0x6C6F_6164)
        if random.chance(1, in: 2) { makeUneven(random.between(2, 8)) }
        balancing.reportNanoseconds = random.between(100_000_000, 500_000_000)
        balancing.persistenceNanoseconds = random.between(200_000_000, 1_000_000_000)
        balancing.intervalNanoseconds = random.between(500_000_000, 3_000_000_000)
        balancing.movesMaximum = Int(random.between(16, 64))
    }

    /// The first of some algorithms whose IVs show the sequence number: what checkers need.
    public static func counterModes(_ count: Int) -> [Transform] {
        let all = Transform.all.filter {
            ($0.encryption == .aesGCM16 || $0.encryption == .chaCha20Poly1305)
                && $0.keyBits != 192
        }
        return Array(all.sorted { $0.keyBits > $1.keyBits }.prefix(count))
    }
}
