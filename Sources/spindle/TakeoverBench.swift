// `spindle bench takeover`: what one node computes when it gains all tunnels of another.

import ArgumentParser
import Cluster
import ESP
import Gateway
import SimKit

struct BenchTakeoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "takeover",
        abstract: "CPU time of a node that gains all tunnels of another one.",
        discussion: """
            Of two real nodes, one owns all tunnels and has had a packet of each when it dies: the \
            other removes it and gains everything. Measured in CPU time of its thread: \
            from the beginning of the call that brings the new record until all associations are \
            on the card, with all else that the node does meanwhile; and until a packet comes \
            out that is handed in right after that first call, of the identifier that would be \
            loaded last. The step is the longest call: packets wait for one at most.
            """)

    @Option(help: "Tunnels to be gained, of two associations each, 1 to 400000.")
    var tunnels = 50_000

    @Option(help: "Distribution identifiers: a power of two from 16 to 4096.")
    var identifiers = 256

    @Option(help: "Replay window in packets: 32 to 4096.")
    var window = 64

    @Option(help: "Rounds; told are the least and the median.")
    var rounds = 7

    @Option(help: "Seed for SPIs and keys.")
    var seed: UInt64 = 1

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard (1...400_000).contains(tunnels) else {
            throw ValidationError("--tunnels must be from 1 to 400000")
        }
        guard (16...4096).contains(identifiers), identifiers.nonzeroBitCount == 1 else {
            throw ValidationError("--identifiers must be a power of two from 16 to 4096")
        }
        guard (32...4096).contains(window) else {
            throw ValidationError("--window must be from 32 to 4096")
        }
        guard (1...1000).contains(rounds) else {
            throw ValidationError("--rounds must be from 1 to 1000")
        }
    }

    func run() throws {
        let bench = try TakeoverBench(
            tunnels: tunnels, identifiers: identifiers, window: window, seed: seed)
        let report = try bench.measure(rounds: rounds)
        if json { return try printJSON(report) }
        print(
            "\(report.tunnels) tunnels, \(report.associations) associations, \(identifiers) "
                + "identifiers, \(rounds) rounds")
        var table = TextTable("CPU time in milliseconds", "least", "median")
        for row in report.rows {
            table.add(row.name, hundredths(row.least), hundredths(row.median))
        }
        table.lines().forEach { print($0) }
    }
}

/// Two digits behind the point.
func hundredths(_ value: Double) -> String {
    let whole = Int((value * 100).rounded())
    let digits = String(100 + whole % 100).dropFirst()
    return "\(whole / 100).\(digits)"
}

struct TakeoverReport: Encodable {
    struct Row: Encodable {
        let name: String
        /// In milliseconds.
        let least: Double
        let median: Double
    }

    let tunnels: Int
    let associations: Int
    let rows: [Row]
}

/// The same cluster again and again: the store is filled once.
final class TakeoverBench {
    private let tunnels: Int
    private let identifiers: Int
    private let seed: UInt64
    private let peers: PeerBank
    private let store: CoordinationStore
    private let memory: UnsafeMutableRawPointer
    private static let memoryBytes = 2048

    init(tunnels: Int, identifiers: Int, window: Int, seed: UInt64) throws {
        self.tunnels = tunnels
        self.identifiers = identifiers
        self.seed = seed
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
        let cluster = try ControlCluster(seed: seed, identifiers: identifiers)
        peers = try PeerBank(
            tunnels: tunnels, distribution: cluster.template.distribution,
            transforms: SimulationOptions.counterModes(1), windowBits: window,
            random: SimulationRandom(seed: seed))
        cluster.writeEntries(of: peers)
        let allocation = try Allocation(
            epoch: 1, nodes: [NodeID(1), NodeID(2)],
            owners: Array(repeating: NodeID(2), count: identifiers),
            generations: Array(repeating: 1, count: identifiers))
        cluster.write(AllocationRecord(allocation))
        store = cluster.store
    }

    deinit { memory.deallocate() }

