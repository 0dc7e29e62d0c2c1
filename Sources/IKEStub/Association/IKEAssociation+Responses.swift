// The peer's responses to our requests.

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// Takes the response to the request that is outstanding.
    func accept(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard let outstanding = requests.outstanding else { return }
        requests.outstanding = nil
        // Of an answered check the next owner need not know: repeated, it is answered again.
        if case .liveness = outstanding.exchange {} else { outcome.noteChange(of: localSPI) }
        switch outstanding.exchange {
        case .ikeSAInit: break
        case .ikeAuth: try receiveAuthenticationResponse(payloads, step, &outcome)
        case .createChild(let offer):
            try acceptChild(offer, payloads, isFirst: false, step, &outcome)
        case .rekeyIKE(let offer):
            try acceptSuccessor(offer, payloads, step, &outcome)
        case .deleteChildren(let spis):
            for spi in spis { end(spi, step, &outcome) }
        case .deleteIKE: close(step, &outcome)
        case .liveness, .replayCounters: break
        }
        try runTasks(step, &outcome)
    }

    /// Sends the next request, when the window is free, and agreed upon.
    func runTasks(_ step: borrowing Step, _ outcome: inout IKEOutcome) throws(CryptoError) {
        if stage == .established { try advanceSync(step, &outcome) }
        while requests.outstanding == nil, !sync.isWaiting, !requests.tasks.isEmpty,
            stage != .closed, keys != nil
        {
            try run(requests.tasks.removeFirst(), step, &outcome)
        }
    }

    private func run(
        _ task: PendingTask, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let environment = step.environment
        switch task {
        case .rekeyChild(let spi):
            guard stage == .established,
                let child = children.first(where: { $0.inbound == spi && $0.stage == .active }),
                let policy = childPolicy(child.policy, environment)
            else { return }
            try requestChild(
                policy, replacing: child, group: policy.proposals[0].groups.first, step, &outcome)
        case .renewChild(let spi):
            guard stage == .established,
                let child = children.first(where: { $0.inbound == spi && $0.stage == .active }),
                let policy = childPolicy(child.policy, environment)
            else { return }
            try requestChild(
                policy, replacing: child, isAfresh: true,
                group: policy.proposals[0].groups.first, step, &outcome)
        case .createChild(let name):
            guard stage == .established, let policy = childPolicy(name, environment) else {
                return
            }
            try requestChild(
                policy, replacing: nil, group: policy.proposals[0].groups.first, step, &outcome)
        case .deleteChildren(let spis):
            // Not those that the peer has deleted meanwhile.
            let spis = spis.filter { spi in
                !children.contains { $0.inbound == spi && $0.stage == .lingering }
            }
            guard !spis.isEmpty else { return }
            try request(
                .informational, .deleteChildren(spis), [.delete(Delete(esp: spis))], step, &outcome)
        case .rekeyIKE:
            guard stage == .established else { return }
            try requestSuccessor(group: nil, step, &outcome)
        case .deleteIKE:
            try request(.informational, .deleteIKE, [.delete(.ike)], step, &outcome)
        case .liveness:
            try request(.informational, .liveness, [], step, &outcome)
        case .replayCounters(let delta):
            guard let octets = deltaOctets(delta) else { return }
            try request(
                .informational, .replayCounters(delta), [.notify(.replayCounterSync, octets)],
                step, &outcome)
        }
    }
}
