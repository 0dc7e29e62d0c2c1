// The longest silences of all tunnels, scenario by scenario.

internal import SimKit

/// One row for each scenario, one dot for each tunnel that it hit.
struct SilencePlot {
    let result: LabResult

    private static let width = 980.0
    private static let left = 110.0
    private static let rowHeight = 24.0

    /// Of more scenarios, the same ones share a row.
    private static let rowsMaximum = 30

    private struct Row {
        let name: String
        let tunnels: [TunnelOutcome]
    }

    private var rows: [Row] {
        guard result.scenarios.count > Self.rowsMaximum else {
            return result.scenarios.map { outcome in
                let node = outcome.node.map { " \($0)" } ?? ""
                return Row(name: outcome.scenario.rawValue + node, tunnels: outcome.affected)
            }
        }
        return result.totals.map { total in
            let same = result.scenarios.filter { $0.scenario == total.scenario }
            return Row(
                name: "\(total.scenario.rawValue), \(total.runs)",
                tunnels: same.flatMap(\.affected))
        }
    }

    func drawing() -> Drawing {
        let rows = rows
        let count = Double(rows.count)
        let bottom = 8 + count * Self.rowHeight
        var drawing = Drawing(
            width: Self.width, height: bottom + 40,
            title: "The longest silence of each tunnel in each scenario")
        let all = result.scenarios.flatMap { $0.affected.map(\.outage) }
        let most = Double(max(all.max() ?? 1, 1_000_000_000))
        let least = Double(max(min(all.min() ?? 1, 10_000_000), 1_000_000))
        let silence = Scale(
            least / 1.3, most * 1.3, on: Self.left, TunnelMap.right, log: true)
        for decade in silence.marks(5) {
            for factor in [1.0, 2, 5] where decade * factor <= silence.to {
                let x = silence(decade * factor)
                drawing.line(x, 8, x, bottom, "class=\"grid\"")
                drawing.text(x, bottom + 16, axisTime(decade * factor), .middle)
            }
        }
        for (number, row) in rows.enumerated() {
            let y = 8 + (Double(number) + 0.5) * Self.rowHeight
            drawing.text(Self.left - 9, y + 4, row.name, .end)
            drawing.line(Self.left, y, TunnelMap.right, y, "class=\"wire\"")
            for tunnel in row.tunnels {
                drawing.circle(
                    silence(Double(tunnel.outage)), y, 3.6,
                    "fill=\"rgb(0,114,178)\" fill-opacity=\".55\"",
                    hint: "\(result.tunnels[tunnel.tunnel].name): "
                        + "\(tunnel.outage / 1_000_000) ms")
            }
            let median = OutageSummary(row.tunnels.map(\.outage)).median
            let x = silence(Double(max(median, 1)))
            drawing.line(x, y - 8, x, y + 8, "class=\"rule\"")
        }
        drawing.text(
            (Self.left + TunnelMap.right) / 2, bottom + 34,
            "longest time without a packet (logarithmic); line: median", .middle)
        return drawing
    }
}
