// Who carried which tunnel at which time.

internal import SimKit

/// One row for each tunnel, one colour for each node.
struct TunnelMap {
    let result: LabResult

    static let left = 58.0
    static let right = 955.0
    private static let width = 980.0

    func drawing() -> Drawing {
        let time = Scale(0, Double(max(result.end, 1)), on: Self.left, Self.right)
        let count = result.tunnels.count
        let rowHeight = min(max(420 / Double(count), 2), 16)
        let top = ScenarioMarks.height
        let bottom = top + rowHeight * Double(count)
        var drawing = Drawing(
            width: Self.width, height: bottom + 40,
            title: "Which node carried which tunnel at which time")
        for tunnel in result.tunnels.indices {
            row(tunnel, time, top + Double(tunnel) * rowHeight, rowHeight, &drawing)
        }
        drawing.rectangle(
            Self.left, top, Self.right - Self.left, bottom - top, "class=\"frame\"")
        ScenarioMarks(result: result, time: time).draw(&drawing, bottom: bottom)
        axis(time, bottom, &drawing)
        let step = max(1, count / 12)
        for tunnel in stride(from: 0, to: count, by: step) {
            drawing.text(
                Self.left - 7, top + (Double(tunnel) + 0.5) * rowHeight + 3.5,
                result.tunnels[tunnel].name, .end, "class=\"small\"")
        }
        return drawing
    }

    private func row(
        _ tunnel: Int, _ time: Scale, _ y: Double, _ height: Double, _ drawing: inout Drawing
    ) {
        let owners = result.owners[tunnel]
        for (place, owner) in owners.enumerated() {
            let end = place + 1 < owners.count ? owners[place + 1].time : result.end
            let x = time(Double(owner.time))
            drawing.rectangle(
                x, y, time(Double(end)) - x, height,
                "fill=\"\(colour(ofNode: owner.node))\" shape-rendering=\"crispEdges\"")
        }
        let silences = result.silences.filter { $0.tunnel == tunnel }
        for silence in silences {
            let x = time(Double(silence.from))
            // However short, it is seen.
            let width = max(time(Double(silence.until)) - x, 1.2)
            let half = height / 2
            drawing.rectangle(
                x, silence.way == .up ? y : y + half, width, half, "fill=\"#fff\"",
                hint: "\(result.tunnels[tunnel].name): nothing for "
                    + "\((silence.until - silence.from) / 1_000_000) ms")
        }
    }
}

/// Seconds below a drawing.
func axis(_ time: Scale, _ bottom: Double, _ drawing: inout Drawing) {
    for mark in time.marks(10) {
        let x = time(mark)
        drawing.line(x, bottom, x, bottom + 5)
        drawing.text(x, bottom + 17, axisTime(mark), .middle)
    }
    drawing.text((time.low + time.high) / 2, bottom + 34, "time of the traffic", .middle)
}
