// A cluster of real nodes in one process, for captures and tests: a store in memory, an HA link
// that delivers at once, and a clock of its own that only moves while something is to be awaited.
// All nodes see every packet (patent: "all nodes see all data packets arriving at the cluster").

public import Cluster
public import Crypto
import CryptoCardSim
public import ESP
import Wire

/// Why a command to the cluster was refused. Nothing was changed, but for `unsettled`.
public enum InProcessClusterError: Error, CustomStringConvertible {
    /// No live node has this number.
    case unknownNode(NodeID)
    /// The allocation can't change this way.
    case allocation(ClusterError)
    /// The common table can't take the entry.
    case table(CommonTableError)
    /// The owner of the entry's identifier refused it; why, and what to do.
    case refused(String)
    /// OpenSSL can't serve.
    case crypto(CryptoError)
    /// The nodes did not come to rest: a fault of this program.
    case unsettled(seconds: UInt64)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .unknownNode(let node): "node \(node) is not alive: choose one that is"
        case .allocation(let error): error.description
        case .table(let error): error.description
        case .refused(let reason): reason
        case .crypto(let error): error.description
        case .unsettled(let seconds):
            "the nodes did not agree within \(seconds) s of their own time: report this"
        }
    }
}

/// Nodes in one process. Not Sendable: one thread drives it.
///
/// Packets carry the time of the capture, for lifetimes; the nodes' own clock is another.
public final class InProcessCluster {
    /// A node with its connections, and memory for its copy of a packet.
    final class Member {
        let node: NodeID
        var gateway: Gateway
        /// Its watch: the request that began it, and the next revision it delivers; nil: none.
        var watch: (request: UInt64, revision: UInt64)?
        /// Datagrams on their way to it.
        var mail: [[UInt8]] = []
        private let memory: UnsafeMutableRawPointer
        private static let memoryBytes = 1 << 18

        init(_ gateway: consuming Gateway) {
            node = gateway.node
            self.gateway = gateway
            memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
        }

        deinit { memory.deallocate() }

        /// This node's copy of a packet on the segment. Precondition: at most 256 KiB.
        func segment(for packet: UnsafeRawBufferPointer) -> PacketDescriptor {
            precondition(packet.count <= Self.memoryBytes)
            if let base = packet.baseAddress {
                memory.copyMemory(from: base, byteCount: packet.count)
            }
            return PacketDescriptor(
                buffer: memory, capacity: Self.memoryBytes, offset: 0, length: packet.count)
        }
    }

    /// What became of a packet: the owner and its verdict.
    public struct Outcome: Equatable, Sendable {
        /// Who handled it; nil when it belongs to no one.
        public let node: NodeID?
        /// The owner's verdict.
        public let verdict: PacketVerdict
    }

    private let library: CryptoLibrary
    let template: GatewayConfiguration
    private let secret: ClusterSecret
    private var random = InProcessRandom(state: 0)
    var members: [Member] = []
    var store = CoordinationStore()
    /// The nodes' clock.
    var clock: UInt64 = 0
    /// What the nodes told since the last command.
    var news: [GatewayEvent] = []
    /// Called at each step of a command, so that tests can show packets in between.
    var onStep: (() -> Void)?
    /// Packets that were shown in between, and held until a move was complete.
    var released: [[UInt8]] = []
    /// All tunnels in the order of their installation.
    var tunnels: [SPI] = []
    /// Reallocations so far, the founding included.
    var reallocations: UInt64 = 1
    /// Counters of nodes that died, so that sums stay true.
    public internal(set) var departed: [NodeSummary] = []
    /// The allocation in force.
    public internal(set) var allocation: Allocation

    private let packet: UnsafeMutableBufferPointer<PacketDescriptor> = .allocate(capacity: 1)
    private let verdict: UnsafeMutableBufferPointer<PacketVerdict> = .allocate(capacity: 1)

    /// `nodes` nodes, numbered from 1, like `template` but for the number and what makes them run
    /// on the cluster's clock: timing, lease sizes, and tunnels that wait rather than be refused
    /// when a card is full.
    public init(
        nodes: Int, template: GatewayConfiguration, library: CryptoLibrary
    ) throws(InProcessClusterError) {
        self.library = library
        self.template = Self.adapted(template)
        let names = (0..<nodes).compactMap { NodeID(exactly: $0 + 1) }
        do {
            allocation = try Allocation(
                nodes: names, identifierCount: template.distribution.identifierCount)
        } catch {
            throw .allocation(error)
        }
        secret = try Self.makeSecret()
        verdict.initialize(repeating: .other)
        for name in names { members.append(try makeMember(name)) }
        try settle { members in
            members.allSatisfy { $0.gateway.allocation?.nodes == names }
        }
        try takeAllocation()
        news = []
    }

    deinit {
        packet.deallocate()
        verdict.deallocate()
    }

    /// The live nodes, ascending.
    public var nodes: [NodeID] { members.map(\.node) }

    // MARK: Making nodes

