// `spindle simulate` as a user meets it. Fooled by: options that are taken but change nothing, a
// seed that gives another run each time, JSON that is not JSON, a failure that exits with 0.

import Foundation
import FoundationXML
import Testing

@Suite struct SimulateCommandTests {
    /// What the JSON says, read without the product's types.
    private struct Document: Decodable {
        struct Run: Decodable {
            struct Fault: Decodable { let kind: String }
            struct Waits: Decodable { let medianNanoseconds, maximumNanoseconds: UInt64 }
            struct Violation: Decodable { let text: String }
            struct Cards: Decodable {
                let capacity, sessionsMaximum, tunnelsRefused, hostSessions: Int
                let hostPackets: UInt64
            }
            let seed: UInt64
            let nodes, tunnels, runs: Int
            let mode, whenFull: String
            let cards: Cards
            let policy, traceHash, command: String
            let backups: Int?
            let table: String
            let heartbeatNanoseconds, durationNanoseconds: UInt64
            let packets, delivered: UInt64
            let faults: [Fault]
            let outages: Waits?
            let violations: [Violation]
        }
        let failed: Int
        let seeds: [Run]
    }

    private let quiet = ["--nodes", "3", "--tunnels", "6", "--duration", "5s", "--faults", "none"]
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func simulate(_ options: [String]) throws -> Document {
        let outcome = try Program.spindle(["simulate", "--json"] + options)
        #expect(outcome.code == 0, "\(outcome.testDescription)")
        return try JSONDecoder().decode(Document.self, from: outcome.output)
    }

    // MARK: What is right

