// Real gateways, a store and links in virtual time, and nothing that goes wrong: for measuring what
// nodes do and say. Nothing is checked here; `Simulation` does that.

public import Cluster
import Crypto
import ESP
public import Gateway

/// What nodes and store said to each other. Octets are without headers of IP and below.
public struct ControlFigures: Hashable, Sendable {
    /// Datagrams on the HA link.
    public internal(set) var datagrams: UInt64 = 0
    /// Their octets.
    public internal(set) var datagramBytes: UInt64 = 0
    /// Transactions that the store carried out.
    public internal(set) var storeWrites: UInt64 = 0
    /// Keys and values in them.
    public internal(set) var storePuts: UInt64 = 0
    /// Octets of these.
    public internal(set) var storeBytes: UInt64 = 0
    /// Octets of keys and values that watches delivered, to all nodes together.
    public internal(set) var watchBytes: UInt64 = 0

    /// What was added since.
    public func since(_ before: ControlFigures) -> ControlFigures {
        var sum = self
        sum.datagrams -= before.datagrams
        sum.datagramBytes -= before.datagramBytes
        sum.storeWrites -= before.storeWrites
        sum.storePuts -= before.storePuts
        sum.storeBytes -= before.storeBytes
        sum.watchBytes -= before.watchBytes
        return sum
    }
}

/// A cluster without faults. The store may be filled before the first node starts.
public final class ControlCluster {
    /// One machine.
    public final class Node {
        /// Its number.
        public let id: NodeID
        /// The real one.
        public var gateway: Gateway
        var plannedTick = UInt64.max
        /// The request that began its watch, and the next revision it delivers.
        var watch: (request: UInt64, revision: UInt64)?

        init(_ id: NodeID, _ gateway: consuming Gateway) {
            self.id = id
            self.gateway = gateway
        }
    }

    private enum Event {
        case tick(Int, UInt64)
        case datagram(Int, [UInt8])
        case request(Int, UInt64, CoordinationRequest)
        case reply(Int, UInt64, CoordinationReply)
        case changes(Int, UInt64, [CoordinationChange])
    }

    /// Nodes by number, the first at 0; nil: not started.
    public private(set) var nodes: [Node?] = []
    /// What all nodes coordinate through.
    public var store = CoordinationStore()
    /// What new nodes are made of, but for their numbers.
    public var template: GatewayConfiguration
    /// Nanoseconds of virtual time, which all clocks show.
    public private(set) var now: UInt64 = 1_000_000_000
    /// What was said so far.
    public private(set) var figures = ControlFigures()

    private let secret: ClusterSecret
    private let library: CryptoLibrary
    private let seal: RecordSeal
    private let link: UInt64
    private let storeDelay: UInt64
    private var random: SimulationRandom
    private var queue = EventQueue<Event>()

    /// A cluster of one seed, without nodes. `link`: one way between nodes and to the store, in
    /// nanoseconds; `storeDelay`: what the store takes. Throws when OpenSSL can't serve.
    ///
    /// Precondition: `identifiers` is a power of two from 16 to 4096.
    public init(
        seed: UInt64, identifiers: Int, link: UInt64 = 1_000_000, storeDelay: UInt64 = 300_000
    ) throws {
        random = SimulationRandom(seed: seed)
        var key = SecretBytes(count: 32)
        var stream = random.fork(1)
        key.withUnsafeMutableBytes { octets in
            for place in octets.indices {
                octets[place] = UInt8(truncatingIfNeeded: stream.next())
            }
        }
        let secret = try ClusterSecret(key: key)
        library = try CryptoLibrary()
        seal = try RecordSeal(secret)
        template = GatewayConfiguration(
            node: NodeID(1),
            distribution: try Distribution(
                identifierCount: identifiers, cookieKey: secret.cookieKey()))
        self.secret = secret
        self.link = link
        self.storeDelay = storeDelay
    }

    // MARK: The store

    /// Writes the allocation, as if it had been agreed upon.
    public func write(_ record: AllocationRecord) {
        put([(.allocation, record.encode())])
    }