    /// Nodes of one process lose no message and wait for nothing, so their times are chosen to make
    /// few heartbeats of a crash. Each packet's checkpoint arrives before the next packet, so
    /// a lease needs to bound nothing: it allows all numbers, and none is skipped at a takeover.
    /// What is owned by whom depends on crashes and joins only, not on the load of a capture.
    private static func adapted(_ template: GatewayConfiguration) -> GatewayConfiguration {
        var configuration = template
        configuration.timing.heartbeatNanoseconds = 100_000_000
        configuration.timing.heartbeatsMissed = 3
        configuration.timing.sessionSeconds = 1
        configuration.timing.keepAliveNanoseconds = 300_000_000
        configuration.timing.healthyNanoseconds = 50_000_000
        configuration.timing.holdNanoseconds = 0
        configuration.timing.reliefNanoseconds = 60_000_000_000
        configuration.balancing = .byCount
        var sizing = LeaseSizing(policy: template.takeoverPolicy)
        sizing.receiveMinimum = 1 << 62
        configuration.leaseSizing = sizing
        if configuration.whenFull == .refuse { configuration.whenFull = .wait }
        return configuration
    }

    /// What the nodes tell each other stays in this process, whose memory holds the keys anyway:
    /// any secret will do, and one that is the same in every run makes equal runs.
    private static func makeSecret() throws(InProcessClusterError) -> ClusterSecret {
        do {
            let key = SecretBytes(count: ClusterSecret.keyBytesMinimum)
            return try ClusterSecret(key: key)
        } catch {
            switch error {
            case .crypto(let error): throw .crypto(error)
            case .tooShort: preconditionFailure("the key has the least length")
            }
        }
    }

    /// A process that starts now, and asks the store at once.
    func makeMember(_ node: NodeID) throws(InProcessClusterError) -> Member {
        var configuration = template
        configuration.node = node
        do {
            let gateway = try Gateway(
                configuration, library: library, secret: secret,
                random: InProcessRandom(state: random.next()), nowNanoseconds: clock)
            let member = Member(gateway)
            member.gateway.followExactly()
            return member
        } catch {
            throw .crypto(error)
        }
    }

    private func member(_ node: NodeID) throws(InProcessClusterError) -> Member {
        guard let place = place(of: node) else { throw .unknownNode(node) }
        return members[place]
    }

    /// Where a live node stands among the members; nil: there is none of this number.
    func place(of node: NodeID) -> Int? {
        var low = 0
        var high = members.count
        while low < high {
            let middle = (low + high) / 2
            if members[middle].node < node { low = middle + 1 } else { high = middle }
        }
        return low < members.count && members[low].node == node ? low : nil
    }

    // MARK: Entries

    /// Installs an inbound association, as if node `determining` had agreed upon it: the entry goes
    /// to its owner, if that is another node (foreign entry), into the owner's card and table, and
    /// through the store to the tables of all others (Fig. 4). Returns why the owner's card
    /// refused, if it did: the tunnel waits for room then.
    ///
    /// `now` is not of the cluster's clock and stands for nothing but itself.
    public func install(
        _ association: consuming SecurityAssociation, determining: NodeID,
        nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> (owner: NodeID, refusal: String?) {
        let agreeing = try member(determining)
        let spi = association.parameters.spi
        let owner = allocation.owner(of: template.distribution.identifier(of: spi))
        let owning = try member(owner)
        if let error = owning.gateway.tableRefusal(of: spi) { throw .table(error) }
        // One with very many selectors fits no datagram: as if its owner had agreed upon it.
        let first = Gateway.fitsLink(association) ? agreeing : owning
        news = []
        first.gateway.establish(inbound: association, outbound: nil, nowNanoseconds: clock)
        carry()
        var refusal: String?
        for case .refused(spi, let reason) in news { refusal = reason }
        guard owning.gateway.knows(spi) else {
            throw .refused(refusal ?? "the owner of its identifier does not answer: try again")
        }
        tunnels.append(spi)
        return (owner, refusal)
    }

    // MARK: Packets

    /// Shows a packet to every node, each in a copy of its own; the owner's result is put into
    /// `descriptor`'s buffer. After an authenticated packet the owner's checkpoint goes to the
    /// common tables of the others (RFC 6027 §3.5), so that a successor knows exactly what was
    /// accepted.
    ///
    /// `now` is of the clock that lifetimes are counted on.
    public func receive(
        _ descriptor: inout PacketDescriptor, nowNanoseconds now: UInt64
    ) -> Outcome {
        var outcome = Outcome(node: nil, verdict: .other)
        let seen = UnsafeRawBufferPointer(
            start: descriptor.buffer + descriptor.offset, count: descriptor.length)
        var owner: (member: Member, result: PacketDescriptor)?
        for member in members {
            let copy = member.segment(for: seen)
            packet.initializeElement(at: 0, to: copy)
            member.gateway.receive(
                packet, verdicts: verdict, nowNanoseconds: clock, packetTime: now)
            switch verdict[0] {
            case .foreign: continue
            case .natKeepalive, .other: outcome = Outcome(node: nil, verdict: verdict[0])
            case .held: preconditionFailure("a move ends within the command that began it")
            case .delivered, .dropped, .ike:
                precondition(owner == nil, "two nodes handled one packet")
                outcome = Outcome(node: member.node, verdict: verdict[0])
                owner = (member, packet[0])
            }
        }
        guard let owner else { return outcome }
        if outcome.verdict == .delivered {
            precondition(owner.result.length <= descriptor.capacity)
            descriptor.buffer.copyMemory(
                from: owner.result.buffer + owner.result.offset, byteCount: owner.result.length)
            descriptor.offset = 0
            descriptor.length = owner.result.length
        }
        if let location = owner.result.location {
            owner.member.gateway.checkpointNow(location.spi)
            deliverCheckpoints(of: owner.member)
        }
        return outcome
    }
}

/// Numbers that are the same in every run (SplitMix64): for nonces and incarnations within this
/// process.
struct InProcessRandom: RandomNumberGenerator, Sendable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}
