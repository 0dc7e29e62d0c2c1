// One node of the cluster as a value: data plane, HA link, store, membership, and what they decide
// together. Packets, datagrams, answers and time come in as arguments; verdicts and outputs go out.
// It has no clock, no socket and no thread: the simulator and the edge run the same value.

public import Cluster
public import Crypto
public import CryptoCardSim
public import ESP
package import Wire

/// A node.
///
/// After every call that may change something, the caller takes the outputs and carries them out,
/// and calls `tick` no later than `nextDeadline`. All times are of one monotonic clock of the node,
/// in nanoseconds; only `packetTime` is of a clock that all nodes share, for lifetimes.
public struct Gateway: ~Copyable {
    /// The most packets of one batch.
    public static let batchMaximum = 64
    private static let moveRetryNanoseconds: UInt64 = 1_000_000

    /// What it is made of.
    public let configuration: GatewayConfiguration
    /// This process of the node; drawn at random when it began.
    public let incarnation: UInt64

    var plane: DataPlane
    var link: HALink
    let seal: RecordSeal
    var membership: Membership
    var client: CoordinationClient
    var random: any RandomNumberGenerator & Sendable
    var outputs: [GatewayOutput] = []

    /// The allocation in force, with its plans.
    var record: AllocationRecord?
    /// The store's revision of the record in force.
    var agreedRevision: UInt64 = 0
    /// The store's revision of what it holds as the record, believed or not.
    var recordRevision: UInt64 = 0
    /// By identifier: owned by a former life of this node, and not served by this one.
    var isStale: [Bool]
    var memberKeys = MemberKeys()
    var weights: [NodeID: UInt16] = [:]
    /// Whether everything in the store was read at least once, and since when.
    var completeSince: UInt64?

    /// The store held a record when this process began.
    var hadRecordAtStart = false
    /// Another process has the node's key.
    var isReplaced = false
    /// Its operator wants it gone: it hands over what it owns.
    public internal(set) var isLeaving = false

    var decision: Decision?
    /// The last record that this process offered to the store.
    var proposed: AllocationRecord?
    /// A decision for this epoch has an unknown outcome: it may still come true.
    var unresolvedEpoch: UInt64?
    var nextDecisionAt: UInt64 = 0
    /// When others were last told that this node decides nothing.
    var promisedAt: UInt64 = 0
    var removableSince: UInt64?

    var tickedAt: UInt64 = 0
    var reports: [ReallocationReport] = []
    var loadingQueue: [DistributionIdentifier] = []
    var moves: PlannedMoves
    var entries = PendingEntries()
    var publishing: Publishing
    var contents: TableContents
    var balance: Balance
    var ike: IKESide?
    /// The world's time, which the caller keeps right to some seconds: validity of certificates and
    /// the age of what lay in the store are measured by it.
    public var secondsSince1970: Int64 = 0

    /// A node that owns nothing yet, and asks the store at once.
    ///
    /// Preconditions: cards that hold all tunnels go with tables that hold everything; at least one
    /// backup; per cent of balancing up to 150, its times up to a
    /// day between reports, and to 400 days.
    public init(
        _ configuration: GatewayConfiguration, library: CryptoLibrary,
        secret: borrowing ClusterSecret, random: consuming any RandomNumberGenerator & Sendable,
        nowNanoseconds now: UInt64
    ) throws(CryptoError) {
        configuration.check()
        var random = random
        let incarnation = random.next() | 1
        let seal = try RecordSeal(secret)
        let key = StoreKey.member(configuration.node)
        let record = MemberRecord(incarnation: incarnation, endpoint: configuration.endpoint)
        let value = Self.sealed(record.encode(), key, seal, &random)
        let count = configuration.distribution.identifierCount
        self.configuration = configuration
        self.incarnation = incarnation
        self.seal = seal
        plane = DataPlane(configuration, library: library)
        link = HALink(node: configuration.node, incarnation: incarnation, secret: secret)
        membership = Membership(
            node: configuration.node, timing: configuration.timing, nowNanoseconds: now)
        membership.rules = configuration.rules
        client = CoordinationClient(
            memberKey: key.text, memberValue: value, timing: configuration.timing,
            nowNanoseconds: now)
        client.rules = configuration.rules
        isStale = Array(repeating: false, count: count)
        moves = PlannedMoves(identifierCount: count)
        publishing = Publishing(identifierCount: count)
        contents = TableContents(
            identifierCount: count, isSelective: configuration.backups != nil)
        balance = Balance(identifierCount: count)
        self.random = random
        pump(now)
    }

