// A datagram's way: to a new set-up, or to the IKE SA that it names.

internal import Crypto
internal import ESP
internal import Wire

extension IKEEndpoint {
    /// Takes a datagram, without the non-ESP marker.
    public func receive(
        _ datagram: UnsafeRawBufferPointer, path: IKEPath, now: UInt64, seconds: Int64
    ) -> IKEOutcome {
        var outcome = IKEOutcome()
        let step = Step(now: now, seconds: seconds, endpoint: self)
        let message: ParsedMessage
        do {
            message = try IKEMessage.read(datagram)
        } catch {
            refuseUnreadable(error, datagram, path, step, &outcome)
            return outcome
        }
        let header = message.header
        let isInit = header.exchangeType == .ikeSAInit
        if isInit, !header.flags.contains(.response) {
            receiveInit(message, Array(datagram), path, step, &outcome)
        } else {
            let byInitiator = header.flags.contains(.initiator)
            let spi = byInitiator ? header.responderSPI : header.initiatorSPI
            guard let association = associations[spi],
                (association.role == .responder) == byInitiator
            else {
                if let answer = farewells.answer(to: datagram, localSPI: spi, now: now) {
                    outcome.events.append(.send(answer, path))
                } else {
                    counters.count(.unknownSPI)
                }
                return outcome
            }
            receive(message, datagram, association, path, step, &outcome)
        }
        return outcome
    }

    /// A message that can't be read is answered only where RFC 7296 §2.5 asks for it, and never
    /// when it is a response.
    private func refuseUnreadable(
        _ fault: MessageFault, _ datagram: UnsafeRawBufferPointer, _ path: IKEPath,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        var isAnswered = false
        switch fault {
        case .majorVersion:
            counters.count(.version)
            isAnswered = true
        case .unsupportedCriticalPayload, .malformed:
            counters.count(.malformed)
            let header = try? IKEHeader(reading: datagram)
            if case .malformed = fault { break }
            isAnswered = header?.exchangeType == .ikeSAInit && header?.responderSPI == 0
        }
        guard isAnswered, let notify = fault.notify, datagram.count >= IKEHeader.byteCount,
            datagram[19] & IKEHeader.Flags.response.rawValue == 0,
            let base = datagram.baseAddress
        else { return }
        var answer = IKEMessage(
            initiatorSPI: load64(base, 0), responderSPI: load64(base, 8), exchange: .ikeSAInit,
            flags: .response, messageID: load32(base, 20), payloads: [.notify(notify)])
        // RFC 7296 §1.5: the exchange type is copied.
        answer.exchange = datagram[18]
        outcome.events.append(.send([answer.encoded()], path))
    }

    private func receive(
        _ message: ParsedMessage, _ datagram: UnsafeRawBufferPointer,
        _ association: IKEAssociation, _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        var drop: IKEDropReason?
        let isStranger = association.stage == .initAnswered
        perform(association, step, &outcome) { step, outcome throws(CryptoError) in
            drop = try association.receive(message, datagram, path, step, &outcome)
        }
        if let drop { counters.count(drop) }
        if isStranger, association.stage != .established {
            let events = outcome.events
            outcome.events = []
            for event in events {
                guard case .report(let report) = event else {
                    outcome.events.append(event)
                    continue
                }
                tell(report.kind, report.path, now: step.now, &outcome) { report }
            }
        }
        // The request that ended it may come again, when our answer was lost (RFC 7296 §2.1).
        if association.stage == .closed, !message.header.flags.contains(.response),
            !association.responses.last.isEmpty, drop == nil
        {
            farewells.remember(
                association.responses.last, to: datagram, localSPI: association.localSPI,
                now: step.now)
        }
    }

    /// Tells the operator of a stranger, unless such a one was told of a moment ago; beside what
    /// is due of others.
    private func tell(
        _ kind: IKEReport.Kind, _ path: IKEPath, now: UInt64, _ outcome: inout IKEOutcome,
        _ report: () -> IKEReport
    ) {
        for report in reports.takeEnded(now: now) { outcome.report(report) }
        if let report = reports.pass(kind, path, now: now, report) { outcome.report(report) }
    }

    /// In an order that does not change from run to run.
    func sorted(_ some: some Sequence<IKEAssociation>) -> [IKEAssociation] {
        some.sorted { ($0.times.created, $0.localSPI) < ($1.times.created, $1.localSPI) }
    }

    // MARK: IKE_SA_INIT

