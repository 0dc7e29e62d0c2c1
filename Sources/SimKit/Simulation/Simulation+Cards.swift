// Where sessions must be: on the cards that belong to them, and in one place each.

import Cluster
import ESP
import Gateway
import Wire

extension Simulation {
    /// Sessions of a tunnel are in one store, and host memory has only what a node may have there.
    func checkStores(_ node: SimulatedNode, _ life: SimulatedNode.Life) {
        if let fault = life.gateway.sessionFault() { fail("node \(node.id): \(fault)") }
        guard life.gateway.hostSessionCount > 0 else { return }
        if options.whenFull != .serveFromHost {
            fail("node \(node.id) serves from host memory, which it may not")
        }
        for spi in life.gateway.hostSPIs() where !mayHold(life, distribution.identifier(of: spi)) {
            fail("node \(node.id) keeps keys of SPI \(spi) in host memory, and does not own it")
            return
        }
    }

    /// True when a node's card may have keys of an identifier's tunnels.
    func mayHold(_ life: SimulatedNode.Life, _ identifier: DistributionIdentifier) -> Bool {
        options.cardContents == .allTunnels || life.gateway.owns(identifier)
            || life.gateway.isHolding(identifier)
    }

    /// In the end every tunnel is where there is room for it.
    func checkPlaces(_ alive: [SimulatedNode]) {
        for node in alive {
            guard let life = node.life else { continue }
            let room = options.cardCapacity - life.gateway.sessionCount
            let onCard = life.gateway.sessionSPIs()
            for tunnel in tunnels.indices where tunnels[tunnel].state == .established {
                guard let spi = gatewaySPI(of: tunnel) else { continue }
                let isOwned = life.gateway.owns(distribution.identifier(of: spi))
                guard isOwned || options.cardContents == .allTunnels,
                    !contains(onCard, spi)
                else { continue }
                if room >= 2 {
                    fail("in the end tunnel \(tunnel) is not on the card of node \(node.id)")
                } else if options.cardContents == .allTunnels, options.whenFull == .refuse {
                    fail(
                        "in the end the cluster has more tunnels than the card of node "
                            + "\(node.id) holds")
                }
            }
        }
    }

    /// True when a tunnel's owner has no room for it, and may leave it without service.
    func isWithoutRoom(_ tunnel: Int, _ alive: [SimulatedNode]) -> Bool {
        guard options.whenFull != .serveFromHost else { return false }
        guard let spi = gatewaySPI(of: tunnel) else { return false }
        let identifier = distribution.identifier(of: spi)
        for node in alive {
            guard let life = node.life, life.gateway.owns(identifier) else { continue }
            return life.gateway.sessionCount + 2 > options.cardCapacity
                && !contains(life.gateway.sessionSPIs(), spi)
        }
        return false
    }

    private func contains(_ sorted: [SPI], _ spi: SPI) -> Bool {
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < spi { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == spi
    }

    func countCards(_ alive: [SimulatedNode]) {
        for node in alive {
            guard let life = node.life else { continue }
            figures.cards.add(life.gateway)
            figures.cards.sessions += life.gateway.sessionCount
            figures.cards.sessionsMaximum = max(
                figures.cards.sessionsMaximum, life.gateway.sessionCount)
            figures.cards.hostSessions += life.gateway.hostSessionCount
        }
        figures.cards.tunnelsRefused = tunnels.count { $0.state == .wanted }
    }
}
