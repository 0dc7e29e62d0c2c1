// Every capture on clusters of several sizes, with nodes that die and come: the inner packets are
// exactly those that went through the tunnel.
//
// What would fool us: a decryptor and a check with the same mistake (so python and the other ends'
// captures judge); a failover that moves nothing that still has packets; the right packets in
// another order, or with other times; counters that add up although a packet was counted twice.

import Foundation
import Testing

private let repository = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// A capture with keys and its truth.
struct CaptureSet: CustomTestStringConvertible {
    let folder: URL
    let name: String
    var testDescription: String { name }

    var capture: String { path(".pcap") }
    var sas: String { path(".json") }

    func path(_ suffix: String) -> String { folder.appending(path: name + suffix).path }

    static func inRepository(_ name: String) -> CaptureSet {
        CaptureSet(folder: repository.appending(path: "vectors/captures"), name: name)
    }

    /// All captures of a folder.
    static func all(in folder: URL) -> [CaptureSet] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".verify.json") }.sorted()
            .map { CaptureSet(folder: folder, name: String($0.dropLast(".verify.json".count))) }
    }

    static let committed = all(in: repository.appending(path: "vectors/captures"))

    /// Captures kept outside of the repository, beside it; those that are committed too are left
    /// out.
    static let further: [CaptureSet] = {
        let beside = repository.deletingLastPathComponent().appending(path: "shared/captures")
        return all(in: beside).filter { candidate in
            !committed.contains { known in
                known.name == candidate.name
                    && FileManager.default.contentsEqual(
                        atPath: known.capture, andPath: candidate.capture)
            }
        }
    }()
}

/// A cluster and what happens to it.
private struct Situation {
    let nodes: Int
    let events: [Event]
}

extension CaptureSet {
    /// What a report says about who is busy, before anything happens to the cluster.
    fileprivate func busiest(nodes: Int) throws -> (report: Report, order: [Int]) {
        let report = try Report.replay(capture, sas: sas, nodes: nodes)
        return (report, report.nodes.sorted { $0.packets > $1.packets }.map(\.id))
    }

    /// Nothing; each of the two busiest nodes dies in the middle; one dies and comes back; both
    /// die; a new one joins.
    fileprivate func situations(nodes: Int, total: Int, order: [Int]) -> [Situation] {
        let (middle, late) = (total / 2, total * 3 / 4)
        let new = nodes + 1
        var plans: [[Event]] = [[.join(new, middle)], [.join(new, middle), .fail(order[0], late)]]
        if nodes > 1 {
            plans += [
                [.fail(order[0], middle)], [.fail(order[1], middle)],
                [.fail(order[0], middle), .join(order[0], late)],
                [.fail(order[0], total / 4), .fail(order[1], middle)],
                [.fail(order[1], 2), .join(new, middle), .fail(order[0], late)],
            ]
        }
        return plans.map { Situation(nodes: nodes, events: $0) }
    }

    /// Runs every situation; one judge looks at all that was written.
    fileprivate func runAll() throws {
        let scratch = try Scratch()
        var written: [String] = []
        var moved = 0
        func replay(_ situation: Situation) throws -> Report {
            let path = scratch.path("\(written.count).pcap")
            written.append(path)
            return try Report.replay(
                capture, sas: sas, nodes: situation.nodes, events: situation.events, write: path)
        }
        for nodes in [1, 3, 8] {
            let (quiet, order) = try busiest(nodes: nodes)
            #expect(quiet.dropped.isEmpty, "\(quiet.dropped)")
            _ = try replay(Situation(nodes: nodes, events: []))
            let all = situations(nodes: nodes, total: quiet.packets.total, order: order)
            for situation in all {
                let report = try replay(situation)
                #expect(report.packets == quiet.packets)
                #expect(report.delivered == quiet.delivered, "\(situation)")
                #expect(report.dropped.isEmpty, "\(situation): \(report.dropped)")
                #expect(report.refused.isEmpty)
                moved += report.associations.count { $0.owners.count > 1 }
            }
        }
        // Otherwise no tunnel was in use on both sides of any failover, and nothing was tried.
        #expect(moved > 0)
        let verdict = try Program.judge("judge_inner", [folder.path, name] + written)
        #expect(verdict.code == 0, "\(verdict.testDescription) \(verdict.text)")
        #expect(verdict.text.contains("\"packets\": "))
    }
}

