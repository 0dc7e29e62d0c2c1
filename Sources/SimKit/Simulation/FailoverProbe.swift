// One crash, and how long each of the dead node's tunnels waits for its new owner. Packets of a
// tunnel of every moved identifier arrive at the cluster again and again until one is handled, so
// that what is measured is the cluster and not the pauses of its users.

import Cluster
import Gateway

/// How one failover went. Times are nanoseconds of virtual time since the crash.
public struct FailoverTimes: Sendable {
    /// Who died, numbered from 1.
    public let node: Int
    /// A survivor first told others its suspicion: the dead node's right to serve has ended.
    public let suspected: UInt64
    /// The new allocation was sent to the store.
    public let offered: UInt64
    /// The store took it.
    public let decided: UInt64
    /// The first survivor had it in force.
    public let inForce: UInt64
    /// By moved identifier with tunnels, ascending: its first packet was handled by its new owner.
    public let identifiers: [UInt64]
    /// The same by moved tunnel.
    public let tunnels: [UInt64]

    /// The first packet of any moved tunnel.
    public var first: UInt64 { identifiers.first ?? 0 }
}

/// Why a failover could not be measured.
public struct FailoverProbeError: Error, CustomStringConvertible {
    /// One line: what was seen, and how to repeat it.
    public let description: String
}

/// Runs clusters up to one crash and beyond it.
public struct FailoverProbe {
    /// Packets of a moved identifier arrive so far apart, in nanoseconds: what is measured may be
    /// that much too long.
    public static let stepNanoseconds: UInt64 = 50_000
    /// After this no first packet is awaited any more.
    private static let patienceNanoseconds: UInt64 = 5_000_000_000

    private let simulation: Simulation
    private let victim: Int
    private let crashAt: UInt64
    private var times: [UInt64] = []
    private var tunnelTimes: [UInt64] = []

    /// A cluster with links and a heartbeat of the given times in nanoseconds; the seed gives who
    /// dies, and when. Preconditions: at least 2 nodes, 1 tunnel. Throws when OpenSSL can't serve.
    public init(
        seed: UInt64, nodes: Int, tunnels: Int, identifiers: Int, heartbeat: UInt64, link: UInt64
    ) throws {
        precondition(nodes >= 2 && tunnels >= 1)
        var options = SimulationOptions(seed: seed)
        options.nodes = nodes
        options.tunnels = tunnels
        options.identifiers = identifiers
        options.timing.heartbeatNanoseconds = heartbeat
        options.linkDelay = link
        options.jitter = link / 10
        options.startSpread = heartbeat
        options.cardCapacity = tunnels * 2 + 64
        options.packetInterval = 1_000_000_000
        options.records = true
        options.faults = []
        var random = SimulationRandom(seed: seed).fork(0x6661_696C)
        victim = Int(random.below(UInt64(nodes)))
        crashAt = Simulation.warmUpNanoseconds + random.between(500_000_000, 700_000_000)
        simulation = try Simulation(options)
    }

    /// Runs to the first packets of all moved tunnels.
    public mutating func run() throws(FailoverProbeError) -> FailoverTimes {
        simulation.advance(to: crashAt)
        try requireHealth()
        guard let allocation = simulation.nodes[victim].life?.gateway.allocation else {
            throw failure("there is no allocation at the time of the crash")
        }
        let moved = allocation.identifiers(of: simulation.nodes[victim].id)
        var waiting = moved.map { identifier in
            simulation.tunnels.indices.filter {
                simulation.peers.identifier(of: $0) == identifier
            }
        }
        waiting.removeAll(where: \.isEmpty)
        guard !waiting.isEmpty else { throw failure("the dead node had no tunnels: take more") }
        simulation.crash(victim)
        while !waiting.isEmpty {
            guard simulation.now < crashAt + Self.patienceNanoseconds else {
                throw failure("\(waiting.count) identifiers are still without an owner")
            }
            simulation.advance(to: simulation.now + Self.stepNanoseconds)
            waiting.removeAll { isServed($0) }
            try requireHealth()
        }
        // A node says that an allocation is in force when all is loaded: packets may be faster.
        simulation.advance(to: simulation.now + 5_000_000)
        return try result()
    }

