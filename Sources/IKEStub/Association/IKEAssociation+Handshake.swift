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
            reportOnce(
                .syntax, "the peer's key agreement value is refused: \(error)", handshake,
                &outcome)
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
        (times.rekey, times.end) = lifetime(timers.rekeyIKE, timers, step)
    }

    /// When something that lives for `lifetime` is rekeyed, and when it ends without a successor.
    func lifetime(
        _ lifetime: UInt64, _ timers: IKETimers, _ step: borrowing Step
    ) -> (rekey: UInt64, end: UInt64) {
        let end = Step(
            now: step.after(lifetime), seconds: step.seconds, endpoint: step.endpoint
        ).after(timers.overtime)
        return (step.after(lifetime - jitter(timers, lifetime, step)), end)
    }

    /// A random part of the jitter, which is never more than half of the lifetime.
    func jitter(_ timers: IKETimers, _ lifetime: UInt64, _ step: borrowing Step) -> UInt64 {
        let bound = min(timers.rekeyJitter, lifetime / 2)
        return bound == 0 ? 0 : step.environment.random.uint64() % bound
    }

    /// Ends the IKE SA and all of its CHILD SAs without a word to the peer.
    func close(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard stage != .closed else { return }
        let last = stage
        stage = .closed
        let environment = step.environment
        switch requests.outstanding?.exchange {
        case .createChild(let offer): environment.resources.release(offer.inbound)
        // A successor that has nothing to inherit is not known to be wanted.
        case .rekeyIKE(let offer): step.successor(offer)?.close(step, &outcome)
        default: break
        }
        requests = RequestWindow()
        for child in children { drop(child, environment, &outcome) }
        children = []
        if let offer = handshake?.child { environment.resources.release(offer.inbound) }
        if !hasOwnVirtualAddress {
            for address in virtualAddresses { environment.resources.release(address) }
        }
        handshake = nil
        keys = nil
        // The store never knew a stranger's set-up.
        if last != .initAnswered { outcome.noteChange(of: localSPI) }
        outcome.events.append(.closed(localSPI: localSPI))
        outcome.touch(self)
        if last == .established { report(.closed, .info, "closed", &outcome) }
    }

    /// A warning that a stranger could cause again and again is made once for a set-up.
    func reportOnce(
        _ kind: IKEReport.Kind, _ text: @autoclosure () -> String, _ handshake: Handshake,
        _ outcome: inout IKEOutcome
    ) {
        guard handshake.reported.insert(kind).inserted else { return }
        report(kind, .warning, text(), &outcome)
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