    // MARK: Who and what

    /// Who this is.
    public var node: NodeID { configuration.node }
    /// How packets become identifiers.
    public var distribution: Distribution { configuration.distribution }
    /// The allocation in force; nil before the first.
    public var allocation: Allocation? { record?.allocation }
    /// What it did.
    public var counters: GatewayCounters { plane.counters }
    /// What the HA link took and refused.
    public var linkCounters: HALinkCounters { link.counters }
    /// What the card counted.
    public var cardCounters: CardCounters { plane.card.counters }
    /// Sessions of the card now: up to two for each tunnel.
    public var sessionCount: Int { plane.card.count }
    /// Sessions in the host's memory now, which found no room on the card.
    public var hostSessionCount: Int { plane.host.count }
    /// Tunnels of the common table now.
    public var entryCount: Int { plane.table.count }
    /// Until when it may serve.
    public var servingUntilNanoseconds: UInt64 { plane.servingUntil }

    /// True when this node handles the identifier's packets, as far as its right to serve lasts.
    public func owns(_ identifier: DistributionIdentifier) -> Bool { plane.owns(identifier) }

    /// Where a node is reached, as it said in the store; nil: it has not.
    public func endpoint(of peer: NodeID) -> MemberEndpoint? {
        memberKeys.key(of: peer)?.endpoint
    }

    /// Nodes that have a session with the store, ascending.
    public var presentNodes: [NodeID] { memberKeys.present }

    /// Makes the card fail.
    public mutating func inject(_ fault: CardFault) { plane.card.inject(fault) }

    // MARK: Packets

    /// Handles packets from the untrusted side in place: those of its own identifiers, and no
    /// others (patent Fig. 2, 202 and 204). `verdicts` receives one answer per packet.
    ///
    /// Precondition: at most `batchMaximum` packets, and as many places for verdicts.
    public mutating func receive(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        verdicts: UnsafeMutableBufferPointer<PacketVerdict>, nowNanoseconds now: UInt64,
        packetTime: UInt64? = nil
    ) {
        precondition(packets.count <= Self.batchMaximum && verdicts.count >= packets.count)
        plane.receive(packets, verdicts: verdicts, now: now, packetTime: packetTime ?? now)
        if ike != nil { noteHeard(packets, verdicts, now) }
        if !plane.worn.isEmpty { renewWorn(now) }
        if plane.isLackingKeys { pump(now) }
    }

    /// Handles packets from the protected side in place: those whose tunnels are its own. A
    /// descriptor needs `ESPOverhead` around its packet.
    ///
    /// Precondition: at most `batchMaximum` packets, and as many places for verdicts.
    public mutating func send(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        verdicts: UnsafeMutableBufferPointer<PacketVerdict>, nowNanoseconds now: UInt64,
        packetTime: UInt64? = nil
    ) {
        precondition(packets.count <= Self.batchMaximum && verdicts.count >= packets.count)
        plane.send(packets, verdicts: verdicts, now: now, packetTime: packetTime ?? now)
        if !plane.worn.isEmpty { renewWorn(now) }
        if plane.isLackingKeys { pump(now) }
    }

    /// True for a packet of the protected side whose tunnel is another node's: nothing needs to be
    /// done with it. It is counted. All nodes see all packets of a shared segment, so this costs
    /// less than ``send(_:verdicts:nowNanoseconds:packetTime:)``.
    public mutating func isForeign(_ packet: UnsafeRawBufferPointer) -> Bool {
        plane.isForeign(packet)
    }

    // MARK: Input and output

