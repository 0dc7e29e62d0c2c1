// `spindle bench scale`: many nodes with few tunnels, and one node with all tunnels.

import ArgumentParser
import Cluster
import Gateway
import SimKit

struct BenchScaleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale",
        abstract: "Messages, joining and memory of a large cluster.",
        discussion: """
            First a cluster of --nodes real nodes with --sample tunnels and without packets, in \
            virtual time: founding, a second of quiet, one more node that joins. Then a single \
            node that reads all --tunnels from the store, as a member that restarts, and loads \
            its share: memory is what the process grows by. The store's copy and the peers take \
            more than the node.
            """)

    @Option(help: "Nodes, 2 to 128.")
    var nodes = 64

    @Option(help: "Distribution identifiers: a power of two from 16 to 4096.")
    var identifiers = 4096

    @Option(help: "Tunnels of the whole cluster, 1 to 1048576.")
    var tunnels = 1_000_000

    @Option(help: "Tunnels in the cluster that is run, 1 to 100000.")
    var sample = 4096

    @Option(help: "Seed for SPIs and keys.")
    var seed: UInt64 = 1

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard (2...128).contains(nodes) else {
            throw ValidationError("--nodes must be from 2 to 128")
        }
        guard (16...4096).contains(identifiers), identifiers.nonzeroBitCount == 1,
            identifiers > nodes
        else {
            throw ValidationError(
                "--identifiers must be a power of two from 16 to 4096, and above --nodes")
        }
        guard (1...PeerBank.tunnelsMaximum).contains(tunnels) else {
            throw ValidationError("--tunnels must be from 1 to \(PeerBank.tunnelsMaximum)")
        }
        guard (1...100_000).contains(sample) else {
            throw ValidationError("--sample must be from 1 to 100000")
        }
    }

    func run() throws {
        let bench = ScaleBench(nodes: nodes, identifiers: identifiers, seed: seed)
        let figures =
            try bench.runCluster(tunnels: sample) + bench.fillNode(tunnels: tunnels)
        if json { return try printJSON(figures) }
        var table = TextTable("\(nodes) nodes, \(identifiers) identifiers", "")
        for figure in figures { table.add(figure.name, hundredths(figure.value)) }
        table.lines().forEach { print($0) }
    }
}

struct ScaleFigure: Encodable {
    let name: String
    let value: Double
}

struct ScaleBench {
    let nodes: Int
    let identifiers: Int
    let seed: UInt64

    // MARK: Many nodes

    func runCluster(tunnels: Int) throws -> [ScaleFigure] {
        let cluster = try ControlCluster(seed: seed, identifiers: identifiers)
        cluster.template.tableCapacity = tunnels
        cluster.template.cardCapacity = tunnels * 2
        cluster.template.keyedContexts = 16
        cluster.writeEntries(of: try peers(tunnels, cluster))
        let began = cluster.now
        for number in 0..<nodes {
            try cluster.start(number)
            // Heartbeats are not in step.
            cluster.run(until: cluster.now + 10_000_000 / UInt64(nodes))
        }
        try wait(for: "the founding", cluster) { isSettled(cluster, members: nodes) }
        let founded = cluster.now
        cluster.run(until: cluster.now + 1_000_000_000)

        let (before, start) = (cluster.figures, threadNanoseconds())
        cluster.run(until: cluster.now + 1_000_000_000)
        let quiet = cluster.figures.since(before)
        let cpu = threadNanoseconds() - start

        let (joined, asked) = (cluster.figures, cluster.now)
        try cluster.start(nodes)
        try wait(for: "the join", cluster) { isSettled(cluster, members: nodes + 1) }
        let join = cluster.figures.since(joined)
        return [
            ScaleFigure(name: "founding, ms", value: Double(founded - began) / 1e6),
            ScaleFigure(name: "datagrams per second", value: Double(quiet.datagrams)),
            ScaleFigure(
                name: "datagrams per second and node, each way",
                value: Double(quiet.datagrams) / Double(nodes)),
            ScaleFigure(
                name: "their Mbit/s per node, each way",
                value: Double(quiet.datagramBytes) * 8 / 1e6 / Double(nodes)),
            ScaleFigure(
                name: "CPU of a node for it, % of a core",
                value: Double(cpu) / 1e9 / Double(nodes) * 100),
            ScaleFigure(
                name: "join: start to last identifier, ms",
                value: Double(cluster.now - asked) / 1e6),
            ScaleFigure(name: "join: store writes", value: Double(join.storeWrites)),
            ScaleFigure(name: "join: to all watches, MB", value: Double(join.watchBytes) / 1e6),
        ]
    }

