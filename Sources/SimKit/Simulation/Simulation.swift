// A whole cluster in virtual time: real gateways, peers that really encrypt, a store, the links
// between them, and everything that goes wrong. One seed, one run, whatever machine.

import Cluster
import Crypto
import ESP
import Gateway
import IKEStub
import Wire

/// Something that must never be.
public struct Violation: Hashable, Sendable {
    /// When, in nanoseconds of virtual time.
    public let time: UInt64
    /// What.
    public let text: String
}

/// One run.
public final class Simulation {
    enum Event {
        case starts(node: Int)
        case tick(node: Int, time: UInt64)
        case outerArrives(slot: Int32)
        case outerAt(node: Int, slot: Int32)
        case innerArrives(slot: Int32)
        case innerAt(node: Int, slot: Int32)
        case peerReceives(slot: Int32)
        case datagram(node: Int, lives: UInt32, message: Int)
        case storeReceives(node: Int, lives: UInt32, message: Int)
        case storeAnswers(node: Int, lives: UInt32, message: Int)
        case watchDelivers(node: Int, lives: UInt32, message: Int)
        case watchBreaks(node: Int, lives: UInt32, watch: UInt64)
        case traffic(tunnel: Int)
        case faultBegins(Int)
        case faultEnds(Int)
        case establish(tunnel: Int)
        case clear(tunnel: Int)
        case storeExpires
        case check
        case replayed(Int)
        case peerTick(peer: Int, time: UInt64)
        case moves(initiatorSPI: UInt64)
        case settles
    }

    /// What is under way between nodes and store.
    enum Message {
        case none
        case datagram([UInt8])
        case request(id: UInt64, CoordinationRequest)
        case reply(id: UInt64, CoordinationReply)
        case changes(watch: UInt64, [CoordinationChange])
    }

    /// What the run is like.
    public let options: SimulationOptions
    /// What goes wrong in it.
    public let faults: [Fault]
    let distribution: Distribution
    let library: CryptoLibrary
    let secret: ClusterSecret
    let seal: RecordSeal
    /// The far ends that the cluster's tunnels are given for, or those that speak IKE: one of them.
    private let fixed: PeerBank?
    let speakers: IKEPeerBank?
    let ends: any TunnelEnds
    let pool = PacketPool()

    var now: UInt64 = 0
    var queue = EventQueue<Event>()
    var nodes: [SimulatedNode] = []
    var store = CoordinationStore()
    var storeAwayUntil: UInt64 = 0
    var storeSlow: [(until: UInt64, extra: UInt64)] = []
    var linkRandom: SimulationRandom
    var nodeRandom: SimulationRandom
    var trafficRandom: SimulationRandom
    let lifeRandom: SimulationRandom
    let loadRandom: SimulationRandom
    var ikeRandom: SimulationRandom
    /// From node to node, by sender · count + receiver.
    var links: [LinkModel] = []
    var linkBases: [LinkModel] = []
    var cuts: [Int] = []
    /// From peers to the cluster, and back.
    var uplink: LinkModel
    var downlink: LinkModel
    var messages: [Message] = []
    var freeMessages: [Int] = []
    var recorded: [[UInt8]] = []

    var tunnels: [SimulatedTunnel]
    var speaking = SpeakingState()
    var checker: Checker
    var trace = TraceHash()
    /// Called with every event worth reading, if set.
    public var onTrace: ((UInt64, String) -> Void)?
    /// Listens for a report, if the run is to record.
    var recorder: RunRecorder?
    /// What must never be, and was. The run stops at the first.
    public internal(set) var violations: [Violation] = []
    /// Events handled.
    public private(set) var events: UInt64 = 0
    /// Figures of the run.
    public internal(set) var figures = SimulationFigures()

    let packets: UnsafeMutableBufferPointer<PacketDescriptor> = .allocate(capacity: 1)
    let verdicts: UnsafeMutableBufferPointer<PacketVerdict> = .allocate(capacity: 1)
    let scratch: UnsafeMutableRawPointer = .allocate(
        byteCount: PacketPool.slotBytes, alignment: 64)

    /// The most nodes that there may be, those that join included.
    static let nodesMaximum = 64
    /// The last part of a run in which all must have healed, in nanoseconds.
    static let settledNanoseconds: UInt64 = 400_000_000
    /// At the very end nothing is sent, so that all that is under way can arrive.
    static let silentNanoseconds: UInt64 = 50_000_000

