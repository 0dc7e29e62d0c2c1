// `spindle simulate`: whole clusters in virtual time, one from each seed, with faults, and checked.

import ArgumentParser
import Cluster
import Foundation
import Gateway
import SimKit

struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run whole clusters in virtual time, break things, and check what must hold.",
        discussion: """
            Everything in a run follows from its seed: size, traffic, links and faults, as far as \
            they are not given. The gateways are the real ones, and peers really encrypt. A run \
            fails as soon as a sequence number or a nonce is used twice, two nodes serve one \
            tunnel, a packet comes out twice beyond what the policy allows, or if something has \
            not healed in the end. Each seed is run twice and must do the same both times. Times \
            count from when the tunnels are set up; what is before is negative. Ctrl-C ends with \
            the summary of the seeds that are finished, and exit code 130.

            Durations have a unit: 300us, 2ms, 1.5s, 1min. Kinds of faults, for --faults:

            \(FaultList.help)

            Examples:

              spindle simulate --seeds 100
              spindle simulate --seed 17 --nodes 3 --faults crash,partition --report report

            Peers that set up, rekey and delete their tunnels by IKE, whatever goes wrong; and \
            with the IKE SA that a message belongs to moved to another node after every one:

              spindle simulate --ike --seeds 20
              spindle simulate --ike --restless 1 --faults loss,duplicate,reorder

            Two structures, and the prior art with the same cards; once more with host memory:

              spindle simulate --nodes 4 --tunnels 100 --cards 60 --faults crash \\
                --when-full refuse
              spindle simulate --nodes 4 --tunnels 100 --cards 60 --faults crash \\
                --when-full refuse --mode replicate-all
              spindle simulate --nodes 4 --tunnels 100 --cards 60 --faults crash \\
                --when-full host
            """)

    static let nodesRange = 1...62
    static let tunnelsMaximum = 100_000
    static let cardsRange = 2...200_000
    static let durationRange: ClosedRange<UInt64> = 5_000_000_000...3_600_000_000_000
    /// Of one seed: what is wrong in the end is wrong in many places.
    private static let failuresTold = 5
    /// With faults: the last two fifths of a run are without, and the store's leases last 2 s.
    static let healingMinimum: UInt64 = 10_000_000_000
    static let restlessRange: ClosedRange<UInt64> = 1...1_000_000
    /// Peers that speak IKE.
    static let speakersMaximum = 1000
    static let skewRange: ClosedRange<UInt64> = 1...64
    static let heartbeatRange: ClosedRange<UInt64> = 1_000_000...1_000_000_000

    @Option(help: "The first seed.")
    var seed: UInt64 = 1

    @Option(help: "How many seeds, upwards from the first.")
    var seeds: UInt64 = 1

    @Option(help: "Nodes at the start, 1 to 62.")
    var nodes: Int?

    @Option(help: "Tunnels, 1 to 100000.")
    var tunnels: Int?

    @Option(
        help:
            "Virtual time of faults and traffic, with a unit: 10s (5s without faults) to 60min."
    )
    var duration = SimulatedDuration(nanoseconds: 10_000_000_000)

    @Option(help: ArgumentHelp("Kinds of faults, or all, or none.", valueName: "list"))
    var faults: FaultList?

    @Option(help: "What a new owner does about packets that may be replays.")
    var policy: TakeoverPolicy?

    @Option(
        help: ArgumentHelp(
            "Nodes besides the owner that hold the entries of an identifier, 1 to 62, or all.",
            valueName: "count"))
    var backups: BackupCount?

    @Option(help: "Whether common tables hold the keys of their own nodes' tunnels.")
    var table: TableKind?

    @Option(
        help: """
            Time between heartbeats, with a unit: 1ms to 1s. The delay of the links is at most \
            two fifths of it.
            """)
    var heartbeat: SimulatedDuration?

    @Option(
        help: """
            What the cards hold: two-tables (each node's own tunnels, beside a common table) or \
            replicate-all (the prior art: all tunnels on every card).
            """)
    var mode = CardContents.ownTunnels

    @Option(
        help: """
            What becomes of a tunnel that finds its owner's card full: refuse it, let it wait for \
            room, or serve it from host memory until there is.
            """)
    var whenFull: GatewayConfiguration.FullCardPolicy?

    @Option(help: "Sessions that fit into each node's card, 2 to 200000; a tunnel takes two.")
    var cards: Int?

    @Option(
        help: """
            The busiest tunnels send so many times as often as others, 1 to 64; which ones \
            these are changes every few seconds.
            """)
    var skew: UInt64?

    @Flag(
        help: """
            Peers come to their tunnels by IKE: they and the cluster set up, rekey and delete IKE \
            SAs and tunnels within seconds, while packets go through all of them. After the \
            traffic follow 14 s in which all must come to rest.
            """)
    var ike = false

    @Option(
        help: ArgumentHelp(
            """
            With --ike: move the identifier of an IKE message to another node after every so \
            many messages, 1 to 1000000, whatever is under way.
            """, valueName: "messages"))
    var restless: UInt64?

    #if RULE_BREAKS
        @Option(
            name: .customLong("break"),
            help: ArgumentHelp("Switch a rule off (debug builds only).", valueName: "rule"))
        var broken: Rule?
    #endif

    @Option(
        help: ArgumentHelp(
            "Write what happens to this file, \"-\" for the terminal; one seed, run once.",
            valueName: "file"))
    var trace: String?

    @Option(
        help: ArgumentHelp(
            """
            Write a page about a run to index.html in this folder: of the first seed that fails, \
            else of the first.
            """, valueName: "folder"))
    var report: String?

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    @Flag(help: "Run each seed once, and do not compare it with itself.")
    var once = false

    func validate() throws {
        guard (1...1_000_000).contains(seeds) else {
            throw ValidationError("--seeds must be from 1 to 1000000")
        }
        guard !seed.addingReportingOverflow(seeds - 1).overflow else {
            throw ValidationError("--seed and --seeds together exceed the largest seed")
        }
        if let nodes, !Self.nodesRange.contains(nodes) {
            throw ValidationError("--nodes must be from 1 to 62")
        }
        if let tunnels, !(1...Self.tunnelsMaximum).contains(tunnels) {
            throw ValidationError("--tunnels must be from 1 to \(Self.tunnelsMaximum)")
        }
        if mode == .allTunnels, backups?.count != nil || table == .withoutOwn {
            throw ValidationError(
                "--mode replicate-all is for --backups all and --table with-own: there every node "
                    + "has everything")
        }
        if let cards, !Self.cardsRange.contains(cards) {
            throw ValidationError("--cards must be from 2 to \(Self.cardsRange.upperBound)")
        }
        guard Self.durationRange.contains(duration.nanoseconds) else {
            throw ValidationError("--duration must be from 5s to 60min")
        }
        if faults?.kinds.isEmpty != true, duration.nanoseconds < Self.healingMinimum {
            throw ValidationError(
                "--duration must be 10s at least with faults: what they break needs time to heal")
        }
        if let heartbeat, !Self.heartbeatRange.contains(heartbeat.nanoseconds) {
            throw ValidationError("--heartbeat must be from 1ms to 1s")
        }
        if let skew, !Self.skewRange.contains(skew) {
            throw ValidationError("--skew must be from 1 to 64")
        }
        if let restless {
            guard ike else { throw ValidationError("--restless is for --ike: it moves IKE SAs") }
            guard Self.restlessRange.contains(restless) else {
                throw ValidationError("--restless must be from 1 to 1000000")
            }
        }
        if ike, let tunnels, tunnels > Self.speakersMaximum {
            throw ValidationError("--tunnels must be from 1 to \(Self.speakersMaximum) with --ike")
        }
        if trace != nil, seeds > 1 { throw ValidationError("--trace is for one seed") }
        if trace == "-", json {
            throw ValidationError("--trace - and --json would both write to standard output")
        }
        if trace == "" { throw ValidationError("--trace needs the name of a file, or -") }
        if let trace, let report, isPage(trace, of: report) {
            throw ValidationError("--trace and --report would write the same file")
        }
        if report == "" { throw ValidationError("--report needs the name of a folder") }
    }

    func run() throws {
        // What can't be written is found out before hours of simulation, not after.
        if let report { try makeFolder(report) }
        let trace = try trace.map { try SimulateTrace(path: $0) }
        let isWatched = isatty(STDERR_FILENO) == 1 && seeds > 1
        let tally = SimulateTally()
        onInterrupt { [self] in interrupted(tally, isWatched: isWatched) }
        for seed in seed...seed + (seeds - 1) {
            let outcome =
                if let trace {
                    try SimulateRun.traced(options(seed), trace)
                } else {
                    try SimulateRun.outcome(of: options(seed), isRepeated: !once)
                }
            tally.add(outcome, command: command(repeating: seed)) { summary in
                if isWatched { showProgress(summary) }
                guard !json else { return }
                if isWatched, !outcome.failures.isEmpty { clearProgress() }
                tell(outcome)
            }
        }
        if isWatched { clearProgress() }
        try tally.tell(asJSON: json)
        if let report { try write(report, about: tally.firstFailed ?? seed) }
        if tally.firstFailed != nil { throw ExitCode(1) }
    }

    /// On another thread, and the last thing that is done.
    private func interrupted(_ tally: SimulateTally, isWatched: Bool) {
        if isWatched { clearProgress() }
        let finished = tally.seeds
        try? tally.tell(asJSON: json)
        complain(
            "spindle: interrupted after \(finished) of \(seeds) seeds"
                + (report == nil ? "" : "; no report was written"))
    }

    /// What is given, and for the rest what the seed gives.
    private func options(_ seed: UInt64) -> SimulationOptions {
        var options = SimulationOptions.drawn(seed: seed)
        options.duration = duration.nanoseconds
        options.cardContents = mode
        if let whenFull { options.drawCards(whenFull: whenFull) }
        if let nodes {
            options.nodes = nodes
            // Every node needs an identifier, those that join included.
            while options.identifiers < nodes + 2 { options.identifiers *= 2 }
        }
        if let tunnels {
            options.tunnels = tunnels
            // A tunnel has two sessions, and one node may be the last.
            options.cardCapacity = max(options.cardCapacity, tunnels * (ike ? 64 : 2) + 64)
        }
        if let cards { options.cardCapacity = cards }
        if let faults {
            options.kinds = faults.kinds
            // Where nothing goes wrong, nothing is to be seen but what was asked for.
            if faults.kinds.isEmpty { options.churns = false }
        }
        if let policy, policy != options.policy {
            options.policy = policy
            options.leaseSizing = sizing(for: policy, like: options.leaseSizing)
        }
        if let heartbeat {
            options.timing.heartbeatNanoseconds = heartbeat.nanoseconds
            options.linkDelay = min(options.linkDelay, heartbeat.nanoseconds * 2 / 5)
            options.jitter = min(options.jitter, options.linkDelay / 2)
        }
        if let faults, faults.kinds.allSatisfy({ $0 == .drain || $0 == .join }) {
            // Every packet must arrive, and none is refused because a tiny lease ran out.
            options.leaseSizing = nil
        }
        if mode == .allTunnels {
            options.backups = nil
            options.tableHoldsOwn = true
        }
        if let backups { options.backups = backups.count }
        if let table { options.tableHoldsOwn = table == .withOwn }
        if let skew { options.makeUneven(skew) }
        if ike {
            options.ike = SimulatedIKE()
            options.ike?.restless = restless ?? 0
        }
        #if RULE_BREAKS
            options.rules.broken = broken
        #endif
        return options
    }

    private func sizing(for policy: TakeoverPolicy, like drawn: LeaseSizing?) -> LeaseSizing {
        var sizing = LeaseSizing(policy: policy)
        if policy == .strict {
            // As when it is drawn: what is refused after a takeover must pass before the end.
            sizing.receiveMinimum = 32
            sizing.receiveStart = 16
        }
        if let drawn {
            sizing.sendMinimum = drawn.sendMinimum
            sizing.sendStart = drawn.sendStart
        }
        return sizing
    }

    /// What to type to see one of the runs again.
    private func command(repeating seed: UInt64) -> String {
        var words = ["spindle", "simulate", "--seed", "\(seed)"]
        if let nodes { words += ["--nodes", "\(nodes)"] }
        if let tunnels { words += ["--tunnels", "\(tunnels)"] }
        if duration.nanoseconds != 10_000_000_000 {
            words += ["--duration", duration.defaultValueDescription]
        }
        if let faults { words += ["--faults", faults.defaultValueDescription] }
        if let policy { words += ["--policy", policy.rawValue] }
        if let heartbeat { words += ["--heartbeat", heartbeat.defaultValueDescription] }
        if mode != .ownTunnels { words += ["--mode", mode.rawValue] }
        if let whenFull { words += ["--when-full", whenFull.rawValue] }
        if let cards { words += ["--cards", "\(cards)"] }
        if let backups { words += ["--backups", backups.defaultValueDescription] }
        if let table { words += ["--table", table.rawValue] }
        if let skew { words += ["--skew", "\(skew)"] }
        if ike { words.append("--ike") }
        if let restless { words += ["--restless", "\(restless)"] }
        #if RULE_BREAKS
            if let broken { words += ["--break", broken.rawValue] }
        #endif
        return words.joined(separator: " ")
    }

    // MARK: What is told

    /// A failure at any time; the plan of a run when it is the only one.
    private func tell(_ outcome: SimulateOutcome) {
        let options = outcome.options
        if seeds == 1 {
            print(
                "Seed \(options.seed): \(options.nodes) nodes, \(options.tunnels) tunnels, policy "
                    + "\(options.policy.rawValue), backups "
                    + "\(BackupCount(count: options.backups).defaultValueDescription), table "
                    + "\(TableKind(options).rawValue), trace hash "
                    + String(outcome.figures.traceHash, radix: 16))
            print(
                "  mode \(options.cardContents.rawValue), cards of \(options.cardCapacity) "
                    + "sessions, when full: \(options.whenFull.rawValue)")
            for fault in outcome.faults { print("  \(fault.description)") }
            print("")
        }
        guard !outcome.failures.isEmpty else { return }
        for failure in outcome.failures.prefix(Self.failuresTold) {
            print("Seed \(options.seed) FAILED at \(secondsText(failure.time)): \(failure.text)")
        }
        let more = outcome.failures.count - Self.failuresTold
        if more > 0 { print("  and \(more) more of the same time") }
        if !outcome.trace.isEmpty {
            print("  the last of its trace:")
            for line in outcome.trace { print("  \(line)") }
        }
        print("  see it again: \(command(repeating: options.seed)) --trace -\n")
    }

    private func showProgress(_ summary: SimulateSummary) {
        let text = "\r\(summary.seeds) of \(seeds) seeds, \(summary.failed) failed"
        FileHandle.standardError.write(Data(text.utf8))
    }

    private func clearProgress() {
        FileHandle.standardError.write(Data("\r\u{1B}[K".utf8))
    }

    /// Runs a seed once more, to record it.
    private func write(_ folder: String, about seed: UInt64) throws {
        var options = options(seed)
        options.records = true
        let simulation = try Simulation(options)
        simulation.run()
        let report = SimulationReport(simulation, command: command(repeating: seed))
        let path = try writePage(report.html(), "index.html", in: folder)
        if !json { print("\nReport about seed \(seed): \(path)") }
    }
}
