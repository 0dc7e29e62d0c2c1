// The lives of the tunnels: peers set them up, before anything goes wrong or in the middle of it,
// and some take them down again.

import Cluster
import ESP
import Gateway

/// A tunnel as the run sees it.
struct SimulatedTunnel {
    enum State {
        /// Its peer asks for it.
        case wanted
        /// The cluster has promised it.
        case established
        /// Its peer is done with it, and tells the cluster until nothing of it is left.
        case leaving
        /// It is gone for good.
        case cleared
    }

    var state = State.wanted
    /// Counts what the server sent to the peer.
    var serverSerial: UInt64 = 0
    /// Serials at the beginning of the last part of the run: from then on all must arrive.
    var peerMark: UInt64?
    var serverMark: UInt64?
    var isTrafficPlanned = false
    /// Its peer took it down, or was switched off, and came back.
    var wasInterrupted = false
}

extension Simulation {
    /// What a peer waits for an answer.
    static let patienceNanoseconds: UInt64 = 200_000_000

    /// Draws when a tunnel begins, and whether and when it ends.
    func planLife(of tunnel: Int) {
        var time = Self.foundingNanoseconds + trafficRandom.below(200_000_000)
        var life = lifeRandom.fork(UInt64(tunnel))
        let busy = options.duration / 100 * FaultPlan.busyPercent
        if options.churns, life.chance(1, in: 2) {
            time = Self.warmUpNanoseconds + life.below(busy)
        }
        queue.push(at: time, .establish(tunnel: tunnel))
        if options.churns, life.chance(1, in: 4) {
            let until = Self.warmUpNanoseconds + busy
            queue.push(at: life.between(time, max(time, until)), .clear(tunnel: tunnel))
        }
    }

    // MARK: Setting up

    /// Some node agrees upon the tunnel with the peer: its owner, as a peer's IKE messages come to
    /// it, or now and then another one. Without an answer the peer asks again.
    func establish(_ tunnel: Int) {
        guard tunnels[tunnel].state == .wanted else { return }
        if speakers != nil { return want(tunnel) }
        // Its node died before it could tell: the peer asks again, and the cluster knows it.
        if isStored(tunnel) {
            begin(tunnel)
            return
        }
        let alive = nodes.indices.filter {
            nodes[$0].life != nil && nodes[$0].stoppedUntil <= now
        }
        queue.push(at: now + Self.patienceNanoseconds, .establish(tunnel: tunnel))
        guard !alive.isEmpty else { return }
        let number = alive[Int(trafficRandom.below(UInt64(alive.count)))]
        let gatewayEnd = peers.gatewayEnd(of: tunnel)
        nodes[number].life?.gateway.establish(
            inbound: gatewayEnd.inbound, outbound: gatewayEnd.outbound,
            nowNanoseconds: nodes[number].local(now))
        drain(number)
    }

    func begin(_ tunnel: Int) {
        guard tunnels[tunnel].state == .wanted else { return }
        tunnels[tunnel].state = .established
        figures.established += 1
        guard !tunnels[tunnel].isTrafficPlanned else { return }
        tunnels[tunnel].isTrafficPlanned = true
        checker.outages.begin(tunnel: tunnel, at: now)
        let first = trafficRandom.below(packetInterval(of: tunnel))
        queue.push(at: now + first, .traffic(tunnel: tunnel))
    }

    func isStored(_ tunnel: Int) -> Bool {
        let spi = peers.gatewaySPI(of: tunnel)
        let key = StoreKey.entry(peers.identifier(of: tunnel), spi).text
        guard
            case .pairs(let pairs, _) = store.handle(.read(prefix: key), nowNanoseconds: now)
        else { return false }
        return !pairs.isEmpty
    }

    // MARK: Clearing

    /// The peer deletes its tunnel. It tells whoever owns it, again and again, until the cluster
    /// has no entry of it.
    func clear(_ tunnel: Int) {
        if speakers != nil { return interrupt(tunnel) }
        switch tunnels[tunnel].state {
        case .wanted, .cleared: break
        case .established:
            tunnels[tunnel].state = .leaving
            checker.outages.end(tunnel: tunnel, at: now)
            note { "the peer of tunnel \(tunnel) deletes it" }
        case .leaving where !isStored(tunnel):
            tunnels[tunnel].state = .cleared
            figures.cleared += 1
            return
        case .leaving: break
        }
        guard tunnels[tunnel].state != .cleared else { return }
        queue.push(at: now + Self.patienceNanoseconds, .clear(tunnel: tunnel))
        guard tunnels[tunnel].state == .leaving else { return }
        let spi = peers.gatewaySPI(of: tunnel)
        for number in nodes.indices {
            let node = nodes[number]
            guard let life = node.life, node.stoppedUntil <= now else { continue }
            if life.gateway.clear(spi, nowNanoseconds: node.local(now)) { drain(number) }
        }
    }
}