    /// Takes a datagram of the HA link, whoever sent it.
    public mutating func receive(
        datagram: UnsafeRawBufferPointer, nowNanoseconds now: UInt64
    ) {
        guard let (peer, message) = link.open(datagram) else { return }
        handle(message, from: peer, now)
        pump(now)
    }

    /// Takes the store's answer to a request.
    public mutating func receive(
        _ reply: CoordinationReply, to request: UInt64, nowNanoseconds now: UInt64
    ) {
        handle(client.receive(reply, to: request, nowNanoseconds: now), now)
        pump(now)
    }

    /// Takes changes that a watch of the store delivers, in order. `watch` is the number of the
    /// request that began it.
    public mutating func receive(
        _ changes: [CoordinationChange], ofWatch watch: UInt64, nowNanoseconds now: UInt64
    ) {
        handle(client.receive(changes, ofWatch: watch), now)
        pump(now)
    }

    /// A watch broke; changes may have been missed.
    public mutating func loseWatch(_ watch: UInt64, nowNanoseconds now: UInt64) {
        client.loseWatch(watch, nowNanoseconds: now)
        pump(now)
    }

    /// True when something is to be done.
    public var hasOutputs: Bool { !outputs.isEmpty }

    /// Takes what is to be done.
    public mutating func takeOutputs() -> [GatewayOutput] {
        guard !outputs.isEmpty else { return [] }
        return exchange(&outputs, with: [])
    }

    /// Does what is due.
    public mutating func tick(nowNanoseconds now: UInt64) {
        // After a stop, what the others sent meanwhile is read first.
        let heartbeat = configuration.timing.heartbeatNanoseconds
        if now > tickedAt + 2 * heartbeat { membership.excuse(until: now + heartbeat) }
        tickedAt = now
        handle(client.tick(nowNanoseconds: now), now)
        sendHeartbeats(now)
        loadSome(now)
        stepMoves(now)
        visitIdentifiers(now)
        retryEntries(now)
        tickIKE(now)
        pump(now)
    }

    /// When `tick` has something to do.
    public func nextDeadline(nowNanoseconds now: UInt64) -> UInt64 {
        if !loadingQueue.isEmpty { return now }
        var deadline = min(membership.nextHeartbeatNanoseconds, client.nextDeadline)
        if let suspicion = membership.nextSuspicion(nowNanoseconds: now) {
            deadline = min(deadline, suspicion)
        }
        // A move that can't go on, as the store is away, is looked at again and again, but not at
        // every moment.
        deadline = min(deadline, nextIKEDeadline(now))
        let moving = moves.nextDeadline(configuration.timing)
        return min(deadline, moving > tickedAt ? moving : tickedAt + Self.moveRetryNanoseconds)
    }

    /// Decides what is to be decided, and hands requests out.
    mutating func pump(_ now: UInt64) {
        plane.servingUntil = servingUntil(now)
        readEntries(now)
        decide(now)
        noteRights()
        submitSteps(now)
        for (id, request) in client.takeRequests() { outputs.append(.request(id: id, request)) }
    }

    // MARK: The right to serve

    /// docs/decisions/0010: enough members vouch for this node and the store keeps its key; or all
    /// other members have promised to decide nothing.
    func servingUntil(_ now: UInt64) -> UInt64 {
        let session = configuration.rules.hold(.sessionAwaited) ? client.sessionUntil : .max
        let regular = min(membership.votedUntil, session)
        // A decision of this node's own may have made a member that has promised nothing.
        let isUndecided = decision != nil || unresolvedEpoch == membership.epoch
        let promised = isUndecided ? 0 : membership.promisedUntil
        // Beyond its lease an owner depends on the promises alone.
        if publishing.isAllowed.contains(true) { return promised }
        return max(regular, promised)
    }

    // MARK: For checkers

    /// The SPIs of the card's inbound sessions, ascending.
    package borrowing func sessionSPIs() -> [SPI] {
        plane.card.handles().compactMap { handle in
            guard let status = try? plane.card.status(of: handle), status.direction == .inbound
            else { return nil }
            return status.spi
        }.sorted()
    }

