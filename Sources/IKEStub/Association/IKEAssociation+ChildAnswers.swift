// CHILD SAs that the peer asks for (RFC 7296 §1.3, §2.8, §2.9).

internal import Crypto
internal import ESP
internal import Wire

/// Why a pair is refused; each has its notification.
private enum ChildRefusal: Error {
    case syntax
    case noProposal
    case wrongGroup(KeyAgreementGroup)
    case selectors
    case noRoom

    var payload: Payload {
        switch self {
        case .syntax: .notify(.invalidSyntax)
        case .noProposal: .notify(.noProposalChosen)
        case .wrongGroup(let group): .notify(.invalidKEPayload, group.rawValue.octets)
        case .selectors: .notify(.tsUnacceptable)
        case .noRoom: .notify(.noAdditionalSAs)
        }
    }
}

/// What the peer wants, as far as it is chosen.
private struct ChildWish {
    let policy: ChildPolicy
    let chosen: ChosenProposal
    let suite: ChildSuite
    let outbound: SPI
    let local: [TrafficSelector]
    let remote: [TrafficSelector]
}

extension IKEAssociation {
    /// The payloads that answer a wish for a pair, in IKE_AUTH or CREATE_CHILD_SA: the pair is
    /// installed, or the answer says why not.
    func answerChild(
        _ payloads: [Payload], isFirst: Bool, firstNonces: [UInt8] = [], replaces: SPI? = nil,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> [Payload] {
        let wish: ChildWish
        switch choose(payloads, isFirst: isFirst, replaces: replaces, step.environment) {
        case .success(let found): wish = found
        case .failure(let refusal):
            reportRefusal(refusal, payloads, step.environment, &outcome)
            return [refusal.payload]
        }
        let environment = step.environment
        var nonces = firstNonces
        var shared = SecretBytes(count: 0)
        var own: [Payload] = []
        if !isFirst {
            let nonce = environment.random.octets(nonceBytes)
            nonces = (payloads.nonce ?? []) + nonce
            own.append(.nonce(nonce))
            if let group = wish.suite.group {
                let agreement = try KeyAgreement(group, random: &environment.random)
                do {
                    shared = try agreement.sharedSecret(payloads.keyExchange?.data ?? [])
                } catch { return [.notify(.invalidSyntax)] }
                own.append(.keyExchange(group: group.rawValue, data: agreement.publicValue))
            }
        }
        // Rekeying has room of its own, but pairs that the peer never deletes fill that too.
        let limit = environment.configuration.limits.childrenPerAssociation
        let spi =
            children.count < (replaces == nil ? limit : 2 * limit)
            ? environment.resources.inboundSPI(
                initiatorSPI: initiatorSPI, sibling: children.first?.inbound,
                &environment.random)
            : nil
        guard let spi else {
            reportRefusal(.noRoom, payloads, environment, &outcome)
            return [ChildRefusal.noRoom.payload]
        }
        let mode: Mode =
            wish.policy.mode == .transport && payloads.notify(.useTransportMode) != nil
            ? .transport : .tunnel
        try install(
            ChildAgreement(
                policy: wish.policy, suite: wish.suite, mode: mode, inbound: spi,
                outbound: wish.outbound, local: wish.local, remote: wish.remote,
                replaces: replaces, isOurs: false),
            shared: shared, nonces: nonces, step, &outcome)
        if let replaces { noteCollision(replaces, spi, payloads, nonces) }
        return answer(wish, spi, mode, own)
    }

    private func answer(
        _ wish: ChildWish, _ spi: SPI, _ mode: Mode, _ own: [Payload]
    ) -> [Payload] {
        let proposal = wish.chosen.answer(spi: spi.octets)
        var answer: [Payload] = mode == .transport ? [.notify(.useTransportMode)] : []
        answer.append(.securityAssociation([proposal]))
        answer += own
        answer.append(.initiatorSelectors(SelectorList(wish.remote)))
        answer.append(.responderSelectors(SelectorList(wish.local)))
        return answer
    }

    private func choose(
        _ payloads: [Payload], isFirst: Bool, replaces: SPI?, _ environment: IKEEnvironment
    ) -> Result<ChildWish, ChildRefusal> {
        guard let offer = payloads.proposals, let remote = payloads.initiatorSelectors,
            let local = payloads.responderSelectors,
            isFirst || nonceRange.contains(payloads.nonce?.count ?? 0)
        else { return .failure(.syntax) }
        let connection = environment.configuration.connection(named: connection)
        let old = children.first { $0.inbound == replaces }
        var refusal = ChildRefusal.selectors
        for policy in connection?.children ?? [] where old == nil || old?.policy == policy.name {
            let remotePart = narrowed(remote, to: resolve(policy.remote, isLocal: false))
            let localPart = narrowed(local, to: resolve(policy.local, isLocal: true))
            guard !remotePart.isEmpty, !localPart.isEmpty else { continue }
            guard let chosen = policy.proposals.choose(from: offer, offersGroups: !isFirst),
                let suite = ChildSuite(chosen.transforms),
                let spi = SPI(octets: chosen.offered.spi), !spi.isReserved
            else {
                refusal = .noProposal
                continue
            }
            if let group = suite.group, payloads.keyExchange?.group != group.rawValue {
                return .failure(.wrongGroup(group))
            }
            return .success(
                ChildWish(
                    policy: policy, chosen: chosen, suite: suite, outbound: spi, local: localPart,
                    remote: remotePart))
        }
        return .failure(refusal)
    }

    /// If we are rekeying the same pair, both exchanges will have made one (RFC 7296 §2.8.1).
    private func noteCollision(
        _ old: SPI, _ new: SPI, _ payloads: [Payload], _ nonces: [UInt8]
    ) {
        guard case .createChild(let offer) = requests.outstanding?.exchange,
            offer.replaces == old, let theirs = payloads.nonce
        else { return retire(old) }
        let ours = Array(nonces[theirs.count...])
        offer.collision = ChildCollision(
            inbound: new, lowestNonce: isLower(theirs, than: ours) ? theirs : ours)
    }

    private func reportRefusal(
        _ refusal: ChildRefusal, _ payloads: [Payload], _ environment: IKEEnvironment,
        _ outcome: inout IKEOutcome
    ) {
        let policies = environment.configuration.connection(named: connection)?.children ?? []
        switch refusal {
        case .syntax: report(.syntax, .warning, "a request for a pair lacks payloads", &outcome)
        case .wrongGroup(let group):
            report(.wrongGroup, .info, "the peer is asked to use \(group.word)", &outcome)
        case .noRoom:
            report(.noRoom, .warning, "no room for another pair: refused", &outcome)
        case .noProposal:
            let own = policies.flatMap(\.proposals).map(\.description).joined(separator: ", ")
            report(
                .noProposal, .warning,
                "no proposal for a pair fits: the peer's are "
                    + "\(payloads.proposals?.text ?? ""); ours are \(own)", &outcome)
        case .selectors:
            let own = policies.map {
                "\($0.name): \(resolve($0.local, isLocal: true).text) - "
                    + resolve($0.remote, isLocal: false).text
            }
            report(
                .selectorsUnacceptable, .warning,
                "selectors don't meet: the peer asks for "
                    + "\((payloads.responderSelectors ?? []).text) here and "
                    + "\((payloads.initiatorSelectors ?? []).text) there; configured are "
                    + own.joined(separator: "; "), &outcome)
        }
    }
}
