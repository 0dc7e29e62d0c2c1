// How long packets took, over the whole run.

internal import SimKit

/// Medians and maxima on a logarithmic scale, with losses.
struct LatencyPlot {
    let result: LabResult

    private static let width = 980.0
    private static let height = 230.0
    private static let lossHeight = 50.0

    func drawing() -> Drawing {
        let top = ScenarioMarks.height
        let bottom = top + Self.height
        let end = bottom + 12 + Self.lossHeight
        var drawing = Drawing(
            width: Self.width, height: end + 40,
            title: "How long packets took, and how many were lost")
        let time = Scale(
            0, Double(max(result.end, 1)), on: TunnelMap.left, TunnelMap.right)
        let slices = result.slices.filter { $0.sent > 0 }
        let values = slices.filter { $0.latencyMaximum > 0 }
        let most = Double(max(values.map(\.latencyMaximum).max() ?? 1, 10_000_000))
        let latency = Scale(10_000, most * 1.3, on: bottom, top, log: true)
        for mark in latency.marks(5) {
            drawing.line(
                TunnelMap.left, latency(mark), TunnelMap.right, latency(mark), "class=\"grid\"")
            drawing.text(TunnelMap.left - 7, latency(mark) + 4, axisTime(mark), .end)
        }
        let above = values.map { (time(Double($0.time)), latency(Double($0.latencyMaximum))) }
        let between = values.map { (time(Double($0.time)), latency(Double($0.latency99))) }
        let below = values.map { (time(Double($0.time)), latency(Double($0.latencyMedian))) }
        drawing.path(Self.area(above, below), "fill=\"rgb(86,180,233)\" opacity=\".35\"")
        drawing.path(Self.area(between, below), "fill=\"rgb(86,180,233)\" opacity=\".5\"")
        drawing.path(
            Self.line(below), "fill=\"none\" stroke=\"rgb(0,114,178)\" stroke-width=\"1.2\"")
        losses(slices, time, end, &drawing)
        drawing.rectangle(
            TunnelMap.left, top, TunnelMap.right - TunnelMap.left, Self.height,
            "class=\"frame\"")
        ScenarioMarks(result: result, time: time).draw(&drawing, bottom: end)
        axis(time, end, &drawing)
        return drawing
    }

    private func losses(
        _ slices: [TrafficSlice], _ time: Scale, _ bottom: Double, _ drawing: inout Drawing
    ) {
        let most = Double(max(slices.map(\.lost).max() ?? 1, 1))
        for slice in slices where slice.lost > 0 {
            let height = max(Double(slice.lost) / most * Self.lossHeight, 1)
            drawing.rectangle(
                time(Double(slice.time)), bottom - height, 1.4, height, "fill=\"rgb(213,94,0)\"",
                hint: "\(slice.lost) of \(slice.sent) lost")
        }
        drawing.line(TunnelMap.left, bottom, TunnelMap.right, bottom)
        drawing.text(
            TunnelMap.left - 7, bottom - Self.lossHeight / 2 + 4, "lost", .end)
    }

    private static func line(_ points: [(Double, Double)]) -> String {
        points.enumerated().map { ($0 == 0 ? "M" : "L") + "\(fixed($1.0)) \(fixed($1.1))" }
            .joined()
    }

    private static func area(
        _ above: [(Double, Double)], _ below: [(Double, Double)]
    ) -> String {
        above.isEmpty ? "" : line(above + below.reversed()) + "z"
    }
}
