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
            let entries = Set(
                member.gateway.table.entries().map { member.gateway.table.status(of: $0).spi })
            #expect(entries == installed, "every table knows all")
            #expect(sessions.isSubset(of: mine), "no key where it does not belong")
            if cardsHaveRoom { #expect(sessions == mine) }
            for spi in installed {
                let session = member.gateway.session(for: spi)
                #expect((session != nil) == sessions.contains(spi))
                guard let session else { continue }
                let generation = try? member.gateway.card.status(of: session).ivGeneration
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

/// One node with memory for a batch.
final class Node {
    static let roomBytes = 2048
    var gateway: Gateway
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
        change(&configuration)
        gateway = Gateway(configuration, library: try CryptoLibrary())
        memory = .allocate(byteCount: Gateway.batchMaximum * Self.roomBytes, alignment: 64)
        packets = .allocate(capacity: Gateway.batchMaximum)
        verdicts = .allocate(capacity: Gateway.batchMaximum)
        verdicts.initialize(repeating: .other)
    }

    deinit {
        memory.deallocate()
        packets.deallocate()
        verdicts.deallocate()
    }

    /// Takes an allocation in all three steps.
    @discardableResult
    func take(_ allocation: Allocation) throws -> ReallocationReport {
        var report = try gateway.prepare(allocation, nowNanoseconds: 0)
        gateway.switchOver()
        gateway.clearLost(&report, nowNanoseconds: 0)
        return report
    }

    func add(_ parameters: AssociationParameters) throws -> CardError? {
        try gateway.add(association(parameters), nowNanoseconds: 0)
    }

    func remove(_ spi: SPI) -> Bool { gateway.remove(spi, nowNanoseconds: 0) }

    func drops(_ spi: SPI) -> DropCounters? { gateway.drops(of: spi) }

    func place(of spi: SPI) -> EntryPlace { gateway.place(of: spi) }

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
        gateway.receive(used, verdicts: verdicts, nowNanoseconds: now)
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
