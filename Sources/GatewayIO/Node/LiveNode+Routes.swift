// Which routes lead into the tunnels.

internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    /// Nil where the node sets none.
    var routes: RouteTable? {
        guard case .device(_, let routes) = protected else { return nil }
        return routes
    }

    /// Routes to what the peer of a pair protects.
    func addRoutes(of spi: SPI, named name: String) {
        guard let status = member.gateway.status(of: spi), let outbound = status.outbound else {
            return
        }
        let selectors = outbound.selectors
        for fault in routes?.add(selectors.destination, from: selectors.source) ?? [] {
            log(.warning, "\(name) \(spi): no route to \(fault)")
        }
    }

    /// A pair that was deleted still takes packets that are under way, for some seconds; but what
    /// is sent from now on needs another pair, which has routes of its own.
    func withdrawRoutes(of spi: SPI) {
        guard let pair = pairs[spi], pair.hasRoutes else { return }
        pairs[spi]?.hasRoutes = false
        routes?.remove(pair.remote)
    }
}
