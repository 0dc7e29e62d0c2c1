// What peers' endpoints want done, and the messages that come to them.

import ESP
import IKEStub
import Wire

extension IKEPeerBank {
    /// Carries events out, in order.
    func perform(_ outcome: IKEOutcome, _ peer: IKEPeer, _ now: UInt64) {
        var established: [UInt64] = []
        for event in outcome.events {
            switch event {
            case .send(let messages, let path):
                for message in messages { send(message, path, peer) }
            case .keepalive(let path):
                outgoing.append((peer.number, IKEPacket.keepalive(path)))
            case .install(let child): install(child, peer)
            case .sendThrough(let spi): beginSending(spi, peer)
            case .linger(let spi): peer.senders.removeAll { $0 == spi }
            case .firstContact: break
            case .remove(let spi): remove(spi, peer)
            case .redirect(let spi, let path): redirect(spi, path, peer)
            case .advanceSequence(let spi, let delta): advance(spi, by: delta, peer)
            case .established(let spi): established.append(spi)
            case .closed: break
            case .report(let report): take(report, peer)
            }
        }
        for spi in established {
            if peer.isLeaving {
                // It took over from one that was being deleted.
                delete(spi, peer, now)
            } else {
                peer.isUp = peer.wantsTunnel
            }
        }
        resume(peer, now)
    }

    private func send(_ message: [UInt8], _ path: IKEPath, _ peer: IKEPeer) {
        figures.messages += 1
        message.withUnsafeBytes { octets in
            guard let place = CrossingRequests.place(of: octets, isResponse: false),
                !peer.asking.contains(place)
            else { return }
            peer.asking.append(place)
        }
        outgoing.append((peer.number, IKEPacket.octets(message, path)))
    }

    private func take(_ report: IKEReport, _ peer: IKEPeer) {
        switch report.kind {
        case .established: figures.setUps += 1
        case .rekeyed: figures.rekeysOfIKE += 1
        case .childRekeyed: figures.rekeysOfChildren += 1
        default: break
        }
        onReport?(peer.number, report)
    }

    // MARK: Pairs

    private func install(_ child: NewChild, _ peer: IKEPeer) {
        do throws(SlabError) {
            let receives = try slab.insert(
                child.inbound, distributionIdentifier: 0, ivGeneration: 1)
            let sends = try slab.insert(
                child.outbound, distributionIdentifier: 0, ivGeneration: 1)
            let spi = child.inbound.parameters.spi
            peer.pairs.append(
                IKEPeer.Pair(
                    inbound: spi, outbound: child.outbound.parameters.spi, receives: receives,
                    sends: sends, isWaiting: !child.isReadyToSend))
            if child.isReadyToSend { beginSending(spi, peer) }
        } catch {
            preconditionFailure("the slab has room for more than peers can have: \(error)")
        }
    }

    private func beginSending(_ spi: SPI, _ peer: IKEPeer) {
        guard let place = peer.pairs.firstIndex(where: { $0.inbound == spi }) else { return }
        peer.pairs[place].isWaiting = false
        peer.senders.removeAll { $0 == spi }
        peer.senders.append(spi)
    }

    private func remove(_ spi: SPI, _ peer: IKEPeer) {
        peer.senders.removeAll { $0 == spi }
        guard let place = peer.pairs.firstIndex(where: { $0.inbound == spi }) else { return }
        wipe(peer.pairs.remove(at: place))
    }

    func wipe(_ pair: IKEPeer.Pair) {
        for handle in [pair.receives, pair.sends] {
            engine.forget(handle, in: slab)
            slab.remove(handle)
        }
    }

    private func redirect(_ spi: SPI, _ path: IKEPath, _ peer: IKEPeer) {
        guard let pair = peer.pair(inbound: spi) else { return }
        let ports = path.hasMarker
        slab.redirect(
            pair.receives, source: path.remote, destination: path.local,
            udp: ports ? UDPPorts(source: path.remotePort, destination: path.localPort) : nil)
        slab.redirect(
            pair.sends, source: path.local, destination: path.remote,
            udp: ports ? UDPPorts(source: path.localPort, destination: path.remotePort) : nil)
    }

    /// The gateway may have seen higher numbers than this peer knows of (RFC 6311 §5).
    private func advance(_ spi: SPI, by delta: UInt64, _ peer: IKEPeer) {
        guard let pair = peer.pair(inbound: spi) else { return }
        let sequence = slab.status(of: pair.sends).sequence
        slab.resumeSending(
            after: sequence + min(delta, 1 << 32), limit: slab.limit(of: pair.sends),
            of: pair.sends)
    }

    // MARK: Arriving

    /// Takes an IKE packet that a gateway sent. Returns whose it is; nil: it is none, or for nobody
    /// here.
    func receiveMessage(_ packet: UnsafeRawBufferPointer, now: UInt64) -> Int? {
        guard let (message, path) = IKEPacket.read(packet), let number = peer(at: path.local)
        else { return nil }
        let peer = peers[number]
        guard !peer.isSilent else { return number }
        figures.received += 1
        noteCrossing(message, peer)
        let outcome = peer.endpoint.receive(
            message, path: path, now: now, seconds: Self.seconds(now))
        perform(outcome, peer, now)
        return number
    }

    /// A request that comes while one of the same IKE SA is not answered has crossed it.
    private func noteCrossing(_ message: UnsafeRawBufferPointer, _ peer: IKEPeer) {
        if let answered = CrossingRequests.place(of: message, isResponse: true) {
            peer.asking.removeAll { $0 == answered }
        }
        guard let asked = CrossingRequests.place(of: message, isResponse: false),
            peer.asking.contains(where: {
                $0.initiatorSPI == asked.initiatorSPI && $0.responderSPI == asked.responderSPI
            }), peer.crossed.insert(asked).inserted
        else { return }
        figures.collisions += 1
    }

    /// A good packet came in through a pair: a sign of life, and of keys.
    func hear(_ spi: SPI, _ peer: IKEPeer, now: UInt64) {
        peer.numbers.noteReceived(spi, at: now)
        guard let pair = peer.pair(inbound: spi), pair.isWaiting,
            let owner = peer.endpoint.localSPI(ofChild: spi)
        else { return }
        perform(peer.endpoint.noteReceived(spi, localSPI: owner), peer, now)
    }
}
