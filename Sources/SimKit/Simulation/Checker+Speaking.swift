// What must be in the end where peers speak IKE: both ends have the same, and nobody has more.

import Cluster
import Gateway
import IKEStub
import Wire

extension Simulation {
    /// What all peers together know.
    private struct KnownToPeers {
        /// Pairs by the gateway's SPIs, and IKE SAs by those.
        var pairs: Set<SPI> = []
        var associations: Set<UInt64> = []
    }

    /// In the end every peer that wants a tunnel has one IKE SA with one pair, the cluster has the
    /// same, and its nodes and its store have nothing else. `stored`: the store's entries.
    func checkSpeaking(_ alive: [SimulatedNode], _ stored: [SPI]) {
        guard let speakers else { return }
        countSpeaking(speakers)
        var known = KnownToPeers()
        for tunnel in tunnels.indices { checkPeer(tunnel, speakers, alive, &known) }
        guard violations.isEmpty else { return }
        if Set(stored) != known.pairs {
            let extra = Set(stored).subtracting(known.pairs).sorted()
            let missing = known.pairs.subtracting(stored).sorted()
            fail("in the end the store has \(extra), which no peer knows, and lacks \(missing)")
        }
        let records = storedRecords()
        if Set(records) != known.associations || records.count != known.associations.count {
            let extra = Self.names(Set(records).subtracting(known.associations))
            let missing = Self.names(known.associations.subtracting(records))
            fail(
                "in the end the store has \(records.count) IKE SAs: \(extra) are no peer's, and "
                    + "it lacks \(missing)")
        }
        figures.ike?.records = records.count
        checkSpeakers(alive, known.associations)
        if speakers.figures.losses > 0 {
            fail("\(speakers.figures.losses) IKE SAs were lost that their peers wanted")
        }
    }

    private static func names(_ spis: Set<UInt64>) -> [String] {
        spis.sorted().map { String($0, radix: 16) }
    }

    private func checkPeer(
        _ tunnel: Int, _ speakers: IKEPeerBank, _ alive: [SimulatedNode],
        _ known: inout KnownToPeers
    ) {
        let summaries = speakers.peers[tunnel].endpoint.summaries()
        guard tunnels[tunnel].state != .cleared else {
            if !summaries.isEmpty {
                fail("in the end peer \(tunnel) has an IKE SA that it has deleted")
            }
            return
        }
        guard let own = summaries.first, summaries.count == 1, own.isEstablished else {
            fail("in the end peer \(tunnel) has \(summaries.count) IKE SAs, and wants one")
            return
        }
        known.associations.insert(own.gatewaySPI)
        known.pairs.formUnion(own.children.map(\.outbound))
        let pairs = own.children
        if pairs.count > 1 || pairs.count == 0 && !mayLackRoom {
            fail("in the end peer \(tunnel) has \(pairs.count) pairs, and wants one")
            return
        }
        checkOwner(tunnel, own, alive)
    }

    /// True when cards are too small for all, and tunnels may be refused.
    private var mayLackRoom: Bool {
        options.whenFull != .serveFromHost && options.cardCapacity < SimulationOptions.ampleCard
    }

    /// One node speaks for the IKE SA, and says the same of it as the peer.
    private func checkOwner(_ tunnel: Int, _ own: IKESummary, _ alive: [SimulatedNode]) {
        let others = alive.compactMap { $0.life?.gateway.association(localSPI: own.gatewaySPI) }
        guard let other = others.first, others.count == 1 else {
            fail("in the end \(others.count) nodes speak for the IKE SA of peer \(tunnel)")
            return
        }
        let agrees =
            other.initiatorSPI == own.initiatorSPI && other.responderSPI == own.responderSPI
            && other.isEstablished
            && other.children.map(\.inbound) == own.children.map(\.outbound)
            && other.children.map(\.outbound) == own.children.map(\.inbound)
            && other.children.allSatisfy { $0.isCurrent }
        if !agrees {
            fail(
                "in the end peer \(tunnel) and the cluster disagree: \(own.text) here, "
                    + "\(other.text) there")
        }
    }

    /// Nodes speak for what their peers know, and for nothing else, under their own identifiers.
    private func checkSpeakers(_ alive: [SimulatedNode], _ known: Set<UInt64>) {
        var spoken = 0
        for node in alive {
            guard let life = node.life else { continue }
            let own = life.gateway.ikeLocalSPIs()
            spoken += own.count
            if let stranger = own.first(where: { !known.contains($0) }) {
                fail(
                    "in the end node \(node.id) has IKE SA \(String(stranger, radix: 16)), which "
                        + "no peer knows")
            }
            let remembered = life.gateway.ikeRecordSPIs()
            if let stranger = remembered.first(where: { !known.contains($0) }) {
                fail(
                    "in the end node \(node.id) has a record of IKE SA "
                        + "\(String(stranger, radix: 16)), which no peer knows")
            }
            if options.backups == nil, remembered.count != known.count {
                fail(
                    "in the end node \(node.id) has \(remembered.count) records of "
                        + "\(known.count) IKE SAs")
            }
        }
        if spoken != known.count {
            fail("in the end the nodes speak for \(spoken) IKE SAs, and there are \(known.count)")
        }
    }

    /// The local SPIs of all IKE SAs in the store.
    private func storedRecords() -> [UInt64] {
        let reply = store.handle(.read(prefix: StoreKey.prefix + "entry/"), nowNanoseconds: now)
        guard case .pairs(let pairs, _) = reply else { return [] }
        return pairs.compactMap { pair in
            guard case .ike(_, let localSPI) = StoreKey(text: pair.key) else { return nil }
            return localSPI
        }
    }

    private func countSpeaking(_ speakers: IKEPeerBank) {
        var sum = IKEFigures()
        sum.setUps = speakers.figures.setUps
        sum.deletes = speakers.figures.deletes
        sum.losses = speakers.figures.losses
        sum.rekeysOfIKE = speakers.figures.rekeysOfIKE
        sum.rekeysOfChildren = speakers.figures.rekeysOfChildren
        sum.collisions = speakers.figures.collisions
        sum.messages = speaking.messages
        sum.adoptions = speaking.adoptions
        figures.ike = sum
    }
}

extension IKESummary {
    /// At a peer: the SPI that the gateway chose.
    fileprivate var gatewaySPI: UInt64 { role == .initiator ? responderSPI : initiatorSPI }

    fileprivate var text: String {
        let pairs = children.map { "\($0.inbound)/\($0.outbound)\($0.isCurrent ? "" : " (old)")" }
        return String(initiatorSPI, radix: 16) + "/" + String(responderSPI, radix: 16)
            + " with \(pairs)"
    }
}