    /// Shows the identifier's first tunnel; once that is served, all the others too.
    private mutating func isServed(_ tunnels: [Int]) -> Bool {
        guard simulation.probe(tunnels[0]) else { return false }
        let time = simulation.now - crashAt
        times.append(time)
        tunnelTimes.append(time)
        for tunnel in tunnels.dropFirst() {
            if simulation.probe(tunnel) {
                tunnelTimes.append(time)
            } else {
                simulation.fail("tunnel \(tunnel) is not served with its identifier")
            }
        }
        return true
    }

    private func requireHealth() throws(FailoverProbeError) {
        if let violation = simulation.violations.first { throw failure(violation.text) }
        let missing = simulation.options.tunnels - simulation.figures.established
        if missing > 0 { throw failure("\(missing) tunnels were not set up before the crash") }
    }

    private func failure(_ text: String) -> FailoverProbeError {
        FailoverProbeError(description: "seed \(simulation.options.seed): \(text)")
    }

    private func result() throws(FailoverProbeError) -> FailoverTimes {
        guard let recorder = simulation.recorder,
            let phases = FailoverPhases(
                of: victim + 1, crashedAt: crashAt, milestones: recorder.milestones,
                offers: recorder.offers)
        else { throw failure("the removal of node \(victim + 1) was not recorded") }
        return FailoverTimes(
            node: victim + 1, suspected: phases.suspected, offered: phases.offered,
            decided: phases.decided, inForce: phases.inForce, identifiers: times.sorted(),
            tunnels: tunnelTimes.sorted())
    }
}

/// The steps of one removal, read off what was recorded. Times count from the crash.
struct FailoverPhases: Equatable {
    let suspected: UInt64
    let offered: UInt64
    let decided: UInt64
    let inForce: UInt64

    /// nil: the node was not removed by suspicion after `crash`, or nobody had it in force yet.
    init?(
        of node: Int, crashedAt crash: UInt64, milestones: [Milestone],
        offers: [(time: UInt64, node: Int)]
    ) {
        let after = milestones.filter { $0.time >= crash && $0.node != node }
        let decision = after.first {
            guard case .decided(_, let removed, _, _) = $0.kind else { return false }
            return removed.contains(node)
        }
        guard let decision, case .decided(let epoch, _, _, _) = decision.kind,
            let suspicion = after.first(where: { $0.kind == .suspected(node: node) }),
            let force = after.first(where: {
                guard case .inForce(epoch, let gained) = $0.kind else { return false }
                return gained > 0
            }),
            let offer = offers.last(where: {
                $0.node == decision.node && $0.time <= decision.time
            })
        else { return nil }
        suspected = suspicion.time - crash
        offered = offer.time - crash
        decided = decision.time - crash
        inForce = force.time - crash
    }
}

extension Simulation {
    /// Handles everything up to a time, or to the first violation.
    func advance(to time: UInt64) {
        while violations.isEmpty, let next = queue.nextTime, next <= time,
            let (due, event) = queue.pop()
        {
            now = due
            handle(event)
        }
        now = max(now, time)
    }

    /// Shows all nodes the next packet of a tunnel's peer at once; true when one of them handled
    /// it. Precondition: the nodes get their copies at one time.
    func probe(_ tunnel: Int) -> Bool {
        precondition(options.skew == 0)
        let slot = pool.allocate()
        guard
            let place = peers.seal(
                tunnel, into: pool.base(slot), capacity: PacketPool.slotBytes,
                offset: PacketPool.headroom, payloadBytes: options.payloadBytes, now: now)
        else {
            pool.release(slot)
            return false
        }
        pool.place(slot, offset: place.offset, length: place.length)
        figures.packets += 1
        let before = checker.delivered.count
        spread(slot, isOuter: true)
        return checker.delivered.count > before
    }
}
