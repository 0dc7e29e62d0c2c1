// Draws what goes wrong in a run. A plan follows from the seed alone, and leaves the last part of
// the run quiet, so that checkers can tell what must have healed by then.

/// Makes lists of faults.
public enum FaultPlan {
    /// No fault begins or lasts beyond this part of the run, in per cent.
    public static let busyPercent: UInt64 = 60
    /// The most faults of a plan, without the restarts.
    public static let faultsMaximum = 64
    /// One fault per so many nanoseconds of the busy part, about.
    private static let nanosecondsPerFault: UInt64 = 250_000_000
    /// The longest fault.
    private static let durationMaximum: UInt64 = 5_000_000_000
    /// Nodes that may join, beyond those that were there.
    private static let joinsMaximum = 2

    /// Faults of some kinds for nodes 1...`nodes` and a run of `duration` nanoseconds, by time.
    ///
    /// Two faults of one kind never hit the same node or link at the same time, so that the end of
    /// one does not end the other. A node that is stopped (`crash`, `pause`, `multiCrash`,
    /// `clusterRestart`) or drained is not stopped or drained again meanwhile. Two nodes are not
    /// away by `crash` at once, which is `multiCrash`, nor drained at once. Kinds that need two
    /// nodes are left out when there is one. `restart` follows from the others, wanted or not. The
    /// order of `kinds` counts. Precondition: 1 to 62 nodes.
    public static func draw(
        _ random: SimulationRandom, kinds: [FaultKind], nodes: Int, duration: UInt64
    ) -> [Fault] {
        precondition((1...64 - joinsMaximum).contains(nodes))
        let usable = kinds.filter { $0 != .restart && (nodes > 1 || !$0.needsTwoNodes) }
        let busy = duration / 100 * busyPercent
        guard !usable.isEmpty, busy > 0 else { return [] }
        var stream = random.fork(0)
        let most = min(max(2 * busy / nanosecondsPerFault, 2), UInt64(faultsMaximum))
        let count = Int(stream.between(1, most))
        var plan = Plan(nodes: nodes, busy: busy)
        for number in 0..<count {
            // Each from a stream of its own: one fault does not shift those after it.
            var stream = random.fork(UInt64(number) + 1)
            let kind = usable[Int(stream.below(UInt64(usable.count)))]
            plan.add(kind, &stream)
        }
        return plan.sorted
    }

    private struct Plan {
        let nodes: Int
        let busy: UInt64
        var faults: [Fault] = []
        var joins = 0

        init(nodes: Int, busy: UInt64) {
            self.nodes = nodes
            self.busy = busy
        }

        /// By time; of equal times, in the order they were drawn.
        var sorted: [Fault] {
            faults.enumerated()
                .sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }
                .map(\.element)
        }

        /// Adds a fault of this kind, if there is still room for one.
        mutating func add(_ kind: FaultKind, _ stream: inout SimulationRandom) {
            if kind == .join, joins == joinsMaximum { return }
            for _ in 0..<8 {
                var fault = drawTimes(kind, &stream)
                drawTargets(&fault, &stream)
                drawAmount(&fault, &stream)
                guard !faults.contains(where: { $0.conflicts(with: fault) }) else { continue }
                if kind == .join { joins += 1 }
                faults.append(fault)
                addRestarts(after: fault, &stream)
                return
            }
        }

        private func drawTimes(_ kind: FaultKind, _ stream: inout SimulationRandom) -> Fault {
            guard kind.lasts else {
                return Fault(kind, at: stream.below(busy))
            }
            // Short ones and long ones alike: first the magnitude, then the rest. 2^20 ns is 1 ms.
            let most = min(max(busy / 2, 1), durationMaximum)
            let least = min(UInt64(1 << 20), most)
            let zeros = stream.between(
                UInt64(most.leadingZeroBitCount), UInt64(least.leadingZeroBitCount))
            let duration = min(max(stream.next() >> zeros, least), most)
            return Fault(kind, at: stream.between(0, busy - duration), duration: duration)
        }