    func measure(rounds: Int) throws -> TakeoverReport {
        var times = [[Double]](repeating: [], count: 4)
        for _ in 0..<rounds {
            let round = try measureOnce()
            for (place, time) in round.enumerated() { times[place].append(Double(time) / 1e6) }
        }
        let names = [
            "all associations on the card", "the call that brings the record",
            "first packet, from that call's begin", "longest step",
        ]
        return TakeoverReport(
            tunnels: tunnels, associations: tunnels * 2,
            rows: zip(names, times).map { name, times in
                .init(name: name, least: times.min() ?? 0, median: median(times))
            })
    }

    /// Total, first call, first packet, longest step; in nanoseconds.
    private func measureOnce() throws -> [UInt64] {
        let cluster = try ControlCluster(seed: seed, identifiers: identifiers)
        cluster.template.tableCapacity = tunnels
        cluster.template.cardCapacity = tunnels * 2
        cluster.store = store
        try cluster.start(0)
        try cluster.start(1)
        try use(cluster)
        cluster.stop(1)
        let packet = seal(lastTunnel())
        var (total, first, longest) = (UInt64(0), UInt64(0), UInt64(0))
        var packetTime: UInt64 = 0
        while true {
            guard let next = cluster.nextTime, next < 60_000_000_000, let node = cluster.nodes[0]
            else { throw CommandError("the takeover did not come to its end: report this") }
            let begin = threadNanoseconds()
            cluster.step()
            let spent = threadNanoseconds() - begin
            guard node.gateway.allocation?.nodes.count == 1 else { continue }
            total += spent
            longest = max(longest, spent)
            if first == 0 {
                first = spent
                packetTime = try open(packet, at: node, cluster.now)
                total += packetTime
            }
            if node.gateway.sessionCount == tunnels * 2 { break }
        }
        return [total, first, first + packetTime, longest]
    }

    /// The second node serves everything, has had a packet of each tunnel, and has told the first
    /// one so.
    private func use(_ cluster: ControlCluster) throws {
        let limit = cluster.now + 30_000_000_000
        guard let node = cluster.nodes[1] else { return }
        while node.gateway.sessionCount != tunnels * 2
            || node.gateway.servingUntilNanoseconds <= cluster.now
        {
            guard cluster.now < limit else {
                throw CommandError("the tunnels found no owner: report this")
            }
            cluster.run(until: cluster.now + 1_000_000)
        }
        for tunnel in 0..<tunnels { _ = try open(seal(tunnel), at: node, cluster.now) }
        cluster.run(until: cluster.now + 2_000_000_000)
    }

    /// A tunnel of the highest identifier.
    private func lastTunnel() -> Int {
        var last = 0
        for tunnel in 0..<tunnels
        where peers.identifier(of: tunnel) > peers.identifier(of: last) { last = tunnel }
        return last
    }

    private func seal(_ tunnel: Int) -> (offset: Int, length: Int) {
        guard
            let place = peers.seal(
                tunnel, into: memory, capacity: Self.memoryBytes, offset: 128, payloadBytes: 64,
                now: 0)
        else { preconditionFailure("numbers are left") }
        return place
    }

    private func open(
        _ packet: (offset: Int, length: Int), at node: ControlCluster.Node, _ now: UInt64
    ) throws -> UInt64 {
        let packets = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)
        let verdicts = UnsafeMutableBufferPointer<PacketVerdict>.allocate(capacity: 1)
        defer {
            packets.deallocate()
            verdicts.deallocate()
        }
        packets.initializeElement(
            at: 0,
            to: PacketDescriptor(
                buffer: memory, capacity: Self.memoryBytes, offset: packet.offset,
                length: packet.length))
        verdicts.initializeElement(at: 0, to: .other)
        let begin = threadNanoseconds()
        node.gateway.receive(packets, verdicts: verdicts, nowNanoseconds: now)
        let spent = threadNanoseconds() - begin
        guard verdicts[0] == .delivered else {
            throw CommandError("a packet was not delivered but \(verdicts[0])")
        }
        return spent
    }
}
