// Drives an in-process cluster with the packets of a capture file.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import Foundation
import Gateway
import GatewayIO
import Wire

/// One replay. A class, because it owns memory and a cluster while it collects the report.
final class ReplaySession {
    static let nodesMaximum = 256
    /// Every node reserves the memory of its whole card, whatever it comes to hold.
    static let cardCapacityMaximum = 1 << 20
    /// Hashes of IKE cookies must be the same in every run of a replay, so the key is fixed; a live
    /// cluster derives it from its secret.
    private static let cookieKey = CookieKey(
        multipliers: SIMD4(0x6C07_8965, 0x9D2C_5681, 0xEFC6_1235, 0x5851_F42D), offset: 0x1405_7B7E)

    private let cluster: InProcessCluster
    private let distribution: Distribution
    /// Until its associations are installed: then only cards and tables hold keys.
    private var file: AssociationFile?
    private var report = ReplayReport(capture: "")
    private var places: [SPI: Int] = [:]
    private var ikePlaces: [UInt64: Int] = [:]
    private let memory: UnsafeMutableRawPointer
    private static let memoryBytes = 1 << 18

    init(
        nodes: Int, identifiers: Int, cardCapacity: Int, cardContents: CardContents,
        whenFull: GatewayConfiguration.FullCardPolicy, associations: consuming AssociationFile
    ) throws {
        try associations.requireUnambiguousSelectors(for: .inbound)
        distribution = try Distribution(identifierCount: identifiers, cookieKey: Self.cookieKey)
        var template = GatewayConfiguration(node: NodeID(1), distribution: distribution)
        // A card never holds more than the file has; its memory is taken at once.
        template.cardCapacity = min(cardCapacity, associations.entries.count)
        template.cardContents = cardContents
        template.whenFull = whenFull
        template.tableCapacity = max(16, associations.entries.count)
        cluster = try InProcessCluster(
            nodes: nodes, template: template, library: try CryptoLibrary())
        file = associations
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
    }

    deinit { memory.deallocate() }

    func run(
        capture: String, fail: [ClusterEvent], join: [ClusterEvent], write: String?
    ) throws -> ReplayReport {
        report.capture = capture
        var reader = try CaptureReader(path: capture)
        let sink = try InnerSink(path: write, precision: reader.timestampPrecision)
        var frame: [UInt8] = []
        while let captured = try reader.next(into: &frame) {
            if captured.number == 1 { try install(captured.timestampNanoseconds) }
            try act(before: captured, fail: fail, join: join)
            try frame.withUnsafeBytes { bytes in
                report.packets.total += 1
                switch reader.linkType.networkPacket(in: bytes) {
                case .found(let range):
                    try handle(
                        UnsafeRawBufferPointer(rebasing: bytes[range]), captured, sink)
                case .notIP, .truncated:
                    report.packets.other += 1
                }
            }
        }
        try sink.finish()
        summarize()
        return report
    }

    /// All associations of the file, as if node 1 had agreed upon them.
    private func install(_ now: UInt64) throws {
        guard let file = file.take() else { return }
        for entry in file.entries {
            let association: SecurityAssociation
            do {
                association = try entry.association(
                    direction: .inbound, createdNanoseconds: now)
            } catch {
                throw CommandError("\(file.name): \(error)")
            }
            let spi = association.parameters.spi
            let (owner, refusal) = try cluster.install(
                association, determining: cluster.nodes[0], nowNanoseconds: now)
            places[spi] = report.associations.count
            report.associations.append(
                ReplayReport.Association(
                    spi: spi.description, identifier: Int(distribution.identifier(of: spi).value),
                    owners: [Int(owner.value)]))
            if let refusal {
                note(refusal, of: spi, at: owner, before: 0)
            }
        }
    }

    private func note(_ refusal: String, of spi: SPI, at node: NodeID, before packet: Int) {
        report.refused.append(
            ReplayReport.Refusal(
                spi: spi.description, node: Int(node.value), packet: packet, reason: refusal))
    }

    /// New nodes come first, so that the last one may be replaced; a node that is to be restarted
    /// dies first.
    private func act(
        before captured: CapturedPacket, fail: [ClusterEvent], join: [ClusterEvent]
    ) throws {
        let joining = join.filter { $0.packet == captured.number }
        let failing = fail.filter { $0.packet == captured.number }
        let now = captured.timestampNanoseconds
        let alive = cluster.nodes
        for event in joining where !alive.contains(event.node) {
            try act("--join", event) { try cluster.join(event.node, nowNanoseconds: now) }
        }
        for event in failing {
            try act("--fail", event) { try cluster.fail(event.node, nowNanoseconds: now) }
        }
        for event in joining where alive.contains(event.node) {
            try act("--join", event) { try cluster.join(event.node, nowNanoseconds: now) }
        }
    }

    /// Runs one event, and names it if the cluster refuses.
    private func act(
        _ option: String, _ event: ClusterEvent, _ body: () throws -> ReallocationSummary
    ) throws {
        do {
            note(try body(), event.packet)
        } catch {
            throw CommandError("\(option) \(event.description): \(error)")
        }
    }

