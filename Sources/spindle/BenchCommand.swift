// `spindle bench`: what this machine does, in ratios that hold wherever it runs.

import ArgumentParser
import SimKit

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure the engine, the card and the cluster protocol.",
        subcommands: [
            BenchESPCommand.self, BenchLookupCommand.self, BenchFailoverCommand.self,
            BenchTakeoverCommand.self, BenchPublishingCommand.self, BenchScaleCommand.self,
            BenchIKECommand.self,
        ])
}

struct BenchESPCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "esp",
        abstract: "Whole encapsulation and decapsulation beside plain OpenSSL calls.",
        discussion: """
            Interleaves the engine with OpenSSL's own calls in one process and prints medians in \
            nanoseconds per packet: AES-256-GCM, tunnel mode, batches of 32. "plain" is a context \
            kept per key, init with IV, AAD, data, tag; "bare" is EVP_EncryptUpdate alone. \
            Absolute times depend on the machine and its neighbours; the ratios of one run hold.
            """)

    @Option(help: "Rounds per row; more rounds, steadier medians.")
    var rounds = 801

    @Option(help: "Seed for keys and for the random order of the large set.")
    var seed: UInt64 = 1

    @Flag(help: "Print a JSON array instead of a table.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "Only seal and open N 64-octet packets, without timing: for counting instructions."))
    var pairs: Int?

    func validate() throws {
        guard (1...100_000).contains(rounds) else {
            throw ValidationError("--rounds must be from 1 to 100000")
        }
        if let pairs, !(1...1_000_000_000).contains(pairs) {
            throw ValidationError("--pairs must be from 1 to 1000000000")
        }
    }

    func run() throws {
        if let pairs {
            let bench = try ESPBench(bytes: 64, associations: 64, seed: seed)
            var ignored: (UInt64, UInt64) = (0, 0)
            bench.run(
                batches: max(1, pairs / ESPBench.batch), seal: &ignored.0, open: &ignored.1)
            return
        }
        var rows: [ESPBenchRow] = []
        for (bytes, associations) in [(64, 64), (512, 64), (1420, 64), (64, 100_000)] {
            let bench = try ESPBench(bytes: bytes, associations: associations, seed: seed)
            rows.append(bench.measure(rounds: rounds, batches: 4))
        }
        if json { return try printJSON(rows) }
        var table = TextTable(
            "bytes", "SAs", "encapsulate", "decapsulate", "plain enc", "plain dec", "bare",
            "enc/plain", "dec/plain", "bare/enc")
        for row in rows {
            table.add(
                "\(row.bytes)", "\(row.associations)", ns(row.encapsulateNs),
                ns(row.decapsulateNs), ns(row.plainEncryptNs), ns(row.plainDecryptNs),
                ns(row.bareUpdateNs), ratio(row.encapsulateNs, row.plainEncryptNs),
                ratio(row.decapsulateNs, row.plainDecryptNs),
                ratio(row.bareUpdateNs, row.encapsulateNs))
        }
        print("Nanoseconds per packet, medians of \(rounds) rounds")
        table.lines().forEach { print($0) }
    }
}

struct BenchLookupCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lookup",
        abstract: "Searches in the card's store beside the patent's Fig. 3, and filling costs.",
        discussion: """
            The patent measured one search in 30 000 entries (a node's own) and in 90 000 (a \
            cluster's, as the prior art keeps them): 2576 ns and 8718 ns.
            """)

    @Option(help: "Rounds per row; more rounds, steadier medians.")
    var rounds = 21

    @Option(help: "Seed for SPIs and keys.")
    var seed: UInt64 = 1

    @Flag(help: "Print one JSON object instead of tables.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "Draw the patent's Fig. 3 with these figures: lookup.html in this folder.",
            valueName: "folder"))
    var report: String?

    func validate() throws {
        guard (1...100_000).contains(rounds) else {
            throw ValidationError("--rounds must be from 1 to 100000")
        }
        if report == "" { throw ValidationError("--report needs the name of a folder") }
    }

    private struct Report: Encodable {
        let lookups: [LookupRow]
        let loads: [LoadRow]
    }

    func run() throws {
        if let report { try makeFolder(report) }
        let load = try LookupBench.load(
            tableEntries: 1_000_000, cardSessions: 100_000, seed: seed)
        let sizes = report == nil ? LookupBench.sizes : LookupBench.sizesToDraw
        let rows = try sizes.map {
            try LookupBench.search(
                entries: $0.entries, patent: $0.patent, rounds: rounds, seed: seed)
        }
        let result = Report(lookups: rows, loads: [load.card, load.table])
        if let report { try draw(rows, in: report) }
        if json { return try printJSON(result) }
        var searches = TextTable("sessions", "ns", "patent ns", "ratio")
        for row in result.lookups {
            searches.add(
                "\(row.entries)", tenth(row.nanoseconds),
                row.patentNanoseconds.map(ns) ?? "–",
                row.patentNanoseconds.map { ns($0 / row.nanoseconds) } ?? "–")
        }
        print("One search in a card, medians of \(rounds) rounds")
        searches.lines().forEach { print($0) }
        var loads = TextTable("store", "SAs", "ms", "ns each", "bytes each")
        for row in result.loads {
            loads.add(
                row.store, "\(row.associations)", tenth(row.milliseconds),
                ns(row.milliseconds * 1e6 / Double(row.associations)),
                ns(row.bytesPerAssociation))
        }
        print("\nFilling")
        loads.lines().forEach { print($0) }
    }

    private func draw(_ rows: [LookupRow], in folder: String) throws {
        let points = rows.map {
            LookupFigure.Point(entries: $0.entries, nanoseconds: max($0.nanoseconds, 0.1))
        }
        let figure = LookupFigure(
            measured: points,
            command: "spindle bench lookup --rounds \(rounds) --seed \(seed) --report FOLDER")
        let path = try writePage(figure.html(), "lookup.html", in: folder)
        if !json { print("Figure: \(path)") }
    }
}

/// Whole units.
private func ns(_ value: Double) -> String { String(Int(value.rounded())) }

/// One decimal.
private func tenth(_ value: Double) -> String { String((value * 10).rounded() / 10) }

/// Two decimals.
private func ratio(_ value: Double, _ base: Double) -> String {
    base == 0 ? "–" : String((value / base * 100).rounded() / 100)
}
