// `spindle seal` against three receivers that share no code with it: python `cryptography`, scapy
// and tshark open every packet and compare it, bit for bit, with what was sealed.
//
// What would fool us: our own receiver with the sender's mistake; a judge that skips in silence
// (each says what it could not open, and why); a judge that accepts anything (each is shown a wrong
// packet).

import Foundation
import Testing

@Suite(.enabled(if: Judges.areInstalled, Judges.absence))
struct SealInteropTests {
    private static let transforms = 50
    private static let judges = ["independent", "scapy", "tshark"]
    /// Per judge, how many packets of each transform it opened, and why it did not open others.
    private typealias Coverage = [String: [String: Int]]

    private struct Plan: Decodable {
        let associations: Int
        let packets: Int
        let dummies: Int
    }

    /// 50 transforms × tunnel and transport × IPv4 and IPv6, some in UDP, with ESN, TFC and
    /// dummies.
    private func seal(into scratch: Scratch) throws -> Plan {
        let made = try Program.judge("interop", [scratch.path])
        try #require(made.code == 0, "\(made.testDescription)")
        let plan = try JSONDecoder().decode(Plan.self, from: made.output)
        #expect(plan.associations == Self.transforms * 4)
        let sealed = try Program.spindle(
            "seal", scratch.path("inner.pcap"), "--sas", scratch.path("sas.json"), "--write",
            scratch.path("sealed.pcap"), "--dummy-every", "50")
        try #require(sealed.code == 0, "\(sealed.testDescription)")
        #expect(
            sealed.text
                == "\(plan.packets) sealed, \(plan.dummies) dummies, 0 dropped, 0 not IP\n")
        return plan
    }

    @Test func threeReceiversOpenWhatIsSealed() throws {
        let scratch = try Scratch()
        let plan = try seal(into: scratch)
        var coverage: [String: Coverage] = [:]
        for judge in Self.judges {
            let verdict = try Program.judge("judge_sealed", [scratch.path, judge])
            try #require(verdict.code == 0, "\(judge): \(verdict.testDescription) \(verdict.text)")
            let found = try JSONDecoder().decode(Coverage.self, from: verdict.output)
            #expect(found.count == Self.transforms, "every transform, known or not")
            let total = found.values.flatMap(\.values).reduce(0, +)
            #expect(total == plan.packets + plan.dummies, "\(judge) says what became of each")
            coverage[judge] = found
        }
        let checked = "opened, ICV checked"
        let independent = try #require(coverage["independent"])
        #expect(independent.values.allSatisfy { Array($0.keys) == [checked] })
        func transformsChecked(_ judge: String) -> Int {
            coverage[judge]?.values.count { $0[checked] != nil } ?? 0
        }
        // Lower numbers would mean that a judge lost interest.
        #expect(transformsChecked("scapy") == 41)
        #expect(transformsChecked("tshark") == 37)
        print(Self.table(coverage))
    }

    private static func table(_ coverage: [String: Coverage]) -> String {
        func cell(_ text: String, _ width: Int) -> String {
            text.padding(toLength: max(width, text.count + 1), withPad: " ", startingAt: 0)
        }
        var lines = ["packets of `spindle seal` opened (with the ICV checked), by receiver"]
        lines.append(cell("", 34) + judges.map { cell($0, 14) }.joined() + "not opened or checked")
        for transform in (coverage[judges[0]] ?? [:]).keys.sorted() {
            var line = cell(transform, 34)
            var reasons: [String] = []
            for judge in judges {
                let found = coverage[judge]?[transform] ?? [:]
                let opened = found.filter { $0.key.hasPrefix("opened") }.values.reduce(0, +)
                let checked = found["opened, ICV checked"] ?? 0
                line += cell("\(opened) (\(checked))", 14)
                reasons += found.filter { $0.key != "opened, ICV checked" }
                    .map { "\(judge): \($0.key) \($0.value)" }.sorted()
            }
            lines.append(line + reasons.joined(separator: "; "))
        }
        return lines.joined(separator: "\n")
    }

    /// A wrong bit in one packet of each judge's favourite transform must be noticed.
    @Test func theJudgesAreNotBlind() throws {
        let scratch = try Scratch()
        _ = try seal(into: scratch)
        var sealed = try Capture(contentsOf: scratch.path("sealed.pcap"))
        // The first packet is one of AES_GCM_16, known to all: tunnel, no ESN.
        sealed.records[0].octets[sealed.records[0].octets.count - 20] ^= 0x10
        _ = try scratch.write(sealed.file(hasNanoseconds: true), as: "sealed.pcap")
        for judge in Self.judges {
            let verdict = try Program.judge("judge_sealed", [scratch.path, judge])
            #expect(verdict.code == 1, "\(judge): \(verdict.testDescription)")
            #expect(verdict.text.contains("packet 0"))
        }
    }

    /// What seal makes, replay opens, on a cluster that loses a node; dummies are thrown away.
    @Test func replayOpensWhatSealMade() throws {
        let scratch = try Scratch()
        let plan = try seal(into: scratch)
        let report = try Report.replay(
            scratch.path("sealed.pcap"), sas: scratch.path("sas.json"), nodes: 3,
            events: [.fail(2, plan.packets / 2)], write: scratch.path("back.pcap"))
        #expect(report.delivered == plan.packets)
        #expect(report.dropped == ["dummy": plan.dummies])
        #expect(try scratch.read("back.pcap") == scratch.read("inner.pcap"))
    }

    /// --spi takes one association, whatever the selectors of the others.
    @Test func oneAssociationByItsSPI() throws {
        let scratch = try Scratch()
        let set = CaptureSet.inRepository("scapy-tunnel44-aes256gcm16")
        let outcome = try Program.spindle(
            "seal", set.path(".inner-a.pcap"), "--sas", set.sas, "--spi", "f3d7bc41", "--write",
            scratch.path("sealed.pcap"), "--generation", "7", "--json")
        #expect(outcome.code == 0, "\(outcome.testDescription)")
        let sealed = try Capture(contentsOf: scratch.path("sealed.pcap"))
        #expect(sealed.records.count == 60)
        for (index, record) in sealed.records.enumerated() {
            let esp = record.octets[20...]
            #expect(esp.starts(with: [0xF3, 0xD7, 0xBC, 0x41, 0, 0, 0, UInt8(index + 1)]))
            #expect(esp.dropFirst(8).starts(with: [0, 7, 0, 0, 0, 0, 0, UInt8(index + 1)]))
        }
    }
}
