// How much of strangers the operator is told.
//
// What would fool us: refusals that are neither told nor counted. So every one that goes in is
// looked for in what comes out: as a line, or in the number of a line.

import Testing
import Wire

@testable import IKEStub

@Suite struct ReportGates {
    private static let second: UInt64 = 1_000_000_000

    private func path(_ number: UInt32) -> IKEPath {
        var path = IKEPair.path.reversed
        path.remote = IPAddress(v4: 0xC633_0000 + number)
        return path
    }

    private func report(_ kind: IKEReport.Kind, _ path: IKEPath, _ text: String) -> IKEReport {
        IKEReport(kind: kind, level: .warning, connection: "", path: path, text: text)
    }

    @Test func theRestOfAMinuteIsCounted() {
        var gate = ReportGate()
        var passed = 0
        for number in 0..<18 {
            let now = UInt64(number) * Self.second
            let told = gate.pass(.noProposal, path(1), now: now) {
                report(.noProposal, path(1), "number \(number)")
            }
            if told != nil { passed += 1 }
        }
        // Another kind is told by itself, and has nothing to add.
        let other = gate.pass(.syntax, path(1), now: 0) { report(.syntax, path(1), "other") }
        #expect(passed == 1 && other != nil)
        #expect(gate.deadline == 60 * Self.second)
        #expect(gate.takeEnded(now: 60 * Self.second - 1).isEmpty)
        let ended = gate.takeEnded(now: 60 * Self.second)
        #expect(ended.map(\.kind) == [.noProposal])
        #expect(ended.map(\.text) == ["and 17 more from 198.51.0.1 within a minute: number 0"])
        #expect(gate.deadline == nil)
        // Then it begins anew.
        let again = gate.pass(.noProposal, path(1), now: 61 * Self.second) {
            report(.noProposal, path(1), "later")
        }
        #expect(again?.text == "later")
    }

    @Test func nothingIsAddedToWhatCameOnce() {
        var gate = ReportGate()
        _ = gate.pass(.noProposal, path(1), now: 0) { report(.noProposal, path(1), "once") }
        #expect(gate.deadline == nil && gate.takeEnded(now: .max).isEmpty)
    }

    /// Addresses without end, and texts without end: every refusal is told or counted.
    @Test func aFloodFromEverywhereIsBounded() {
        var gate = ReportGate()
        var lines: [IKEReport] = []
        let long = String(repeating: "x", count: 8000)
        let times = UInt32(3)
        let addresses = UInt32(2 * ReportGate.addressesMaximum)
        for _ in 0..<times {
            for number in 0..<addresses {
                let told = gate.pass(.noProposal, path(number), now: 1) {
                    report(.noProposal, path(number), long)
                }
                if let told { lines.append(told) }
            }
        }
        #expect(lines.count == ReportGate.addressesMaximum)
        lines += gate.takeEnded(now: 1 + ReportGate.pauseNanoseconds)
        #expect(lines.count == 2 * ReportGate.addressesMaximum + 1)
        let counted = lines.filter { $0.text.hasPrefix("and ") }
        #expect(counted.allSatisfy { $0.text.count < 250 })
        #expect(counted.last?.text.contains("more from other addresses within a minute") == true)
        let numbers = counted.compactMap { Int($0.text.split(separator: " ")[1]) }
        let all = lines.count - counted.count + numbers.reduce(0, +)
        #expect(all == Int(times * addresses))
        #expect(gate.deadline == nil)
    }

    /// The endpoint wakes up for it, though it has nothing else to do.
    @Test func theEndpointTellsWhenTheMinuteIsOver() throws {
        var configuration = PairConfiguration()
        configuration.rightIKE = ["aes128-sha256-modp2048"]
        let pair = try configuration.pair()
        for _ in 0..<5 { try pair.initiate() }
        pair.passes = { $0.toResponder }
        try pair.deliver()
        #expect(pair.right.reports.count == 1)
        let end = try #require(pair.right.endpoint.deadline)
        #expect(end == pair.now + ReportGate.pauseNanoseconds)
        pair.passes = { _ in false }
        try pair.advance(to: end)
        #expect(pair.right.reports.count == 2)
        let text = try #require(pair.right.reports.last?.text)
        #expect(text.hasPrefix("and 4 more from 192.0.2."), "\(text)")
        #expect(pair.right.endpoint.deadline == nil)
    }
}
