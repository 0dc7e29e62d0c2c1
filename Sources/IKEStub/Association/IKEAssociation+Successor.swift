// New keys for the IKE SA itself (RFC 7296 §1.3.2, §2.8, §2.18).

internal import Crypto
internal import ESP

extension IKEAssociation {
    /// Asks the peer for a successor.
    func requestSuccessor(
        group: KeyAgreementGroup?, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let environment = step.environment
        guard let policy = environment.configuration.connection(named: connection),
            let group = group ?? suite?.group
        else { return }
        let spi = environment.resources.initiatorSPI(
            replacing: initiatorSPI, sibling: children.first?.inbound, &environment.random)
        let offer = SuccessorOffer(
            localSPI: spi, nonce: environment.random.octets(nonceBytes),
            agreement: try KeyAgreement(group, random: &environment.random))
        let payloads: [Payload] = [
            .securityAssociation(policy.proposals.proposals(spi: spi.octets)),
            .nonce(offer.nonce),
            .keyExchange(group: group.rawValue, data: offer.agreement.publicValue),
        ]
        try request(.createChildSA, .rekeyIKE(offer), payloads, step, &outcome)
    }

    /// The answer.
    func acceptSuccessor(
        _ offer: SuccessorOffer, _ payloads: [Payload], _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let policies =
            step.environment.configuration.connection(named: connection)?.proposals ?? []
        if let error = payloads.errorNotify {
            if offer.collision == nil, error.type == NotifyType.invalidKEPayload.rawValue,
                let group = KeyAgreementGroup(wished: error.data), group != offer.agreement.group,
                policies.contains(where: { $0.groups.contains(group) })
            {
                return try requestSuccessor(group: group, step, &outcome)
            }
            return successorRefused(error, offer, step, &outcome)
        }
        guard let proposals = payloads.proposals,
            let transforms = policies.accepted(proposals),
            let suite = IKESuite(transforms), suite.group == offer.agreement.group,
            let spi = UInt64(octets: proposals[0].spi), spi != 0,
            let nonce = payloads.nonce, isNonce(nonce, for: suite.function),
            let exchange = payloads.keyExchange, exchange.group == suite.group.rawValue,
            let shared = try? offer.agreement.sharedSecret(exchange.data)
        else {
            report(.syntax, .warning, "the peer's answer to rekeying can't be used", &outcome)
            return withoutSuccessor(offer, isBusy: false, step, &outcome)
        }
        let successor = try makeSuccessor(
            role: .initiator, initiatorSPI: offer.localSPI, responderSPI: spi, suite: suite,
            nonces: (offer.nonce, nonce), shared: shared, step)
        settleSuccessors(
            successor, lowest: isLower(nonce, than: offer.nonce) ? nonce : offer.nonce, offer,
            step, &outcome)
    }

    private func successorRefused(
        _ error: Notify, _ offer: SuccessorOffer, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        let isBusy = error.type == NotifyType.temporaryFailure.rawValue
        if !isBusy, offer.collision == nil {
            report(
                .peerError, .warning, "the peer refuses to rekey with \(error.name)", &outcome)
        }
        withoutSuccessor(offer, isBusy: isBusy, step, &outcome)
    }

    /// Ours did not come to be. With the peer's own at hand it is not missed (RFC 7296 §2.8.2).
    private func withoutSuccessor(
        _ offer: SuccessorOffer, isBusy: Bool, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        guard offer.collision == nil else {
            return inheritAfterCollision(offer, step, &outcome)
        }
        times.rekey = retryTime(isBusy: isBusy, step)
    }

    /// The peer's successor inherits; without it there is nothing that could.
    func inheritAfterCollision(
        _ offer: SuccessorOffer, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        guard let successor = step.successor(offer) else { return close(step, &outcome) }
        inherit(successor, step, &outcome)
    }

    /// The peer uses this IKE SA for CHILD SAs: it knows that this one inherits, though our own
    /// rekeying has no answer yet (RFC 7296 §2.8.2).
    func inheritFromPredecessor(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard let spi = predecessor, let old = step.endpoint.associations[spi],
            case .rekeyIKE(let offer) = old.requests.outstanding?.exchange,
            offer.collision?.localSPI == localSPI
        else { return }
        old.inherit(self, step, &outcome)
        outcome.touch(old)
    }

    /// Which IKE SA inherits, after both ends may have made one (RFC 7296 §2.8.2).
    private func settleSuccessors(
        _ own: IKEAssociation, lowest: [UInt8], _ offer: SuccessorOffer,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        step.endpoint.keep(own)
        if let collision = offer.collision, isLower(lowest, than: collision.lowestNonce) {
            // Ours is the one too many, and we delete it; the peer deletes this one.
            own.requests.add(.deleteIKE)
            own.retire(step)
            outcome.touch(own)
            inheritAfterCollision(offer, step, &outcome)
        } else {
            // The peer deletes its own, wherever its packets go.
            if let other = step.successor(offer) {
                other.retire(step)
                outcome.touch(other)
                outcome.noteChange(of: other.localSPI)
            }
            inherit(own, step, &outcome)
            requests.add(.deleteIKE)
        }
    }

