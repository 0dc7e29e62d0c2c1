// A lab's result as a page for people: what happened, who carried what when, and what the tunnels
// noticed of it.

internal import SimKit

extension LabResult {
    /// A page that needs nothing but itself. `command`: what to type to see it again.
    public func page(command: String) -> String {
        var page = ReportPage(title: "What \(options.tunnels) tunnels noticed")
        verdict(&page)
        page.command("Again:", command)
        page.heading("Who carried which tunnel")
        page.figure(
            TunnelMap(result: self).drawing(),
            caption: "Each row is a tunnel, each colour the node that sent its packets into the "
                + "protected network, as the server there saw it. White: nothing came; above from "
                + "the peer, below to the peer. Dashed: something was done to a node.")
        page.legend(
            (1...options.nodes).map { (colour: colour(ofNode: $0), name: "node \($0)") })
        page.heading("How long packets took")
        page.figure(
            LatencyPlot(result: self).drawing(),
            caption: "All packets by the time they left, in slices of 100 ms: half took no longer "
                + "than the lower line, none longer than the upper edge of the area. Bars at the "
                + "bottom: packets that never came.")
        page.heading("The longest silence of each tunnel")
        page.figure(
            SilencePlot(result: self).drawing(),
            caption: "One dot for each tunnel whose node was hit (for all where none was), the "
                + "worse of its two ways. Packets leave every \(period) ms: nothing is less.")
        closeUps(&page)
        tables(&page)
        return page.html
    }

    private var period: String {
        let tenths = 10_000 / options.rate
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    }

    private func verdict(_ page: inout ReportPage) {
        let wrong = scenarios.flatMap { outcome in
            outcome.violations.map { "\(outcome.scenario.rawValue): \($0)" }
        }
        if let failure { page.paragraph("Ended too early: \(failure)", class: "verdict bad") }
        if !wrong.isEmpty {
            page.paragraph("Not as it must be.", class: "verdict bad")
            page.list(wrong)
        } else if failure == nil {
            page.paragraph(
                "All as it must be: every tunnel went on, no packet came twice, and no peer had "
                    + "to negotiate anything that nobody asked for.", class: "verdict good")
        }
        let all = scenarios.flatMap(\.tunnels)
        let outages = OutageSummary(
            scenarios.filter { $0.node != nil }.flatMap { $0.affected.map(\.outage) })
        page.figures([
            (options.nodes == 1 ? "1 alone" : "\(options.nodes)", "nodes"),
            ("\(options.tunnels)", "tunnels"),
            (grouped(all.reduce(0) { $0 + $1.up.sent + $1.down.sent }), "packets sent"),
            (grouped(all.reduce(0) { $0 + $1.lost }), "lost"),
            (grouped(all.reduce(0) { $0 + $1.twice }), "came twice"),
            ("\(outages.median / 1_000_000) ms", "median silence of tunnels hit"),
            ("\(outages.maximum / 1_000_000) ms", "worst"),
        ])
    }

    private func closeUps(_ page: inout ReportPage) {
        var drawn: Set<Scenario> = []
        for outcome in scenarios where outcome.node != nil {
            guard drawn.insert(outcome.scenario).inserted else { continue }
            let drawing = CloseUp(result: self, outcome: outcome).drawing()
            guard let drawing else { continue }
            page.heading(
                "Close-up: \(outcome.scenario.rawValue), node \(outcome.node ?? 0)")
            page.figure(
                drawing,
                caption: outcome.scenario.help + ". Bars: nothing came, above from the peer, "
                    + "below to the peer.")
        }
    }

    private func tables(_ page: inout ReportPage) {
        page.heading("Figures")
        page.table(
            [
                [
                    "scenario", "runs", "median silence ms", "p99 ms", "worst ms", "lost up",
                    "lost down", "twice", "new keys", "set up again", "wrong",
                ]
            ]
                + totals.map {
                    [
                        $0.scenario.rawValue, "\($0.runs)", "\($0.outages.median / 1_000_000)",
                        "\($0.outages.percentile99 / 1_000_000)",
                        "\($0.outages.maximum / 1_000_000)", "\($0.lostUp)", "\($0.lostDown)",
                        "\($0.twice)", "\($0.rekeys)", "\($0.authentications)", "\($0.wrong)",
                    ]
                }, numbers: Set(1...10))
        if scenarios.count <= Self.scenariosInFull { tunnelTable(&page) }
        page.heading("Tunnels")
        page.table(
            [["tunnel", "daemon", "peer", "behind it"]]
                + tunnels.map { [$0.name, $0.peer, $0.outer, $0.inner] }, numbers: [])
    }

    /// More of them would make a page that nobody reads.
    private static let scenariosInFull = 24

    private func tunnelTable(_ page: inout ReportPage) {
        var rows = [
            [
                "tunnel", "hit", "silence ms", "lost up", "lost down", "twice", "late",
                "median ms", "p99 ms", "new keys", "set up again", "carried by",
            ]
        ]
        for outcome in scenarios {
            let worst = OutageSummary(outcome.affected.map(\.outage)).maximum / 1_000_000
            rows.append(["\(outcome.scenario.rawValue): worst \(worst) ms"])
            rows += outcome.tunnels.map { row($0) }
        }
        page.table(rows, numbers: Set(2...10))
    }

    private func row(_ tunnel: TunnelOutcome) -> [String] {
        let late = tunnel.up.late + tunnel.down.late
        return [
            tunnels[tunnel.tunnel].name, tunnel.isHit ? "yes" : "",
            "\(tunnel.outage / 1_000_000)", "\(tunnel.up.lost)", "\(tunnel.down.lost)",
            "\(tunnel.twice)", "\(late)",
            hundredths(max(tunnel.up.latencyMedian, tunnel.down.latencyMedian)),
            hundredths(max(tunnel.up.latency99, tunnel.down.latency99)),
            "\(tunnel.rekeys)", "\(tunnel.authentications)",
            tunnel.owners.map { "\($0.node)" }.joined(separator: " → "),
        ]
    }

    /// Milliseconds with two digits behind the point.
    private func hundredths(_ nanoseconds: UInt64) -> String {
        let value = nanoseconds / 10_000
        return "\(value / 100).\(value / 10 % 10)\(value % 10)"
    }
}

/// Marks what was done to nodes, with numbers that a list below could not explain better than the
/// names themselves.
struct ScenarioMarks {
    let result: LabResult
    let time: Scale

    /// Bands with names at the top of a drawing, and lines down to `bottom`.
    func draw(_ drawing: inout Drawing, bottom: Double) {
        var lanes: [Double] = []
        for outcome in result.scenarios {
            let x = time(Double(outcome.begin))
            let name = outcome.scenario.rawValue + (outcome.node.map { " \($0)" } ?? "")
            let width = Double(name.count) * 6 + 8
            let lane = lanes.firstIndex { $0 <= x } ?? lanes.count
            if lane == lanes.count { lanes.append(x + width) } else { lanes[lane] = x + width }
            let y = 11 + Double(min(lane, 2)) * 12
            drawing.text(x + 2, y, name, .start, "class=\"small\"")
            drawing.line(x, y - 8, x, bottom, "class=\"guide\"")
        }
    }

    static let height = 40.0
}