    private func peers(_ tunnels: Int, _ cluster: ControlCluster) throws -> PeerBank {
        try PeerBank(
            tunnels: tunnels, distribution: cluster.template.distribution,
            transforms: SimulationOptions.counterModes(1), windowBits: 64,
            random: SimulationRandom(seed: seed))
    }

    /// Every member has been given its share of the load, and serves.
    private func isSettled(_ cluster: ControlCluster, members: Int) -> Bool {
        cluster.nodes.enumerated().allSatisfy { number, node in
            guard let node, let allocation = node.gateway.allocation,
                allocation.nodes.count == members
            else { return false }
            return !allocation.identifiers(of: NodeID(UInt16(number + 1))).isEmpty
                && !node.gateway.isMoving && node.gateway.servingUntilNanoseconds > cluster.now
        }
    }

    private func wait(for what: String, _ cluster: ControlCluster, until isDone: () -> Bool) throws
    {
        let limit = cluster.now + 30_000_000_000
        while !isDone() {
            guard cluster.now < limit else {
                throw CommandError("\(what) took more than 30 s of virtual time: report this")
            }
            cluster.run(until: cluster.now + 1_000_000)
        }
    }

    // MARK: All tunnels

    func fillNode(tunnels: Int) throws -> [ScaleFigure] {
        let cluster = try ControlCluster(seed: seed, identifiers: identifiers)
        let share = tunnels / nodes
        cluster.template.tableCapacity = tunnels
        // Twice its share, as identifiers differ in size.
        cluster.template.cardCapacity = max(share * 4, 64)
        let members = (1...nodes).map { NodeID(UInt16($0)) }
        let allocation = try Allocation(nodes: members, identifierCount: identifiers)
        cluster.write(AllocationRecord(allocation))
        let written = try fillStore(cluster, tunnels)
        let before = residentBytes()
        try cluster.start(0)
        var reading: UInt64 = 0
        let limit = cluster.now + 1_000_000_000
        while cluster.nodes[0]?.gateway.sessionCount == 0 {
            guard cluster.now < limit else {
                throw CommandError("the node loaded nothing: report this")
            }
            let start = threadNanoseconds()
            cluster.step()
            reading = max(reading, threadNanoseconds() - start)
        }
        cluster.run(until: cluster.now + 40_000_000)
        let bytes = residentBytes() - before
        guard let node = cluster.nodes[0] else { return [] }
        return [
            ScaleFigure(name: "all tunnels in the store, MB", value: Double(written) / 1e6),
            ScaleFigure(name: "reading them, CPU ms", value: Double(reading) / 1e6),
            ScaleFigure(name: "tunnels in the table", value: Double(node.gateway.entryCount)),
            ScaleFigure(name: "sessions on the card", value: Double(node.gateway.sessionCount)),
            ScaleFigure(name: "memory of the node, MB", value: Double(bytes) / 1e6),
            ScaleFigure(
                name: "octets of it per tunnel", value: Double(bytes) / Double(tunnels)),
        ]
    }

    /// Returns the octets of keys and values.
    private func fillStore(_ cluster: ControlCluster, _ tunnels: Int) throws -> Int {
        cluster.writeEntries(of: try peers(tunnels, cluster))
        // The history is not what is measured.
        cluster.store.compact(before: cluster.store.revision)
        let reply = cluster.store.handle(
            .read(prefix: StoreKey.prefix), nowNanoseconds: cluster.now)
        guard case .pairs(let pairs, _) = reply else { return 0 }
        return pairs.reduce(0) { $0 + $1.key.utf8.count + $1.value.count }
    }
}
