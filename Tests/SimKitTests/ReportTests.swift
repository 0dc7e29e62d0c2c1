// Fooled by: a page that only browsers forgive, text that becomes markup, a page that fetches
// something, a recorder that changes what it records, phases that are not in order.

import Cluster
import Foundation
import FoundationXML
import Gateway
import Testing

@testable import SimKit

/// Reads a page with a parser that shares nothing with what wrote it.
private final class Reader: NSObject, XMLParserDelegate {
    private(set) var text = ""
    private(set) var elements: [String: Int] = [:]
    private(set) var attributes: [String: Int] = [:]
    private(set) var error: String?

    init(_ page: String) {
        super.init()
        let parser = XMLParser(data: Data(page.utf8))
        parser.delegate = self
        parser.shouldResolveExternalEntities = false
        if !parser.parse() {
            error = "line \(parser.lineNumber): \(String(describing: parser.parserError))"
        }
    }

    func parser(
        _ parser: XMLParser, didStartElement element: String, namespaceURI: String?,
        qualifiedName: String?, attributes given: [String: String]
    ) {
        elements[element, default: 0] += 1
        for name in given.keys { attributes[name, default: 0] += 1 }
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }
}

/// The vertical lines of moments in a drawing, and the names beside them with the room they take.
private final class FlagReader: NSObject, XMLParserDelegate {
    private(set) var lines: [(x: Double, top: Double, bottom: Double)] = []
    private(set) var names: [(text: String, left: Double, right: Double, y: Double)] = []
    private var open: (x: Double, y: Double, isRight: Bool)?
    private var text = ""

    init(_ drawing: Drawing) {
        super.init()
        let parser = XMLParser(data: Data(drawing.svg.utf8))
        parser.delegate = self
        #expect(parser.parse())
    }

    func parser(
        _ parser: XMLParser, didStartElement element: String, namespaceURI: String?,
        qualifiedName: String?, attributes given: [String: String]
    ) {
        func number(_ name: String) -> Double { given[name].flatMap { Double($0) } ?? .nan }
        if element == "line", given["class"] == "flag" {
            lines.append((number("x1"), number("y1"), number("y2")))
        } else if element == "text", given["class"] == "halo" {
            open = (number("x"), number("y"), given["text-anchor"] == "start")
            text = ""
        }
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }

    func parser(
        _ parser: XMLParser, didEndElement element: String, namespaceURI: String?,
        qualifiedName: String?
    ) {
        guard element == "text", let (x, y, isRight) = open else { return }
        // A browser's measure of the widest such names: less than 6 a letter at this size.
        let width = Double(text.count) * 6
        names.append((text, isRight ? x : x - width, isRight ? x + width : x, y))
        open = nil
    }

    /// Names with a line through them, or beyond the edges.
    func struckNames(width: Double) -> [String] {
        names.filter { name in
            name.left < 0 || name.right > width
                || lines.contains {
                    $0.x > name.left && $0.x < name.right && $0.top < name.y && $0.bottom > name.y
                }
        }.map(\.text)
    }
}

@Suite struct ReportTests {
    /// Three nodes, and what is made to go wrong.
    private func run(records: Bool = true, faults: [Fault]) throws -> Simulation {
        var options = SimulationOptions(seed: 7)
        options.nodes = 3
        options.tunnels = 12
        options.identifiers = 16
        options.duration = 2_000_000_000
        options.faults = faults
        options.records = records
        let simulation = try Simulation(options)
        simulation.run()
        return simulation
    }

    private func finder(of simulation: Simulation) -> FailoverFinder {
        FailoverFinder(
            faults: simulation.faults, milestones: simulation.figures.milestones,
            deliveries: simulation.figures.deliveries,
            identifiers: (0..<12).map { simulation.peers.identifier(of: $0).value },
            warmUp: Simulation.warmUpNanoseconds)
    }

    private let crash = [Fault(.crash, at: 300_000_000, duration: 1_000_000_000, node: 2)]

    private func isSelfContained(_ page: String) -> Bool {
        // What could make a browser ask for anything, or run anything.
        let ways = [
            "http", "//", "url(", "@import", "@font-face", "<script", "<link", "<img", "<iframe",
            "<object", "<embed", "src=", "href=", "data:", "javascript",
        ]
        return !ways.contains { page.lowercased().contains($0) }
    }

