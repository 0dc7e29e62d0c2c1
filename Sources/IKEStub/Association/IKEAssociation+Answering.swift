// IKE_SA_INIT and IKE_AUTH as responder (RFC 7296 §1.2).

internal import Crypto
internal import ESP
internal import Wire

/// What a responder says to an IKE_SA_INIT request for which it opens nothing.
enum InitRefusal {
    case noProposal
    /// The group that it wants instead.
    case wrongGroup(KeyAgreementGroup)
    case syntax

    var notify: Payload {
        switch self {
        case .noProposal: .notify(.noProposalChosen)
        case .wrongGroup(let group): .notify(.invalidKEPayload, group.rawValue.octets)
        case .syntax: .notify(.invalidSyntax)
        }
    }
}

/// The fields of an IKE_SA_INIT request that a responder goes on with.
struct InitRequest {
    let proposal: ChosenProposal
    let suite: IKESuite
    let publicValue: [UInt8]
    let nonce: [UInt8]

    /// Checks the request against the proposals of all connections that may be meant.
    static func read(
        _ payloads: [Payload], _ policies: [ProposalPolicy]
    ) -> Result<InitRequest, InitRefusalError> {
        guard let offer = payloads.proposals, let nonce = payloads.nonce,
            let exchange = payloads.keyExchange, !payloads.hasDuplicates, offer.isModest,
            nonceRange.contains(nonce.count)
        else { return .refused(.syntax) }
        guard let chosen = policies.choose(from: offer), let suite = IKESuite(chosen.transforms)
        else { return .refused(.noProposal) }
        guard exchange.group == suite.group.rawValue else {
            return .refused(.wrongGroup(suite.group))
        }
        guard exchange.data.count == suite.group.publicBytes,
            isNonce(nonce, for: suite.function)
        else { return .refused(.syntax) }
        return .success(
            InitRequest(
                proposal: chosen, suite: suite, publicValue: exchange.data, nonce: nonce))
    }
}

/// An ``InitRefusal`` as an error.
struct InitRefusalError: Error { let refusal: InitRefusal }

extension Result where Failure == InitRefusalError {
    static func refused(_ refusal: InitRefusal) -> Self {
        .failure(InitRefusalError(refusal: refusal))
    }
}

