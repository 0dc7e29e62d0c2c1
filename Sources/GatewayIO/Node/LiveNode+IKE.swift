// What the IKE endpoint wants done.

internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    /// Gives a command to the endpoint. False: there is no such IKE SA.
    @discardableResult
    func command(_ command: IKEEndpoint.Command, _ localSPI: UInt64) -> Bool {
        let outcome = endpoint.command(command, localSPI: localSPI, now: now, seconds: seconds)
        guard let outcome else { return false }
        perform(outcome)
        return true
    }

    /// Carries events out, in order. What `changed` names would be stored before by a node that has
    /// successors; the store of entries answers within `establish`, so no answer overtakes it.
    func perform(_ outcome: IKEOutcome) {
        var established: [UInt64] = []
        for event in outcome.events {
            switch event {
            case .send(let datagrams, let path):
                for datagram in datagrams { send(datagram, path) }
            case .keepalive(let path):
                // Not a message, so without a marker (RFC 3948 §2.3).
                socket(for: path)?.send([0xFF], to: path.remote, path.remotePort)
            case .install(let child): install(child)
            case .sendThrough(let spi): beginSending(spi)
            case .remove(let spi): remove(spi)
            case .redirect(let spi, let path):
                member.gateway.redirect(
                    spi, local: path.local, remote: path.remote, localPort: path.localPort,
                    remotePort: path.remotePort)
            case .advanceSequence: break
            case .established(let localSPI):
                noteEstablished(localSPI)
                established.append(localSPI)
            case .closed(let localSPI): noteClosed(localSPI)
            case .report(let report):
                log(report.level == .info ? .info : .warning, report.description)
                tell(report)
            }
        }
        established.forEach(answerAwaited)
    }

    private func socket(for path: IKEPath) -> DatagramSocket? {
        datagramSockets.first { $0.address == path.local && $0.port == path.localPort }
    }

    private func send(_ datagram: [UInt8], _ path: IKEPath) {
        guard let socket = socket(for: path) else { return }
        let octets = path.hasMarker ? [0, 0, 0, 0] + datagram : datagram
        socket.send(octets, to: path.remote, path.remotePort)
    }

    private func install(_ child: NewChild) {
        let spi = child.inbound.parameters.spi
        let refusal = member.establish(
            inbound: SecurityAssociation(copying: child.inbound),
            outbound: SecurityAssociation(copying: child.outbound), replacing: child.replaces, now)
        if let refusal {
            log(.warning, "\(child.policy) \(spi) is refused: \(refusal)")
            if let owner = endpoint.localSPI(ofChild: spi) { command(.deleteChild(spi), owner) }
            return
        }
        let remote = child.outbound.parameters.selectors.destination
        pairs[spi] = Pair(remote: remote, sends: child.isReadyToSend)
        for fault in routes?.add(remote) ?? [] {
            log(.warning, "\(child.policy) \(spi): no route to \(fault)")
        }
        if child.isReadyToSend { member.gateway.prefer(spi) } else { silent.insert(spi) }
    }

    private func beginSending(_ spi: SPI) {
        silent.remove(spi)
        pairs[spi]?.sends = true
        member.gateway.prefer(spi)
    }

    private func remove(_ spi: SPI) {
        silent.remove(spi)
        member.gateway.clear(spi, nowNanoseconds: now)
        member.carry(now)
        if let pair = pairs.removeValue(forKey: spi) { routes?.remove(pair.remote) }
    }

    /// A good packet came in through a pair whose peer had given no sign yet.
    func hear(_ spi: SPI) {
        guard silent.remove(spi) != nil, let owner = endpoint.localSPI(ofChild: spi) else { return }
        perform(endpoint.noteReceived(spi, localSPI: owner))
    }

    // MARK: Addresses of our own

    private func noteEstablished(_ localSPI: UInt64) {
        if let summary = endpoint.summary(of: localSPI), summary.hasOwnVirtualAddress,
            let routes
        {
            for address in summary.virtualAddresses {
                let cause = routes.setAddress(address, isNew: true)
                if cause != 0 { log(.warning, "\(device.name) does not take \(address): \(cause)") }
            }
            ownAddresses[localSPI] = summary.virtualAddresses
        }
    }

    /// The set-up that somebody waits for is over: with the pair that it was for, or without.
    private func answerAwaited(_ localSPI: UInt64) {
        for session in sessions.values where session.awaited == localSPI {
            let pairs = endpoint.summary(of: localSPI)?.children ?? []
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
