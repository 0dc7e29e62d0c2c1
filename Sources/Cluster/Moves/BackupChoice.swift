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
}
