// Limits of associations, from the first packet of the capture on.
//
// What would fool us: lifetimes that count from 1970, so that everything is too old; a capture too
// short to reach its limit.

import Foundation
import Testing

@Suite struct LifetimeTests {
    private static let good = CaptureSet.inRepository("scapy-tunnel44-aes256gcm16")
    private static let start: UInt64 = 1_700_000_000_000_000_000
    private static let second: UInt64 = 1_000_000_000

    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// The good file with a lifetime in its first association; its path and that one's SPI. It
    /// replaces the file of the call before.
    private func file(_ lifetime: [String: Int]) throws -> (sas: String, spi: String) {
        let whole = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(filePath: Self.good.sas)))
        var esp = try #require((whole as? [String: Any])?["esp"] as? [[String: Any]])
        esp[0]["lifetime"] = lifetime
        let data = try JSONSerialization.data(withJSONObject: ["esp": esp])
        return (try scratch.write(data, as: "sas.json"), try #require(esp[0]["spi"] as? String))
    }

    /// Inner packets of the first association, one every ten seconds.
    private func inner() throws -> (capture: Capture, path: String) {
        var capture = try Capture(contentsOf: Self.good.path(".inner-a.pcap"))
        for index in capture.records.indices {
            capture.records[index].nanoseconds = Self.start + UInt64(index) * 10 * Self.second
        }
        try #require(capture.records.count >= 20)
        return (capture, try scratch.write(capture.file(), as: "inner.pcap"))
    }

    private func seal(_ plain: String, _ file: (sas: String, spi: String)) throws -> String {
        let outcome = try Program.spindle(
            "seal", plain, "--sas", file.sas, "--spi", file.spi, "--write",
            scratch.path("sealed.pcap"))
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        return outcome.text
    }

    @Test func secondsCountFromTheFirstPacket() throws {
        let (capture, plain) = try inner()
        let count = capture.records.count
        // 0, 10, …, 90 seconds; at 100 it is over.
        #expect(
            try seal(plain, file(["hard_seconds": 95]))
                == "10 sealed, 0 dummies, \(count - 10) dropped (lifetimeTime \(count - 10)), "
                + "0 not IP\n")
        #expect(
            try seal(plain, file(["hard_seconds": 3600]))
                == "\(count) sealed, 0 dummies, 0 dropped, 0 not IP\n")
        // The receiver's clock starts at the first packet too.
        let report = try Report.replay(
            scratch.path("sealed.pcap"), sas: file(["hard_seconds": 95]).sas, nodes: 1)
        #expect(report.delivered == 10 && report.dropped == ["lifetimeTime": count - 10])
    }

    @Test func softLifetimesAreReported() throws {
        let (capture, plain) = try inner()
        let count = capture.records.count
        _ = try seal(plain, try file([:]))
        let sealed = scratch.path("sealed.pcap")
        let limited = try file(["soft_packets": 5]).sas
        let report = try Report.replay(sealed, sas: limited, nodes: 3)
        #expect(report.delivered == count)
        let owner = try #require(report.associations.first?.owners.first)
        let soft = report.nodes.map(\.softLifetimes)
        #expect(soft[owner - 1] > 0 && soft.reduce(0, +) == soft[owner - 1])
        let line = "  node \(owner): \(soft[owner - 1]) packets beyond a soft lifetime\n"
        let text = try Program.spindle("replay", sealed, "--sas", limited, "--nodes", "3").text
        #expect(text.contains(line), "\(text)")
        let quiet = try Program.spindle(
            "replay", sealed, "--sas", try file([:]).sas, "--nodes", "3"
        ).text
        #expect(!quiet.contains("soft"), "\(quiet)")
    }
}
