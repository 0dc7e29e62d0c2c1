// The moments of a failover: every tunnel that was hit, from shortly before until shortly after.

internal import SimKit

/// One scenario's beginning, drawn large.
struct CloseUp {
    let result: LabResult
    let outcome: ScenarioOutcome

    private static let width = 980.0
    private static let before: UInt64 = 50_000_000
    private static let span: UInt64 = 500_000_000

    /// Nil when no tunnel fell silent.
    func drawing() -> Drawing? {
        let places = Set(outcome.affected.map(\.tunnel))
        let all = result.silences.filter {
            places.contains($0.tunnel) && $0.until > outcome.begin && $0.from < outcome.end
        }
        // What begins much later is another story.
        guard let begin = all.map(\.from).min() else { return nil }
        let silences = all.filter { $0.from < begin + Self.span }
        guard let last = silences.map(\.until).max() else { return nil }
        let rows = places.sorted()
        let isSoon = begin < outcome.begin + Self.span
        let from = max(isSoon ? min(begin, outcome.begin) : begin, Self.before) - Self.before
        let until = max(last + (last - from) / 10, from + 1)
        let time = Scale(
            0, Double(until - from), on: TunnelMap.left, TunnelMap.right)
        let rowHeight = min(max(240 / Double(rows.count), 3), 18)
        let top = 30.0
        let bottom = top + rowHeight * Double(rows.count)
        var drawing = Drawing(
            width: Self.width, height: bottom + 40, title: "Silences after \(outcome.scenario)")
        for (row, tunnel) in rows.enumerated() {
            let y = top + Double(row) * rowHeight
            band(tunnel, from, until, time, y, rowHeight, &drawing)
            for silence in silences where silence.tunnel == tunnel {
                let x = time(Double(silence.from - min(from, silence.from)))
                drawing.rectangle(
                    x, silence.way == .up ? y : y + rowHeight / 2,
                    time(Double(silence.until - from)) - x, rowHeight / 2 - 0.5,
                    "fill=\"#fff\"",
                    hint: "\((silence.until - silence.from) / 1_000_000) ms")
            }
            if rows.count <= 24 {
                drawing.text(
                    TunnelMap.left - 7, y + rowHeight / 2 + 3.5, result.tunnels[tunnel].name,
                    .end, "class=\"small\"")
            }
        }
        steps(from, until, time, bottom, &drawing)
        drawing.rectangle(
            TunnelMap.left, top, TunnelMap.right - TunnelMap.left, bottom - top,
            "class=\"frame\"")
        for mark in time.marks(10) {
            drawing.line(time(mark), bottom, time(mark), bottom + 5)
            drawing.text(time(mark), bottom + 17, axisTime(mark), .middle)
        }
        return drawing
    }

    /// Who carried it.
    private func band(
        _ tunnel: Int, _ from: UInt64, _ until: UInt64, _ time: Scale, _ y: Double,
        _ height: Double, _ drawing: inout Drawing
    ) {
        let owners = result.owners[tunnel]
        for (place, owner) in owners.enumerated() {
            let begin = max(owner.time, from)
            let end = min(place + 1 < owners.count ? owners[place + 1].time : until, until)
            guard begin < end else { continue }
            let x = time(Double(begin - from))
            drawing.rectangle(
                x, y, time(Double(end - from)) - x, height - 0.5,
                "fill=\"\(colour(ofNode: owner.node))\"")
        }
    }

    private func steps(
        _ from: UInt64, _ until: UInt64, _ time: Scale, _ bottom: Double,
        _ drawing: inout Drawing
    ) {
        let steps = outcome.steps.filter { $0.time >= from && $0.time <= until }
        for (number, step) in steps.enumerated() {
            let x = time(Double(step.time - from))
            let y = 10 + Double(number % 2) * 12
            drawing.line(x, y - 6, x, bottom, "class=\"flag\"")
            let isLeft = x > (TunnelMap.left + TunnelMap.right) / 2
            drawing.text(
                isLeft ? x - 4 : x + 4, y, step.text, isLeft ? .end : .start,
                "class=\"small\"")
        }
    }
}
