// Clusters and nodes with real traffic: peers seal, nodes open.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

/// How these tests turn packets into identifiers.
func makeDistribution(_ identifierCount: Int = 16) throws -> Distribution {
    try Distribution(
        identifierCount: identifierCount,
        cookieKey: CookieKey(
            multipliers: SIMD4(0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F), offset: 0x1234))
}

/// The peers of all tunnels.
final class Peers {
    private let station: Station
    private var handles: [SPI: AssociationHandle] = [:]
    private var serial: UInt16 = 0

    init(capacity: Int = 256) throws { station = try Station(capacity: capacity) }

    /// A new tunnel: the peer's end, and the parameters of ours.
    func connect(
        _ spi: SPI, _ transform: Transform = .gcm, window: Int = 64,
        _ change: (inout AssociationParameters) -> Void = { _ in }
    ) throws -> AssociationParameters {
        var outbound = parameters(spi.value, .outbound, transform)
        outbound.replayWindow = window
        change(&outbound)
        handles[spi] = try station.add(outbound)
        return outbound.reversedDirection
    }

    /// The next packet of a tunnel, and what is inside: no two alike.
    func packet(_ spi: SPI) throws -> (outer: [UInt8], inner: [UInt8]) {
        var inner = IPv4Packet(payload: Array(repeating: UInt8(spi.value & 0xFF), count: 24))
        serial &+= 1
        inner.identification = serial
        let handle = try #require(handles[spi])
        return (try #require(station.seal(inner.bytes, handle).bytes), inner.bytes)
    }
}

/// A cluster, and memory for the packet that it is shown.
final class Site {
    static let roomBytes = 1 << 16

    let cluster: InProcessCluster
    private let memory: UnsafeMutableRawPointer

    init(
        nodes: Int, identifierCount: Int = 16,
        _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) throws {
        var template = GatewayConfiguration(
            node: NodeID(1), distribution: try makeDistribution(identifierCount))
        template.cardCapacity = 128
        template.tableCapacity = 256
        template.keyedContexts = 4
        change(&template)
        cluster = try InProcessCluster(nodes: nodes, template: template, library: CryptoLibrary())
        memory = .allocate(byteCount: Self.roomBytes, alignment: 64)
    }

    deinit { memory.deallocate() }

    var distribution: Distribution {
        guard let member = cluster.members.first else { preconditionFailure("no node is left") }
        return member.gateway.distribution
    }

    func owner(of spi: SPI) -> NodeID {
        cluster.allocation.owner(of: distribution.identifier(of: spi))
    }

    @discardableResult
    func install(
        _ parameters: AssociationParameters, by node: NodeID? = nil
    ) throws -> (owner: NodeID, refusal: String?) {
        try cluster.install(
            association(parameters), determining: node ?? cluster.nodes[0], nowNanoseconds: 0)
    }

    /// Shows a packet to all nodes.
    func show(
        _ packet: [UInt8], now: UInt64 = 0
    ) -> (node: NodeID?, verdict: PacketVerdict, inner: [UInt8]) {
        memory.copyMemory(from: packet, byteCount: packet.count)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.roomBytes, offset: 0, length: packet.count)
        let outcome = cluster.receive(&descriptor, nowNanoseconds: now)
        return (outcome.node, outcome.verdict, Array(descriptor.packet))
    }

    /// Shows a packet to every node, as it is on the segment; the answers are by node.
    func showEach(_ packet: [UInt8]) -> [(verdict: PacketVerdict, inner: [UInt8])] {
        cluster.members.map { member in
            var descriptor = packet.withUnsafeBytes { member.segment(for: $0) }
            var verdict = PacketVerdict.other
            withUnsafeMutablePointer(to: &descriptor) { packets in
                withUnsafeMutablePointer(to: &verdict) { verdicts in
                    member.gateway.receive(
                        UnsafeMutableBufferPointer(start: packets, count: 1),
                        verdicts: UnsafeMutableBufferPointer(start: verdicts, count: 1),
                        nowNanoseconds: cluster.clock)
                }
            }
            return (verdict, Array(descriptor.packet))
        }
    }

    /// A node joins, and `body` runs at each step of it.
    func join(_ node: NodeID, _ body: @escaping () throws -> Void) throws {
        var failure: (any Error)?
        cluster.onStep = {
            do { try body() } catch { failure = error }
        }
        defer { cluster.onStep = nil }
        _ = try cluster.join(node, nowNanoseconds: 0)
        if let failure { throw failure }
    }

