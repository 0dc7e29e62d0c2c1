// `spindle lab` as a user runs it. What would fool us: a lab that measures nothing (so packets are
// counted, and a node that is killed must show), a judge that is always content (a lone node's
// death breaks the limit of a calm time), processes or namespaces that stay when the lab is killed
// (so /proc is asked, not the lab).

import Foundation
import Glibc
import Testing

private let hasEtcd = FileManager.default.isExecutableFile(atPath: "/usr/bin/etcd")

@Suite(
    .enabled(if: LiveLab.isPossible && hasEtcd, LiveLab.absence),
    .serialized, .timeLimit(.minutes(5)))
struct LabCommandTests {
    private struct Finding: Decodable {
        struct Flow: Decodable {
            let sent: Int
            let lost: Int
            let twice: Int
            let outage: UInt64
        }
        struct Tunnel: Decodable {
            struct Owner: Decodable { let node: Int }
            let isHit: Bool
            let up: Flow
            let down: Flow
            let rekeys: Int
            let authentications: Int
            let owners: [Owner]
        }
        struct Outcome: Decodable {
            let scenario: String
            let node: Int?
            let tunnels: [Tunnel]
            let violations: [String]
        }
        let scenarios: [Outcome]
        let failure: String?
    }

    /// Runs a lab; its exit code and what it wrote.
    private func run(
        _ scratch: Scratch, _ arguments: String...
    ) throws -> (outcome: Outcome, finding: Finding) {
        let json = scratch.path("result.json")
        let outcome = try Program.spindle(
            ["lab"] + arguments + ["--json", json, "--report", scratch.path("report")])
        try #require(
            FileManager.default.fileExists(atPath: json),
            "\(outcome.testDescription)\n\(outcome.text)")
        let data = try scratch.read("result.json")
        return (outcome, try JSONDecoder().decode(Finding.self, from: data))
    }

    @Test func aNodeAloneIsMissedUntilItIsBack() throws {
        let scratch = try Scratch()
        let (outcome, finding) = try run(
            scratch, "--nodes", "1", "--tunnels", "4", "--scenario", "calm,kill")
        #expect(outcome.code == 0, "\(outcome.text)")
        try #require(finding.scenarios.map(\.scenario) == ["calm", "kill"])
        for tunnel in finding.scenarios[0].tunnels {
            #expect(tunnel.up.sent > 200 && tunnel.down.sent > 200)
            #expect(tunnel.up.lost == 0 && tunnel.down.lost == 0)
        }
        for tunnel in finding.scenarios[1].tunnels {
            #expect(tunnel.isHit)
            #expect(tunnel.up.outage > 900_000_000 && tunnel.down.outage > 900_000_000)
            #expect(tunnel.up.lost > 80 && tunnel.down.lost > 80)
            #expect(tunnel.authentications == 0, "the state directory has all that is needed")
        }
        try checkPage(scratch)
    }

    /// The page is read by a parser that knows nothing of it.
    private func checkPage(_ scratch: Scratch) throws {
        let program = """
            import sys, xml.etree.ElementTree as tree
            text = open(sys.argv[1]).read().replace("<!DOCTYPE html>", "")
            page = tree.fromstring(text)
            assert not list(page.iter("script")) and "http" not in text
            print(len(list(page.iter("svg"))))
            """
        let read = try Program.run(
            Program.python, ["-c", program, scratch.path("report/index.html")])
        #expect(read.code == 0, "\(read.testDescription)")
        #expect(Int(read.text.trimmingCharacters(in: .newlines)) ?? 0 >= 3)
    }

    /// How long it takes, and what is lost meanwhile, depends on what else the machine does during
    /// the tests: `spindle lab --measure` has limits for that.
    @Test func aClusterGoesOn() throws {
        let scratch = try Scratch()
        let (outcome, finding) = try run(
            scratch, "--nodes", "3", "--tunnels", "9", "--scenario", "kill,restart,drain")
        #expect(finding.failure == nil, "\(outcome.text)\n\(outcome.complaint)")
        try #require(finding.scenarios.count == 3)
        let hit = finding.scenarios[0].tunnels.filter(\.isHit)
        #expect(!hit.isEmpty)
        for tunnel in hit {
            #expect(tunnel.owners.first?.node == finding.scenarios[0].node)
            #expect(tunnel.owners.last?.node != finding.scenarios[0].node)
        }
        for scenario in finding.scenarios {
            let others = scenario.violations.filter {
                !$0.hasPrefix("no packet for more than") && !$0.contains("packets were lost")
            }
            #expect(others.isEmpty)
            for tunnel in scenario.tunnels {
                #expect(tunnel.up.twice == 0 && tunnel.down.twice == 0)
                #expect(tunnel.authentications == 0 && tunnel.rekeys == 0)
            }
        }
        let drained = finding.scenarios[2].tunnels.filter(\.isHit)
        #expect(!drained.isEmpty)
        for tunnel in drained {
            #expect(tunnel.owners.last?.node != finding.scenarios[2].node)
        }
    }

    @Test(arguments: [SIGKILL, SIGTERM, SIGINT])
    func nothingStaysWhateverEndsIt(signal: Int32) throws {
        let scratch = try Scratch()
        let before = try surroundings()
        let lab = try Daemon(
            Program.path(of: "spindle"),
            ["lab", "--nodes", "1", "--tunnels", "2", "--scenario", "calm,calm,calm,calm,calm"],
            log: scratch.path("log"))
        try lab.waitFor("Ready")
        let first = try #require(children(of: lab.processIdentifier).first)
        let space = try #require(namespace("pid", of: first))
        let inside = processes { namespace("pid", of: $0) == space }
        #expect(inside.count >= 5, "director, node, two daemons, stations: \(inside)")
        let networks = Set(inside.compactMap { namespace("net", of: $0) })
        #expect(networks.count >= 4)
        lab.signal(signal)
        let end = ContinuousClock.now + .seconds(10)
        let isGone = {
            processes { process in
                namespace("pid", of: process) == space
                    || namespace("net", of: process).map(networks.contains) ?? false
            }.isEmpty
        }
        while !isGone(), ContinuousClock.now < end { usleep(10_000) }
        #expect(isGone(), "processes of the lab are alive")
        #expect(try surroundings() == before)
    }

    /// What a lab could leave behind outside of its namespaces.
    private func surroundings() throws -> [String] {
        let names = try Program.run("/usr/sbin/ip", ["netns", "list"]).text
        let links = try Program.run("/usr/sbin/ip", ["-o", "link"]).text
            .split(separator: "\n").count
        let mounts = try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)
            .split(separator: "\n").filter { $0.contains("/run/lab") || $0.contains("/run tmpfs") }
        let files = FileManager.default.fileExists(atPath: "/run/lab")
        return [names.contains("switch") ? "switch" : "", "\(links)", "\(mounts)", "\(files)"]
    }
}

/// Processes for which something holds; those that only wait for their parent to ask how they
/// ended have no namespaces any more.
private func processes(_ condition: (Int32) -> Bool) -> [Int32] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { Int32($0) }.filter(condition)
}

private func namespace(_ kind: String, of process: Int32) -> String? {
    let stat = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
    // The state stands behind the name, which is in brackets.
    guard let state = stat.split(separator: ")").last?.split(separator: " ").first, state != "Z"
    else { return nil }
    return try? FileManager.default.destinationOfSymbolicLink(
        atPath: "/proc/\(process)/ns/\(kind)")
}

private func children(of process: Int32) -> [Int32] {
    let path = "/proc/\(process)/task/\(process)/children"
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    return text.split(separator: " ").compactMap { Int32($0) }
}
