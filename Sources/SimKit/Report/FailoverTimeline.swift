// One failover under the magnifying glass: its moments as flags, and below them every packet that
// the moved tunnels delivered.

/// Draws one failover.
struct FailoverTimeline {
    let failover: Failover
    let finder: FailoverFinder

    private static let width = 980.0
    private static let left = 84.0
    private static let right = 964.0
    private static let flagHeight = 20.0
    private static let rowHeight = 15.0
    private static let rowsMaximum = 16

    /// A moment with a name.
    struct Moment {
        let time: UInt64
        let text: String
    }

    /// The moments in the order in which they come.
    var moments: [Moment] {
        let begin = failover.begin
        let names = failover.removed.map { "node \($0)" }.joined(separator: ", ")
        var moments: [Moment] = []
        func add(_ time: UInt64?, _ text: String) {
            guard let time else { return }
            let after = time > begin ? "+\(Fault.time(time - begin)): " : ""
            moments.append(Moment(time: time, text: after + text))
        }
        if let cause = failover.cause { add(begin, cause.words) }
        add(failover.suspected, "\(names) suspected")
        add(failover.decided, "decided in the store (epoch \(failover.epoch))")
        add(failover.inForce, "in force at the first new owner")
        if failover.allInForce != failover.inForce {
            add(failover.allInForce, "in force at all new owners")
        }
        add(failover.firstDelivery, "first packet of a moved tunnel")
        add(failover.lastTunnel, "last moved tunnel back (of \(failover.tunnels))")
        return moments.enumerated()
            .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }
            .map(\.element)
    }

    private var window: (from: UInt64, until: UInt64) {
        let last = moments.last?.time ?? failover.decided
        // Tunnels that come back very late would squeeze what matters.
        let most = failover.begin + max(failover.duration * 4, 40_000_000)
        let until = min(last, most)
        let margin = max((until - failover.begin) / 5, 5_000_000)
        // To the right of the last line there must be room for its name: names to the left would
        // be crossed by the lines before.
        return (failover.begin - min(margin, failover.begin), until + 3 * margin)
    }

    private var tunnels: [Int] {
        var isShown = [Bool](repeating: false, count: finder.identifiers.count)
        let (from, until) = window
        for delivery in finder.deliveries[finder.lowerBound(from)...] {
            guard delivery.time < until else { break }
            isShown[Int(delivery.tunnel)] = true
        }
        let moved = finder.identifiers.indices.filter {
            isShown[$0] && failover.moved.contains(finder.identifiers[$0])
        }
        guard moved.count > Self.rowsMaximum else { return moved }
        return (0..<Self.rowsMaximum).map { moved[$0 * moved.count / Self.rowsMaximum] }
    }

    func drawing() -> Drawing {
        let (from, until) = window
        let tunnels = tunnels
        let shown = moments.filter { $0.time <= until }
        let top = Double(shown.count) * Self.flagHeight + 12
        let bottom = top + Double(max(tunnels.count, 1)) * Self.rowHeight + 6
        var drawing = Drawing(
            width: Self.width, height: bottom + 40, title: "The phases of one failover")
        let time = Scale(Double(from), Double(until), on: Self.left, Self.right)
        let phases = [failover.begin, failover.suspected, failover.decided, failover.firstDelivery]
            .compactMap { $0 }
        for (number, phase) in phases.dropLast().enumerated() {
            let (x, next) = (time(Double(phase)), time(Double(phases[number + 1])))
            drawing.rectangle(
                x, top, next - x, bottom - top,
                "class=\"\(number % 2 == 0 ? "phase" : "phase next")\"")
        }
        for (row, tunnel) in tunnels.enumerated() {
            draw(tunnel, top + (Double(row) + 0.5) * Self.rowHeight + 3, time, &drawing)
        }
        // All lines before all names, so that no line crosses a name.
        for (row, moment) in shown.enumerated() {
            let x = time(Double(moment.time))
            drawing.line(x, Double(row) * Self.flagHeight + 6, x, bottom, "class=\"flag\"")
        }
        for (row, moment) in shown.enumerated() { name(moment, row, time, &drawing) }
        let around = Scale(
            Double(from) - Double(failover.begin), Double(until) - Double(failover.begin),
            on: Self.left, Self.right)
        drawing.line(Self.left, bottom, Self.right, bottom)
        for mark in around.marks(10) {
            drawing.line(around(mark), bottom, around(mark), bottom + 5)
            drawing.text(around(mark), bottom + 17, axisTime(mark), .middle)
        }
        let origin = failover.cause == nil ? "the first suspicion" : "the fault"
        drawing.text(
            (Self.left + Self.right) / 2, bottom + 34, "time since \(origin)", .middle)
        return drawing
    }

    private func draw(_ tunnel: Int, _ y: Double, _ time: Scale, _ drawing: inout Drawing) {
        drawing.text(Self.left - 10, y + 4, "tunnel \(tunnel)", .end)
        drawing.line(Self.left, y, Self.right, y, "class=\"wire\"")
        var node: UInt16 = 0
        for delivery in finder.deliveries[finder.lowerBound(UInt64(time.from))...] {
            guard delivery.time < UInt64(time.to) else { break }
            guard delivery.tunnel == tunnel else { continue }
            let x = time(Double(delivery.time))
            drawing.circle(
                x, y, 3.2, "fill=\"\(colour(ofNode: Int(delivery.node)))\"",
                hint: "delivered by node \(delivery.node)")
            // Not by colour alone: the number stands where the owner changes.
            if node != delivery.node {
                drawing.text(x, y - 3.6, "\(delivery.node)", .middle, "class=\"tiny\"")
            }
            node = delivery.node
        }
    }

    /// The name of a moment, on the side of its line where there is room.
    private func name(_ moment: Moment, _ row: Int, _ time: Scale, _ drawing: inout Drawing) {
        let x = time(Double(moment.time))
        let y = Double(row) * Self.flagHeight + 15
        if x + Double(moment.text.count) * 6.2 + 8 > Self.right {
            drawing.text(x - 5, y, moment.text, .end, "class=\"halo\"")
        } else {
            drawing.text(x + 5, y, moment.text, .start, "class=\"halo\"")
        }
    }
}