    private func handle(
        _ packet: UnsafeRawBufferPointer, _ captured: CapturedPacket, _ sink: InnerSink
    ) throws {
        guard let base = packet.baseAddress, packet.count <= Self.memoryBytes else {
            report.packets.other += 1
            return
        }
        let kind = OuterPacket.classify(at: base, count: packet.count)
        memory.copyMemory(from: base, byteCount: packet.count)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.memoryBytes, offset: 0, length: packet.count)
        let outcome = cluster.receive(
            &descriptor, nowNanoseconds: captured.timestampNanoseconds)
        switch outcome.verdict {
        case .ike:
            report.packets.ike += 1
            if case .ike(let header) = kind { note(header, outcome.node) }
        case .natKeepalive: report.packets.natKeepalive += 1
        case .other, .foreign, .held: report.packets.other += 1
        case .dropped(let reason):
            report.packets.esp += 1
            report.dropped[reason.name, default: 0] += 1
            note(kind, outcome.node) { $0.dropped += 1 }
        case .delivered:
            report.packets.esp += 1
            report.delivered += 1
            note(kind, outcome.node) { $0.delivered += 1 }
            try sink.write(descriptor.packet, captured.timestampNanoseconds)
        }
    }

    private func note(
        _ kind: OuterPacket, _ node: NodeID?, _ change: (inout ReplayReport.Association) -> Void
    ) {
        guard case .esp(let location) = kind, let place = places[location.spi] else { return }
        change(&report.associations[place])
        Self.append(node, to: &report.associations[place].owners)
    }

    private func note(_ header: ISAKMPHeader, _ node: NodeID?) {
        let cookie = header.initiatorCookie
        if ikePlaces[cookie] == nil {
            ikePlaces[cookie] = report.ike.count
            let digits = String(cookie, radix: 16)
            report.ike.append(
                ReplayReport.IKE(
                    initiatorCookie: String(repeating: "0", count: 16 - digits.count) + digits,
                    identifier: Int(distribution.identifier(ofInitiatorCookie: cookie).value),
                    owners: [], messages: 0))
        }
        guard let place = ikePlaces[cookie] else { return }
        report.ike[place].messages += 1
        Self.append(node, to: &report.ike[place].owners)
    }

    private static func append(_ node: NodeID?, to owners: inout [Int]) {
        guard let node, owners.last != Int(node.value) else { return }
        owners.append(Int(node.value))
    }

    private func note(_ summary: ReallocationSummary, _ packet: Int) {
        for share in summary.reports {
            for refusal in share.refusals {
                note(refusal.reason, of: refusal.spi, at: share.node, before: packet)
            }
        }
        report.reallocations.append(
            ReplayReport.ReallocationEntry(
                packet: packet, cause: summary.cause.rawValue, node: Int(summary.node.value),
                epoch: summary.epoch,
                moves: summary.moves.map { move in
                    ReplayReport.ReallocationEntry.Move(
                        identifier: Int(move.identifier.value), from: Int(move.from.value),
                        to: Int(move.to.value))
                },
                nodes: summary.reports.map { share in
                    ReplayReport.ReallocationEntry.Share(
                        id: Int(share.node.value), gained: share.gained, lost: share.lost,
                        loaded: share.loaded, updated: share.updated == 0 ? nil : share.updated,
                        hosted: share.hosted == 0 ? nil : share.hosted,
                        refused: share.refused, cleared: share.cleared)
                }))
    }

    /// One row per node number; a node that died and came back is one row.
    private func summarize() {
        // Where a quiet tunnel is at the end, also if no packet told.
        for index in report.associations.indices {
            let identifier = DistributionIdentifier(UInt16(report.associations[index].identifier))
            Self.append(
                cluster.allocation.owner(of: identifier), to: &report.associations[index].owners)
        }
        var rows: [Int: ReplayReport.Node] = [:]
        for summary in cluster.departed + cluster.summaries() {
            let id = Int(summary.node.value)
            let counters = summary.counters
            var row =
                rows[id]
                ?? ReplayReport.Node(
                    id: id, alive: false, identifiers: 0, packets: 0, delivered: 0, dropped: [:],
                    ike: 0, softLifetimes: 0, associations: 0, cardPeak: 0,
                    hostAssociations: nil, hostPackets: nil)
            row.alive = summary.isAlive
            row.identifiers = summary.isAlive ? summary.identifiers : 0
            row.associations = summary.isAlive ? summary.sessions : 0
            let hosted = summary.isAlive ? summary.hostSessions : 0
            row.hostAssociations = hosted == 0 ? nil : hosted
            if counters.hostPackets > 0 {
                row.hostPackets = (row.hostPackets ?? 0) + counters.hostPackets
            }
            row.packets += counters.delivered + counters.drops.total
            row.delivered += counters.delivered
            for (reason, count) in counters.drops.nonzero {
                row.dropped[reason.name, default: 0] += count
            }
            row.ike += counters.ike
            row.softLifetimes += counters.softLifetimes
            row.cardPeak = max(row.cardPeak, summary.card.peak)
            rows[id] = row
        }
        report.nodes = rows.values.sorted { $0.id < $1.id }
    }
}

/// Where inner packets go; nowhere without a path.
final class InnerSink {
    private var writer: CaptureWriter?

    init(path: String?, precision: TimestampPrecision) throws {
        if let path {
            writer = try CaptureWriter(path: path, timestampPrecision: precision)
        }
    }

    func write(_ packet: UnsafeRawBufferPointer, _ timestampNanoseconds: UInt64) throws {
        try writer?.write(packet, timestampNanoseconds: timestampNanoseconds)
    }

    func finish() throws {
        if let writer = writer.take() { try writer.finish() }
    }
}