    @Test func thePageIsWellFormedAndNeedsNothingElse() throws {
        for faults in [crash, []] {
            let page = SimulationReport(try run(faults: faults), command: "spindle simulate").html()
            let reader = Reader(page)
            #expect(reader.error == nil)
            #expect(isSelfContained(page))
            #expect(reader.elements["svg"] == (faults.isEmpty ? 2 : 3))
            #expect(reader.elements["script"] == nil)
            #expect(!reader.attributes.keys.contains { $0.hasPrefix("on") })
            for word in ["node 1", "nobody", "median", "distribution identifier"] {
                #expect(reader.text.contains(word), "\(word)")
            }
        }
    }

    /// The command and the violation are the texts that come from outside.
    @Test func textIsEscaped() throws {
        let hostile = "</code><script>\"'&\u{0}\u{1}\u{FFFE}]]>é✓😀"
        let page = SimulationReport(try run(faults: []), command: hostile).html()
        let reader = Reader(page)
        #expect(reader.error == nil)
        #expect(reader.elements["script"] == nil)
        #expect(reader.text.contains("</code><script>\"'&\u{FFFD}\u{FFFD}\u{FFFD}]]>é✓😀"))
        var drawing = Drawing(width: 1, height: 1, title: "\"><b>")
        drawing.text(0, 0, "<b>&")
        drawing.rectangle(0, 0, 1, 1, "class=\"bar\"", hint: "</title>")
        let shown = Reader(drawing.svg)
        #expect(shown.error == nil && shown.elements["b"] == nil)
        #expect(shown.text.contains("<b>&") && shown.text.contains("</title>"))
    }