    /// Writes the entries of all tunnels, as if generation 1 of their identifiers had set them up.
    public func writeEntries(of peers: PeerBank) {
        var batch: [CoordinationTransaction.Operation] = []
        for tunnel in 0..<peers.count {
            let end = peers.gatewayEnd(of: tunnel)
            let identifier = peers.identifier(of: tunnel)
            let key = StoreKey.entry(identifier, peers.gatewaySPI(of: tunnel))
            let plain = TunnelRecord(
                identifier: identifier, generation: 1, sendLimit: 1024, receiveLimit: 4096,
                inbound: end.inbound, outbound: end.outbound
            ).encode()
            let value = plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce()) }
            batch.append(.put(key: key.text, value: value, lease: nil))
            if batch.count == CoordinationTransaction.operationsMaximum { commit(&batch) }
        }
        commit(&batch)
    }

    private func put(_ records: [(StoreKey, [UInt8])]) {
        var batch = records.map { key, plain in
            let value = plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce()) }
            return CoordinationTransaction.Operation.put(key: key.text, value: value, lease: nil)
        }
        commit(&batch)
    }

    private func commit(_ batch: inout [CoordinationTransaction.Operation]) {
        guard !batch.isEmpty else { return }
        _ = store.handle(
            .transaction(CoordinationTransaction(operations: batch)), nowNanoseconds: now)
        batch.removeAll(keepingCapacity: true)
    }

    private func nonce() -> [UInt8] {
        (0..<RecordSeal.nonceBytes).map { _ in UInt8(truncatingIfNeeded: random.next() >> 56) }
    }

    // MARK: Nodes

    /// Starts a node; the first is 0. Throws when OpenSSL can't serve. Precondition: it is not
    /// there yet.
    public func start(_ number: Int) throws {
        while nodes.count <= number { nodes.append(nil) }
        precondition(nodes[number] == nil)
        var configuration = template
        configuration.node = NodeID(UInt16(number + 1))
        let gateway = try Gateway(
            configuration, library: library, secret: secret,
            random: random.fork(UInt64(number) + 2), nowNanoseconds: now)
        nodes[number] = Node(configuration.node, gateway)
        drain(number)
    }

    /// Stops a node at once.
    public func stop(_ number: Int) { nodes[number] = nil }

    // MARK: Time

    /// When something happens next; nil: never.
    public var nextTime: UInt64? { queue.nextTime }

    /// Handles what happens next; returns at which node, nil if at the store or at a dead node.
    @discardableResult
    public func step() -> Int? {
        guard let (time, event) = queue.pop() else { return nil }
        now = max(now, time)
        switch event {
        case .tick(let number, let planned):
            guard let node = nodes[number], node.plannedTick == planned else { return nil }
            node.plannedTick = .max
            node.gateway.tick(nowNanoseconds: now)
            return drain(number)
        case .datagram(let number, let octets):
            guard let node = nodes[number] else { return nil }
            octets.withUnsafeBytes { node.gateway.receive(datagram: $0, nowNanoseconds: now) }
            return drain(number)
        case .request(let number, let id, let request):
            serve(request, id, of: number)
            return nil
        case .reply(let number, let id, let reply):
            guard let node = nodes[number] else { return nil }
            node.gateway.receive(reply, to: id, nowNanoseconds: now)
            return drain(number)
        case .changes(let number, let watch, let changes):
            guard let node = nodes[number] else { return nil }
            node.gateway.receive(changes, ofWatch: watch, nowNanoseconds: now)
            return drain(number)
        }
    }

    /// Handles everything up to a time.
    public func run(until time: UInt64) {
        while let next = queue.nextTime, next <= time { step() }
        now = max(now, time)
    }

    // MARK: Inside

    @discardableResult
    private func drain(_ number: Int) -> Int? {
        guard let node = nodes[number] else { return nil }
        for output in node.gateway.takeOutputs() {
            switch output {
            case .datagram(let peer, let octets):
                figures.datagrams += 1
                figures.datagramBytes += UInt64(octets.count)
                let receiver = Int(peer.value) - 1
                guard receiver < nodes.count else { continue }
                queue.push(at: now + link, .datagram(receiver, octets))
            case .request(let id, let request):
                queue.push(at: now + link, .request(number, id, request))
            case .inner, .outer, .event, .message, .keepalive, .report: break
            }
        }
        let deadline = max(node.gateway.nextDeadline(nowNanoseconds: now), now + 1000)
        if deadline < node.plannedTick {
            node.plannedTick = deadline
            queue.push(at: deadline, .tick(number, deadline))
        }
        return number
    }

    private func serve(_ request: CoordinationRequest, _ id: UInt64, of number: Int) {
        store.expire(nowNanoseconds: now)
        let reply = store.handle(request, nowNanoseconds: now)
        if case .watch(_, let from) = request, case .watching = reply {
            nodes[number]?.watch = (id, from)
        }
        if case .transaction(let transaction) = request, case .committed = reply {
            figures.storeWrites += 1
            for operation in transaction.operations {
                guard case .put(let key, let value, _) = operation else { continue }
                figures.storePuts += 1
                figures.storeBytes += UInt64(key.utf8.count + value.count)
            }
        }
        queue.push(at: now + storeDelay + link, .reply(number, id, reply))
        tellWatchers()
    }

    private func tellWatchers() {
        for (number, node) in nodes.enumerated() {
            guard let node, let watch = node.watch, watch.revision <= store.revision,
                let changes = store.changes(prefix: StoreKey.prefix, from: watch.revision)
            else { continue }
            node.watch = (watch.request, store.revision + 1)
            guard !changes.isEmpty else { continue }
            for change in changes {
                guard case .put(let pair) = change.kind else { continue }
                figures.watchBytes += UInt64(pair.key.utf8.count + pair.value.count)
            }
            queue.push(at: now + storeDelay + link, .changes(number, watch.request, changes))
        }
    }
}
