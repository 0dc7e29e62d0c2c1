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
        let spi = environment.resources.initiatorSPI(&environment.random)
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

    /// The answer: returns the successor, when there is one.
    func acceptSuccessor(
        _ offer: SuccessorOffer, _ payloads: [Payload], _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEAssociation? {
        let environment = step.environment
        guard let policy = environment.configuration.connection(named: connection) else {
            return nil
        }
        if let error = payloads.errorNotify {
            if error.type == NotifyType.invalidKEPayload.rawValue,
                let group = KeyAgreementGroup(wished: error.data), group != offer.agreement.group,
                policy.proposals.contains(where: { $0.groups.contains(group) })
            {
                try requestSuccessor(group: group, step, &outcome)
                return nil
            }
            return try successorRefused(error, offer, step, &outcome)
        }
        guard let proposals = payloads.proposals,
            let transforms = policy.proposals.accepted(proposals),
            let suite = IKESuite(transforms), suite.group == offer.agreement.group,
            let spi = UInt64(octets: proposals[0].spi), spi != 0,
            let nonce = payloads.nonce, isNonce(nonce, for: suite.function),
            let exchange = payloads.keyExchange, exchange.group == suite.group.rawValue,
            let shared = try? offer.agreement.sharedSecret(exchange.data)
        else {
            report(.syntax, .warning, "the peer's answer to rekeying can't be used", &outcome)
            postponeRekey(step)
            return nil
        }
        let successor = try makeSuccessor(
            role: .initiator, initiatorSPI: offer.localSPI, responderSPI: spi, suite: suite,
            nonces: (offer.nonce, nonce), shared: shared, step)
        return settleSuccessors(
            successor, lowest: isLower(nonce, than: offer.nonce) ? nonce : offer.nonce, offer,
            &outcome)
    }

    private func successorRefused(
        _ error: Notify, _ offer: SuccessorOffer, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEAssociation? {
        // With the peer's own successor at hand, ours is not missed (RFC 7296 §2.8.2).
        if let collision = offer.collision {
            inherit(collision.successor, &outcome)
            return nil
        }
        if error.type != NotifyType.temporaryFailure.rawValue {
            report(
                .peerError, .warning, "the peer refuses to rekey with \(error.name)", &outcome)
        }
        postponeRekey(step)
        return nil
    }

    /// Which IKE SA inherits, after both ends may have made one (RFC 7296 §2.8.2). Returns the one
    /// that we made.
    private func settleSuccessors(
        _ own: IKEAssociation, lowest: [UInt8], _ offer: SuccessorOffer,
        _ outcome: inout IKEOutcome
    ) -> IKEAssociation {
        if let collision = offer.collision, isLower(lowest, than: collision.lowestNonce) {
            // Ours is the one too many, and we delete it; the peer deletes this one.
            own.requests.add(.deleteIKE)
            own.stage = .replaced
            inherit(collision.successor, &outcome)
        } else {
            inherit(own, &outcome)
            requests.add(.deleteIKE)
        }
        return own
    }

    /// The peer asks for a successor: returns it with the answer.
    func answerSuccessor(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> (answer: [Payload], successor: IKEAssociation?) {
        let environment = step.environment
        guard let policy = environment.configuration.connection(named: connection),
            canBeRekeyed
        else { return ([.notify(.temporaryFailure)], nil) }
        let request: InitRequest
        switch InitRequest.read(payloads, policy.proposals) {
        case .success(let good): request = good
        case .failure(let error):
            report(
                .noProposal, .warning,
                "the peer's wish to rekey is refused: \(payloads.proposals?.text ?? "")",
                &outcome)
            return ([error.refusal.notify], nil)
        }
        guard let spi = UInt64(octets: request.proposal.offered.spi), spi != 0 else {
            return ([.notify(.invalidSyntax)], nil)
        }
        let nonce = environment.random.octets(nonceBytes)
        let agreement = try KeyAgreement(request.suite.group, random: &environment.random)
        guard let shared = try? agreement.sharedSecret(request.publicValue) else {
            return ([.notify(.invalidSyntax)], nil)
        }
        let own = environment.resources.responderSPI(initiatorSPI: spi, &environment.random)
        let successor = try makeSuccessor(
            role: .responder, initiatorSPI: spi, responderSPI: own, suite: request.suite,
            nonces: (request.nonce, nonce), shared: shared, step)
        let proposal = request.proposal.answer(spi: own.octets)
        if case .rekeyIKE(let offer) = requests.outstanding?.exchange {
            let lowest = isLower(nonce, than: request.nonce) ? nonce : request.nonce
            offer.collision = (successor, lowest)
        } else {
            inherit(successor, &outcome)
        }
        let answer: [Payload] = [
            .securityAssociation([proposal]), .nonce(nonce),
            .keyExchange(group: request.suite.group.rawValue, data: agreement.publicValue),
        ]
        return (answer, successor)
    }

    /// Not while CHILD SAs are being made (RFC 7296 §2.25.2), nor a second time.
    private var canBeRekeyed: Bool {
        guard stage == .established else { return false }
        return switch requests.outstanding?.exchange {
        case .createChild, .deleteIKE: false
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
            stage: .established, generation: environment.generation, now: step.now)
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
        successor.traits = traits
        successor.localIdentity = localIdentity
        successor.remoteIdentity = remoteIdentity
        successor.hasOwnVirtualAddress = hasOwnVirtualAddress
        successor.setLifetimes(timers(environment), step)
        return successor
    }

    /// The successor gets the CHILD SAs, and what is still to be done for them.
    func inherit(_ successor: IKEAssociation, _ outcome: inout IKEOutcome) {
        guard stage == .established else { return }
        stage = .replaced
        successor.children += children
        successor.virtualAddresses = virtualAddresses
        children = []
        virtualAddresses = []
        for task in requests.tasks {
            switch task {
            case .rekeyChild, .createChild, .deleteChildren: successor.requests.add(task)
            case .rekeyIKE, .deleteIKE, .liveness: break
            }
        }
        requests.tasks = []
        outcome.noteChange(of: localSPI)
        outcome.noteChange(of: successor.localSPI)
        outcome.events.append(.established(localSPI: successor.localSPI))
        report(
            .rekeyed, .info,
            "rekeyed, \(successor.suite?.description ?? ""), \(successor.children.count) pairs",
            &outcome)
    }

    private func postponeRekey(_ step: borrowing Step) {
        let patience = timers(step.environment).retransmission
        times.rekey = step.now &+ patience &+ step.environment.random.uint64() % patience
    }
}
