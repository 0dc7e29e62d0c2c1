// What both ends do between IKE_SA_INIT and the established IKE SA.

internal import Crypto
internal import ESP
internal import Wire

/// Octets of our nonces: as many as the longest PRF's key half (RFC 7296 §2.10).
let nonceBytes = 32
/// Octets of a nonce (RFC 7296 §3.9).
let nonceRange = 16...256

/// At least half the key size of the PRF (RFC 7296 §2.10).
func isNonce(_ nonce: [UInt8], for function: PseudoRandomFunction) -> Bool {
    nonceRange.contains(nonce.count) && 2 * nonce.count >= function.byteCount
}

extension IKEAssociation {
    /// The secrets of the IKE SA, from the key agreement. False: the peer's value is refused, and
    /// the IKE SA is left as it was.
    func deriveKeys(
        _ handshake: Handshake, _ environment: IKEEnvironment, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Bool {
        guard let suite else { preconditionFailure("keys follow negotiation") }
        let shared: SecretBytes
        do {
            shared = try handshake.agreement.sharedSecret(handshake.peerPublic)
        } catch {
            report(
                .syntax, .warning, "the peer's key agreement value is refused: \(error)", &outcome)
            return false
        }
        let isInitiator = role == .initiator
        let identity = ExchangeIdentity(
            initiatorNonce: SecretBytes(isInitiator ? handshake.nonce : handshake.peerNonce),
            responderNonce: SecretBytes(isInitiator ? handshake.peerNonce : handshake.nonce),
            initiatorSPI: initiatorSPI, responderSPI: responderSPI)
        let schedule = KeySchedule(suite.function, library: environment.library)
        let seed = try schedule.seed(identity, sharedSecret: shared)
        keys = try schedule.keys(seed: seed, identity, lengths: suite.protection.keyLengths)
        return true
    }

    /// What an IKE_SA_INIT message says beside its negotiation.
    func note(_ payloads: [Payload], _ handshake: Handshake) {
        if payloads.notify(.fragmentationSupported) != nil { traits.insert(.fragments) }
        if payloads.notify(.childlessIKEv2Supported) != nil { traits.insert(.childless) }
        if let hashes = payloads.notify(.signatureHashAlgorithms) {
            handshake.peerHashes = SignatureHashes.read(hashes.data)
        }
        for case .certificateRequest(CertificateEncoding.x509Signature, let data) in payloads {
            handshake.wantedAuthorities += data
        }
    }

    /// What an IKE_AUTH message says beside its business.
    func notePeerTraits(_ payloads: [Payload]) {
        if payloads.notify(.messageIDSyncSupported) != nil { traits.insert(.messageIDSync) }
        if payloads.notify(.replayCounterSyncSupported) != nil {
            traits.insert(.replayCounterSync)
        }
    }

    /// The IKE SA is established: its life begins.
    func settle(_ policy: Connection, _ step: borrowing Step, _ outcome: inout IKEOutcome) {
        stage = .established
        setLifetimes(policy.timers, step)
        report(
            .established, .info,
            "established with \(remoteIdentity?.description ?? ""), \(suite?.description ?? "")",
            &outcome)
        outcome.events.append(.established(localSPI: localSPI))
        outcome.noteChange(of: localSPI)
    }

    /// Rekeying a little early, by chance, so that both ends don't begin at once.
    func setLifetimes(_ timers: IKETimers, _ step: borrowing Step) {
        times.heard = step.now
        times.rekey = step.now &+ timers.rekeyIKE &- jitter(timers, timers.rekeyIKE, step)
        times.end = step.now &+ timers.rekeyIKE &+ timers.overtime
    }

    /// A random part of the jitter, which is never more than half of the lifetime.
    func jitter(_ timers: IKETimers, _ lifetime: UInt64, _ step: borrowing Step) -> UInt64 {
        let bound = min(timers.rekeyJitter, lifetime / 2)
        return bound == 0 ? 0 : step.environment.random.uint64() % bound
    }

    /// Ends the IKE SA and all of its CHILD SAs without a word to the peer.
    func close(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard stage != .closed else { return }
        let wasEstablished = stage == .established
        stage = .closed
        requests.outstanding = nil
        requests.tasks = []
        let resources = step.environment
        for child in children { drop(child, resources, &outcome) }
        children = []
        if let offer = handshake?.child { resources.resources.release(offer.inbound) }
        if role == .responder {
            for address in virtualAddresses { resources.resources.release(address) }
        }
        handshake = nil
        keys = nil
        outcome.noteChange(of: localSPI)
        outcome.events.append(.closed(localSPI: localSPI))
        if wasEstablished { report(.closed, .info, "closed", &outcome) }
    }

    /// A pair's keys go, and its SPI is free.
    func drop(_ child: Child, _ environment: IKEEnvironment, _ outcome: inout IKEOutcome) {
        outcome.events.append(.remove(child.inbound))
        environment.resources.release(child.inbound)
    }

    /// Ends an IKE SA whose peer believes in it (RFC 7296 §2.21.2).
    func abandon(_ step: borrowing Step, _ outcome: inout IKEOutcome) throws(CryptoError) {
        handshake?.child.map { step.environment.resources.release($0.inbound) }
        handshake = nil
        stage = .replaced
        requests.outstanding = nil
        try request(
            .informational, .deleteIKE,
            [.notify(.authenticationFailed), .delete(.ike)], step, &outcome)
    }
}