    /// The SPIs of the inbound sessions in the host's memory, ascending.
    package borrowing func hostSPIs() -> [SPI] {
        plane.host.handles().compactMap { handle in
            guard let status = try? plane.host.status(of: handle), status.direction == .inbound
            else { return nil }
            return status.spi
        }.sorted()
    }

    /// What is wrong with where the sessions are: a tunnel in two places, halves of tunnels in
    /// different ones, sessions of no tunnel; nil: nothing.
    package borrowing func sessionFault() -> String? {
        var (onCard, onHost) = (0, 0)
        for entry in plane.table.entries() {
            let spi = plane.table.status(of: entry).spi
            let outbound = plane.table.outbound(of: entry)
            let card = plane.card.holdsSession(for: spi)
            let host = plane.host.holdsSession(for: spi)
            let sendsByCard = outbound.map { plane.card.holds(plane.outboundSession($0)) } ?? false
            let sendsByHost =
                outbound.map { plane.host.holds(plane.hostOutboundSession($0)) } ?? false
            if (card || sendsByCard) && (host || sendsByHost) {
                return "SPI \(spi) has sessions on the card and in host memory at once"
            }
            onCard += (card ? 1 : 0) + (sendsByCard ? 1 : 0)
            onHost += (host ? 1 : 0) + (sendsByHost ? 1 : 0)
        }
        if onCard != plane.card.count { return "the card has a session of no tunnel" }
        if onHost != plane.host.count { return "host memory has a session of no tunnel" }
        return nil
    }

    /// The SPIs of the common table's tunnels, ascending.
    package borrowing func tableSPIs() -> [SPI] {
        plane.table.entries().map { plane.table.status(of: $0).spi }.sorted()
    }

    /// True while the node handles packets of the identifier, by its own clock.
    package func serves(_ identifier: DistributionIdentifier, nowNanoseconds now: UInt64) -> Bool {
        now < plane.servingUntil && plane.owns(identifier)
    }

    /// One bit for each identifier, in words of 64: the node's own, as far as its right to serve
    /// lasts.
    package borrowing func writeOwned(to words: inout [UInt64]) {
        plane.roles.withUnsafeBufferPointer { roles in
            for word in words.indices {
                var bits: UInt64 = 0
                for place in word << 6..<min(roles.count, (word + 1) << 6) {
                    bits |= (roles[place].isOwner ? 1 : 0) << UInt64(place & 63)
                }
                words[word] = bits
            }
        }
    }

    /// One bit for each identifier, in words of 64: packets come here that are not another node's,
    /// also while they are held.
    package borrowing func writeHeard(to words: inout [UInt64]) {
        plane.roles.withUnsafeBufferPointer { roles in
            for word in words.indices {
                var bits: UInt64 = 0
                for place in word << 6..<min(roles.count, (word + 1) << 6) {
                    bits |= (roles[place] == .foreign ? 0 : 1) << UInt64(place & 63)
                }
                words[word] = bits
            }
        }
    }

    /// Whom it has told others to suspect, ascending.
    package var toldSuspects: [NodeID] { membership.toldSuspects }

    /// True while a planned move is under way, by the record that this node knows, or entries or
    /// keys are on their way from the store.
    package var isMoving: Bool { (record?.isMoving ?? false) || !contents.isQuiet }

    /// Packets held now.
    package var heldCount: UInt64 { UInt64(plane.held.packets.count) }

    /// True while packets of the identifier are held for a planned move.
    package func isHolding(_ identifier: DistributionIdentifier) -> Bool {
        let role = plane.roles[Int(identifier.value)]
        return role == .holding || role == .frozen
    }

    static func sealed(
        _ plain: [UInt8], _ key: StoreKey, _ seal: borrowing RecordSeal,
        _ random: inout any RandomNumberGenerator & Sendable
    ) -> [UInt8] {
        var nonce: [UInt8] = []
        for _ in 0..<3 {
            withUnsafeBytes(of: UInt32.random(in: 0 ... .max, using: &random)) {
                nonce.append(contentsOf: $0)
            }
        }
        return plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce) }
    }
}