@Suite(.enabled(if: Judges.areInstalled, Judges.absence))
struct CaptureMatrixTests {
    @Test func theCapturesAreThere() {
        #expect(CaptureSet.committed.count >= 11)
    }

    @Test(arguments: CaptureSet.committed)
    func innerPacketsAreThoseOfTheTunnel(_ set: CaptureSet) throws {
        try set.runAll()
    }

    @Test(
        .enabled(
            if: !CaptureSet.further.isEmpty,
            "NOT TESTED: ../shared/captures has no captures beyond those of vectors/captures"),
        arguments: CaptureSet.further)
    func furtherCaptures(_ set: CaptureSet) throws {
        try set.runAll()
    }

    /// The judge must notice a wrong bit, a lost packet, a swap and a shifted time.
    @Test func theJudgeIsNotBlind() throws {
        for name in ["aes256gcm16", "kernel-transport-aes256gcm16", "kernel-aes256-sha512"] {
            let set = CaptureSet.inRepository(name)
            let scratch = try Scratch()
            _ = try Report.replay(set.capture, sas: set.sas, nodes: 3, write: scratch.path("good"))
            let good = try Capture(contentsOf: scratch.path("good"))
            var bit = good
            bit.records[20].octets[bit.records[20].octets.count - 1] ^= 1
            var lost = good
            lost.records.remove(at: 20)
            var swapped = good
            swapped.records.swapAt(20, 21)
            var shifted = good
            shifted.records[20].nanoseconds += 1000
            for (name, wrong) in ["bit": bit, "lost": lost, "swapped": swapped, "time": shifted] {
                let path = try scratch.write(wrong.file(), as: name)
                let verdict = try Program.judge("judge_inner", [set.folder.path, set.name, path])
                #expect(verdict.code == 1, "\(name): \(verdict.testDescription)")
            }
            let path = try scratch.write(good.file(), as: "again")
            #expect(try Program.judge("judge_inner", [set.folder.path, set.name, path]).code == 0)
        }
    }

    /// The report for people ends with the same figures.
    @Test func theTextReportSaysTheSame() throws {
        let set = CaptureSet.inRepository("aes256gcm16")
        let outcome = try Program.spindle(
            "replay", set.capture, "--sas", set.sas, "--fail", "3@90", "--join", "3@150")
        #expect(outcome.code == 0)
        #expect(outcome.complaint.isEmpty)
        let lines = outcome.text.split(separator: "\n")
        #expect(lines.first?.contains("177 packets, 163 ESP, 14 IKE") == true)
        #expect(lines.last == "163 delivered, 0 dropped")
        #expect(lines.contains { $0.hasPrefix("Node 3 died before packet 90: epoch ") })
        #expect(lines.contains { $0.hasPrefix("Node 3 joined before packet 150: epoch ") })
    }

    /// Two runs of one replay print and write the same octets.
    @Test func aReplayIsRepeatable() throws {
        let set = CaptureSet.inRepository("kernel-esn-aes256gcm16")
        let scratch = try Scratch()
        let runs = try ["1", "2"].map { name in
            try Program.spindle(
                "replay", set.capture, "--sas", set.sas, "--nodes", "8", "--fail", "5@80",
                "--write", scratch.path(name), "--json")
        }
        #expect(runs[0].code == 0 && !runs[0].output.isEmpty)
        #expect(runs[0].output == runs[1].output)
        #expect(try scratch.read("1") == scratch.read("2"))
    }
}