extension IKEAssociation {
    /// Answers IKE_SA_INIT. The costly half of the key agreement waits until IKE_AUTH comes: an
    /// address that never returns costs one key pair (RFC 7296 §2.6).
    static func answer(
        _ request: InitRequest, _ header: IKEHeader, _ datagram: [UInt8], _ payloads: [Payload],
        path: IKEPath, asksCertificates anchors: [TrustAnchors], pretendsNAT: Bool,
        lifetime: UInt64, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEAssociation {
        let environment = step.environment
        let spi = environment.resources.responderSPI(
            initiatorSPI: header.initiatorSPI, &environment.random)
        let association = IKEAssociation(
            role: .responder, initiatorSPI: header.initiatorSPI, responderSPI: spi, path: path,
            stage: .initAnswered,
            generation: environment.resources.generation(initiatorSPI: header.initiatorSPI),
            now: step.now)
        association.suite = request.suite
        association.times.end = step.after(lifetime)
        let handshake = Handshake(
            agreement: try KeyAgreement(request.suite.group, random: &environment.random),
            nonce: environment.random.octets(nonceBytes))
        handshake.peerNonce = request.nonce
        handshake.peerPublic = request.publicValue
        handshake.request = datagram
        association.handshake = handshake
        association.note(payloads, handshake)
        association.traits.formUnion(
            NATDetection.traits(
                payloads, initiatorSPI: header.initiatorSPI, responderSPI: 0, path))
        if pretendsNAT { association.traits.insert(.localNAT) }
        let answer = association.initAnswer(
            request, handshake, anchors: anchors, pretendsNAT: pretendsNAT)
        handshake.response = answer.encoded()
        association.responses.last = [handshake.response]
        association.responses.nextID = 1
        outcome.events.append(.send([handshake.response], path))
        return association
    }

    private func initAnswer(
        _ request: InitRequest, _ handshake: Handshake, anchors: [TrustAnchors], pretendsNAT: Bool
    ) -> IKEMessage {
        let proposal = request.proposal.answer(spi: [])
        var payloads: [Payload] = [
            .securityAssociation([proposal]),
            .keyExchange(
                group: request.suite.group.rawValue, data: handshake.agreement.publicValue),
            .nonce(handshake.nonce),
        ]
        payloads += NATDetection.payloads(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, path, pretends: pretendsNAT)
        if !anchors.isEmpty { payloads.append(.certificateRequest(anchors)) }
        if traits.contains(.fragments) { payloads.append(.notify(.fragmentationSupported)) }
        if !handshake.peerHashes.isEmpty {
            payloads.append(.notify(.signatureHashAlgorithms, SignatureHashes.all))
        }
        payloads.append(.notify(.childlessIKEv2Supported))
        return IKEMessage(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, exchange: .ikeSAInit,
            flags: .response, messageID: 0, payloads: payloads)
    }

    /// The IKE_AUTH request: who the peer is, and its first CHILD SA.
    func receiveAuthenticationRequest(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard stage == .initAnswered, let handshake else { return }
        guard !payloads.hasDuplicates, let (identity, body) = payloads.initiatorIdentity else {
            return try refuse(.notify(.invalidSyntax), step, &outcome)
        }
        let configuration = step.environment.configuration
        let policy = configuration.connections.first {
            accepts($0, identity, asked: payloads.responderIdentity?.identity, payloads)
        }
        guard let policy else {
            report(
                .identityUnknown, .warning,
                noConnectionText(identity, payloads, configuration), &outcome)
            return try refuse(.notify(.authenticationFailed), step, &outcome)
        }
        connection = policy.name
        let fault = try verifyIdentity(
            policy, handshake, identity, body, payloads, step.seconds, step.environment)
        if let fault {
            report(
                .authenticationFailed, .warning, "\(identity) is not proven: \(fault)", &outcome)
            return try refuse(.notify(.authenticationFailed), step, &outcome)
        }
        remoteIdentity = identity
        localIdentity = policy.localIdentity
        try admit(policy, handshake, payloads, step, &outcome)
    }

    /// Proves ourselves to an authenticated peer, and makes its CHILD SA.
    private func admit(
        _ policy: Connection, _ handshake: Handshake, _ payloads: [Payload],
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard
            let proof = try proveIdentity(
                policy, handshake, policy.localIdentity, step.environment)
        else {
            report(
                .authenticationFailed, .warning,
                "no pre-shared key is configured for \(policy.localIdentity) with "
                    + "\(remoteIdentity?.description ?? "")", &outcome)
            return try refuse(.notify(.authenticationFailed), step, &outcome)
        }
        // Before it gets an address: its own of before is free then.
        if payloads.notify(.initialContact) != nil {
            step.endpoint.closeOthers(than: self, step, &outcome)
        }
        guard try hasRoom(policy, step, &outcome) else { return }
        var answer: [Payload] = [.responderIdentity(policy.localIdentity)]
        answer += proof.certificates
        answer.append(proof.payload)
        answer += noteCounterSync(policy, payloads)
        settle(policy, step, &outcome)
        var isRoom = true
        if let asked = payloads.configuration, asked.kind == .request, !policy.pools.isEmpty {
            if let reply = assignAddresses(asked, policy, step.environment) {
                answer.append(.configuration(reply))
            } else {
                isRoom = false
                report(
                    .addressFailure, .warning,
                    "no address is left for \(remoteIdentity?.description ?? "") in "
                        + policy.pools.joined(separator: ", "), &outcome)
                answer.append(.notify(.internalAddressFailure))
            }
        }
        if isRoom, payloads.proposals != nil {
            answer += try answerChild(
                payloads, isFirst: true, firstNonces: handshake.peerNonce + handshake.nonce, step,
                &outcome)
        }
        self.handshake = nil
        try respond(.ikeAuth, 1, answer, step, &outcome)
    }

    /// False: the identity has as many IKE SAs as it may have, and this one is refused. Only
    /// AUTHENTICATION_FAILED tells the peer that there is no IKE SA (RFC 7296 §2.21.2).
    private func hasRoom(
        _ policy: Connection, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Bool {
        guard let remoteIdentity else { return false }
        let count = step.endpoint.count(of: policy.name, with: remoteIdentity)
        guard count >= policy.associationsPerIdentity else { return true }
        step.endpoint.counters.count(.identityLimit)
        report(
            .tooManyAssociations, .warning,
            "\(remoteIdentity) has \(count) IKE SAs already, as many as one identity may have: "
                + "refused", &outcome)
        try refuse(.notify(.authenticationFailed), step, &outcome)
        return false
    }

    /// Addresses that the peer asked for (RFC 7296 §3.15.2); nil: none is left.
    private func assignAddresses(
        _ asked: Configuration, _ policy: Connection, _ environment: IKEEnvironment
    ) -> Configuration? {
        guard let identity = remoteIdentity else { return nil }
        var addresses: [IPAddress] = []
        var servers: [IPAddress] = []
        for pool in environment.configuration.pools where policy.pools.contains(pool.name) {
            let family = pool.range.first.family
            guard asked.asksForAddress(family), !addresses.contains(where: { $0.family == family })
            else { continue }
            guard let address = environment.resources.address(from: pool, for: identity) else {
                continue
            }
            addresses.append(address)
            servers += pool.nameServers
        }
        virtualAddresses = addresses
        guard !addresses.isEmpty else { return nil }
        return .addressReply(addresses, nameServers: servers)
    }

    /// True when `policy` is for this peer, as far as can be told before its proof.
    private func accepts(
        _ policy: Connection, _ identity: Identity, asked: Identity?, _ payloads: [Payload]
    ) -> Bool {
        guard policy.isFor(path), policy.remoteIdentity.matches(identity),
            asked.map({ $0.isSame(as: policy.localIdentity) }) ?? true,
            let suite, policy.proposals.contains(where: { $0.allows(suite) })
        else { return false }
        let byKey = payloads.authentication?.method == AuthenticationMethod.presharedKey
        return switch policy.remoteAuthentication {
        case .presharedKey: byKey
        case .certificate: !byKey
        }
    }

    private func noConnectionText(
        _ identity: Identity, _ payloads: [Payload], _ configuration: IKEConfiguration
    ) -> String {
        let method = payloads.authentication.map { $0.method == 2 ? "a key" : "a signature" }
        let asked = payloads.responderIdentity.map { ", asking for \($0.identity)" } ?? ""
        let known = configuration.connections.map {
            "\($0.name): \($0.remoteIdentity) to \($0.localIdentity)"
        }
        return "no connection is for \(identity)\(asked) with \(method ?? "no proof"), "
            + "\(suite?.description ?? ""); configured are " + known.joined(separator: "; ")
    }

    /// Answers IKE_AUTH with a refusal, and ends the IKE SA.
    private func refuse(
        _ notify: Payload, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        try respond(.ikeAuth, 1, [notify], step, &outcome)
        close(step, &outcome)
    }
}

extension Connection {
    /// True when peers on that path may be meant.
    func isFor(_ path: IKEPath) -> Bool {
        (localAddress.map { $0 == path.local } ?? true)
            && (remoteAddresses.isEmpty
                || remoteAddresses.contains { $0.contains(TrafficSelector(host: path.remote)) })
    }
}

extension ProposalPolicy {
    func allows(_ suite: IKESuite) -> Bool {
        ciphers.contains {
            $0.algorithm == suite.protection.encryption && $0.keyBits == suite.protection.keyBits
        }
            && (suite.protection.integrity.map { integrities.contains($0) } ?? true)
            && functions.contains(suite.function) && groups.contains(suite.group)
    }
}
