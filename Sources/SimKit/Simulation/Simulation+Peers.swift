// The lives of peers that speak IKE: when they want a tunnel, and when they take it down.

import Cluster
import Gateway
import IKEStub
import Wire

extension Simulation {
    /// After so long the cluster begins once more with a peer that it has nothing with.
    private static let initiativeNanoseconds: UInt64 = 1_000_000_000
    /// A peer that is switched off stays so for this long.
    private static let silenceNanoseconds: UInt64 = 700_000_000

    /// A peer wants its tunnel: it begins, or the cluster does, until it is there.
    func want(_ tunnel: Int) {
        guard let speakers else { return }
        speakers.wake(tunnel)
        speakers.want(tunnel, now: now)
        carry(tunnel)
        guard speakers.peers[tunnel].beginner == .gateway else { return }
        queue.push(at: now + Self.initiativeNanoseconds, .establish(tunnel: tunnel))
        let name = IKEPeerPlan.name(tunnel)
        let alive = nodes.indices.filter {
            nodes[$0].life != nil && nodes[$0].stoppedUntil <= now
        }
        let isKnown = alive.contains { number in
            nodes[number].life?.gateway.associations().contains { $0.connection == name } ?? false
        }
        guard !alive.isEmpty, !isKnown, speakers.peers[tunnel].endpoint.count == 0 else { return }
        let number = alive[Int(trafficRandom.below(UInt64(alive.count)))]
        tellTime(number)
        _ = nodes[number].life?.gateway.initiate(
            name, child: IKEPeerBank.policy, path: IKEPeerBank.gatewayPath(of: tunnel),
            nowNanoseconds: nodes[number].local(now))
        drain(number)
    }

    /// A peer takes its tunnel down, for good or to set up a new one, or its machine is switched
    /// off without a word, for good or for a while.
    func interrupt(_ tunnel: Int) {
        // What is being set up is left alone: the cluster would wait for a peer that has forgotten
        // it.
        guard let speakers, tunnels[tunnel].state == .established else { return }
        var life = lifeRandom.fork(1 << 32 | UInt64(tunnel))
        let isSwitchedOff = life.chance(1, in: 3)
        // Whom the cluster would have to call again, and does not know to be dead, stays away.
        let isCallable = !isSwitchedOff || speakers.peers[tunnel].beginner == .peer
        let comesBack = life.chance(2, in: 3) && isCallable
        checker.outages.end(tunnel: tunnel, at: now)
        tunnels[tunnel].wasInterrupted = true
        tunnels[tunnel].state = comesBack ? .wanted : .cleared
        tunnels[tunnel].peerMark = nil
        tunnels[tunnel].serverMark = nil
        if !comesBack { figures.cleared += 1 }
        note {
            "peer \(tunnel) " + (isSwitchedOff ? "is switched off" : "deletes its tunnel")
                + (comesBack ? ", and comes back" : "")
        }
        if isSwitchedOff {
            speakers.silence(tunnel, now: now)
            if comesBack {
                queue.push(at: now + Self.silenceNanoseconds, .establish(tunnel: tunnel))
            }
        } else {
            speakers.delete(tunnel, comesBack: comesBack, now: now)
            if comesBack { queue.push(at: now, .establish(tunnel: tunnel)) }
        }
        carry(tunnel)
    }

    // MARK: Which SPIs are in use

    /// The SPI under which the cluster receives a tunnel's packets now; nil: it has none.
    func gatewaySPI(of tunnel: Int) -> SPI? {
        speakers == nil ? peers.gatewaySPI(of: tunnel) : speakers?.gatewaySPI(of: tunnel)
    }

    /// The tunnel whose peer sends to this SPI now; nil: none does.
    func tunnel(usingGatewaySPI spi: SPI) -> Int? {
        speakers == nil
            ? peers.tunnel(ofGatewaySPI: spi) : speakers?.tunnel(usingGatewaySPI: spi)
    }

    /// The identifier of a tunnel's packets; the first one of all for a tunnel without.
    func identifier(of tunnel: Int) -> DistributionIdentifier {
        gatewaySPI(of: tunnel).map(distribution.identifier(of:)) ?? DistributionIdentifier(0)
    }
}

extension IKEPeerBank {
    /// The SPI of the gateway's that a peer sends to now; nil: no pair of its can send.
    func gatewaySPI(of peer: Int) -> SPI? {
        peers[peer].senders.last.flatMap { peers[peer].pair(inbound: $0)?.outbound }
    }

    /// The peer that sends to this SPI of the gateway's now; nil: none does.
    func tunnel(usingGatewaySPI spi: SPI) -> Int? {
        peers.indices.first { gatewaySPI(of: $0) == spi }
    }
}
