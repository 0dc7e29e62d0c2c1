// What the gateway wants done for its peers.

internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    /// Carries out what the gateway wants done, in order.
    func carry() {
        member.carry(now)
        // Who waits for the end of something hears first what there is to say of it.
        var established: [UInt64] = []
        var closed: [UInt64] = []
        for output in member.takeOutputs() {
            switch output {
            case .message(let datagram, let path): send(datagram, path)
            case .keepalive(let path):
                // Not a message, so without a marker (RFC 3948 §2.3).
                socket(for: path)?.send([0xFF], to: path.remote, path.remotePort)
            case .report(let report):
                log(report.level == .info ? .info : .warning, report.description)
                tell(report)
            case .event(let event): take(event, &established, &closed)
            case .inner(let packet): deliver(packet)
            case .outer(let packet): packet.withUnsafeBytes { send(outer: $0) }
            // The member carries them itself.
            case .datagram, .request: break
            }
        }
        for fault in member.takeFaults() { log(.warning, fault) }
        established.forEach(answerAwaited)
        closed.forEach(noteClosed)
    }

    private func take(
        _ event: GatewayEvent, _ established: inout [UInt64], _ closed: inout [UInt64]
    ) {
        switch event {
        case .established(let spi): beginPair(spi)
        case .lingering(let spi): withdrawRoutes(of: spi)
        case .cleared(let spi): endPair(spi)
        case .ikeEstablished(let localSPI):
            noteEstablished(localSPI)
            established.append(localSPI)
        case .ikeAdopted(let localSPI):
            noteEstablished(localSPI)
            let children = member.gateway.association(localSPI: localSPI)?.children ?? []
            for child in children where child.isCurrent { beginPair(child.inbound) }
        case .ikeClosed(let localSPI): closed.append(localSPI)
        case .refused(let spi, let reason): log(.warning, "the pair \(spi) is refused: \(reason)")
        case .reallocated(let report): note(report)
        case .recordRefused, .generationsLow, .generationsSpent, .tableRefused:
            log(.warning, "\(event)")
        }
    }

    /// A node alone has nothing to tell: it owns everything.
    private func note(_ report: ReallocationReport) {
        guard cluster != nil, report.gained + report.lost > 0 else { return }
        log(
            .info,
            "epoch \(report.epoch): \(report.gained) identifiers gained, \(report.lost) lost; "
                + "\(report.loaded + report.hosted) tunnels loaded, \(report.updated) ready "
                + "before, \(report.cleared) cleared")
        for refusal in report.refusals {
            log(.warning, "the tunnel \(refusal.spi) found no room: \(refusal.reason)")
        }
    }

    /// An inner packet that was held while its tunnel moved.
    private func deliver(_ packet: [UInt8]) {
        guard case .segment(let inside) = protected else { return }
        var packet = packet
        packet.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress, HopLimit.decrement(base) else { return }
            inside.send(UnsafeRawBufferPointer(bytes), nowNanoseconds: now)
        }
        inside.flush()
    }

    private func socket(for path: IKEPath) -> DatagramSocket? {
        datagramSockets.first { $0.address == path.local && $0.port == path.localPort }
    }

    private func send(_ datagram: [UInt8], _ path: IKEPath) {
        guard let socket = socket(for: path) else { return }
        let octets = path.hasMarker ? [0, 0, 0, 0] + datagram : datagram
        socket.send(octets, to: path.remote, path.remotePort)
    }

    // MARK: Pairs

    /// The protected network finds the peer through the device.
    private func beginPair(_ spi: SPI) {
        guard pairs[spi] == nil, let outbound = member.gateway.status(of: spi)?.outbound else {
            return
        }
        pairs[spi] = Pair(remote: outbound.selectors.destination)
        addRoutes(of: spi, named: "the pair")
    }

    private func endPair(_ spi: SPI) {
        withdrawRoutes(of: spi)
        pairs[spi] = nil
    }

    // MARK: Addresses of our own

    private func noteEstablished(_ localSPI: UInt64) {
        guard let summary = member.gateway.association(localSPI: localSPI),
            summary.hasOwnVirtualAddress, case .device(let device, let routes?) = protected
        else { return }
        for address in summary.virtualAddresses {
            let cause = routes.setAddress(address, isNew: true)
            if cause != 0 { log(.warning, "\(device.name) does not take \(address): \(cause)") }
        }
        ownAddresses[localSPI] = summary.virtualAddresses
    }

    /// The set-up that somebody waits for is over: with the pair that it was for, or without.
    private func answerAwaited(_ localSPI: UInt64) {
        for session in sessions.values where session.awaited == localSPI {
            let pairs = member.gateway.association(localSPI: localSPI)?.children ?? []
            session.say(
                pairs.isEmpty && session.wantsPair
                    ? .failed("the IKE SA is there, but no pair: see the reasons above") : .done)
        }
    }

    private func noteClosed(_ localSPI: UInt64) {
        let addresses = ownAddresses.removeValue(forKey: localSPI) ?? []
        for address in addresses
        where !ownAddresses.values.contains(where: { $0.contains(address) }) {
            _ = routes?.setAddress(address, isNew: false)
        }
        for session in sessions.values {
            if session.awaited == localSPI { session.say(.failed("the set-up failed")) }
            if session.ending.remove(localSPI) != nil, session.ending.isEmpty {
                session.say(.done)
            }
        }
    }

    /// Who waits for a set-up reads along.
    private func tell(_ report: IKEReport) {
        for session in sessions.values where session.awaited != nil || !session.ending.isEmpty {
            session.say(.report(report.description))
        }
    }
}
