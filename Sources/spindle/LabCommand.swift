// `spindle lab`: a cluster with real peers and traffic on this machine, and what faults do to it.

import ArgumentParser
import Foundation
import Lab
import SimKit

/// Who is at the other end of a lab's tunnels.
enum PeerKind: String, ExpressibleByArgument, CaseIterable { case strongswan, spindle }

/// Scenarios joined by commas.
struct ScenarioList: ExpressibleByArgument {
    let scenarios: [Scenario]

    init(_ scenarios: [Scenario]) { self.scenarios = scenarios }

    init?(argument: String) {
        let names = argument.split(separator: ",", omittingEmptySubsequences: false)
        let scenarios = names.map { Scenario(rawValue: String($0)) }
        guard !scenarios.contains(nil) else { return nil }
        self.scenarios = scenarios.compactMap(\.self)
    }

    var defaultValueDescription: String {
        scenarios.map(\.rawValue).joined(separator: ",")
    }
}

struct LabCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Run a cluster with real peers and traffic, break it, and see what they notice.",
        discussion: """
            Nodes behind one address, etcd, a server in the protected network, and strongSwan \
            peers, all in network namespaces of their own that go with the command, whatever ends \
            it. Numbered packets with the time of their departure go through every tunnel, both \
            ways. Then things happen, for --scenario:

            \(Scenario.allCases.map { "  \($0.rawValue): \($0.help)" }.joined(separator: "\n"))

            After each one, all tunnels must work as before: exit code 1 tells that one did not, \
            that a packet came twice, that a peer had to negotiate anything, or that a tunnel was \
            silent for too long. With --nodes 1 there is one node without a cluster, which is \
            started again where others would take over: to compare with.

            Needs root.

            Examples:
              spindle lab
              spindle lab --nodes 5 --tunnels 60 --scenario kill,restart --report report
            """)

    @Option(help: "Nodes, 1 to 9.")
    var nodes = 3

    @Option(help: "Tunnels, 1 to 1000 (12; to measure, 60).")
    var tunnels: Int?

    @Option(help: "Packets a second through each tunnel, each way, 1 to 1000.")
    var rate = 100

    @Option(
        help: """
            Who is at the other end: real strongSwan, or nodes of our own; without it, strongSwan \
            if it is there.
            """)
    var peers: PeerKind?

    @Option(help: ArgumentHelp("What happens.", valueName: "list"))
    var scenario: ScenarioList?

    @Flag(
        help: """
            Measure: 60 tunnels, 20 kills with restarts, then a drain. Half of the tunnels may be \
            silent for 60 ms after a kill, none for longer than 250 ms.
            """)
    var measure = false

    @Option(help: "Minutes in which, after that, faults go on by chance, 0 to 600.")
    var soak = 0

    @Option(
        help: "A spindle whose nodes run, instead of this one: to compare.", completion: .file())
    var program: String?

    @Option(help: "What chance decides follows from it.")
    var seed: UInt64 = 1

    @Option(help: "Write a page with drawings into this folder, and all logs.")
    var report: String?

    @Option(help: "Write everything that was found out into this file.", completion: .file())
    var json: String?

    func validate() throws {
        try check("--nodes", nodes, LabOptions.nodesRange)
        try check("--soak", soak, 0...600)
        guard !measure || nodes > 1 else {
            throw ValidationError("--measure is about a cluster: --nodes 2 or more")
        }
        try check("--tunnels", tunnelCount, LabOptions.tunnelsRange)
        try check("--rate", rate, LabOptions.rateRange)
        if nodes == 1, let scenario = chosen.first(where: \.needsCluster) {
            throw ValidationError("\(scenario.rawValue) needs a cluster: --nodes 2 or more")
        }
    }

    private func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
        guard range.contains(value) else {
            throw ValidationError("\(name) must be \(range.lowerBound) to \(range.upperBound)")
        }
    }

    private var chosenPeers: LabOptions.Peers {
        guard let peers else { return Lab.hasStrongSwan ? .strongswan : .spindle }
        return peers == .strongswan ? .strongswan : .spindle
    }

    private var tunnelCount: Int { tunnels ?? (measure ? 60 : 12) }

    private var chosen: [Scenario] {
        if let scenario { return scenario.scenarios }
        if measure {
            return [.calm] + Array(repeating: [.kill, .restart], count: 20).joined()
                + [.drain, .restart]
        }
        if soak > 0 { return [.calm] }
        return nodes > 1 ? Scenario.usual : Scenario.usual.filter { !$0.needsCluster }
    }

    func run() throws {
        if let report { try makeFolder(report) }
        if let program, !FileManager.default.isExecutableFile(atPath: program) {
            throw CommandError("\(program): no program is there: name a built spindle")
        }
        var options = LabOptions(program: try Self.ownPath())
        if let program { options.nodeProgram = URL(filePath: program).path }
        options.nodes = nodes
        options.tunnels = tunnelCount
        options.soakSeconds = soak * 60
        options.rate = rate
        options.peers = chosenPeers
        if peers == nil, options.peers == .spindle {
            complain("spindle: strongSwan is not there: the peers are nodes of our own")
        }
        options.seed = seed
        options.scenarios = chosen
        let result = try Lab.run(options)
        let summary = LabSummary(result: result)
        summary.printAll()
        if let json { try Self.write(result, to: json) }
        if let report { try write(result, into: report) }
        if let failure = result.failure { throw CommandError(failure) }
        let faults = measure ? summary.measureFaults : []
        faults.forEach { complain("spindle: \($0)") }
        if !result.isGood || !faults.isEmpty { throw ExitCode.failure }
    }

    private static func write(_ result: LabResult, to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            try encoder.encode(result).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw CommandError("\(path): could not be written: is the disk full?")
        }
    }

    private func write(_ result: LabResult, into folder: String) throws {
        var words = ["spindle", "lab", "--nodes", "\(nodes)", "--tunnels", "\(tunnelCount)"]
        words += ["--rate", "\(rate)", "--seed", "\(seed)", "--peers", chosenPeers.rawValue]
        if measure { words.append("--measure") }
        if let scenario { words += ["--scenario", scenario.defaultValueDescription] }
        if soak > 0 { words += ["--soak", "\(soak)"] }
        let page = try writePage(
            result.page(command: words.joined(separator: " ")), "index.html", in: folder)
        for (name, text) in result.logs { _ = try writePage(text, "\(name).log", in: folder) }
        print("\nReport: \(page)")
    }

    /// The file of this very program: its nodes run from it.
    private static func ownPath() throws -> String {
        try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    }
}

struct LabDirectorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab-director", abstract: "A part of spindle lab.", shouldDisplay: false)

    @Argument var options: String

    func run() throws { try Lab.direct(options) }
}

struct LabTrafficCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab-traffic", abstract: "A part of spindle lab.", shouldDisplay: false)

    @Argument var plan: String

    func run() throws { try TrafficStation(planPath: plan).run() }
}
