// What is right by itself and wrong together: pools and selectors that claim the same addresses.

internal import ESP
internal import IKEStub
internal import Wire

enum ConfigurationClashes {
    static func check(
        _ connections: [ConfiguredConnection], _ pools: [(pool: AddressPool, setting: Setting)],
        _ context: ConnectionContext
    ) {
        comparePools(pools, context)
        for one in connections { comparePools(of: one, pools.map(\.pool)) }
        compareChildren(connections)
        compareForeignPools(connections, pools.map(\.pool))
    }

    private static func comparePools(
        _ pools: [(pool: AddressPool, setting: Setting)], _ context: ConnectionContext
    ) {
        for (index, one) in pools.enumerated() {
            for other in pools[..<index] where one.pool.range.overlaps(other.pool.range) {
                one.setting.refuse(
                    .clash,
                    "it has addresses of the pool \(other.pool.name), so that two peers could get "
                        + "the same: make the ranges distinct")
            }
            for address in context.addresses where one.pool.range.covers(address) {
                one.setting.refuse(
                    .clash, "\(address) of the node is among its addresses: make the range smaller")
            }
        }
    }

    /// A peer with an address of the pool must be allowed to use it by some child.
    private static func comparePools(of one: ConfiguredConnection, _ pools: [AddressPool]) {
        let connection = one.connection
        for pool in pools where connection.pools.contains(pool.name) {
            let isUsable = connection.children.contains { child in
                guard case .fixed(let selectors) = child.remote else { return true }
                return selectors.contains { $0.overlaps(pool.range) }
            }
            guard !isUsable, !connection.children.isEmpty else { continue }
            one.setting.refuse(
                .clash, "pools",
                "no child has addresses of the pool \(pool.name) in its remote selectors: write "
                    + "\"remote: dynamic\" there")
        }
    }

    /// Where two connections want the same packets, the peer that came last has them.
    private static func compareChildren(_ connections: [ConfiguredConnection]) {
        var earlier: [(path: String, local: ChildPolicy.Selectors, remote: [TrafficSelector])] = []
        for one in connections {
            var own: [(String, ChildPolicy.Selectors, [TrafficSelector])] = []
            for child in one.connection.children {
                guard case .fixed(let remote) = child.remote else { continue }
                let clash = earlier.first { other in
                    meet(other.remote, remote) && meet(other.local, child.local)
                }
                if let clash {
                    childSetting(child.name, one)?.warn(
                        .clash,
                        "some of its packets are also of \(clash.path): what is sent goes to the "
                            + "peer that came last; make the selectors distinct")
                }
                own.append(("\(one.connection.name).\(child.name)", child.local, remote))
            }
            earlier += own
        }
    }

    /// Addresses that one connection gives away and that another says are behind its peer.
    private static func compareForeignPools(
        _ connections: [ConfiguredConnection], _ pools: [AddressPool]
    ) {
        for one in connections {
            for child in one.connection.children {
                guard case .fixed(let remote) = child.remote else { continue }
                for pool in pools where !one.connection.pools.contains(pool.name) {
                    guard !remote.contains(where: { $0.coversAll }),
                        remote.contains(where: { $0.overlaps(pool.range) })
                    else { continue }
                    childSetting(child.name, one)?.warn(
                        .clash,
                        "addresses of the pool \(pool.name), which is another connection's, are "
                            + "said to be behind its peer: make the selectors distinct")
                }
            }
        }
    }

    private static func childSetting(
        _ name: String, _ connection: ConfiguredConnection
    ) -> Setting? {
        connection.setting["children"]?.namedSettings()?[name]
    }

    private static func meet(_ left: [TrafficSelector], _ right: [TrafficSelector]) -> Bool {
        left.contains { one in right.contains { one.overlaps($0) } }
    }

    private static func meet(
        _ left: ChildPolicy.Selectors, _ right: ChildPolicy.Selectors
    ) -> Bool {
        guard case (.fixed(let left), .fixed(let right)) = (left, right) else { return true }
        return meet(left, right)
    }
}

extension TrafficSelector {
    /// True for an address in its range.
    func covers(_ address: IPAddress) -> Bool {
        TrafficSelector(first: address, last: address).map(overlaps) ?? false
    }

    /// True for every address of the family.
    fileprivate var coversAll: Bool {
        let everything = first.prefixRange(length: 0)
        return first == everything.first && last == everything.last
    }
}