    /// All sums of all nodes, dead ones included.
    var totals: GatewayCounters {
        var sum = GatewayCounters()
        for summary in cluster.summaries() + cluster.departed {
            sum.delivered += summary.counters.delivered
            sum.ike += summary.counters.ike
            sum.foreign += summary.counters.foreign
            sum.drops += summary.counters.drops
        }
        return sum
    }

    /// What must be true of all nodes whenever nothing is on the move.
    func expectConsistent(_ installed: Set<SPI>, cardsHaveRoom: Bool = true) {
        for member in cluster.members {
            let node = member.gateway.node
            let mine = installed.filter { owner(of: $0) == node }
            let sessions = Set(member.gateway.sessionSPIs())
            let entries = Set(member.gateway.tableSPIs())
            let wanted = installed.filter {
                let record = AllocationRecord(cluster.allocation)
                return record.isHolder(
                    node, of: distribution.identifier(of: $0),
                    backups: cluster.template.backups)
            }
            #expect(entries == wanted, "every table knows what it must, and no more")
            let twice = member.gateway.tunnelsWithKeysTwice()
            #expect(cluster.template.tableHoldsOwn ? twice.count == sessions.count : twice == [])
            #expect(member.gateway.tunnelsWithoutKeys() == [], "each key is somewhere")
            #expect(sessions.isSubset(of: mine), "no key where it does not belong")
            if cardsHaveRoom { #expect(sessions == mine) }
            for spi in installed {
                let session = member.gateway.session(for: spi)
                #expect((session != nil) == sessions.contains(spi))
                guard let session else { continue }
                let generation = try? member.gateway.plane.card.status(of: session).ivGeneration
                let identifier = distribution.identifier(of: spi)
                #expect(generation == cluster.allocation.generation(of: identifier))
            }
            #expect(member.gateway.allocation == cluster.allocation)
            for identifier in 0..<UInt16(cluster.allocation.identifierCount) {
                let identifier = DistributionIdentifier(identifier)
                let isOwner = cluster.allocation.owner(of: identifier) == node
                #expect(member.gateway.owns(identifier) == isOwner)
            }
        }
    }
}

extension GatewayCounters {
    /// Packets that a node took for its own.
    var answered: UInt64 { delivered + drops.total + ike }
}

extension Gateway {
    /// The card's session for an SPI.
    borrowing func session(for spi: SPI) -> CardHandle? { plane.card.session(for: spi) }

    /// Refusals of the session with this SPI; nil when the card has none.
    borrowing func drops(of spi: SPI) -> DropCounters? {
        plane.card.session(for: spi).flatMap { try? plane.card.drops(of: $0) }
    }
}

extension Allocation {
    /// The next epoch without any other change.
    func refreshed() throws -> Allocation { try AllocationRecord(self).refreshed().allocation }
}

/// One node with a store, and memory for a batch. The others of its cluster are names only: the
/// test says what they write, and lets the node serve without their votes.
final class Node {
    static let roomBytes = 2048
    var gateway: Gateway
    private var store = CoordinationStore()
    private var watch: (request: UInt64, revision: UInt64)?
    private var random: any RandomNumberGenerator & Sendable = InProcessRandom(state: 7)
    /// Stands still: nothing is ever late.
    let clock: UInt64 = 1_000_000_000
    /// False: no member vouches for the node.
    var mayServe = true
    /// What it told since the last command.
    private(set) var news: [GatewayEvent] = []
    /// Inner packets that had been held.
    private(set) var released: [[UInt8]] = []
    /// Reads of one identifier are answered by `answerReads` only.
    var delaysReads = false
    /// Such a read shows the store as it is when it is answered, not as it was when asked.
    var readsLate = false
    private var delayed: [(id: UInt64, request: CoordinationRequest, reply: CoordinationReply)] = []
    /// Changes are delivered by `deliverChange` only.
    var delaysWatch = false
    private let memory: UnsafeMutableRawPointer
    let packets: UnsafeMutableBufferPointer<PacketDescriptor>
    let verdicts: UnsafeMutableBufferPointer<PacketVerdict>

    init(
        _ number: UInt16 = 1, _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = GatewayConfiguration(
            node: NodeID(number), distribution: try makeDistribution())
        configuration.cardCapacity = 16
        configuration.tableCapacity = 64
        configuration.whenFull = .wait
        change(&configuration)
        gateway = try Gateway(
            configuration, library: try CryptoLibrary(),
            secret: ClusterSecret(key: SecretBytes(count: 32)),
            random: InProcessRandom(state: UInt64(number)), nowNanoseconds: clock)
        memory = .allocate(byteCount: Gateway.batchMaximum * Self.roomBytes, alignment: 64)
        packets = .allocate(capacity: Gateway.batchMaximum)
        verdicts = .allocate(capacity: Gateway.batchMaximum)
        verdicts.initialize(repeating: .other)
        settle()
    }

