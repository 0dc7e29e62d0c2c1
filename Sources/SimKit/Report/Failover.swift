// Finds the failovers of a recorded run and the times of their phases. Everything is read off what
// happened: nothing here knows what the protocol's times should be.

/// How one removal of nodes went. Times are nanoseconds of virtual time.
struct Failover {
    /// The nodes taken out.
    let removed: [Int]
    /// What it was about, if a fault explains it.
    let cause: Fault?
    /// When the fault began; the first suspicion, when no single fault explains it.
    let begin: UInt64
    /// When a member first told others its suspicion; nil: nobody did, and a lost session counted.
    let suspected: UInt64?
    /// When the store took the new allocation, and who offered it.
    let decided: UInt64
    let decider: Int
    let epoch: UInt64
    /// Identifiers with a new owner.
    let moved: [UInt16]
    /// When the first and the last gaining node had it in force.
    let inForce: UInt64?
    let allInForce: UInt64?
    /// When the first of its `tunnels` delivered again, and when the last one.
    let firstDelivery: UInt64?
    let lastTunnel: UInt64?
    /// Moved tunnels that had delivered before it began and came back. Those that were set up
    /// later waited for nothing.
    let tunnels: Int

    /// From the fault to the first packet; without one, to the decision.
    var duration: UInt64 { (firstDelivery ?? decided) - begin }
}

/// Reads a recorded run.
struct FailoverFinder {
    let faults: [Fault]
    let milestones: [Milestone]
    /// By time.
    let deliveries: [Delivery]
    /// By tunnel.
    let identifiers: [UInt16]
    /// What fault times count from.
    let warmUp: UInt64

    /// A tunnel that is not back after this is not this failover's any more.
    static let patience: UInt64 = 5_000_000_000

    /// All failovers, by time of decision.
    func find() -> [Failover] {
        var starts = [UInt64](repeating: .max, count: identifiers.count)
        for delivery in deliveries.reversed() { starts[Int(delivery.tunnel)] = delivery.time }
        return milestones.indices.compactMap { failover(decidedAt: $0, starts) }
    }

    /// `starts`: by tunnel, when it delivered first.
    private func failover(decidedAt place: Int, _ starts: [UInt64]) -> Failover? {
        let decision = milestones[place]
        guard case .decided(let epoch, let removed, _, let moved) = decision.kind, !removed.isEmpty
        else { return nil }
        let cause = cause(of: removed, before: decision.time)
        let since = cause.map { $0.at + warmUp } ?? 0
        let suspicion = suspicion(of: removed, since: since, until: place)
        let forces = milestones[place...].filter {
            guard case .inForce(let other, let gained) = $0.kind else { return false }
            return other >= epoch && gained > 0
        }
        // Each gaining node once: later epochs bring gains of their own.
        var gaining: [Int] = []
        var times: [UInt64] = []
        for force in forces where !gaining.contains(force.node) {
            guard force.time < decision.time + Self.patience else { break }
            if case .inForce(epoch, _) = force.kind {
                gaining.append(force.node)
                times.append(force.time)
            }
        }
        let begin = cause == nil ? suspicion ?? decision.time : since
        let isAwaited = identifiers.indices.map {
            starts[$0] < begin && moved.contains(identifiers[$0])
        }
        let back = returns(of: isAwaited, since: decision.time)
        return Failover(
            removed: removed, cause: cause, begin: begin,
            suspected: suspicion, decided: decision.time, decider: decision.node, epoch: epoch,
            moved: moved, inForce: times.first, allInForce: times.last, firstDelivery: back.first,
            lastTunnel: back.last, tunnels: back.count)
    }

    /// The last fault that hits one of the nodes itself and is not long over.
    private func cause(of nodes: [Int], before time: UInt64) -> Fault? {
        faults.last { fault in
            guard fault.at + warmUp <= time, fault.end + warmUp + 1_000_000_000 > time else {
                return false
            }
            return switch fault.kind {
            case .crash, .pause, .oneWay, .storePartition: nodes.contains(fault.node)
            case .partition: nodes.contains(fault.node) || nodes.contains(fault.other)
            case .multiCrash, .clusterRestart: fault.nodes.contains { nodes.contains($0) }
            default: false
            }
        }
    }

    /// The first suspicion since a fault; without one, the last before the decision.
    private func suspicion(of nodes: [Int], since: UInt64, until place: Int) -> UInt64? {
        let all = milestones[..<place].filter {
            guard case .suspected(let node) = $0.kind else { return false }
            return nodes.contains(node) && $0.time >= since && !nodes.contains($0.node)
        }
        return since == 0 ? all.last?.time : all.first?.time
    }

    /// When the tunnels that are awaited delivered again.
    private func returns(
        of tunnels: [Bool], since time: UInt64
    ) -> (first: UInt64?, last: UInt64?, count: Int) {
        var isAwaited = tunnels
        var first: UInt64?
        var last: UInt64?
        var count = 0
        for delivery in deliveries[lowerBound(time)...] {
            guard delivery.time < time + Self.patience else { break }
            guard isAwaited[Int(delivery.tunnel)] else { continue }
            isAwaited[Int(delivery.tunnel)] = false
            if first == nil { first = delivery.time }
            last = delivery.time
            count += 1
        }
        return (first, last, count)
    }

    /// The place of the first delivery at or after a time.
    func lowerBound(_ time: UInt64) -> Int {
        var low = 0
        var high = deliveries.count
        while low < high {
            let middle = (low + high) / 2
            if deliveries[middle].time < time { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
