// How long the users of the tunnels waited, as a histogram over a logarithmic axis: most waits are
// short and a few are very long.

/// Draws a distribution of times.
struct OutageHistogram {
    /// Nanoseconds, in any order, at least one.
    let outages: [UInt64]

    private static let width = 980.0
    private static let left = 58.0
    private static let right = 964.0
    private static let top = 66.0
    private static let height = 180.0
    private static let binsPerDecade = 10.0

    func drawing() -> Drawing {
        var drawing = Drawing(
            width: Self.width, height: Self.top + Self.height + 44,
            title: "How many tunnels waited how long")
        let values = outages.map { Double(max($0, 1000)) }
        let first = (log10(values.min() ?? 1000) * Self.binsPerDecade).rounded(.down)
        let last = (log10(values.max() ?? 1000) * Self.binsPerDecade).rounded(.down) + 1
        // Never less than one decade: a single bar over the whole width tells nothing.
        let spare = max(0, Self.binsPerDecade - (last - first)) / 2
        let (from, to) = (first - spare.rounded(.down), last + spare.rounded(.up))
        let time = Scale(from, to, on: Self.left, Self.right)
        var bins = [Int](repeating: 0, count: Int(to - from))
        for value in values {
            let bin = Int((log10(value) * Self.binsPerDecade).rounded(.down) - from)
            bins[min(max(bin, 0), bins.count - 1)] += 1
        }
        let bottom = Self.top + Self.height
        let count = Scale(0, Double(max(bins.max() ?? 1, 1)), on: bottom, Self.top)
        for mark in count.marks(4) {
            drawing.line(Self.left, count(mark), Self.right, count(mark), "class=\"grid\"")
            drawing.text(Self.left - 7, count(mark) + 4, "\(Int(mark))", .end)
        }
        for (bin, tunnels) in bins.enumerated() where tunnels > 0 {
            let x = time(from + Double(bin))
            let y = count(Double(tunnels))
            drawing.rectangle(
                x + 1, y, time(from + Double(bin) + 1) - x - 2, bottom - y, "class=\"bar\"",
                hint: "\(tunnels) tunnels")
        }
        axis(time, bottom, &drawing)
        marks(time, bottom, &drawing)
        return drawing
    }

    private func axis(_ time: Scale, _ bottom: Double, _ drawing: inout Drawing) {
        drawing.line(Self.left, bottom, Self.right, bottom)
        var decade = 1000.0
        while decade < 1e13 {
            for factor in [1.0, 2, 5] {
                let place = log10(decade * factor) * Self.binsPerDecade
                guard place >= time.from - 0.001, place <= time.to + 0.001 else { continue }
                let x = time(place)
                drawing.line(x, bottom, x, bottom + 5)
                drawing.text(x, bottom + 17, axisTime(decade * factor), .middle)
            }
            decade *= 10
        }
        drawing.text(
            (Self.left + Self.right) / 2, bottom + 36,
            "longest time without a delivery (logarithmic)", .middle)
        let middle = Self.top + Self.height / 2
        drawing.text(
            13, middle, "tunnels", .middle, "transform=\"rotate(-90 13 \(fixed(middle)))\"")
    }

    /// Lines with names, at one side of the lines if there is room: the nearer a line is to that
    /// side, the higher is its name, so that no line crosses another one's name.
    private func marks(_ time: Scale, _ bottom: Double, _ drawing: inout Drawing) {
        let summary = OutageSummary(outages)
        var marks = [
            ("median", summary.median), ("p99", summary.percentile99), ("max", summary.maximum),
        ].map { name, value in
            let x = time(log10(Double(max(value, 1000))) * Self.binsPerDecade)
            return (x: x, text: "\(name) \(Fault.time(value))")
        }
        let room = 8 + 6.2 * Double(marks.map(\.text.count).max() ?? 0)
        let isRight = marks.allSatisfy { $0.x + room <= Self.right }
        if !isRight { marks.reverse() }
        let rows = marks.indices.map { Double($0) * 18 + 16 }
        for (mark, y) in zip(marks, rows) {
            drawing.line(mark.x, y - 9, mark.x, bottom, "class=\"flag\"")
        }
        for (mark, y) in zip(marks, rows) {
            let goesRight = isRight || mark.x < room
            drawing.text(
                mark.x + (goesRight ? 5 : -5), y + 1, mark.text, goesRight ? .start : .end,
                "class=\"halo\"")
        }
    }
}
