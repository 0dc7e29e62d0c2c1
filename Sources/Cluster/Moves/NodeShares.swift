// The state of one balancing: what each node has, and the moves so far. All comparisons are of
// integers: a node's *height* is its load by its weight, in 1/65536.

/// Loads of nodes while moves are tried out.
struct NodeShares {
    let nodes: [NodeID]
    let weights: [UInt64]
    let balancing: LoadBalancing
    let costs: [UInt64]
    /// By place of the node.
    private(set) var loads: [UInt64]
    private(set) var counts: [Int]
    /// By identifier: the place of who owns it, or shall.
    private(set) var holders: [Int]
    private let owners: [NodeID]
    /// By identifier: it may be given away, for load and at all.
    private var mayMoveForLoad: [Bool]
    private var mayMove: [Bool]
    private(set) var moves: [Reallocation.Move] = []
    private let record: AllocationRecord
    private let backups: Int?

    /// Whoever is in `gone` weighs nothing. Where all weigh nothing, all weigh the same. Where not
    /// all nodes hold all entries (`backups`), what is shared out goes to nodes that do.
    init(
        _ record: AllocationRecord, _ load: ClusterLoad, _ balancing: LoadBalancing,
        gone: [NodeID] = [], backups: Int? = nil
    ) {
        self.record = record
        self.backups = backups
        let allocation = record.allocation
        nodes = allocation.nodes
        self.balancing = balancing
        costs = load.costs
        owners = allocation.owners
        let given = nodes.map { gone.contains($0) ? 0 : load.weight(of: $0) }
        let isWeightless = given.allSatisfy { $0 == 0 }
        weights = isWeightless ? nodes.map { gone.contains($0) ? 0 : 1 } : given
        var places: [NodeID: Int] = [:]
        for (place, node) in nodes.enumerated() { places[node] = place }
        loads = Array(repeating: 0, count: nodes.count)
        counts = Array(repeating: 0, count: nodes.count)
        holders = []
        holders.reserveCapacity(owners.count)
        mayMove = []
        mayMoveForLoad = []
        for (number, owner) in owners.enumerated() {
            // Owners and successors are members: the record was checked.
            let holder = places[record.successors[number] ?? owner] ?? 0
            holders.append(holder)
            loads[holder] += costs[number]
            counts[holder] += 1
            let generation = allocation.generations[number]
            let isFree = record.successors[number] == nil && generation < Allocation.lastGeneration
            mayMove.append(isFree)
            mayMoveForLoad.append(isFree && generation < balancing.generationReserve)
        }
    }

    // MARK: Measures

    /// Nodes that take load, by place.
    var takers: [Int] { nodes.indices.filter { weights[$0] > 0 } }

    /// Takers that have nothing, by place.
    var emptyNodes: [Int] { takers.filter { counts[$0] == 0 } }

    private func height(_ load: UInt64, _ place: Int) -> UInt64 {
        // Below 2^39 · 2^16, so that it can be multiplied by per cent.
        load << 16 / weights[place]
    }

    private func height(_ place: Int) -> UInt64 { height(loads[place], place) }

    private func mean(_ places: [Int]) -> UInt64 {
        let weight = places.reduce(0) { $0 + weights[$1] }
        return weight == 0 ? 0 : places.reduce(0) { $0 + loads[$1] } << 16 / weight
    }

    private func highest(_ places: [Int]) -> Int? {
        places.min { (height($1), $0) < (height($0), $1) }
    }

    private func lowest(_ places: [Int]) -> Int? {
        places.min { (height($0), $0) < (height($1), $1) }
    }

    // MARK: Moving

    private mutating func move(_ identifier: Int, to place: Int) {
        let from = holders[identifier]
        loads[from] -= costs[identifier]
        counts[from] -= 1
        loads[place] += costs[identifier]
        counts[place] += 1
        holders[identifier] = place
    }

    private mutating func plan(_ identifier: Int, to place: Int) {
        let name = DistributionIdentifier(UInt16(identifier))
        moves.append(
            Reallocation.Move(identifier: name, from: owners[identifier], to: nodes[place]))
        move(identifier, to: place)
        mayMove[identifier] = false
        mayMoveForLoad[identifier] = false
    }

    // MARK: Steps

    /// Nodes of weight 0 give everything away that may move.
    mutating func evacuate() {
        let leaving = holders.indices.filter { mayMove[$0] && weights[holders[$0]] == 0 }
        for (identifier, place) in spread(leaving) { plan(identifier, to: place) }
    }

    /// Shares identifiers of nodes that weigh nothing out: the costliest first, each to the node
    /// that is lowest with it. Where all cost the same, in runs, lower nodes first.
    func spread(_ identifiers: [Int]) -> [(identifier: Int, place: Int)] {
        let takers = takers
        guard !takers.isEmpty, let first = identifiers.first else { return [] }
        var loads = loads
        let sorted = identifiers.sorted { (costs[$1], $0) < (costs[$0], $1) }
        var places: [Int] = []
        places.reserveCapacity(sorted.count)
        for identifier in sorted {
            let cost = costs[identifier]
            var best = takers[0]
            var bestHeight = UInt64.max
            for place in heirs(of: identifier) ?? takers {
                let height = height(loads[place] + cost, place)
                if height < bestHeight { (best, bestHeight) = (place, height) }
            }
            loads[best] += cost
            places.append(best)
        }
        if backups == nil, identifiers.allSatisfy({ costs[$0] == costs[first] }) { places.sort() }
        return zip(sorted, places).map { ($0, $1) }
    }