    deinit {
        memory.deallocate()
        packets.deallocate()
        verdicts.deallocate()
    }

    /// Carries requests and changes until nothing is under way.
    func settle() {
        while true {
            let outputs = gateway.takeOutputs()
            for output in outputs {
                switch output {
                case .request(let id, let request):
                    let reply = store.handle(request, nowNanoseconds: clock)
                    if case .watch(_, let from) = request { watch = (id, from) }
                    if delaysReads, isOfOneIdentifier(request) {
                        delayed.append((id, request, reply))
                        continue
                    }
                    vouch()
                    gateway.receive(reply, to: id, nowNanoseconds: clock)
                case .event(let event): news.append(event)
                case .inner(let octets): released.append(octets)
                case .datagram, .outer, .message, .keepalive, .report:
                    Issue.record("nobody is there: \(output)")
                }
            }
            let isBehind = !delaysWatch && watch.map { $0.revision <= store.revision } ?? false
            if !isBehind, outputs.isEmpty { break }
            guard isBehind, let (id, from) = watch else { continue }
            watch = (id, store.revision + 1)
            let changes = store.changes(prefix: StoreKey.prefix, from: from) ?? []
            gateway.receive(changes, ofWatch: id, nowNanoseconds: clock)
        }
        vouch()
    }

    private func vouch() { gateway.plane.servingUntil = mayServe ? .max : 0 }

    private func isOfOneIdentifier(_ request: CoordinationRequest) -> Bool {
        guard case .read(let prefix) = request else { return false }
        return prefix.hasPrefix("spindle/entry/") || prefix.hasPrefix("spindle/lease/")
    }

    /// How many reads wait for their answers.
    var readsWaiting: Int { delayed.count }

    /// Answers the reads that wait, and if they are of entries those of leases too that follow.
    func answerReads() {
        while !delayed.isEmpty {
            let (id, request, early) = delayed.removeFirst()
            let reply = readsLate ? store.handle(request, nowNanoseconds: clock) : early
            vouch()
            gateway.receive(reply, to: id, nowNanoseconds: clock)
            settle()
        }
    }

    /// Delivers the changes of the next revision; false: there is none.
    func deliverChange() -> Bool {
        guard let (id, from) = watch, from <= store.revision else { return false }
        let all = store.changes(prefix: StoreKey.prefix, from: from) ?? []
        let next = all.first?.revision ?? store.revision
        watch = (id, next + 1)
        vouch()
        gateway.receive(all.filter { $0.revision == next }, ofWatch: id, nowNanoseconds: clock)
        settle()
        return true
    }

    /// Another node clears a tunnel.
    func strike(_ spi: SPI) {
        let key = StoreKey.entry(gateway.distribution.identifier(of: spi), spi)
        _ = store.handle(
            .transaction(
                CoordinationTransaction(conditions: [], operations: [.delete(key: key.text)])),
            nowNanoseconds: clock)
        settle()
    }

    /// Another node publishes leases.
    func publish(_ record: LeaseRecord) {
        let key = StoreKey.lease(record.identifier)
        put(key, Gateway.sealed(record.encode(), key, gateway.seal, &random))
    }

    /// Another node writes into the store.
    func put(_ key: StoreKey, _ value: [UInt8]) {
        let transaction = CoordinationTransaction(
            conditions: [], operations: [.put(key: key.text, value: value, lease: nil)])
        _ = store.handle(.transaction(transaction), nowNanoseconds: clock)
        settle()
    }

    /// A new record of who owns what. `isOwn`: this very process had offered it.
    @discardableResult
    func take(_ record: AllocationRecord, isOwn: Bool = true) -> ReallocationReport? {
        news = []
        gateway.proposed = isOwn ? record : nil
        put(.allocation, Gateway.sealed(record.encode(), .allocation, gateway.seal, &random))
        for case .reallocated(let report) in news { return report }
        return nil
    }

    @discardableResult
    func take(_ allocation: Allocation) throws -> ReallocationReport {
        try #require(take(AllocationRecord(allocation)))
    }

    /// Another node tells of a tunnel that it agreed upon under generation 1. `key` and
    /// `identifier` are the right ones if not given.
    func learn(
        _ parameters: AssociationParameters, under key: StoreKey? = nil,
        identifier: DistributionIdentifier? = nil
    ) throws {
        learn(try association(parameters), under: key, identifier: identifier)
    }

