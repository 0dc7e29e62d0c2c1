// The peer's requests inside an IKE SA (RFC 7296 §1.3, §1.4).

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// Answers a request that was opened and is the next in number.
    func answer(
        _ type: ExchangeType, _ id: UInt32, _ payloads: [Payload], _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        guard !payloads.hasDuplicates else {
            return try respond(type, id, [.notify(.invalidSyntax)], step, &outcome)
        }
        switch type {
        case .createChildSA:
            try answerCreate(id, payloads, step, &outcome)
        case .informational:
            try answerInformational(id, payloads, step, &outcome)
        case .ikeSAInit, .ikeAuth:
            try respond(type, id, [.notify(.invalidSyntax)], step, &outcome)
        }
    }

    private func answerCreate(
        _ id: UInt32, _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        inheritFromPredecessor(step, &outcome)
        let answer =
            payloads.proposals?.first?.securityProtocol == .ike
            ? try answerSuccessor(payloads, step, &outcome)
            : try answerChildRequest(payloads, step, &outcome)
        try respond(.createChildSA, id, answer, step, &outcome)
    }

    private func answerChildRequest(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> [Payload] {
        // Not while the IKE SA itself changes or ends (RFC 7296 §2.25.2).
        guard stage == .established, !isEnding else { return [.notify(.temporaryFailure)] }
        guard let rekey = payloads.notify(.rekeySA) else {
            return try answerChild(payloads, isFirst: false, step, &outcome)
        }
        // The peer names its own inbound SPI: what we send with.
        guard let spi = SPI(octets: rekey.spi),
            let old = children.first(where: { $0.outbound == spi && $0.stage != .lingering })
        else {
            // It may be the pair that we are about to learn of.
            if case .createChild = requests.outstanding?.exchange {
                return [.notify(.temporaryFailure)]
            }
            return [
                .notify(Notify(.childSANotFound, protocol: .esp, spi: rekey.spi))
            ]
        }
        // §2.25.1: a pair that we are closing is not rekeyed.
        guard old.stage == .active, !isDeleting(old.inbound) else {
            return [.notify(.temporaryFailure)]
        }
        return try answerChild(
            payloads, isFirst: false, replaces: old.inbound, step, &outcome)
    }

    private var isEnding: Bool {
        switch requests.outstanding?.exchange {
        case .deleteIKE, .rekeyIKE: true
        default: false
        }
    }

    private func isDeleting(_ spi: SPI) -> Bool {
        if case .deleteChildren(let spis) = requests.outstanding?.exchange, spis.contains(spi) {
            return true
        }
        return requests.tasks.contains {
            if case .deleteChildren(let spis) = $0 { spis.contains(spi) } else { false }
        }
    }

    private func answerInformational(
        _ id: UInt32, _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let deletes = payloads.deletes
        if let error = payloads.errorNotify,
            error.type == NotifyType.authenticationFailed.rawValue
        {
            report(
                .authenticationFailed, .warning,
                "the peer ends the IKE SA: \(error.name)", &outcome)
            try respond(.informational, id, [], step, &outcome)
            return close(step, &outcome)
        }
        if deletes.contains(where: { $0.securityProtocol == .ike }) {
            try respond(.informational, id, [], step, &outcome)
            return endByPeer(step, &outcome)
        }
        advanceSequences(payloads, step, &outcome)
        let gone = deletes.compactMap(\.espSPIs).flatMap { $0 }
        if !gone.isEmpty { inheritFromPredecessor(step, &outcome) }
        let removed = removeByPeer(gone, step, &outcome)
        let answer: [Payload] = removed.isEmpty ? [] : [.delete(Delete(esp: removed))]
        // Of a liveness check the next owner need not know: see ``ResponseWindow/isNew(_:)``.
        try respond(
            .informational, id, answer, changes: !removed.isEmpty || !payloads.isEmpty, step,
            &outcome)
    }

    /// The peer deleted the IKE SA. If we were rekeying it, the peer did not notice (RFC 7296
    /// §2.8.2): its own successor inherits.
    private func endByPeer(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        if case .rekeyIKE(let offer) = requests.outstanding?.exchange, offer.collision != nil {
            requests.outstanding = nil
            inheritAfterCollision(offer, step, &outcome)
        }
        if stage == .established {
            report(.closed, .info, "the peer deleted the IKE SA", &outcome)
        }
        close(step, &outcome)
    }

    /// Pairs whose outbound SPIs the peer deleted: returns their inbound SPIs, which the answer
    /// deletes in turn (RFC 7296 §1.4.1) unless we have said so already.
    private func removeByPeer(
        _ spis: [SPI], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) -> [SPI] {
        var removed: [SPI] = []
        for spi in spis {
            guard let child = children.first(where: { $0.outbound == spi }) else {
                if case .createChild(let offer) = requests.outstanding?.exchange,
                    offer.deleted.count < offersMaximum
                {
                    offer.deleted.append(spi)
                }
                continue
            }
            // Both ends delete the same pair at once: the answer has no SPI (§1.4.1).
            if !isDeletingNow(child.inbound) { removed.append(child.inbound) }
            end(child.inbound, step, &outcome)
        }
        return removed
    }

    private func isDeletingNow(_ spi: SPI) -> Bool {
        if case .deleteChildren(let spis) = requests.outstanding?.exchange {
            return spis.contains(spi)
        }
        return false
    }

    /// With the end of a pair, its successor is the only one that can send.
    func startSuccessor(of spi: SPI, _ outcome: inout IKEOutcome) {
        for child in children where child.replaces == spi {
            beginSending(through: child.inbound, &outcome)
        }
    }

    /// The peer takes back a successor that nobody has used: what it was to replace goes on.
    private func goBack(from child: Child, _ step: borrowing Step) {
        guard !child.sends, let old = child.replaces, !isDeleting(old),
            !children.contains(where: { $0.replaces == old && $0.stage != .lingering }),
            let index = children.firstIndex(where: { $0.inbound == old }),
            children[index].stage == .replaced
        else { return }
        children[index].stage = .active
        children[index].rekey = retryTime(isBusy: false, step)
    }

    /// Nothing is sent through the pair any more; packets on the way are still taken for a while.
    func end(_ spi: SPI, _ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard
            let index = children.firstIndex(where: { $0.inbound == spi && $0.stage != .lingering })
        else { return }
        startSuccessor(of: spi, &outcome)
        children[index].stage = .lingering
        children[index].rekey = .max
        children[index].end = step.after(lingerNanoseconds)
        let child = children[index]
        outcome.events.append(.linger(spi))
        goBack(from: child, step)
        report(.childClosed, .info, "\(child.policy) \(child.inbound) closed", &outcome)
    }
}

/// How many SPIs of pairs that it does not know an offer keeps: the peer's deletes beyond are of no
/// pair that it could have made of one offer.
private let offersMaximum = 16

/// How long packets that were under way when a pair was deleted are still decrypted: several round
/// trips of a slow path.
let lingerNanoseconds: UInt64 = 5 * 1_000_000_000
