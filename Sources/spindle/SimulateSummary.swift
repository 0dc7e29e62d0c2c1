// What `spindle simulate` prints: one table for all seeds, or JSON with every seed.

import Cluster
import ESP
import Foundation
import Gateway
import SimKit

/// All seeds together, as they come.
struct SimulateSummary {
    private(set) var seeds = 0
    private(set) var failed = 0
    private var packets: UInt64 = 0
    private var delivered: UInt64 = 0
    private var accepted: UInt64 = 0
    private var unowned: UInt64 = 0
    /// nil: in some run packets may be lost.
    private var lost: UInt64? = 0
    private var loadMoves: UInt64 = 0
    private var violations = 0
    private var drops = DropCounters()
    private var outages: [UInt64] = []
    private var cards = CardFigures()
    private var modes: Set<String> = []
    private var hostPackets: UInt64 = 0
    private var established = 0
    private var ike: IKEFigures?
    private var simulated: UInt64 = 0
    private var seconds = 0.0

    mutating func add(_ outcome: SimulateOutcome) {
        seeds += 1
        if !outcome.failures.isEmpty { failed += 1 }
        packets += outcome.figures.packets
        delivered += outcome.figures.delivered
        accepted += outcome.figures.received
        unowned += outcome.figures.unowned
        lost = outcome.figures.lost.flatMap { run in lost.map { $0 + run } }
        loadMoves += outcome.figures.loadMoves
        violations += outcome.failures.count
        drops += outcome.figures.drops
        outages += outcome.figures.tunnelOutages
        cards.add(outcome.figures.cards)
        modes.insert(outcome.options.cardContents.rawValue)
        hostPackets += outcome.figures.counters.hostPackets
        established += outcome.figures.established
        if let run = outcome.figures.ike { ike = (ike ?? IKEFigures()) + run }
        simulated += outcome.figures.packets * UInt64(outcome.runs)
        seconds += outcome.realSeconds
    }

    /// The table for a terminal.
    func lines() -> [String] {
        let waits = OutageSummary(outages)
        var table = TextTable(seeds == 1 ? "1 seed" : "\(seeds) seeds", "")
        table.add("packets sent", "\(packets)")
        table.add("delivered by the cluster", "\(delivered)")
        table.add("accepted by peers", "\(accepted)")
        table.add("without an owner", "\(unowned)")
        if let lost { table.add("lost", "\(lost)") }
        for (reason, count) in drops.nonzero {
            table.add("dropped: \(reason.name)", "\(count)")
        }
        table.add("identifiers moved by load", "\(loadMoves)")
        table.add("tunnels", "\(waits.tunnels)")
        if waits.tunnels > 0 {
            table.add("longest outage, median", milliseconds(waits.median))
            table.add("longest outage, p99", milliseconds(waits.percentile99))
            table.add("longest outage, max", milliseconds(waits.maximum))
        }
        for row in cardRows() { table.add(row.name, row.figure) }
        for row in ike?.rows ?? [] { table.add(row.name, row.figure) }
        table.add("violations", "\(violations)")
        table.add("real time", tenths(seconds * 10) + " s")
        table.add("simulated packets per second", "\(Int(Double(simulated) / max(seconds, 1e-9)))")
        return table.lines()
    }

    private func cardRows() -> [(name: String, figure: String)] {
        var rows = [
            ("mode", modes.sorted().joined(separator: ", ")),
            ("tunnels set up", "\(established)"),
        ]
        if cards.tunnelsRefused > 0 { rows.append(("  without room", "\(cards.tunnelsRefused)")) }
        rows += [
            ("sessions on one card, most", "\(cards.peak)"),
            ("sessions opened on cards", "\(cards.opened)"),
            ("reallocated tunnels: loaded", "\(cards.loaded)"),
            ("  updated in place", "\(cards.updated)"),
            ("  cleared", "\(cards.cleared)"),
        ]
        if cards.refused > 0 { rows.append(("  without room", "\(cards.refused)")) }
        if hostPackets > 0 {
            rows.append(("  into host memory", "\(cards.hosted)"))
            rows.append(("packets from host memory", "\(hostPackets)"))
        }
        return rows
    }
}

private func milliseconds(_ nanoseconds: UInt64) -> String {
    tenths(Double(nanoseconds) / 1e5) + " ms"
}

private func tenths(_ value: Double) -> String {
    let whole = Int(value.rounded())
    return "\(whole / 10).\(whole % 10)"
}

/// The JSON object.
struct SimulateReport: Codable {
    struct Run: Codable {
        let seed: UInt64
        let nodes: Int
        let tunnels: Int
        let identifiers: Int
        let durationNanoseconds: UInt64
        let heartbeatNanoseconds: UInt64
        let policy: String
        let mode: String
        let whenFull: String
        let cards: Cards
        /// nil: all nodes hold all entries.
        let backups: Int?
        let table: String
        let faults: [FaultEntry]
        let packets: UInt64
        let delivered: UInt64
        let accepted: UInt64
        let peerDrops: UInt64
        let unowned: UInt64
        /// nil: packets may be lost on the way, or the run stopped before its end.
        let lost: UInt64?
        let replayed: UInt64
        let duplicates: UInt64
        let exposed: UInt64
        let established: Int
        /// nil: the cluster was given its tunnels, or the run stopped before its end.
        let ike: Speaking?
        let reallocations: Int
        let loadMoves: UInt64
        let dropped: [String: UInt64]
        /// nil: the run stopped before its end.
        let outages: Waits?
        /// 16 hexadecimal digits: JSON's numbers are not wide enough everywhere.
        let traceHash: String
        let violations: [Violation]
        /// The last lines of the trace of a run that broke a rule.
        let trace: [String]
        /// What repeats the run.
        let command: String
        let runs: Int
        let realSeconds: Double
    }

