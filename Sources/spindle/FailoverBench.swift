// `spindle bench failover`: from a crash to the first packets of the new owners, in virtual time.

import ArgumentParser
import Cluster
import SimKit

struct BenchFailoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "failover",
        abstract: "From a crash to the first packets of the new owners, in virtual time.",
        discussion: """
            Every seed is a cluster of its own that loses one node at some moment; the rest is as \
            in `spindle simulate`. Links take what --link says and up to a tenth more, the store \
            0.3 ms. After the crash a packet of each moved identifier arrives every 50 us until \
            one is handled, then one of each of its other tunnels. Computing takes no virtual \
            time: `spindle bench takeover` measures that.
            """)

    @Option(help: "The first seed.")
    var seed: UInt64 = 1

    @Option(help: "How many seeds, upwards from the first; each is one crash.")
    var seeds: UInt64 = 20

    @Option(help: "Nodes before the crash, 2 to 62.")
    var nodes = 3

    @Option(help: "Tunnels of the whole cluster, 1 to 100000.")
    var tunnels = 10_000

    @Option(help: "Distribution identifiers: a power of two from 16 to 4096.")
    var identifiers = 256

    @Option(help: "Time between heartbeats, with a unit: 1ms to 1s.")
    var heartbeat = SimulatedDuration(nanoseconds: ClusterTiming().heartbeatNanoseconds)

    @Option(help: "One way between nodes and to the store, with a unit: at most 100ms.")
    var link = SimulatedDuration(nanoseconds: 1_000_000)

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard (1...100_000).contains(seeds) else {
            throw ValidationError("--seeds must be from 1 to 100000")
        }
        guard !seed.addingReportingOverflow(seeds).overflow else {
            throw ValidationError("--seed and --seeds together exceed the largest seed")
        }
        guard (2...62).contains(nodes) else {
            throw ValidationError("--nodes must be from 2 to 62")
        }
        guard (1...SimulateCommand.tunnelsMaximum).contains(tunnels) else {
            throw ValidationError("--tunnels must be from 1 to \(SimulateCommand.tunnelsMaximum)")
        }
        guard (16...4096).contains(identifiers), identifiers.nonzeroBitCount == 1,
            identifiers >= nodes
        else {
            throw ValidationError(
                "--identifiers must be a power of two from 16 to 4096, and not below --nodes")
        }
        guard SimulateCommand.heartbeatRange.contains(heartbeat.nanoseconds) else {
            throw ValidationError("--heartbeat must be from 1ms to 1s")
        }
        guard link.nanoseconds <= 100_000_000 else {
            throw ValidationError("--link must be at most 100ms")
        }
    }

    func run() throws {
        var summary = FailoverSummary()
        for seed in seed..<seed + seeds {
            var probe = try FailoverProbe(
                seed: seed, nodes: nodes, tunnels: tunnels, identifiers: identifiers,
                heartbeat: heartbeat.nanoseconds, link: link.nanoseconds)
            summary.add(try probe.run(), seed: seed)
        }
        if json { return try printJSON(summary.report) }
        print(
            "\(seeds) crashes: \(nodes) nodes, \(tunnels) tunnels, heartbeat "
                + "\(heartbeat.defaultValueDescription), links of \(link.defaultValueDescription)")
        summary.lines().forEach { print($0) }
    }
}

/// The figures of all crashes together.
struct FailoverSummary {
    private var runs: [FailoverTimes] = []
    private var worst: (seed: UInt64, time: UInt64) = (0, 0)
    private var moved = 0

    mutating func add(_ times: FailoverTimes, seed: UInt64) {
        runs.append(times)
        moved += times.tunnels.count
        if worst.seed == 0 || times.first > worst.time { worst = (seed, times.first) }
    }

    struct Report: Encodable {
        struct Row: Encodable {
            let name: String
            let values: Int
            let medianNanoseconds: UInt64
            let percentile99Nanoseconds: UInt64
            let maximumNanoseconds: UInt64
        }

        let rows: [Row]
        let worstSeed: UInt64
    }

    private func row(_ name: String, _ values: [UInt64]) -> Report.Row {
        let figures = OutageSummary(values)
        return Report.Row(
            name: name, values: values.count, medianNanoseconds: figures.median,
            percentile99Nanoseconds: figures.percentile99, maximumNanoseconds: figures.maximum)
    }

    var report: Report {
        let rows = [
            row("crash to suspicion: the fencing wait", runs.map(\.suspected)),
            row("to the offer of a new allocation", runs.map { $0.offered - $0.suspected }),
            row("to the store's decision", runs.map { $0.decided - $0.offered }),
            row("to its taking force", runs.map { $0.inForce - $0.decided }),
            row("to the first packet", runs.map { $0.first - min($0.first, $0.inForce) }),
            row("crash to first packet", runs.map(\.first)),
            row("crash to last tunnel's first packet", runs.map { $0.tunnels.last ?? 0 }),
            row("… of each moved identifier", runs.flatMap(\.identifiers)),
            row("… of each moved tunnel", runs.flatMap(\.tunnels)),
        ]
        return Report(rows: rows, worstSeed: worst.seed)
    }

    func lines() -> [String] {
        var table = TextTable("milliseconds", "values", "median", "p99", "worst")
        for row in report.rows {
            table.add(
                row.name, "\(row.values)", Self.text(row.medianNanoseconds),
                Self.text(row.percentile99Nanoseconds), Self.text(row.maximumNanoseconds))
        }
        return table.lines() + ["", "Worst seed: \(worst.seed)"]
    }

    /// Milliseconds with two digits behind the point.
    private static func text(_ nanoseconds: UInt64) -> String {
        let hundredths = (nanoseconds + 5000) / 10_000
        let digits = String(100 + hundredths % 100).dropFirst()
        return "\(hundredths / 100).\(digits)"
    }
}