    /// A report that changed the run would be about another run.
    @Test func recordingChangesNothing() throws {
        let with = try run(faults: crash)
        let without = try run(records: false, faults: crash)
        #expect(with.figures.traceHash == without.figures.traceHash)
        #expect(with.figures.events == without.figures.events)
        #expect(without.figures.milestones.isEmpty && without.figures.deliveries.isEmpty)
        #expect(UInt64(with.figures.deliveries.count) == with.figures.delivered)
        let again = try run(faults: crash)
        let command = "spindle simulate"
        #expect(
            SimulationReport(with, command: command).html()
                == SimulationReport(again, command: command).html())
    }

    /// What is known beforehand: who died and when, and that each phase needs the one before.
    @Test func aCrashIsOneFailoverWithItsPhasesInOrder() throws {
        let simulation = try run(faults: crash)
        #expect(simulation.violations.isEmpty)
        let warmUp = Simulation.warmUpNanoseconds
        let failovers = finder(of: simulation).find()
        #expect(failovers.count == 1)
        let failover = try #require(failovers.first)
        #expect(failover.removed == [2] && failover.begin == warmUp + crash[0].at)
        #expect(failover.decider != 2 && !failover.moved.isEmpty)
        let suspected = try #require(failover.suspected)
        let inForce = try #require(failover.inForce)
        let first = try #require(failover.firstDelivery)
        let last = try #require(failover.lastTunnel)
        let detection = simulation.options.timing.detectionNanoseconds
        // The last heartbeat was sent up to one interval before the crash, and took its way.
        #expect(suspected >= failover.begin + detection * 2 / 3 - 1)
        #expect(suspected <= failover.begin + detection + 5_000_000)
        #expect(suspected < failover.decided && failover.decided < inForce)
        #expect(inForce <= first && first <= last)
        #expect(failover.tunnels > 0 && failover.tunnels < 12)
    }

    @Test func marksAndNumbers() {
        #expect(Scale(0, 50, on: 0, 1).marks(5) == [0, 10, 20, 30, 40, 50])
        let marks: [Double] = [-40, -20, 0, 20, 40, 60, 80, 100, 120]
        #expect(Scale(-45, 130, on: 0, 1).marks(10) == marks)
        #expect(Scale(20, 5000, on: 0, 1, log: true).marks(0) == [100, 1000])
        let logarithms: [(Double, Double)] = [(1, 0), (1000, 3), (2, 0.301_03), (0.5, -0.301_03)]
        for (value, exact) in logarithms {
            let error: Double = SimKit.log10(value) - exact
            #expect(error.magnitude < 1e-5)
        }
        let places: [(Double, String)] = [
            (0.04, "0"), (-0.04, "0"), (0.06, "0.1"), (-1.26, "-1.3"), (12.96, "13"), (3, "3"),
        ]
        for (value, text) in places { #expect(fixed(value) == text) }
        let numbers: [(Int, String)] = [
            (0, "0"), (999, "999"), (1000, "1 000"), (-1000, "-1 000"), (-100, "-100"),
            (1_234_567, "1 234 567"),
        ]
        for (number, text) in numbers {
            #expect(grouped(number).replacing("\u{202F}", with: " ") == text)
        }
        let colours = (1...24).map(colour(ofNode:))
        #expect(Set(colours).count == 24 && !colours.contains("rgb(255,255,255)"))
    }

    @Test func theHistogramHoldsEveryTunnel() {
        let some: [[UInt64]] = [[0], [1, 5_000_000_000], Array(repeating: 40_000_000, count: 9)]
        for outages in some {
            let reader = Reader(OutageHistogram(outages: outages).drawing().svg)
            #expect(reader.error == nil)
            let counts = reader.text.matches(of: /(\d+) tunnels/).compactMap { Int($0.1) }
            #expect(counts.reduce(0, +) == outages.count)
        }
    }

    // Looked at as a page is: a name that a line crosses can't be read.
    @Test func noLineCrossesAName() throws {
        let ms: UInt64 = 1_000_000
        let some: [[UInt64]] = [
            [10 * ms, 1900 * ms, 1910 * ms, 2000 * ms], [0], [20 * ms, 21 * ms, 22 * ms],
            Array(repeating: 40 * ms, count: 9), [10 * ms, 11 * ms, 12 * ms, 5000 * ms],
            [10 * ms, 90 * ms, 100 * ms],
        ]
        for outages in some {
            let flags = FlagReader(OutageHistogram(outages: outages).drawing())
            #expect(flags.lines.count == 3 && flags.names.count == 3)
            #expect(flags.struckNames(width: 980) == [], "\(outages)")
        }
        let finder = try finder(of: run(faults: crash))
        let failover = try #require(finder.find().first)
        let flags = FlagReader(FailoverTimeline(failover: failover, finder: finder).drawing())
        #expect(flags.names.count >= 6 && flags.struckNames(width: 980) == [])
    }

    // A tunnel that is set up long after the failover did not wait for it.
    @Test func onlyTunnelsThatWaitedComeBack() throws {
        let decision = Milestone(
            time: 100, node: 1, kind: .decided(epoch: 2, removed: [2], added: [], moved: [5]))
        let deliveries = [
            (10, 0), (20, 2), (110, 2), (120, 0), (130, 1), (140, 0), (900, 1),
        ].map { Delivery(time: UInt64($0.0), tunnel: UInt32($0.1), node: 1) }
        let finder = FailoverFinder(
            faults: [], milestones: [decision], deliveries: deliveries, identifiers: [5, 5, 6],
            warmUp: 0)
        let failover = try #require(finder.find().first)
        #expect(failover.tunnels == 1)
        #expect(failover.firstDelivery == 120 && failover.lastTunnel == 120)
    }

    @Test func whatWasDrawnIsNamed() throws {
        var options = SimulationOptions(seed: 7)
        options.nodes = 3
        options.tunnels = 4
        options.duration = 1_000_000_000
        options.faults = []
        options.records = true
        func text() throws -> String {
            let simulation = try Simulation(options)
            simulation.run()
            return Reader(SimulationReport(simulation, command: "").html()).text
        }
        options.drawCards(whenFull: .wait)
        options.backups = 2
        options.tableHoldsOwn = false
        let drawn = try text()
        options.cardContents = .allTunnels
        options.drawCards(whenFull: .serveFromHost)
        options.backups = nil
        options.tableHoldsOwn = true
        let others = try text()
        for (one, other) in [
            ("mode two-tables", "mode replicate-all"), ("when-full wait", "when-full host"),
            ("backups 2", "backups all"), ("table without-own", "table with-own"),
        ] {
            #expect(drawn.contains(one) && !drawn.contains(other), "\(one)")
            #expect(others.contains(other) && !others.contains(one), "\(other)")
        }
    }

    @Test func theLookupFigureShowsBothLines() {
        let figure = LookupFigure(
            measured: [
                .init(entries: 30_000, nanoseconds: 12), .init(entries: 90_000, nanoseconds: 24),
            ], command: "spindle bench lookup")
        let page = figure.html()
        let reader = Reader(page)
        #expect(reader.error == nil && isSelfContained(page))
        #expect(reader.elements["circle"] == 4)
        for word in ["2576 ns", "8718 ns", "12 ns", "24 ns", "takes 2 times", "took 3.4 times"] {
            #expect(reader.text.contains(word), "\(word)")
        }
    }
}