        private mutating func drawTargets(
            _ fault: inout Fault, _ stream: inout SimulationRandom
        ) {
            let node = Int(stream.between(1, UInt64(nodes)))
            // Any of the others.
            var other = nodes > 1 ? Int(stream.between(1, UInt64(nodes - 1))) : 0
            if other >= node { other += 1 }
            switch fault.kind {
            case .storeOutage, .storeSlow, .multiCrash, .clusterRestart, .replayAttack: break
            case .join: fault.node = nodes + joins + 1
            case .partition, .oneWay:
                fault.node = node
                fault.other = stream.chance(1, in: 2) ? other : 0
            case .loss, .delay, .duplicate, .reorder, .burst:
                guard nodes > 1, stream.chance(1, in: 2) else { break }
                fault.node = node
                fault.other = other
            default: fault.node = node
            }
        }

        private func drawAmount(_ fault: inout Fault, _ stream: inout SimulationRandom) {
            switch fault.kind {
            case .storeSlow: fault.amount = stream.between(1_000_000, 200_000_000)
            case .loss: fault.amount = stream.between(1_000, 300_000)
            case .delay: fault.amount = stream.between(500_000, 50_000_000)
            case .duplicate, .reorder: fault.amount = stream.between(1_000, 200_000)
            // Half of `ClusterTiming`'s tolerance each way: two clocks may differ by all of it.
            case .drift: fault.amount = stream.between(999_500, 1_000_500)
            case .cardFull: fault.amount = stream.below(9)
            case .multiCrash:
                let count = nodes > 2 ? stream.between(2, UInt64(nodes - 1)) : 2
                while fault.amount.nonzeroBitCount < Int(count) {
                    fault.amount |= 1 << stream.below(UInt64(nodes))
                }
            case .clusterRestart: fault.amount = .max >> UInt64(64 - nodes)
            case .replayAttack: fault.amount = stream.between(1, 1000)
            default: break
            }
        }

        private mutating func addRestarts(
            after fault: Fault, _ stream: inout SimulationRandom
        ) {
            switch fault.kind {
            case .crash: faults.append(Fault(.restart, at: fault.end, node: fault.node))
            case .clusterRestart:
                for node in fault.nodes {
                    faults.append(Fault(.restart, at: fault.end, node: node))
                }
            case .multiCrash:
                for (index, node) in fault.nodes.enumerated() {
                    let time =
                        index == fault.nodes.count - 1
                        ? fault.end : fault.at + stream.between(fault.duration / 2, fault.duration)
                    faults.append(Fault(.restart, at: time, node: node))
                }
            default: break
            }
        }
    }
}

extension FaultKind {
    var lasts: Bool { self != .restart && self != .cardReset && self != .join }

    var needsTwoNodes: Bool {
        switch self {
        case .partition, .oneWay, .multiCrash, .drain: true
        default: false
        }
    }

    /// Hits a link, or all links.
    var hitsLink: Bool {
        switch self {
        case .partition, .oneWay, .loss, .delay, .duplicate, .reorder, .burst: true
        default: false
        }
    }
}

extension Fault {
    /// The nodes that it takes out of service, as in `nodes`.
    private var stopped: UInt64 {
        switch kind {
        case .crash, .pause, .drain: 1 << UInt64(node - 1)
        case .multiCrash, .clusterRestart: amount
        default: 0
        }
    }

    /// True when the two must not be under way at the same time.
    fileprivate func conflicts(with later: Fault) -> Bool {
        guard at <= later.end, later.at <= end else { return false }
        if stopped & later.stopped != 0 { return true }
        guard kind == later.kind else { return false }
        guard kind.hitsLink else {
            return kind == .crash || kind == .drain || node == 0 || node == later.node
        }
        // 0 is all others, or all links.
        let ends = Set([node, other])
        return other == 0 || later.other == 0
            || ends.contains(later.node)
                && ends.contains(later.other)
    }
}
