// Which nodes hold the entries of an identifier besides its owner, where not all do (patent: the
// common data structure of chosen backup nodes only). Rendezvous hashing (Thaler, Ravishankar
// 1998): every member has a score for every identifier, and the highest are its backups. So all
// nodes agree without talking, and who comes or goes changes only what it backs itself.

extension AllocationRecord {
    /// The backups of an identifier, the first choice first: `count` members, or all there are
    /// besides its owner.
    public func backups(of identifier: DistributionIdentifier, count: Int) -> [NodeID] {
        let owner = allocation.owner(of: identifier)
        let others = allocation.nodes.filter { $0 != owner }
        let ranked = others.map { (score: Self.score($0, identifier), node: $0) }
            .sorted { $0.score > $1.score }
        return ranked.prefix(count).map(\.node)
    }

    /// True when a node must hold the entries of an identifier: its owner, its successor, and its
    /// backups; nil for `backups`: every node.
    public func isHolder(
        _ node: NodeID, of identifier: DistributionIdentifier, backups: Int?
    ) -> Bool {
        guard let backups else { return true }
        let owner = allocation.owner(of: identifier)
        if owner == node || successors[Int(identifier.value)] == node { return true }
        guard allocation.nodes.contains(node) else { return false }
        let own = Self.score(node, identifier)
        let better = allocation.nodes.count {
            $0 != owner && Self.score($0, identifier) > own
        }
        return better < backups
    }

    /// The finalizer of SplitMix64 is a bijection: two members never have the same score.
    static func score(_ node: NodeID, _ identifier: DistributionIdentifier) -> UInt64 {
        var word = UInt64(identifier.value) << 16 | UInt64(node.value)
        word &+= 0x9E37_79B9_7F4A_7C15
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }

    /// Owners once what dead nodes owned is shared out: to its successor, else to one of its
    /// backups, else to any survivor; each time to the one that owns least by then.
    func ownersWithBackups(
        replacing dead: [NodeID], among survivors: [NodeID], backups count: Int
    ) -> [NodeID] {
        var owners = allocation.owners
        var orphans: [DistributionIdentifier] = []
        for identifier in allocation.allIdentifiers
        where dead.contains(allocation.owner(of: identifier)) {
            if let heir = successors[Int(identifier.value)], survivors.contains(heir) {
                owners[Int(identifier.value)] = heir
            } else {
                orphans.append(identifier)
            }
        }
        var loads = survivors.map { node in owners.count { $0 == node } }
        for identifier in orphans {
            let able = backups(of: identifier, count: count).compactMap {
                survivors.firstIndex(of: $0)
            }
            let candidates = able.isEmpty ? Array(survivors.indices) : able
            guard let chosen = candidates.min(by: { loads[$0] < loads[$1] }) else { continue }
            loads[chosen] += 1
            owners[Int(identifier.value)] = survivors[chosen]
        }
        return owners
    }

    /// Owners that give every node as many identifiers as `target` does and move the same ones,
    /// but each to one of its backups as far as that goes: it need not read the entries first.
    func ownersNearBackups(_ target: Allocation, backups count: Int) -> [NodeID] {
        var owners = target.owners
        let moved = allocation.allIdentifiers.filter {
            allocation.owner(of: $0) != target.owner(of: $0)
        }
        var open = target.nodes.map { node in moved.count { target.owner(of: $0) == node } }
        func give(_ identifier: DistributionIdentifier, to place: Int) {
            open[place] -= 1
            owners[Int(identifier.value)] = target.nodes[place]
        }
        var left: [DistributionIdentifier] = []
        for identifier in moved {
            let able = backups(of: identifier, count: count)
                .compactMap { target.nodes.firstIndex(of: $0) }.filter { open[$0] > 0 }
            if let place = able.max(by: { open[$0] < open[$1] }) {
                give(identifier, to: place)
            } else {
                left.append(identifier)
            }
        }
        for identifier in left {
            // Not to the one that has it, which would be no move.
            let owner = allocation.owner(of: identifier)
            let place = open.indices.first { open[$0] > 0 && target.nodes[$0] != owner }
            guard let place else { continue }
            give(identifier, to: place)
        }
        return owners
    }
}
