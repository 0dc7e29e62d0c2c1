// The map of a run: who served which identifier at which time, under the faults that were made.

/// Draws who served what.
struct OwnershipMap {
    let figures: SimulationFigures
    let faults: [Fault]
    let identifiers: Int
    /// What fault times count from.
    let warmUp: UInt64
    /// Where the run ended, on the same clock as the figures.
    let end: UInt64

    private static let width = 980.0
    private static let left = 58.0
    private static let right = 955.0
    private static let laneHeight = 15.0
    /// Nobody serving is never drawn narrower, however short.
    private static let gapMinimum = 1.5

    private var time: Scale {
        Scale(0, Double(max(end, warmUp + 1) - warmUp), on: Self.left, Self.right)
    }

    private func place(_ moment: UInt64) -> Double {
        time(Double(max(moment, warmUp) - warmUp))
    }

    func drawing() -> Drawing {
        let lanes = packed()
        let top = Double((lanes.map(\.lane).max() ?? -1) + 1) * Self.laneHeight + 10
        let rowHeight = min(max(300 / Double(identifiers), 1.5), 12)
        let mapHeight = rowHeight * Double(identifiers)
        var drawing = Drawing(
            width: Self.width, height: top + mapHeight + 40,
            title: "Which node served which distribution identifier at which time")
        for (number, path) in paths(top, rowHeight).enumerated() where !path.isEmpty {
            drawing.path(
                path, "fill=\"\(colour(ofNode: number + 1))\" shape-rendering=\"crispEdges\"")
        }
        drawing.rectangle(
            Self.left, top, Self.right - Self.left, mapHeight, "class=\"frame\"")
        for fault in lanes { draw(fault, top + mapHeight, &drawing) }
        axes(top, rowHeight, mapHeight, &drawing)
        return drawing
    }

    /// One path for each node, made of one box for each time that it served an identifier.
    private func paths(_ top: Double, _ rowHeight: Double) -> [String] {
        let nodes = figures.ownership.flatMap(\.owners).max() ?? 0
        var paths = [String](repeating: "", count: Int(nodes))
        let samples = figures.ownership
        // Edges at whole tenths, as they are written: rows that touch leave no seam.
        let edges = (0...identifiers).map {
            ((top + Double($0) * rowHeight) * 10).rounded() / 10
        }
        for row in 0..<identifiers {
            let height = fixed(edges[row + 1] - edges[row])
            var number = 0
            var left = Self.left
            while number < samples.count {
                let owner = samples[number].owners[row]
                var next = number + 1
                while next < samples.count, samples[next].owners[row] == owner { next += 1 }
                let right = next < samples.count ? place(samples[next].time) : Self.right
                number = next
                if owner == 0 {
                    left = min(max(right, left + Self.gapMinimum), Self.right)
                } else if right > left {
                    paths[Int(owner) - 1] +=
                        "M\(fixed(left)) \(fixed(edges[row]))H\(fixed(right))v\(height)"
                        + "H\(fixed(left))z"
                    left = right
                }
            }
        }
        return paths
    }

    // MARK: Faults

    private struct Placed {
        let fault: Fault
        let lane: Int
        let x: Double
        let width: Double
        /// The name stands to the left of the bar, as there is no room to the right.
        let isLeft: Bool
    }

    /// Faults in as few lanes as their bars and names allow. Restarts are ends of bars.
    private func packed() -> [Placed] {
        var ends: [Double] = []
        return faults.filter { $0.kind != .restart && place($0.at + warmUp) < Self.right }.map {
            fault in
            let x = place(fault.at + warmUp)
            let width = max(place(fault.end + warmUp) - x, 3)
            let text = Double(fault.shortName.count) * 5.6 + 8
            let isLeft = x + width + text > Self.right && x - text > Self.left
            let from = isLeft ? x - text : x
            let until = isLeft ? x + width : x + width + text
            let lane = ends.firstIndex { $0 <= from } ?? ends.count
            if lane == ends.count { ends.append(until) } else { ends[lane] = until }
            return Placed(fault: fault, lane: lane, x: x, width: width, isLeft: isLeft)
        }
    }

    private func draw(_ placed: Placed, _ bottom: Double, _ drawing: inout Drawing) {
        let y = Double(placed.lane) * Self.laneHeight + 3
        drawing.line(placed.x, y + 9, placed.x, bottom, "class=\"guide\"")
        drawing.rectangle(
            placed.x, y, placed.width, 9, "class=\"fault\"", hint: placed.fault.description)
        if placed.isLeft {
            drawing.text(placed.x - 4, y + 8.5, placed.fault.shortName, .end, "class=\"small\"")
        } else {
            drawing.text(
                placed.x + placed.width + 4, y + 8.5, placed.fault.shortName, .start,
                "class=\"small\"")
        }
    }

    private func axes(
        _ top: Double, _ rowHeight: Double, _ height: Double, _ drawing: inout Drawing
    ) {
        for mark in time.marks(10) {
            let x = time(mark)
            drawing.line(x, top + height, x, top + height + 5)
            drawing.text(x, top + height + 17, axisTime(mark), .middle)
        }
        drawing.text((Self.left + Self.right) / 2, top + height + 34, "virtual time", .middle)
        for row in [0, identifiers / 4, identifiers / 2, identifiers * 3 / 4, identifiers - 1] {
            let y = top + (Double(row) + 0.5) * rowHeight
            drawing.line(Self.left - 4, y, Self.left, y)
            drawing.text(Self.left - 8, y + 3.5, "\(row)", .end)
        }
        let middle = top + height / 2
        drawing.text(
            13, middle, "distribution identifier", .middle,
            "transform=\"rotate(-90 13 \(fixed(middle)))\"")
    }
}

extension Fault {
    /// What and whom, as short as can be.
    var shortName: String {
        switch kind {
        case .crash: "crash \(node)"
        case .restart: "restart \(node)"
        case .pause: "pause \(node)"
        case .partition: other == 0 ? "cut off \(node)" : "cut \(node)–\(other)"
        case .oneWay: other == 0 ? "mute \(node)" : "mute \(node)→\(other)"
        case .storePartition: "store cut from \(node)"
        case .storeOutage: "store away"
        case .storeSlow: "store slow"
        case .storeCompaction: "store forgets, watch \(node)"
        case .loss: "loss" + links
        case .delay: "delay" + links
        case .duplicate: "duplicates" + links
        case .reorder: "reordering" + links
        case .burst: "clog" + links
        case .drift: "clock \(node)"
        case .cardFull: "card full \(node)"
        case .cardReset: "card reset \(node)"
        case .multiCrash: "crash " + nodes.map(String.init).joined(separator: ", ")
        case .clusterRestart: "all crash"
        case .drain: "drain \(node)"
        case .join: "join \(node)"
        case .replayAttack: "replay attack"
        }
    }

    /// The description without its time.
    var words: String { String(description.drop { $0 != ":" }.dropFirst(2)) }

    private var links: String { node == 0 ? "" : " \(node)→\(other)" }
}
