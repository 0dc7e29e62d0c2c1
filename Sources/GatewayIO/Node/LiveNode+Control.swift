// What operators ask of a running node.

internal import Cluster
internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    func answer(_ request: Result<ControlRequest, ControlFault>, _ session: ControlSession) {
        guard case .success(let request) = request else {
            return session.say(.failed("that is no request of this version: use its spindle"))
        }
        log(.debug, "asked by the control socket: \(request.command.rawValue)")
        switch request.command {
        case .list:
            var reply = ControlReply.done
            reply.associations = member.gateway.associations().map(listing) + manualListings()
            session.say(reply)
        case .status:
            var reply = ControlReply.done
            reply.status = NodeStatus(
                reading(), withIdentifiers: request.withIdentifiers == true)
            session.say(reply)
        case .drain, .weight, .rebalance, .move: operate(request, session)
        case .trace: trace(request, session)
        case .initiate: initiate(request, session)
        case .terminate: terminate(request, session)
        case .rekey: rekey(request, session)
        case .keys: writeKeys(request, session)
        }
    }

    // MARK: Commands

    private func initiate(_ request: ControlRequest, _ session: ControlSession) {
        let connections = member.gateway.ikeConfiguration?.connections ?? []
        guard let name = request.connection,
            let found = connections.first(where: { $0.name == name })
        else { return session.say(.failed(unknownConnection(request.connection ?? ""))) }
        guard let remote = found.remoteAddress else {
            return session.say(
                .failed("\(name) does not say where the peer is: its peers come to us"))
        }
        let local =
            found.localAddress
            ?? configuration.addresses.first {
                $0.family == remote.family
            }
        guard let local, configuration.addresses.contains(local) else {
            return session.say(.failed("\(name): none of our addresses can reach \(remote)"))
        }
        let child = request.child ?? found.children.first?.name
        let port = configuration.remotePorts[name]
        let path = IKEPath(
            local: local,
            localPort: port == nil ? configuration.ikePort : configuration.encapsulationPort,
            remote: remote, remotePort: port ?? UDPPort.ike, hasMarker: port != nil)
        guard
            let localSPI = member.gateway.initiate(
                name, child: child, path: path, nowNanoseconds: now)
        else { return session.say(.failed("\(name) has no child \(child ?? "")")) }
        session.awaited = localSPI
        session.wantsPair = child != nil
        carry()
    }

    private func chosen(_ request: ControlRequest) -> [IKESummary] {
        member.gateway.associations().filter { summary in
            if let spi = request.spi { return hexadecimal(summary.localSPI) == spi }
            return summary.connection == request.connection
        }
    }

    private func terminate(_ request: ControlRequest, _ session: ControlSession) {
        let chosen = chosen(request)
        guard !chosen.isEmpty else { return session.say(.failed(absence(request))) }
        session.ending = Set(chosen.map(\.localSPI))
        for summary in chosen { command(.delete, summary.localSPI) }
        carry()
    }

    private func rekey(_ request: ControlRequest, _ session: ControlSession) {
        let chosen = chosen(request)
        guard !chosen.isEmpty else { return session.say(.failed(absence(request))) }
        for summary in chosen {
            guard request.ofIKE != true else {
                command(.rekey, summary.localSPI)
                continue
            }
            for child in summary.children where child.isCurrent {
                command(.rekeyChild(child.inbound), summary.localSPI)
            }
        }
        carry()
        session.say(.done)
    }

    private func command(_ command: IKEEndpoint.Command, _ localSPI: UInt64) {
        member.gateway.command(command, localSPI: localSPI, nowNanoseconds: now)
    }

    // MARK: The cluster

    private func operate(_ request: ControlRequest, _ session: ControlSession) {
        guard cluster != nil else {
            return session.say(
                .failed("this node is alone: there is nobody to give tunnels to or take them from"))
        }
        guard let goal = request.goal else {
            return session.say(.failed("that is no request of this version: use its spindle"))
        }
        do throws(ClusterOperation.Refusal) {
            session.operation = try ClusterOperation(
                goal, &member.gateway, seconds: min(max(request.seconds ?? 30, 1), 3600),
                nowNanoseconds: now)
        } catch {
            session.say(.failed(error.text))
        }
        log(.info, "an operator wants: \(goal)")
        carry()
    }

    /// Tells operators who wait how far the cluster is.
    func stepOperations() {
        for session in sessions.values {
            guard var operation = session.operation else { continue }
            let step = operation.step(&member.gateway, nowNanoseconds: now)
            session.operation = operation
            switch step {
            case .waits: break
            case .reports(let text): session.say(.report(text))
            case .isDone(let text):
                session.operation = nil
                var reply = ControlReply.done
                reply.report = text
                session.say(reply)
            case .fails(let text):
                session.operation = nil
                session.say(.failed(text))
            }
        }
        if member.gateway.hasOutputs { carry() }
    }

    // MARK: Answers

    private func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    private func listing(_ summary: IKESummary) -> AssociationListing {
        AssociationListing(
            connection: summary.connection, localSPI: hexadecimal(summary.localSPI),
            initiatorSPI: hexadecimal(summary.initiatorSPI),
            responderSPI: hexadecimal(summary.responderSPI),
            role: summary.role == .initiator ? "initiator" : "responder",
            isEstablished: summary.isEstablished, suite: summary.suite,
            local: "\(summary.path.local) \(summary.path.localPort)",
            remote: "\(summary.path.remote) \(summary.path.remotePort)",
            localIdentity: summary.localIdentity, remoteIdentity: summary.remoteIdentity,
            virtualAddresses: summary.virtualAddresses.map(\.description),
            ageSeconds: (now &- summary.createdNanoseconds) / 1_000_000_000,
            pairs: summary.children.map(listing))
    }

    private func listing(_ child: ChildSummary) -> AssociationListing.Pair {
        let status = member.gateway.status(of: child.inbound)
        return AssociationListing.Pair(
            policy: child.policy, inboundSPI: child.inbound.description,
            outboundSPI: child.outbound.description, suite: child.suite, mode: child.mode.rawValue,
            encapsulation: status?.outbound?.udp == nil ? "esp" : "udp",
            local: child.local.flatMap(\.words), remote: child.remote.flatMap(\.words),
            isCurrent: child.isCurrent, packetsIn: status?.received.packets ?? 0,
            bytesIn: status?.received.bytes ?? 0, packetsOut: status?.sent?.packets ?? 0,
            bytesOut: status?.sent?.bytes ?? 0)
    }
}

extension TrafficSelector {
    /// Its prefixes, with protocol and ports where they are limited.
    var words: [String] {
        let flow = ipProtocol == 0 ? "" : " protocol \(ipProtocol)"
        let ports = firstPort == 0 && lastPort == .max ? "" : " ports \(firstPort)-\(lastPort)"
        return prefixes.map { "\($0.0)/\($0.1)" + flow + ports }
    }
}

extension ControlRequest {
    /// What it wants of the cluster; nil: it says too little, or nothing of that kind.
    fileprivate var goal: ClusterOperation.Goal? {
        let named = node.flatMap { NodeID(exactly: $0) }
        switch (command, named) {
        case (.drain, let named?): return .drain(named)
        case (.weight, let named?): return weight == 0 ? .drain(named) : .weight(named, weight)
        case (.rebalance, _): return .rebalance
        case (.move, let named?):
            return identifier.map { .move(DistributionIdentifier($0), named) }
        default: return nil
        }
    }
}