    @Test func optionsAreTaken() throws {
        let run = try #require(
            try simulate(
                quiet + ["--seed", "11", "--heartbeat", "2ms", "--policy", "strict"]
            ).seeds.first)
        #expect(run.seed == 11 && run.nodes == 3 && run.tunnels == 6 && run.policy == "strict")
        #expect(run.heartbeatNanoseconds == 2_000_000 && run.durationNanoseconds == 5_000_000_000)
        #expect(run.faults.isEmpty && run.violations.isEmpty && run.runs == 2)
        // Nothing goes wrong, so hardly anything is lost, and nobody waits long.
        #expect(run.packets > 1000 && run.delivered > run.packets / 2 - 100)
        #expect(try #require(run.outages).maximumNanoseconds < 200_000_000)
        #expect(
            run.command
                == "spindle simulate --seed 11 --nodes 3 --tunnels 6 --duration 5s --faults none "
                + "--policy strict --heartbeat 2ms")
    }

    // The same cards, three ways: one card bounds the cluster, or its node, or nothing.
    @Test func cardsAreComparedByTheSameCommand() throws {
        let small = [
            "--nodes", "3", "--tunnels", "20", "--duration", "5s", "--faults", "none", "--once",
            "--seed", "4", "--cards", "12",
        ]
        func run(_ mode: String, _ whenFull: String) throws -> Document.Run {
            let more = ["--mode", mode, "--when-full", whenFull]
            let run = try #require(try simulate(small + more).seeds.first)
            #expect(run.mode == mode && run.whenFull == whenFull && run.cards.capacity == 12)
            #expect(run.cards.sessionsMaximum <= 12 && run.violations.isEmpty)
            #expect(run.command.hasSuffix("--when-full \(whenFull) --cards 12"))
            return run
        }
        let priorArt = try run("replicate-all", "refuse")
        #expect(priorArt.cards.tunnelsRefused == 14)
        let tables = try run("two-tables", "refuse")
        #expect((2..<10).contains(tables.cards.tunnelsRefused))
        #expect(tables.delivered > priorArt.delivered * 3 / 2)
        let host = try run("two-tables", "host")
        #expect(host.cards.tunnelsRefused == 0 && host.cards.hostSessions >= 4)
        #expect(host.cards.hostPackets > 0 && host.delivered > tables.delivered)
    }

    // What would fool us: options that are printed and change nothing.
    @Test func tablesHoldWhatIsAskedFor() throws {
        let options = quiet + ["--once", "--seed", "3"]
        let all = try #require(
            simulate(options + ["--backups", "all", "--table", "with-own"]).seeds.first)
        #expect(all.backups == nil && all.table == "with-own" && all.violations.isEmpty)
        let few = try #require(
            simulate(options + ["--backups", "1", "--table", "without-own"]).seeds.first)
        #expect(few.backups == 1 && few.table == "without-own" && few.violations.isEmpty)
        #expect(few.command.hasSuffix("--backups 1 --table without-own"))
        // Drawn otherwise: both kinds come.
        let drawn = try simulate(quiet + ["--once", "--seeds", "8"]).seeds
        #expect(Set(drawn.map { $0.backups == nil }).count == 2)
        #expect(Set(drawn.map(\.table)).count == 2)
    }

    @Test func aSeedIsOneRun() throws {
        let options = quiet + ["--once"]
        let first = try simulate(options + ["--seeds", "2"])
        #expect(Set(first.seeds.map(\.traceHash)).count == 2)
        #expect(first.seeds.map(\.seed) == [1, 2] && first.seeds.allSatisfy { $0.runs == 1 })
        #expect(first.seeds.allSatisfy { $0.traceHash.count == 16 })
        // The second seed by itself, in another process, is the same as in the row.
        let alone = try simulate(options + ["--seed", "2"])
        #expect(alone.seeds.map(\.traceHash) == [first.seeds[1].traceHash])
    }

    /// The order and repetition of kinds mean nothing.
    @Test func aListOfFaultsIsASet() throws {
        let base = ["--seed", "3", "--nodes", "3", "--tunnels", "6", "--once"]
        let kinds = ["drain,join", "join,drain,join"]
        let runs = try kinds.map { try #require(simulate(base + ["--faults", $0]).seeds.first) }
        #expect(Set(runs.map(\.traceHash)).count == 1)
        #expect(runs[0].faults.allSatisfy { ["drain", "join"].contains($0.kind) })
        #expect(!runs[0].faults.isEmpty)
    }

    @Test func theTableIsOneForAllSeeds() throws {
        let outcome = try Program.spindle(["simulate", "--seeds", "2", "--once"] + quiet)
        #expect(outcome.code == 0 && outcome.complaint.isEmpty, "\(outcome.testDescription)")
        for word in ["2 seeds", "packets sent", "longest outage, p99", "violations", "per second"] {
            #expect(outcome.text.contains(word), "\(word)")
        }
        #expect(outcome.text.components(separatedBy: "packets sent").count == 2)
    }

    @Test func aTraceAndAReportAreWritten() throws {
        let (trace, folder) = (scratch.path("trace.txt"), scratch.path("deep/report"))
        let outcome = try Program.spindle(
            ["simulate", "--trace", trace, "--report", folder] + quiet)
        #expect(outcome.code == 0, "\(outcome.testDescription)")
        let lines = String(decoding: try scratch.read("trace.txt"), as: UTF8.self)
        #expect(lines.contains(": tunnel 5 is established\n") && lines.hasSuffix("\n"))
        let page = try scratch.read("deep/report/index.html")
        #expect(XMLParser(data: page).parse())
        #expect(outcome.text.contains("\(folder)/index.html"))
    }

    @Test func theHelpNamesEveryKind() throws {
        let help = try Program.spindle("simulate", "--help").text
        for kind in ["crash", "storeCompaction", "multiCrash", "replayAttack", "cardReset"] {
            #expect(help.contains("\n  \(kind) "), "\(kind)")
        }
    }

    // A long example that the terminal wraps can't be pasted into a shell.
    @Test func examplesFitTheScreen() throws {
        for command in ["simulate", "replay"] {
            let lines = try Program.spindle(command, "--help").text.split(separator: "\n")
            let first = try #require(lines.firstIndex { $0.hasPrefix("  spindle \(command) ") })
            let rest = lines[first...].prefix { !$0.hasPrefix("USAGE") }
            for (line, next) in zip(rest, rest.dropFirst()) {
                let goesOn = line.hasSuffix("\\")
                #expect(next.hasPrefix("    --") == goesOn, "\(line)")
            }
            #expect(rest.contains { $0.hasSuffix("\\") })
        }
    }

    @Test func theLargestSeedIsASeed() throws {
        let last = "18446744073709551615"
        let run = try #require(simulate(quiet + ["--once", "--seed", last]).seeds.first)
        #expect(run.seed == .max && run.violations.isEmpty)
        let two = ["--once", "--seed", "18446744073709551614", "--seeds", "2"]
        #expect(try simulate(quiet + two).seeds.map(\.seed) == [.max - 1, .max])
    }

    // MARK: Ctrl-C

    /// Interrupts a run of very many small seeds when it has worked for two seconds: after some.
    private func interrupt(_ options: [String]) throws -> Outcome {
        try Program.run(
            Program.path(of: "spindle"),
            ["simulate", "--seeds", "1000000", "--once", "--nodes", "1", "--tunnels", "1"]
                + ["--duration", "5s", "--faults", "none"] + options, interruptedAfter: 2)
    }

    @Test func anInterruptionTellsOfTheSeedsThatAreFinished() throws {
        let folder = scratch.path("report")
        let outcome = try interrupt(["--report", folder])
        #expect(outcome.code == 130, "\(outcome.testDescription)")
        let words = try #require(outcome.complaints.first).split(separator: " ")
        #expect(
            outcome.complaints.count == 1 && outcome.complaint.hasSuffix("no report was written\n"))
        #expect(words.starts(with: ["spindle:", "interrupted", "after"]))
        let count = try #require(Int(words[3]))
        #expect((1..<1_000_000).contains(count))
        #expect(outcome.text.contains(count == 1 ? "  1 seed " : "  \(count) seeds "))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }

    @Test func anInterruptionLeavesWholeJSON() throws {
        let outcome = try interrupt(["--json"])
        #expect(outcome.code == 130, "\(outcome.testDescription)")
        let document = try JSONDecoder().decode(Document.self, from: outcome.output)
        #expect(!document.seeds.isEmpty)
        #expect(document.seeds.map(\.seed) == Array(1...UInt64(max(document.seeds.count, 1))))
        #expect(outcome.complaint.contains("after \(document.seeds.count) of 1000000 seeds"))
    }

    // MARK: What is wrong

    @Test(
        arguments: [
            ["--seed", "-1"], ["--seed", "x"], ["--seeds", "0"], ["--seeds", "1000001"],
            ["--nodes", "0"], ["--nodes", "63"], ["--tunnels", "0"], ["--tunnels", "100001"],
            ["--duration", "10"], ["--duration", "4999ms"], ["--duration", "9s"],
            ["--duration", "61min"],
            ["--duration", "10h"], ["--duration", ""], ["--duration", "s"], ["--duration", "5.s"],
            ["--duration", "99999999999999999999s"], ["--duration", "5.0000000001s"],
            ["--heartbeat", "999us"], ["--heartbeat", "1001ms"], ["--heartbeat", "-1ms"],
            ["--faults", "crash,"], ["--faults", "meteor"], ["--faults", "restart"],
            ["--faults", ""], ["--faults", "all,none"], ["--policy", "lax"], ["--trace", ""],
            ["--report", ""], ["--cards", "1"], ["--cards", "200001"], ["--mode", "one-table"],
            ["--when-full", "drop"], ["--backups", "0"], ["--backups", "63"],
            ["--backups", "few"], ["--table", "own"], ["--unheard-of"],
        ])
    func wrongOptions(_ option: [String]) throws {
        let joined = option.count == 2 && option[1].hasPrefix("-")
        let given = joined ? ["\(option[0])=\(option[1])"] : option
        let outcome = try Program.spindle(["simulate"] + given)
        #expect(outcome.code == 2 && outcome.output.isEmpty, "\(outcome.testDescription)")
        #expect(
            outcome.complaints.first?.contains(option[0]) == true, "\(outcome.testDescription)")
    }

    @Test func optionsThatDoNotGoTogether() throws {
        for options in [
            ["--trace", "t", "--seeds", "2"], ["--trace", "-", "--json"],
            ["--seed", "18446744073709551615", "--seeds", "2"],
        ] {
            let outcome = try Program.spindle(["simulate"] + options)
            #expect(outcome.code == 2, "\(outcome.testDescription)")
            #expect(outcome.complaints.first?.contains(options[0]) == true)
        }
    }

    @Test func outputsThatCanNotBeWritten() throws {
        let file = try scratch.write(Data("precious".utf8), as: "file")
        for (option, path) in [
            ("--trace", scratch.path("no/such/trace")), ("--trace", scratch.path),
            ("--trace", "/dev/full"), ("--report", file), ("--report", "\(file)/below"),
        ] {
            let outcome = try Program.spindle(["simulate", "--once", option, path] + quiet)
            #expect(outcome.code == 1, "\(outcome.testDescription)")
            #expect(outcome.complaints.count == 1, "\(outcome.testDescription)")
            #expect(outcome.complaint.hasPrefix("spindle: \(path): "), "\(outcome.complaint)")
        }
        #expect(try scratch.read("file") == Data("precious".utf8))
    }

    #if RULE_BREAKS
        /// A rule is switched off: the program says so with its exit code, tells when and what, and
        /// the command that it prints does it again.
        @Test func aFailureIsToldAndCanBeRepeated() throws {
            let outcome = try Program.spindle([
                "simulate", "--seed", "1", "--nodes", "3", "--faults", "crash", "--tunnels", "8",
                "--once", "--break", "startAfterLease",
            ])
            #expect(outcome.code == 1, "\(outcome.testDescription)")
            #expect(outcome.text.contains("Seed 1 FAILED at "))
            #expect(outcome.text.contains("VIOLATION"))
            let line = try #require(
                outcome.text.split(separator: "\n").first { $0.contains("see it again: ") })
            let words = line.split(separator: " ").map(String.init)
            let place = try #require(words.firstIndex(of: "simulate"))
            let again = try Program.spindle(Array(words[place...]))
            #expect(again.code == 1)
            let failure = try #require(
                outcome.text.split(separator: "\n").first { $0.hasPrefix("Seed 1 FAILED") })
            #expect(again.text.contains(failure))
        }

        @Test func anUnknownRule() throws {
            let outcome = try Program.spindle("simulate", "--break", "gravity")
            #expect(outcome.code == 2 && outcome.complaints.first?.contains("--break") == true)
        }
    #endif
}
