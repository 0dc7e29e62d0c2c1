// CHILD SAs that we ask for: the first one, further ones, and successors (RFC 7296 §1.3, §2.8).

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// Addresses of `selectors` on our side or on the peer's.
    /// `asksForAddress`: we don't know ours yet, and the peer narrows what we ask for to what it
    /// gives us (RFC 7296 §2.19).
    func resolve(
        _ selectors: ChildPolicy.Selectors, isLocal: Bool, asksForAddress: Bool = false
    ) -> [TrafficSelector] {
        switch selectors {
        case .fixed(let list): return list
        case .dynamic:
            // The initiator has the virtual address, whichever end asks.
            let isVirtual = isLocal == hasOwnVirtualAddress
            if !virtualAddresses.isEmpty, isVirtual {
                return virtualAddresses.map { TrafficSelector(host: $0) }
            }
            if asksForAddress { return TrafficSelector.all }
            // Where it began: neither a NAT's change of mind nor a forged address moves selectors.
            return [TrafficSelector(host: isLocal ? origin.local : origin.remote)]
        }
    }

    /// What we ask for; nil: there is no room for another pair.
    func offerChild(
        _ policy: ChildPolicy, replacing child: Child?, isAfresh: Bool = false,
        group: KeyAgreementGroup?, asksForAddress: Bool = false, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> ChildOffer? {
        let environment = step.environment
        let spi = environment.resources.inboundSPI(
            initiatorSPI: initiatorSPI, sibling: children.first?.inbound, &environment.random)
        guard let spi else {
            report(.noRoom, .warning, "no room for another pair of \(policy.name)", &outcome)
            return nil
        }
        var agreement: KeyAgreement?
        if let group { agreement = try KeyAgreement(group, random: &environment.random) }
        return ChildOffer(
            policy: policy.name, inbound: spi, nonce: environment.random.octets(nonceBytes),
            agreement: agreement,
            local: child?.local
                ?? resolve(policy.local, isLocal: true, asksForAddress: asksForAddress),
            remote: child?.remote ?? resolve(policy.remote, isLocal: false),
            replaces: child?.inbound, isAfresh: isAfresh)
    }

    /// The payloads of an offer. In IKE_AUTH there is neither nonce nor key agreement.
    func payloads(of offer: ChildOffer, _ policy: ChildPolicy, isFirst: Bool) -> [Payload] {
        var payloads: [Payload] = []
        if let old = offer.replaces, !offer.isAfresh {
            payloads.append(
                .notify(Notify(.rekeySA, protocol: .esp, spi: old.octets)))
        }
        if policy.mode == .transport { payloads.append(.notify(.useTransportMode)) }
        payloads.append(
            .securityAssociation(
                policy.proposals.proposals(spi: offer.inbound.octets, offersGroups: !isFirst)))
        if !isFirst {
            payloads.append(.nonce(offer.nonce))
            if let value = offer.publicValue {
                payloads.append(.keyExchange(group: value.group.rawValue, data: value.data))
            }
        }
        payloads.append(.initiatorSelectors(SelectorList(offer.local)))
        payloads.append(.responderSelectors(SelectorList(offer.remote)))
        return payloads
    }

    /// Asks for a pair by CREATE_CHILD_SA.
    func requestChild(
        _ policy: ChildPolicy, replacing child: Child?, isAfresh: Bool = false,
        group: KeyAgreementGroup?, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let offer = try offerChild(
            policy, replacing: child, isAfresh: isAfresh, group: group, step, &outcome)
        guard let offer else {
            if let child { postpone(child.inbound, isBusy: false, step) }
            return
        }
        try request(
            .createChildSA, .createChild(offer), payloads(of: offer, policy, isFirst: false), step,
            &outcome)
    }

    /// The answer to an offer, in IKE_AUTH or CREATE_CHILD_SA.
    func acceptChild(
        _ offer: ChildOffer, _ payloads: [Payload], isFirst: Bool, firstNonces: [UInt8] = [],
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let environment = step.environment
        if let error = payloads.errorNotify {
            environment.resources.release(offer.inbound)
            return try childRefused(offer, error, isFirst: isFirst, step, &outcome)
        }
        guard let policy = childPolicy(offer.policy, environment) else {
            environment.resources.release(offer.inbound)
            return childUnusable(offer, payloads, step, &outcome)
        }
        guard let proposals = payloads.proposals,
            let transforms = policy.proposals.accepted(proposals, offersGroups: !isFirst),
            let suite = ChildSuite(transforms), let spi = SPI(octets: proposals[0].spi),
            !spi.isReserved, let local = payloads.initiatorSelectors,
            let remote = payloads.responderSelectors, isNarrowing(local, of: offer.local),
            isNarrowing(remote, of: offer.remote)
        else {
            environment.resources.release(offer.inbound)
            return childUnusable(offer, payloads, step, &outcome)
        }
        guard !offer.deleted.contains(spi) else {
            environment.resources.release(offer.inbound)
            if let old = offer.replaces { requests.add(.deleteChildren([old])) }
            return
        }
        var nonces = firstNonces
        var shared = SecretBytes(count: 0)
        if !isFirst {
            guard let nonce = payloads.nonce, nonceRange.contains(nonce.count),
                let secret = offer.sharedSecret(payloads.keyExchange, suite.group)
            else {
                environment.resources.release(offer.inbound)
                return childUnusable(offer, payloads, step, &outcome)
            }
            nonces = offer.nonce + nonce
            shared = secret
        }
        let asksTransport = policy.mode == .transport
        let mode: Mode =
            asksTransport && payloads.notify(.useTransportMode) != nil ? .transport : .tunnel
        let isSuperfluous = offer.isSuperfluous(peerNonce: payloads.nonce ?? [])
        try install(
            ChildAgreement(
                policy: policy, suite: suite, mode: mode, inbound: offer.inbound, outbound: spi,
                local: local, remote: remote, replaces: offer.replaces, isOurs: true,
                isSuperfluous: isSuperfluous),
            shared: shared, nonces: nonces, step, &outcome)
        guard let old = offer.replaces else { return }
        retire(old)
        if isSuperfluous {
            // The peer's survives, and the peer deletes the old pair. Until it does, the old one
            // sends: the peer may not have our answer, and does not know the keys of its own.
            requests.add(.deleteChildren([offer.inbound]))
        } else {
            // Ours survives; the peer deletes its own, if there is one.
            if let collision = offer.collision { retire(collision.inbound, isSuperfluous: true) }
            requests.add(.deleteChildren([old]))
        }
    }

    private func pair(_ inbound: SPI) -> Child? { children.first { $0.inbound == inbound } }

    /// The peer says no.
    private func childRefused(
        _ offer: ChildOffer, _ error: Notify, isFirst: Bool, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        // The peer has rekeyed the pair meanwhile, so that ours is not missed (RFC 7296 §2.8.1).
        if offer.collision != nil { return offer.replaces.map { retire($0) } ?? () }
        let old = offer.replaces.flatMap(pair)
        let policy = childPolicy(offer.policy, step.environment)
        switch NotifyType(rawValue: error.type) {
        case .temporaryFailure where old?.doubts == 1 && !offer.isAfresh,
            .childSANotFound where old?.doubts ?? 0 > 0 && !offer.isAfresh:
            return old.map { requests.addFirst(.renewChild($0.inbound)) } ?? ()
        case .invalidKEPayload where !isFirst:
            guard let group = KeyAgreementGroup(wished: error.data),
                group != offer.publicValue?.group, let policy,
                policy.proposals.contains(where: { $0.groups.contains(group) }),
                offer.replaces == nil || old?.stage == .active
            else { break }
            return try requestChild(
                policy, replacing: old, isAfresh: offer.isAfresh, group: group, step, &outcome)
        case .temporaryFailure:
            // The peer is busy (RFC 7296 §2.25).
            if let old {
                doubt(old.inbound)
                postpone(old.inbound, isBusy: true, step)
            } else if offer.replaces == nil {
                requests.postponed.append(.createChild(policy: offer.policy))
                times.retry = min(times.retry, retryTime(isBusy: true, step))
            }
            return
        case .childSANotFound:
            // The peer has lost the pair (RFC 7296 §2.25.1), or does not know yet that it has it.
            guard let old else { return }
            return old.sends
                ? forget(old, step.environment, &outcome)
                : postpone(old.inbound, isBusy: true, step)
        default: break
        }
        report(
            .peerError, .warning,
            "the peer refuses \(offer.policy) with \(error.name); we offered "
                + (policy?.proposals ?? []).map(\.description).joined(separator: ", ")
                + " for \(offer.local.text) - \(offer.remote.text)", &outcome)
        if let old { postpone(old.inbound, isBusy: false, step) }
    }

    /// The peer says yes, to something that we did not ask.
    private func childUnusable(
        _ offer: ChildOffer, _ payloads: [Payload], _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        report(
            .syntax, .warning,
            "the peer's answer for \(offer.policy) can't be used: "
                + "\(payloads.proposals?.text ?? "no proposal") for "
                + "\((payloads.initiatorSelectors ?? []).text) - "
                + "\((payloads.responderSelectors ?? []).text)", &outcome)
        // It believes in a pair that we don't have.
        if let octets = payloads.proposals?.first?.spi, octets.count == 4 {
            requests.add(.deleteChildren([offer.inbound]))
        }
        if let old = offer.replaces {
            if offer.collision == nil {
                postpone(old, isBusy: false, step)
            } else {
                retire(old)
            }
        }
    }

    func childPolicy(_ name: String, _ environment: IKEEnvironment) -> ChildPolicy? {
        environment.configuration.connection(named: connection)?.children.first {
            $0.name == name
        }
    }

    /// The pair has a successor, and waits for its end.
    func retire(_ spi: SPI, isSuperfluous: Bool = false) {
        guard let index = children.firstIndex(where: { $0.inbound == spi }),
            children[index].stage == .active
        else { return }
        children[index].stage = .replaced
        children[index].rekey = .max
        if isSuperfluous { children[index].replaces = nil }
    }

    private func doubt(_ spi: SPI) {
        guard let index = children.firstIndex(where: { $0.inbound == spi && $0.doubts > 1 })
        else { return }
        children[index].doubts -= 1
    }

    /// Tries again later, before the end of its life.
    private func postpone(_ spi: SPI, isBusy: Bool, _ step: borrowing Step) {
        guard
            let index = children.firstIndex(where: { $0.inbound == spi && $0.stage == .active })
        else { return }
        children[index].rekey = retryTime(isBusy: isBusy, step)
    }

    /// The pair is over at the peer.
    func forget(_ child: Child, _ environment: IKEEnvironment, _ outcome: inout IKEOutcome) {
        startSuccessor(of: child.inbound, &outcome)
        children.removeAll { $0.inbound == child.inbound }
        drop(child, environment, &outcome)
        report(.childClosed, .info, "\(child.policy) \(child.inbound) closed", &outcome)
    }

    /// The peer has shown that it can decrypt what the pair sends.
    func beginSending(through spi: SPI, _ outcome: inout IKEOutcome) {
        guard let child = pair(spi), !child.sends, child.stage != .lingering else { return }
        noteSending(through: spi)
        outcome.events.append(.sendThrough(spi))
        outcome.noteChange(of: localSPI)
    }

    /// Those that it replaces directly or indirectly will not be asked to send any more.
    func noteSending(through spi: SPI) {
        var next: SPI? = spi
        while let spi = next {
            guard let index = children.firstIndex(where: { $0.inbound == spi }) else { return }
            children[index].sends = true
            // Younger than its predecessor, so that this comes to an end.
            next = children[index].replaces
        }
    }
}

extension KeyAgreementGroup {
    /// The group that INVALID_KE_PAYLOAD names (RFC 7296 §1.3).
    init?(wished data: [UInt8]) {
        guard data.count == 2 else { return nil }
        self.init(rawValue: UInt16(data[0]) << 8 | UInt16(data[1]))
    }
}