    /// The same of an association that may have been used.
    func learn(
        _ inbound: consuming SecurityAssociation,
        outbound: consuming SecurityAssociation? = nil, under key: StoreKey? = nil,
        identifier: DistributionIdentifier? = nil
    ) {
        let spi = inbound.parameters.spi
        let identifier = identifier ?? gateway.distribution.identifier(of: spi)
        let key = key ?? StoreKey.entry(identifier, spi)
        let octets = TunnelRecord(
            identifier: identifier, generation: 1, sendLimit: 1024, receiveLimit: 4096,
            inbound: inbound, outbound: outbound
        ).encode().withUnsafeBytes { Array($0) }
        news = []
        put(key, Gateway.sealed(octets, key, gateway.seal, &random))
    }

    /// The owner tells how far it has come.
    func follow(_ checkpoint: SequenceCheckpoint) {
        gateway.plane.apply(
            TunnelState(
                spi: checkpoint.spi, received: checkpoint.sequence,
                receivedPackets: checkpoint.packets, receivedBytes: checkpoint.bytes,
                window: checkpoint.window))
    }

    /// What the owner of an identifier offers, and this node's answer to it.
    func offer(_ identifier: DistributionIdentifier, generation: UInt16, from owner: NodeID) {
        gateway.takeOffer(
            .init(identifier: identifier, generation: generation), from: owner, clock)
        settle()
    }

    /// Agrees upon a tunnel; returns why it was refused, if it was.
    func add(_ parameters: AssociationParameters) throws -> String? {
        news = []
        gateway.establish(
            inbound: try association(parameters), outbound: nil, nowNanoseconds: clock)
        settle()
        for case .refused(parameters.spi, let reason) in news { return reason }
        return nil
    }

    func remove(_ spi: SPI) -> Bool {
        defer { settle() }
        return gateway.clear(spi, nowNanoseconds: clock)
    }

    // The macros of tests take no calls on values that can't be copied.

    func entry(_ spi: SPI) -> AssociationHandle? { gateway.plane.table.find(spi) }

    func storedRevision(_ spi: SPI) -> UInt64? {
        entry(spi).map { gateway.plane.book.storedRevision($0) }
    }

    func isAwaiting(_ identifier: DistributionIdentifier) -> Bool {
        gateway.isAwaiting(identifier)
    }

    func isHolding(_ identifier: DistributionIdentifier) -> Bool { gateway.isHolding(identifier) }

    var keysTwice: [SPI] { gateway.tunnelsWithKeysTwice() }

    var keysNowhere: [SPI] { gateway.tunnelsWithoutKeys() }

    var tableSPIs: [SPI] { gateway.tableSPIs() }

    /// True when the octets stand anywhere in the memory of the common table.
    func tableContains(_ octets: [UInt8]) -> Bool {
        gateway.plane.table.associations.contains(octets: octets)
    }

    func drops(_ spi: SPI) -> DropCounters? { gateway.drops(of: spi) }

    func session(_ spi: SPI) -> CardHandle? { gateway.session(for: spi) }

    var sessionSPIs: [SPI] { gateway.sessionSPIs() }

    /// Puts packets into the batch, at its start.
    func load(_ batch: [[UInt8]]) {
        for (index, packet) in batch.enumerated() {
            let room = memory + index * Self.roomBytes
            room.copyMemory(from: packet, byteCount: packet.count)
            packets.initializeElement(
                at: index,
                to: PacketDescriptor(
                    buffer: room, capacity: Self.roomBytes, offset: 0, length: packet.count))
        }
    }

    func receive(_ batch: [[UInt8]], now: UInt64 = 0) -> [PacketVerdict] {
        load(batch)
        let used = UnsafeMutableBufferPointer(rebasing: packets[..<batch.count])
        gateway.receive(used, verdicts: verdicts, nowNanoseconds: clock, packetTime: now)
        return Array(verdicts[..<batch.count])
    }
}

/// An SPI of an identifier.
func tunnelSPI(_ identifier: UInt16, _ number: UInt32) throws -> SPI {
    try makeDistribution().spi(for: DistributionIdentifier(identifier), low: number)
}

/// ESP in IP that no association knows.
func strayESP(_ spi: UInt32) -> [UInt8] {
    var packet = IPv4Packet(payload: bigEndian(spi) + bigEndian(UInt32(1)) + Array(0..<40))
    packet.transport = 50
    return packet.bytes
}
