// Fig. 3 of the patent drawn anew: the time of one search over the number of entries, the patent's
// two points beside those measured here.

/// A page with one figure.
public struct LookupFigure {
    /// Searches in a store of some size.
    public struct Point: Sendable {
        /// Entries of the store.
        public let entries: Int
        /// Nanoseconds for one search.
        public let nanoseconds: Double

        /// A point. Precondition: both are positive.
        public init(entries: Int, nanoseconds: Double) {
            precondition(entries > 0 && nanoseconds > 0)
            self.entries = entries
            self.nanoseconds = nanoseconds
        }
    }

    /// The patent's points 300 and 301.
    public static let patent = [
        Point(entries: 30_000, nanoseconds: 2576), Point(entries: 90_000, nanoseconds: 8718),
    ]

    private let measured: [Point]
    private let command: String

    private static let width = 980.0
    private static let left = 78.0
    private static let right = 950.0
    private static let top = 16.0
    private static let bottom = 430.0

    /// A figure of points in ascending order of entries, at least one. `command` repeats them.
    public init(measured: [Point], command: String) {
        precondition(!measured.isEmpty)
        self.measured = measured
        self.command = command
    }

    /// The page: XML-conformant HTML in UTF-8 that refers to nothing outside.
    public func html() -> String {
        var page = ReportPage(title: "One search in the store: the patent's Fig. 3 drawn anew")
        page.paragraph(
            "How long a node needs to find the entry of a packet among all its entries. In the "
                + "patent's cluster of three nodes every node handles 30 000 tunnels. With its own "
                + "entries only, it searches among 30 000; with everybody's, as in the prior art, "
                + "among 90 000.")
        page.figure(
            drawing(),
            caption: "Both axes are logarithmic: each line of the grid is ten times the one "
                + "before. The patent's machine is of another time, so that the heights can't be "
                + "compared; the slopes can. On a slope of 1, three times the entries cost three "
                + "times the time.")
        var rows = [["entries", "here, ns", "patent, ns"]]
        for entries in Set((measured + Self.patent).map(\.entries)).sorted() {
            func value(_ points: [Point]) -> String {
                points.first { $0.entries == entries }.map { fixed($0.nanoseconds) } ?? "–"
            }
            rows.append([grouped(entries), value(measured), value(Self.patent)])
        }
        page.table(rows, numbers: [0, 1, 2])
        if let own = ratio(measured), let patent = ratio(Self.patent) {
            page.paragraph(
                "From 30 000 to 90 000 entries a search takes \(fixed(own)) times as long here, "
                    + "and took \(fixed(patent)) times as long there.")
        }
        page.command("Measure it again with", command)
        return page.html
    }

    private func ratio(_ points: [Point]) -> Double? {
        guard let few = points.first(where: { $0.entries == 30_000 }),
            let many = points.first(where: { $0.entries == 90_000 })
        else { return nil }
        return many.nanoseconds / few.nanoseconds
    }

    private func drawing() -> Drawing {
        var drawing = Drawing(
            width: Self.width, height: Self.bottom + 46,
            title: "Nanoseconds per search over the number of entries")
        let all = measured + Self.patent
        let entries = scale(all.map { Double($0.entries) }, Self.left, Self.right)
        let time = scale(all.map(\.nanoseconds), Self.bottom, Self.top)
        for mark in entries.marks(0) {
            drawing.line(entries(mark), Self.top, entries(mark), Self.bottom, "class=\"grid\"")
            drawing.text(entries(mark), Self.bottom + 18, grouped(Int(mark)), .middle)
        }
        for mark in time.marks(0) {
            drawing.line(Self.left, time(mark), Self.right, time(mark), "class=\"grid\"")
            drawing.text(Self.left - 8, time(mark) + 4, "\(grouped(Int(mark))) ns", .end)
        }
        drawing.rectangle(
            Self.left, Self.top, Self.right - Self.left, Self.bottom - Self.top, "class=\"frame\"")
        drawing.text((Self.left + Self.right) / 2, Self.bottom + 38, "entries", .middle)
        let middle = (Self.top + Self.bottom) / 2
        drawing.text(
            14, middle, "time of one search", .middle,
            "transform=\"rotate(-90 14 \(fixed(middle)))\"")
        plot(Self.patent, "patent", colour(ofNode: 6), (entries, time), &drawing)
        plot(measured, "Spindle, here", colour(ofNode: 1), (entries, time), &drawing)
        return drawing
    }

    /// Around all values, with room for their names.
    private func scale(_ values: [Double], _ low: Double, _ high: Double) -> Scale {
        Scale(
            (values.min() ?? 1) / 2, (values.max() ?? 1) * 3, on: low, high, log: true)
    }

    private func plot(
        _ points: [Point], _ name: String, _ colour: String, _ scales: (x: Scale, y: Scale),
        _ drawing: inout Drawing
    ) {
        let places = points.map {
            (scales.x(Double($0.entries)), scales.y($0.nanoseconds))
        }
        for (first, second) in zip(places, places.dropFirst()) {
            drawing.line(
                first.0, first.1, second.0, second.1,
                "stroke=\"\(colour)\" stroke-width=\"2\"")
        }
        for (point, (x, y)) in zip(points, places) {
            drawing.circle(x, y, 5, "fill=\"\(colour)\"")
            drawing.text(x, y - 10, "\(fixed(point.nanoseconds)) ns", .middle, "class=\"halo\"")
        }
        if let (x, y) = places.last {
            let isAtEdge = x > Self.right - 100
            drawing.text(
                isAtEdge ? x : x + 12, isAtEdge ? y + 24 : y + 4, name,
                isAtEdge ? .middle : .start, "class=\"halo\" font-weight=\"bold\"")
        }
    }
}