    private func receiveInit(
        _ message: ParsedMessage, _ datagram: [UInt8], _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        let header = message.header
        guard header.responderSPI == 0, header.flags.contains(.initiator), header.messageID == 0,
            message.protected == nil, datagram.count <= Self.initMaximum
        else { return counters.count(.malformed) }
        if let spi = halfOpen.localSPI(initiatorSPI: header.initiatorSPI, path),
            let association = associations[spi]
        {
            // Repeated: the same answer (RFC 7296 §2.1).
            guard association.handshake?.request == datagram else {
                return counters.count(.unexpected)
            }
            outcome.involve(spi)
            return outcome.events.append(.send(association.responses.last, path))
        }
        guard admits(message, path, step, &outcome) else { return }
        let connections = environment.configuration.connections.filter { $0.isFor(path) }
        var policies: [ProposalPolicy] = []
        for policy in connections.flatMap(\.proposals) where !policies.contains(policy) {
            policies.append(policy)
        }
        switch InitRequest.read(message.payloads, policies) {
        case .failure(let error):
            counters.count(.refused)
            refuse(error.refusal, message, policies, path, now: step.now, &outcome)
        case .success(let request):
            open(request, message, datagram, connections, path, step, &outcome)
        }
    }

    private func refuse(
        _ refusal: InitRefusal, _ message: ParsedMessage, _ policies: [ProposalPolicy],
        _ path: IKEPath, now: UInt64, _ outcome: inout IKEOutcome
    ) {
        if case .noProposal = refusal {
            tell(.noProposal, path, now: now, &outcome) {
                let own = policies.map(\.description).joined(separator: ", ")
                return IKEReport(
                    kind: .noProposal, level: .warning, connection: "", path: path,
                    text: "no proposal fits: the peer's are "
                        + "\(message.payloads.proposals?.text ?? ""); ours for its address are "
                        + (own.isEmpty ? "none" : own))
            }
        }
        answer(message, [refusal.notify], path, &outcome)
    }

    private func answer(
        _ message: ParsedMessage, _ payloads: [Payload], _ path: IKEPath,
        _ outcome: inout IKEOutcome
    ) {
        let answer = IKEMessage(
            initiatorSPI: message.header.initiatorSPI, responderSPI: 0, exchange: .ikeSAInit,
            flags: .response, messageID: 0, payloads: payloads)
        outcome.events.append(.send([answer.encoded()], path))
    }

    /// Octets of an IKE_SA_INIT that is looked at: the largest real ones have a tenth of it.
    private static let initMaximum = 8192

    /// Bounds what strangers can make us do, before their offer is read.
    private func admits(
        _ message: ParsedMessage, _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) -> Bool {
        let limits = environment.configuration.limits
        let ofAddress = halfOpen.count(of: path.remote)
        guard !isFull || halfOpen.count > 0, ofAddress < limits.halfOpenPerAddress else {
            counters.count(.halfOpenLimit)
            return false
        }
        // A stranger that forges an address takes only a part of its places: the rest is for those
        // who return a cookie. So is the place of another set-up.
        guard
            isFull || halfOpen.count >= limits.cookiesAbove
                || 2 * ofAddress >= limits.halfOpenPerAddress
        else { return true }
        guard let nonce = message.payloads.nonce else {
            counters.count(.malformed)
            return false
        }
        cookies.renew(&environment.random, now: step.now)
        let spi = message.header.initiatorSPI
        do throws(CryptoError) {
            if let cookie = message.payloads.notify(.cookie) {
                let isOurs = try cookies.isOurs(
                    cookie.data, nonce: nonce, path.remote, initiatorSPI: spi)
                if !isOurs { counters.count(.cookieWrong) }
                if isOurs { return true }
            }
            let cookie = try cookies.cookie(nonce: nonce, path.remote, initiatorSPI: spi)
            counters.count(.cookieAsked)
            answer(message, [.notify(.cookie, cookie)], path, &outcome)
        } catch {
            counters.count(.library)
        }
        return false
    }

    /// A new set-up needs the place of another one.
    private var isFull: Bool {
        let limits = environment.configuration.limits
        return halfOpen.count >= limits.halfOpen || associations.count >= limits.associations
    }

    /// Ends one half-open set-up. Refusing new ones instead would let a flood that fills the table
    /// lock out everybody else.
    private func displace(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard let spi = halfOpen.displaced, let association = associations[spi] else { return }
        counters.count(.halfOpenDisplaced)
        association.close(step, &outcome)
        outcome.touched.removeAll { $0 === association }
        settle(association)
    }

    private func open(
        _ request: InitRequest, _ message: ParsedMessage, _ datagram: [UInt8],
        _ connections: [Connection], _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        let anchors = connections.compactMap { connection -> TrustAnchors? in
            guard case .certificate(let anchors) = connection.remoteAuthentication else {
                return nil
            }
            return anchors
        }
        do throws(CryptoError) {
            let association = try IKEAssociation.answer(
                request, message.header, datagram, message.payloads, path: path,
                asksCertificates: anchors,
                pretendsNAT: connections.contains { $0.forcesEncapsulation },
                lifetime: connections.first?.timers.halfOpen ?? IKETimers().halfOpen, step,
                &outcome)
            if isFull { displace(step, &outcome) }
            halfOpen.insert(association)
            keep(association)
            outcome.involve(association.localSPI)
        } catch {
            counters.count(.library)
        }
    }
}