    /// Throws when OpenSSL can't serve.
    public init(_ options: SimulationOptions) throws {
        self.options = options
        let random = SimulationRandom(seed: options.seed)
        linkRandom = random.fork(1)
        nodeRandom = random.fork(2)
        trafficRandom = random.fork(3)
        lifeRandom = random.fork(7)
        loadRandom = random.fork(8)
        faults =
            options.faults
            ?? FaultPlan.draw(
                random.fork(4), kinds: options.kinds, nodes: options.nodes,
                duration: options.duration)
        var key = SecretBytes(count: 32)
        var keyRandom = random.fork(5)
        key.withUnsafeMutableBytes { octets in
            for place in octets.indices {
                octets[place] = UInt8(truncatingIfNeeded: keyRandom.next())
            }
        }
        let secret = try ClusterSecret(key: key)
        library = try CryptoLibrary()
        seal = try RecordSeal(secret)
        distribution = try Distribution(
            identifierCount: options.identifiers, cookieKey: secret.cookieKey())
        self.secret = secret
        if let ike = options.ike {
            var plan = IKEPeerOptions(peers: options.tunnels)
            plan.gatewayBegins = ike.clusterBegins
            let bank = IKEPeerBank(plan, library: library, random: random.fork(6))
            (fixed, speakers, ends) = (nil, bank, bank)
        } else {
            let bank = try PeerBank(
                tunnels: options.tunnels, distribution: distribution,
                transforms: options.transforms, windowBits: 64, random: random.fork(6))
            (fixed, speakers, ends) = (bank, nil, bank)
        }
        ikeRandom = random.fork(9)
        uplink = LinkModel(
            delayNanoseconds: options.linkDelay, jitterNanoseconds: options.jitter)
        downlink = uplink
        tunnels = Array(repeating: SimulatedTunnel(), count: options.tunnels)
        checker = Checker(tunnels: options.tunnels, duration: options.duration)
        verdicts.initialize(repeating: .other)
        begin()
    }

    deinit {
        packets.deallocate()
        verdicts.deallocate()
        scratch.deallocate()
    }

    private func begin() {
        let joins = faults.filter { $0.kind == .join }.count
        let count = options.nodes + joins
        precondition(count <= Self.nodesMaximum)
        for number in 0..<count {
            // Clocks of machines that were started at different times.
            nodes.append(
                SimulatedNode(
                    id: NodeID(UInt16(number + 1)), clock: nodeRandom.between(1, 1 << 45)))
        }
        let link = LinkModel(
            delayNanoseconds: options.linkDelay, jitterNanoseconds: options.jitter)
        links = Array(repeating: link, count: count * count)
        linkBases = links
        cuts = Array(repeating: 0, count: count * count)
        if options.records { recorder = RunRecorder(nodes: count) }
        for number in 0..<options.nodes {
            if options.startSpread == 0 {
                start(number)
            } else {
                queue.push(at: nodeRandom.below(options.startSpread), .starts(node: number))
            }
        }
        for (place, fault) in faults.enumerated() {
            let offset = Self.warmUpNanoseconds
            queue.push(at: offset + fault.at, .faultBegins(place))
            if fault.duration > 0 { queue.push(at: offset + fault.end, .faultEnds(place)) }
        }
        for tunnel in 0..<options.tunnels { planLife(of: tunnel) }
        queue.push(at: Self.checkNanoseconds, .check)
        queue.push(at: 100_000_000, .storeExpires)
        if speakers != nil { queue.push(at: end, .settles) }
    }

    /// The cluster is founded, and tunnels are set up, before anything goes wrong.
    static let warmUpNanoseconds: UInt64 = 1_000_000_000
    static let foundingNanoseconds: UInt64 = 500_000_000
    private static let checkNanoseconds: UInt64 = 10_000_000

    /// The far ends of a run whose cluster is given its tunnels.
    var peers: PeerBank {
        guard let fixed else { preconditionFailure("these peers speak IKE") }
        return fixed
    }

    var end: UInt64 { Self.warmUpNanoseconds + options.duration }

    /// The end of traffic, or of the quiet time after it.
    private var lastMoment: UInt64 { speakers == nil ? end : end + Self.quietNanoseconds }

    // MARK: Running

    /// Runs to the end, or to the first violation.
    public func run() {
        while violations.isEmpty, let (time, event) = queue.pop() {
            if time > lastMoment, !isMoving || time > lastMoment + Self.settledNanoseconds { break }
            now = time
            events += 1
            handle(event)
        }
        if violations.isEmpty { finish() }
        if let recorder {
            figures.milestones = recorder.milestones
            figures.deliveries = recorder.deliveries
        }
        figures.traceHash = trace.value
        figures.events = events
    }