    struct FaultEntry: Codable {
        let kind: String
        let atNanoseconds: UInt64
        let durationNanoseconds: UInt64
        let text: String
    }

    struct Cards: Codable {
        let capacity: Int
        let peak: Int
        let opened: UInt64
        let sessionsMaximum: Int
        let sessions: Int
        let hostSessions: Int
        let hostPackets: UInt64
        let tunnelsRefused: Int
        let loaded: Int
        let updated: Int
        let hosted: Int
        let refused: Int
        let cleared: Int
    }

    struct Speaking: Codable {
        let setUps: Int
        let deletes: Int
        let losses: Int
        let rekeysOfIKE: Int
        let rekeysOfChildren: Int
        let collisions: Int
        let messages: UInt64
        let adoptions: Int
        let records: Int
    }

    struct Waits: Codable {
        let medianNanoseconds: UInt64
        let percentile99Nanoseconds: UInt64
        let maximumNanoseconds: UInt64
    }

    struct Violation: Codable {
        let timeNanoseconds: Int64
        let text: String
    }

    var failed = 0
    var seeds: [Run] = []
}

extension SimulateReport.Cards {
    init(_ options: SimulationOptions, _ figures: SimulationFigures) {
        let cards = figures.cards
        capacity = options.cardCapacity
        peak = cards.peak
        opened = cards.opened
        sessionsMaximum = cards.sessionsMaximum
        sessions = cards.sessions
        hostSessions = cards.hostSessions
        hostPackets = figures.counters.hostPackets
        tunnelsRefused = cards.tunnelsRefused
        loaded = cards.loaded
        updated = cards.updated
        hosted = cards.hosted
        refused = cards.refused
        cleared = cards.cleared
    }
}

extension SimulateReport.Speaking {
    init(_ figures: IKEFigures) {
        setUps = figures.setUps
        deletes = figures.deletes
        losses = figures.losses
        rekeysOfIKE = figures.rekeysOfIKE
        rekeysOfChildren = figures.rekeysOfChildren
        collisions = figures.collisions
        messages = figures.messages
        adoptions = figures.adoptions
        records = figures.records
    }
}

extension IKEFigures {
    /// For the table.
    fileprivate var rows: [(name: String, figure: String)] {
        [
            ("IKE SAs set up", "\(setUps)"), ("  deleted by their peers", "\(deletes)"),
            ("  lost", "\(losses)"), ("  rekeyed", "\(rekeysOfIKE)"),
            ("  gone on with by another node", "\(adoptions)"),
            ("  in the store at the end", "\(records)"),
            ("pairs rekeyed", "\(rekeysOfChildren)"), ("requests that crossed", "\(collisions)"),
            ("IKE messages", "\(messages)"),
        ]
    }
}

extension SimulateReport.Run {
    init(_ outcome: SimulateOutcome, command: String) {
        let (options, figures) = (outcome.options, outcome.figures)
        seed = options.seed
        nodes = options.nodes
        tunnels = options.tunnels
        identifiers = options.identifiers
        durationNanoseconds = options.duration
        heartbeatNanoseconds = options.timing.heartbeatNanoseconds
        policy = options.policy.rawValue
        mode = options.cardContents.rawValue
        whenFull = options.whenFull.rawValue
        cards = .init(options, figures)
        backups = options.backups
        table = TableKind(options).rawValue
        faults = outcome.faults.map {
            .init(
                kind: $0.kind.rawValue, atNanoseconds: $0.at, durationNanoseconds: $0.duration,
                text: $0.description)
        }
        packets = figures.packets
        delivered = figures.delivered
        accepted = figures.received
        peerDrops = figures.peerDrops
        unowned = figures.unowned
        lost = figures.lost
        replayed = figures.replayed
        duplicates = figures.duplicates
        exposed = figures.exposed
        established = figures.established
        ike = figures.ike.map(SimulateReport.Speaking.init)
        reallocations = figures.reallocations
        loadMoves = figures.loadMoves
        dropped = Dictionary(
            uniqueKeysWithValues: figures.drops.nonzero.map { ($0.reason.name, $0.count) })
        let waits = OutageSummary(figures.tunnelOutages)
        outages =
            waits.tunnels == 0
            ? nil
            : .init(
                medianNanoseconds: waits.median, percentile99Nanoseconds: waits.percentile99,
                maximumNanoseconds: waits.maximum)
        let digits = String(figures.traceHash, radix: 16)
        traceHash = String(repeating: "0", count: 16 - digits.count) + digits
        violations = outcome.failures.map {
            .init(timeNanoseconds: $0.time, text: $0.text)
        }
        trace = outcome.trace
        self.command = command
        runs = outcome.runs
        realSeconds = outcome.realSeconds
    }
}