    /// Takers that hold the entries of an identifier already, by place; nil: no matter.
    private func heirs(of identifier: Int) -> [Int]? {
        guard let backups else { return nil }
        let able = record.backups(
            of: DistributionIdentifier(UInt16(identifier)), count: backups
        ).compactMap { nodes.firstIndex(of: $0) }.filter { weights[$0] > 0 }
        return able.isEmpty ? nil : able
    }

    /// Gives a node that has nothing, or too little, its share of the load: from the highest nodes,
    /// and of theirs the costliest that fit.
    mutating func fill(_ receiver: Int, isForLoad: Bool = false) {
        let mean = mean(takers)
        let margin = mean * balancing.marginPercent / 100
        let low = mean * (100 - min(2 * balancing.aimPercent, 100)) / 100
        let goal = isForLoad ? low : mean
        while height(receiver) < goal {
            let givers = takers.filter { $0 != receiver }
                .sorted { (height($1), $0) < (height($0), $1) }
            var found: Int?
            for giver in givers where found == nil {
                found = choose(from: giver, isForLoad: isForLoad) { cost in
                    let after = height(loads[receiver] + cost, receiver)
                    if after <= mean, height(giver) > mean { return Int64(clamping: cost) }
                    // Nothing fits: the smallest, if it is needed and does not only change places.
                    guard height(receiver) < low, after + margin <= height(giver) else {
                        return nil
                    }
                    return -Int64(clamping: cost)
                }
            }
            guard let found else { return }
            plan(found, to: receiver)
        }
    }

    /// The identifier of a node that is worth most; of equals the highest. nil: none is worth
    /// anything.
    private func choose(
        from giver: Int, isForLoad: Bool, worth: (UInt64) -> Int64?
    ) -> Int? {
        var best: (identifier: Int, worth: Int64)?
        for identifier in holders.indices where holders[identifier] == giver {
            guard isForLoad ? mayMoveForLoad[identifier] : mayMove[identifier],
                let worth = worth(costs[identifier])
            else { continue }
            if best.map({ worth >= $0.worth }) ?? true { best = (identifier, worth) }
        }
        return best?.identifier
    }

    /// Moves load until no node is far from the mean. Nothing happens when none is too far to begin
    /// with (`isWanted`: it begins at once), and when the worst would hardly be better off.
    mutating func even(isWanted: Bool) {
        let before = self
        let start = isWanted ? balancing.aimPercent : balancing.startPercent
        for place in takers where isStarving(place, start) { fill(place, isForLoad: true) }
        let filled = moves.count
        let rest = shed(start)
        takeBack(from: filled, rest)
        guard moves.count > before.moves.count else { return }
        if !isBetter(than: before, takers), !isBetter(than: before, rest) { self = before }
    }

    private func isStarving(_ place: Int, _ percent: UInt64) -> Bool {
        height(place) * 100 < mean(takers) * (100 - min(2 * percent, 100))
    }

    /// High nodes give away until they are near the mean. Returns the nodes that could be helped:
    /// all but those that have nothing to give that would do.
    private mutating func shed(_ start: UInt64) -> [Int] {
        var places = takers
        var percent = start
        while places.count > 1, let giver = highest(places), let receiver = lowest(places) {
            let mean = mean(places)
            guard height(giver) * 100 > mean * (100 + percent) else { break }
            let goal = mean * (100 + balancing.aimPercent) / 100
            let margin = mean * balancing.marginPercent / 100
            let chosen = choose(from: giver, isForLoad: true) { cost in
                let after = height(loads[receiver] + cost, receiver)
                guard after + margin <= height(giver) else { return nil }
                guard after <= goal else { return -Int64(clamping: cost) }
                // The one that is just enough, else the costliest that fits.
                let isEnough = height(loads[giver] - cost, giver) <= goal
                return isEnough
                    ? Int64(ClusterLoad.costMaximum * 2 - cost) : Int64(clamping: cost)
            }
            if let chosen {
                percent = balancing.aimPercent
                plan(chosen, to: receiver)
            } else {
                places.removeAll { $0 == giver }
            }
        }
        return places
    }

    /// Takes moves back that the later ones made needless, the cheapest first.
    private mutating func takeBack(from first: Int, _ places: [Int]) {
        guard moves.count > first + 1, let highest = highest(takers) else { return }
        let goal = mean(places) * (100 + balancing.aimPercent) / 100
        let byCost = (first..<moves.count).sorted {
            costs[Int(moves[$0].identifier.value)] < costs[Int(moves[$1].identifier.value)]
        }
        var needless: [Int] = []
        let top = max(goal, places.contains(highest) ? height(highest) : 0)
        for number in byCost {
            let identifier = Int(moves[number].identifier.value)
            guard let giver = nodes.firstIndex(of: moves[number].from), places.contains(giver),
                height(loads[giver] + costs[identifier], giver) <= top
            else { continue }
            move(identifier, to: giver)
            needless.append(number)
        }
        for number in needless.sorted(by: >) { moves.remove(at: number) }
    }

    /// True when the highest of some nodes is lower, or the lowest higher, by the margin.
    private func isBetter(than before: NodeShares, _ places: [Int]) -> Bool {
        guard let high = highest(places), let low = lowest(places),
            let highBefore = before.highest(places), let lowBefore = before.lowest(places)
        else { return false }
        let margin = max(mean(places) * balancing.marginPercent / 100, 1)
        return height(high) + margin <= before.height(highBefore)
            || before.height(lowBefore) + margin <= height(low)
    }
}