    func handle(_ event: Event) {
        switch event {
        case .starts(let node): start(node)
        case .tick(let node, let time): tick(node, time)
        case .outerArrives(let slot): spread(slot, isOuter: true)
        case .innerArrives(let slot): spread(slot, isOuter: false)
        case .outerAt(let node, let slot):
            showOuter(slot, to: node)
            leave(slot)
        case .innerAt(let node, let slot):
            showInner(slot, to: node)
            leave(slot)
        case .peerReceives(let slot): receiveAtPeer(slot)
        case .datagram(let node, let lives, let message):
            takeDatagram(node, lives, message)
        case .storeReceives(let node, let lives, let message):
            serveRequest(node, lives, message)
        case .storeAnswers(let node, let lives, let message): takeReply(node, lives, message)
        case .watchDelivers(let node, let lives, let message):
            takeChanges(node, lives, message)
        case .watchBreaks(let node, let lives, let watch): breakWatch(node, lives, watch)
        case .traffic(let tunnel): sendTraffic(tunnel)
        case .faultBegins(let place): begin(faults[place])
        case .faultEnds(let place): end(faults[place])
        case .establish(let tunnel): establish(tunnel)
        case .clear(let tunnel): clear(tunnel)
        case .storeExpires: expireStore()
        case .check:
            check()
            queue.push(at: now + Self.checkNanoseconds, .check)
        case .replayed(let place): replay(place)
        case .peerTick(let peer, let time): tickPeer(peer, time)
        case .moves(let spi): move(spi)
        case .settles: settlePeers()
        }
    }

    func fail(_ text: String) {
        violations.append(Violation(time: now, text: text))
        note { "VIOLATION: \(text)" }
    }

    func note(_ text: () -> String) {
        if let onTrace { onTrace(now, text()) }
    }

    // MARK: Lives

    func start(_ number: Int) {
        let node = nodes[number]
        guard node.life == nil else { return }
        node.lives += 1
        node.stoppedUntil = 0
        node.watchRevision = nil
        node.watchArrival = now
        var configuration = GatewayConfiguration(node: node.id, distribution: distribution)
        configuration.cardCapacity = options.cardCapacity
        configuration.cardContents = options.cardContents
        configuration.whenFull = options.whenFull
        configuration.tableCapacity = max(64, options.tunnels * (speakers == nil ? 2 : 64))
        configuration.keyedContexts = min(64, max(8, options.tunnels))
        configuration.timing = options.timing
        configuration.takeoverPolicy = options.policy
        configuration.leaseSizing = options.leaseSizing
        configuration.backups = options.backups
        configuration.tableHoldsOwn = options.tableHoldsOwn
        configuration.balancing = options.balancing
        configuration.rules = options.rules
        let random = nodeRandom.fork(UInt64(number) << 32 | UInt64(node.lives))
        do {
            node.life = SimulatedNode.Life(
                try Gateway(
                    configuration, library: library, secret: secret, random: random,
                    nowNanoseconds: node.local(now)))
        } catch {
            preconditionFailure("OpenSSL served a moment ago: \(error)")
        }
        beginSpeaking(number, random)
        note { "node \(node.id) starts" }
        drain(number)
    }

    func crash(_ number: Int) {
        let node = nodes[number]
        guard let life = node.life else { return }
        node.buried.add(life.gateway.counters)
        figures.cards.add(life.gateway)
        checker.lostHeld += life.gateway.heldCount
        node.life = nil
        node.lives += 1
        node.plannedTick = .max
        note { "node \(node.id) is dead" }
    }

    private func tick(_ number: Int, _ time: UInt64) {
        let node = nodes[number]
        guard node.plannedTick == time, let life = node.life else { return }
        if node.stoppedUntil > now {
            node.plannedTick = node.stoppedUntil
            queue.push(at: node.stoppedUntil, .tick(node: number, time: node.stoppedUntil))
            return
        }
        node.plannedTick = .max
        tellTime(number)
        life.gateway.tick(nowNanoseconds: node.local(now))
        drain(number)
    }

    /// Plans the next tick of a node, no sooner than now.
    func planTick(_ number: Int) {
        let node = nodes[number]
        guard let life = node.life else { return }
        let deadline = life.gateway.nextDeadline(nowNanoseconds: node.local(now))
        let time = max(deadline == .max ? .max : node.trueTime(deadline), now + 1000)
        guard time < node.plannedTick else { return }
        node.plannedTick = time
        queue.push(at: time, .tick(node: number, time: time))
    }
}
