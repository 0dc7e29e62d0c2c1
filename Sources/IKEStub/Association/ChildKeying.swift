// From a finished negotiation to a pair of associations (RFC 7296 §2.17).

internal import Crypto
internal import ESP
internal import Wire

/// What both ends agreed on for a pair of CHILD SAs.
struct ChildAgreement {
    let policy: ChildPolicy
    let suite: ChildSuite
    let mode: Mode
    let inbound: SPI
    let outbound: SPI
    let local: [TrafficSelector]
    let remote: [TrafficSelector]
    let replaces: SPI?
    /// True when we began the exchange that made it.
    let isOurs: Bool
    /// One too many, because both ends rekeyed the same pair: it will be deleted at once.
    var isSuperfluous = false
}

extension IKEAssociation {
    /// Keys and installs the pair. `shared` is empty without a key agreement of its own; `nonces`
    /// is Ni | Nr of the exchange.
    func install(
        _ agreement: ChildAgreement, shared: borrowing SecretBytes, nonces: [UInt8],
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard let suite else { preconditionFailure("CHILD SAs follow negotiation") }
        let lengths = agreement.suite.keyLengths
        let schedule = KeySchedule(suite.function, library: step.environment.library)
        let seed = SecretBytes.joined(shared, SecretBytes(nonces))
        let childKeys = try withKeys { keys throws(CryptoError) in
            try schedule.childKeys(
                derivation: keys.derivation, nonces: seed, lengths: lengths)
        }
        let timers = timers(step.environment)
        let inbound = association(agreement, .inbound, childKeys, step)
        let outbound = association(agreement, .outbound, childKeys, step)
        let (rekey, end) = lifetime(timers.rekeyChild, timers, step)
        let sends = agreement.replaces == nil || agreement.isOurs && !agreement.isSuperfluous
        children.append(
            Child(
                inbound: agreement.inbound, outbound: agreement.outbound,
                policy: agreement.policy.name, suite: agreement.suite, mode: agreement.mode,
                local: agreement.local, remote: agreement.remote,
                hasReplayWindow: inbound.parameters.replayWindow != 0,
                stage: agreement.isSuperfluous ? .replaced : .active, sends: sends,
                replaces: agreement.isSuperfluous ? nil : agreement.replaces,
                rekey: agreement.isSuperfluous ? .max : rekey, end: end))
        if sends { noteSending(through: agreement.inbound) }
        outcome.events.append(
            .install(
                NewChild(
                    inbound: inbound, outbound: outbound, policy: agreement.policy.name,
                    replaces: agreement.replaces, isReadyToSend: sends)))
        outcome.noteChange(of: localSPI)
        report(
            agreement.replaces == nil ? .childCreated : .childRekeyed, .info,
            "\(agreement.policy.name) \(agreement.inbound)/\(agreement.outbound) "
                + "\(agreement.suite) \(agreement.local.text) - \(agreement.remote.text)"
                + (agreement.replaces.map { ", replaces \($0)" } ?? ""), &outcome)
    }

    /// The exchange's initiator sends with the initiator's keys.
    private func association(
        _ agreement: ChildAgreement, _ direction: Direction, _ keys: borrowing ChildKeys,
        _ step: borrowing Step
    ) -> SecurityAssociation {
        let isSender = direction == .outbound
        return isSender == agreement.isOurs
            ? association(
                agreement, direction, encryption: keys.initiatorEncryption,
                integrity: keys.initiatorIntegrity, step)
            : association(
                agreement, direction, encryption: keys.responderEncryption,
                integrity: keys.responderIntegrity, step)
    }

    private func association(
        _ agreement: ChildAgreement, _ direction: Direction, encryption: borrowing SecretBytes,
        integrity: borrowing SecretBytes, _ step: borrowing Step
    ) -> SecurityAssociation {
        let isInbound = direction == .inbound
        let transform = agreement.suite.transform
        var parameters = AssociationParameters(
            spi: isInbound ? agreement.inbound : agreement.outbound, direction: direction,
            mode: agreement.mode, transform: transform,
            source: isInbound ? path.remote : path.local,
            destination: isInbound ? path.local : path.remote)
        parameters.usesESN = agreement.suite.usesESN
        // Extended numbers need a window (RFC 4303 §3.4.3).
        let window = agreement.policy.replayWindow
        parameters.replayWindow = window == 0 && parameters.usesESN ? 64 : window
        parameters.udp = encapsulation(isInbound: isInbound)
        parameters.selectors =
            isInbound
            ? AssociationSelectors(source: agreement.remote, destination: agreement.local)
            : AssociationSelectors(source: agreement.local, destination: agreement.remote)
        parameters.lifetimes = agreement.suite.packetLimits(direction)
        parameters.createdNanoseconds = step.now
        let keyBytes = transform.keyBytes
        do {
            return try SecurityAssociation(
                parameters, cipherKey: encryption.slice(0..<keyBytes), integrityKey: integrity,
                salt: encryption.slice(keyBytes..<encryption.count))
        } catch {
            preconditionFailure("lengths and selectors were negotiated: \(error)")
        }
    }

    /// Ports of ESP in UDP, when a NAT is between the ends (RFC 7296 §2.23).
    func encapsulation(isInbound: Bool) -> UDPPorts? {
        guard !traits.isDisjoint(with: [.localNAT, .remoteNAT]) else { return nil }
        return isInbound
            ? UDPPorts(source: path.remotePort, destination: path.localPort)
            : UDPPorts(source: path.localPort, destination: path.remotePort)
    }
}