    /// The peer asks for a successor: returns the answer.
    func answerSuccessor(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> [Payload] {
        let environment = step.environment
        guard let policy = environment.configuration.connection(named: connection),
            canBeRekeyed
        else { return [.notify(.temporaryFailure)] }
        guard step.endpoint.mayBeRekeyed(self, policy) else {
            step.endpoint.counters.count(.identityLimit)
            return [.notify(.temporaryFailure)]
        }
        let request: InitRequest
        switch InitRequest.read(payloads, policy.proposals) {
        case .success(let good): request = good
        case .failure(let error):
            report(
                .noProposal, .warning,
                "the peer's wish to rekey is refused: \(payloads.proposals?.text ?? "")",
                &outcome)
            return [error.refusal.notify]
        }
        guard let spi = UInt64(octets: request.proposal.offered.spi), spi != 0 else {
            return [.notify(.invalidSyntax)]
        }
        let nonce = environment.random.octets(nonceBytes)
        let agreement = try KeyAgreement(request.suite.group, random: &environment.random)
        guard let shared = try? agreement.sharedSecret(request.publicValue) else {
            return [.notify(.invalidSyntax)]
        }
        let own = environment.resources.responderSPI(initiatorSPI: spi, &environment.random)
        let successor = try makeSuccessor(
            role: .responder, initiatorSPI: spi, responderSPI: own, suite: request.suite,
            nonces: (request.nonce, nonce), shared: shared, step)
        let proposal = request.proposal.answer(spi: own.octets)
        step.endpoint.keep(successor)
        outcome.noteChange(of: own)
        if case .rekeyIKE(let offer) = requests.outstanding?.exchange {
            let lowest = isLower(nonce, than: request.nonce) ? nonce : request.nonce
            offer.collision = SuccessorCollision(localSPI: own, lowestNonce: lowest)
            successor.predecessor = localSPI
        } else {
            inherit(successor, step, &outcome)
        }
        return [
            .securityAssociation([proposal]), .nonce(nonce),
            .keyExchange(group: request.suite.group.rawValue, data: agreement.publicValue),
        ]
    }

    /// Not while CHILD SAs are being made (RFC 7296 §2.25.2), nor a second time.
    private var canBeRekeyed: Bool {
        guard stage == .established else { return false }
        return switch requests.outstanding?.exchange {
        case .createChild, .deleteChildren, .deleteIKE: false
        case .rekeyIKE(let offer): offer.collision == nil
        default: true
        }
    }

    private func makeSuccessor(
        role: IKERole, initiatorSPI: UInt64, responderSPI: UInt64, suite: IKESuite,
        nonces: (initiator: [UInt8], responder: [UInt8]), shared: borrowing SecretBytes,
        _ step: borrowing Step
    ) throws(CryptoError) -> IKEAssociation {
        guard let oldSuite = self.suite else { preconditionFailure("only IKE SAs with keys") }
        let environment = step.environment
        let successor = IKEAssociation(
            role: role, initiatorSPI: initiatorSPI, responderSPI: responderSPI, path: path,
            stage: .established,
            generation: environment.resources.generation(initiatorSPI: initiatorSPI),
            now: step.now)
        let identity = ExchangeIdentity(
            initiatorNonce: SecretBytes(nonces.initiator),
            responderNonce: SecretBytes(nonces.responder), initiatorSPI: initiatorSPI,
            responderSPI: responderSPI)
        let schedule = KeySchedule(suite.function, library: environment.library)
        let seed = try withKeys { keys throws(CryptoError) in
            try schedule.rekeyedSeed(
                replacing: oldSuite.function, derivation: keys.derivation, identity,
                sharedSecret: shared)
        }
        successor.keys = try schedule.keys(
            seed: seed, identity, lengths: suite.protection.keyLengths)
        successor.suite = suite
        successor.connection = connection
        successor.origin = origin
        successor.traits = traits
        successor.localIdentity = localIdentity
        successor.remoteIdentity = remoteIdentity
        successor.hasOwnVirtualAddress = hasOwnVirtualAddress
        successor.setLifetimes(timers(environment), step)
        return successor
    }

    /// The successor gets the CHILD SAs, and what is still to be done for them.
    private func inherit(
        _ successor: IKEAssociation, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        guard stage == .established else { return }
        retire(step)
        successor.predecessor = nil
        successor.children += children
        successor.virtualAddresses = virtualAddresses
        children = []
        virtualAddresses = []
        for task in requests.tasks + requests.postponed {
            switch task {
            case .rekeyChild, .renewChild, .createChild, .deleteChildren, .replayCounters:
                successor.requests.add(task)
            case .rekeyIKE, .deleteIKE, .liveness: break
            }
        }
        requests.tasks = []
        requests.postponed = []
        outcome.touch(successor)
        outcome.noteChange(of: localSPI)
        outcome.noteChange(of: successor.localSPI)
        outcome.events.append(.established(localSPI: successor.localSPI))
        report(
            .rekeyed, .info,
            "rekeyed, \(successor.suite?.description ?? ""), \(successor.children.count) pairs",
            &outcome)
    }

    /// Serves nothing any more but its own end, which does not wait for the peer for ever: as long
    /// as a peer may ask again whose answer was lost.
    private func retire(_ step: borrowing Step) {
        let timers = timers(step.environment)
        stage = .replaced
        sync.stage = .none
        times.end = min(times.end, step.after(max(timers.halfOpen, timers.patience)))
    }

    /// When to try again what the peer refused: soon if it is only busy (RFC 7296 §2.25), else a
    /// few times in the rest of the life.
    func retryTime(isBusy: Bool, _ step: borrowing Step) -> UInt64 {
        let timers = timers(step.environment)
        let wait = max(isBusy ? timers.retransmission : timers.overtime / 4, 1)
        return step.after(wait &+ step.environment.random.uint64() % wait)
    }
}

extension Step {
    /// The IKE SA that the peer's exchange made beside ours, while it lives.
    borrowing func successor(_ offer: SuccessorOffer) -> IKEAssociation? {
        guard let spi = offer.collision?.localSPI, let found = endpoint.associations[spi],
            found.stage != .closed
        else { return nil }
        return found
    }
}
