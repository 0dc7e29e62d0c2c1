// IKE_SA_INIT and IKE_AUTH as initiator (RFC 7296 §1.2).

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// Restarts of IKE_SA_INIT that a responder may ask for: cookie, group, and cookie again.
    private static let restartsMaximum = 4

    /// Begins an IKE SA with one CHILD SA, or with none.
    static func begin(
        _ connection: Connection, child: ChildPolicy?, path: IKEPath, isFirstContact: Bool,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEAssociation {
        let environment = step.environment
        let spi = environment.resources.initiatorSPI(
            replacing: nil, sibling: nil, &environment.random)
        let association = IKEAssociation(
            role: .initiator, initiatorSPI: spi, responderSPI: 0, path: path, stage: .initSent,
            generation: environment.resources.generation(initiatorSPI: spi), now: step.now)
        association.connection = connection.name
        association.localIdentity = connection.localIdentity
        let group = connection.proposals[0].groups[0]
        let handshake = Handshake(
            agreement: try KeyAgreement(group, random: &environment.random),
            nonce: environment.random.octets(nonceBytes))
        association.handshake = handshake
        // Repetitions end it (RFC 7296 §2.4); this is for a peer that has us begin anew for ever.
        association.times.end = step.after(4 &* connection.timers.halfOpen)
        handshake.isFirstContact = isFirstContact
        handshake.childPolicy = child?.name
        association.sendInit(connection, handshake, step, &outcome)
        return association
    }

    private func sendInit(
        _ connection: Connection, _ handshake: Handshake, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        var payloads: [Payload] = []
        if !handshake.cookie.isEmpty { payloads.append(.notify(.cookie, handshake.cookie)) }
        payloads.append(.securityAssociation(connection.proposals.proposals(spi: [])))
        payloads.append(
            .keyExchange(
                group: handshake.agreement.group.rawValue, data: handshake.agreement.publicValue))
        payloads.append(.nonce(handshake.nonce))
        payloads += NATDetection.payloads(
            initiatorSPI: initiatorSPI, responderSPI: 0, path,
            pretends: connection.forcesEncapsulation)
        if connection.fragments { payloads.append(.notify(.fragmentationSupported)) }
        payloads.append(.notify(.signatureHashAlgorithms, SignatureHashes.all))
        let message = IKEMessage(
            initiatorSPI: initiatorSPI, responderSPI: 0, exchange: .ikeSAInit, flags: .initiator,
            messageID: 0, payloads: payloads)
        handshake.request = message.encoded()
        requests.outstanding = nil
        transmit([handshake.request], 0, .ikeSAInit, step, &outcome)
    }

    /// The response to IKE_SA_INIT. What does not fit is ignored: the request is repeated until a
    /// good answer comes (RFC 7296 §2.4, §2.21.1).
    func receiveInitResponse(
        _ message: ParsedMessage, _ datagram: [UInt8], _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard stage == .initSent, let handshake,
            let policy = step.environment.configuration.connection(named: connection)
        else { return }
        let payloads = message.payloads
        if try restart(policy, handshake, payloads, step, &outcome) { return }
        if let error = payloads.errorNotify {
            // Nothing vouches for it: we go on trying (RFC 7296 §2.21.1).
            return reportOnce(
                .peerError,
                "the peer answers our set-up with \(error.name); we offered "
                    + policy.proposals.map(\.description).joined(separator: ", "), handshake,
                &outcome)
        }
        guard message.header.responderSPI != 0, let answer = payloads.proposals,
            let transforms = policy.proposals.accepted(answer),
            let suite = IKESuite(transforms), suite.group == handshake.agreement.group,
            let exchange = payloads.keyExchange, exchange.group == suite.group.rawValue,
            let nonce = payloads.nonce, isNonce(nonce, for: suite.function),
            !payloads.hasDuplicates
        else {
            return reportOnce(
                .syntax,
                "the answer to our set-up can't be used (its proposal: "
                    + "\(payloads.proposals?.text ?? "none"); ours: "
                    + "\(policy.proposals.map(\.description).joined(separator: ", ")))", handshake,
                &outcome)
        }
        responderSPI = message.header.responderSPI
        self.suite = suite
        handshake.peerNonce = nonce
        handshake.peerPublic = exchange.data
        handshake.response = datagram
        guard try deriveKeys(handshake, step.environment, &outcome) else { return }
        note(payloads, handshake)
        traits.formUnion(
            NATDetection.traits(
                payloads, initiatorSPI: initiatorSPI, responderSPI: responderSPI, path))
        if policy.forcesEncapsulation { traits.insert(.localNAT) }
        requests.outstanding = nil
        float()
        stage = .authSent
        try sendAuthentication(policy, handshake, step, &outcome)
    }

    /// True when the responder asked to begin anew: with a cookie, or with another group.
    private func restart(
        _ connection: Connection, _ handshake: Handshake, _ payloads: [Payload],
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Bool {
        guard handshake.restarts < Self.restartsMaximum else { return false }
        if let cookie = payloads.notify(.cookie), (1...64).contains(cookie.data.count) {
            handshake.restarts += 1
            handshake.cookie = cookie.data
            sendInit(connection, handshake, step, &outcome)
            return true
        }
        guard let wish = payloads.notify(.invalidKEPayload), wish.data.count == 2 else {
            return false
        }
        let number = UInt16(wish.data[0]) << 8 | UInt16(wish.data[1])
        // An attacker could name a group that we did not offer (RFC 7296 §2.7).
        guard let group = KeyAgreementGroup(rawValue: number),
            group != handshake.agreement.group,
            connection.proposals.contains(where: { $0.groups.contains(group) })
        else { return false }
        let next = Handshake(
            agreement: try KeyAgreement(group, random: &step.environment.random),
            nonce: handshake.nonce)
        next.restarts = handshake.restarts + 1
        next.cookie = handshake.cookie
        next.childPolicy = handshake.childPolicy
        next.isFirstContact = handshake.isFirstContact
        next.reported = handshake.reported
        self.handshake = next
        sendInit(connection, next, step, &outcome)
        return true
    }

    /// The initiator goes to the port for NAT traversal when there is a NAT (RFC 7296 §2.23).
    private func float() {
        guard !traits.isDisjoint(with: [.localNAT, .remoteNAT]),
            path.localPort == IKEPort.plain, path.remotePort == IKEPort.plain
        else { return }
        path.localPort = IKEPort.encapsulated
        path.remotePort = IKEPort.encapsulated
        path.hasMarker = true
    }

    private func sendAuthentication(
        _ connection: Connection, _ handshake: Handshake, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let environment = step.environment
        var payloads: [Payload] = [.initiatorIdentity(connection.localIdentity)]
        guard
            let proof = try proveIdentity(
                connection, handshake, connection.localIdentity, environment)
        else {
            report(
                .authenticationFailed, .warning,
                "no pre-shared key is configured for \(connection.localIdentity) with "
                    + "\(connection.remoteIdentity)", &outcome)
            return close(step, &outcome)
        }
        payloads += proof.certificates
        if case .certificate(let anchors) = connection.remoteAuthentication {
            payloads.append(.certificateRequest([anchors]))
        }
        if case .exactly(let identity) = connection.remoteIdentity {
            payloads.append(.responderIdentity(identity))
        }
        payloads.append(proof.payload)
        if handshake.isFirstContact { payloads.append(.notify(.initialContact)) }
        if connection.synchronizesCounters { payloads += CounterSync.announcement }
        if connection.asksForAddress {
            payloads.append(.configuration(.addressRequest))
        }
        if let name = handshake.childPolicy,
            let policy = connection.children.first(where: { $0.name == name }),
            let offer = try offerChild(
                policy, replacing: nil, group: nil, asksForAddress: connection.asksForAddress, step,
                &outcome)
        {
            handshake.child = offer
            payloads += self.payloads(of: offer, policy, isFirst: true)
        } else if !traits.contains(.childless) {
            report(
                .setUpFailed, .warning, "the peer makes no IKE SA without a CHILD SA (RFC 6023)",
                &outcome)
            return close(step, &outcome)
        }
        try request(.ikeAuth, .ikeAuth, payloads, step, &outcome)
    }

    /// The response to IKE_AUTH: from here on the peer is who it says.
    func receiveAuthenticationResponse(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard stage == .authSent, let handshake,
            let policy = step.environment.configuration.connection(named: connection)
        else { return }
        guard let (identity, body) = payloads.responderIdentity else {
            let error = payloads.errorNotify?.name ?? "no identity"
            report(
                .authenticationFailed, .warning,
                "the peer refuses our IKE_AUTH as \(policy.localIdentity): \(error)", &outcome)
            return close(step, &outcome)
        }
        guard policy.remoteIdentity.matches(identity) else {
            report(
                .identityUnknown, .warning,
                "the peer says to be \(identity); configured is \(policy.remoteIdentity)", &outcome)
            return try abandon(step, &outcome)
        }
        let fault = try verifyIdentity(
            policy, handshake, identity, body, payloads, step.seconds, step.environment)
        if let fault {
            report(
                .authenticationFailed, .warning, "\(identity) is not proven: \(fault)", &outcome)
            return try abandon(step, &outcome)
        }
        remoteIdentity = identity
        _ = noteCounterSync(policy, payloads)
        if let reply = payloads.configuration, policy.asksForAddress {
            virtualAddresses = reply.addresses
        }
        settle(policy, step, &outcome)
        if let offer = handshake.child {
            handshake.child = nil
            try acceptChild(
                offer, payloads, isFirst: true,
                firstNonces: handshake.nonce + handshake.peerNonce, step, &outcome)
        }
        self.handshake = nil
    }
}

/// The ports of IKE (RFC 7296 §2, §2.23).
enum IKEPort {
    static let plain: UInt16 = 500
    static let encapsulated: UInt16 = 4500
}
