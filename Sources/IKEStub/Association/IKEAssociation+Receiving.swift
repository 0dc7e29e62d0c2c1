// A protected message at its IKE SA: authenticated first, then put in order, then acted upon.

internal import Crypto
internal import ESP
internal import Wire

/// What opening a datagram gave.
private enum Opened {
    case payloads([Payload])
    /// A fragment that was kept; more are to come.
    case part
    /// Authentic, with a content that can't be read.
    case unreadable(MessageFault)
    case dropped(IKEDropReason)
}

extension IKEAssociation {
    /// Returns why the message was not acted upon, if it was not.
    func receive(
        _ message: ParsedMessage, _ datagram: UnsafeRawBufferPointer, _ path: IKEPath,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEDropReason? {
        let header = message.header
        guard header.exchangeType != .ikeSAInit else {
            guard role == .initiator, stage == .initSent, header.messageID == 0 else {
                return .unexpected
            }
            try receiveInitResponse(message, Array(datagram), step, &outcome)
            return nil
        }
        guard header.initiatorSPI == initiatorSPI, header.responderSPI == responderSPI,
            let type = header.exchangeType
        else { return .unknownSPI }
        let isResponse = header.flags.contains(.response)
        let isInWindow = isInWindow(header.messageID, isResponse: isResponse)
        let mayBeSync = mayBeSync(message, isResponse: isResponse)
        guard isInWindow || mayBeSync else { return .outOfWindow }
        guard try hasKeys(for: type, step, &outcome) else { return .unexpected }
        let opened = try open(datagram, message, step.environment)
        switch opened {
        case .dropped(let reason): return reason
        case .part: return nil
        case .payloads, .unreadable: break
        }
        if mayBeSync, case .payloads(let payloads) = opened,
            let content = payloads.messageIDSync(isResponse: isResponse)
        {
            return isResponse
                ? try acceptSync(content, path, step, &outcome)
                : try answerSync(content, payloads, path, step, &outcome)
        }
        let isNew = isResponse || responses.isNew(header.messageID)
        guard isInWindow, isResponse || !isNew || !waitsForWindows else { return .outOfWindow }
        guard isNew else {
            // Replayed, perhaps: it proves nothing about where the peer is and whether it lives.
            // The same answer goes to where it came from (RFC 7296 §2.1, §2.11).
            times.sent = step.now
            outcome.events.append(.send(responses.last, path))
            return nil
        }
        if !isResponse, responses.mayHaveMissed, case .payloads(let payloads) = opened,
            payloads.isEmpty
        {
            // The owner before may have answered it: it is no proof either.
            let home = self.path
            self.path = path
            defer { self.path = home }
            return try receiveRequest(type, header.messageID, opened, step, &outcome)
        }
        guard follow(path, &outcome) else { return .unexpected }
        times.heard = max(times.heard, step.now)
        guard isResponse else {
            return try receiveRequest(type, header.messageID, opened, step, &outcome)
        }
        return try receiveResponse(type, opened, step, &outcome)
    }

    private var waitsForWindows: Bool { traits.contains(.messageIDSync) && sync.isUncertain }

    private func isInWindow(_ id: UInt32, isResponse: Bool) -> Bool {
        if isResponse { return requests.outstanding?.messageID == id }
        return responses.isNew(id) || responses.isAnswered(id)
    }

    /// A responder's keys are made when IKE_AUTH comes.
    private func hasKeys(
        for type: ExchangeType, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Bool {
        guard keys == nil else { return true }
        guard stage == .initAnswered, type == .ikeAuth, let handshake else { return false }
        return try deriveKeys(handshake, step.environment, &outcome)
    }

    private func open(
        _ datagram: UnsafeRawBufferPointer, _ message: ParsedMessage,
        _ environment: IKEEnvironment
    ) throws(CryptoError) -> Opened {
        let protection = try protection(sending: false, environment)
        do throws(ProtectionFault) {
            guard message.protected?.fragment != nil else {
                return .payloads(try protection.open(datagram, message))
            }
            return try openPart(datagram, message, protection)
        } catch {
            switch error {
            case .payloads(let fault): return .unreadable(fault)
            case .library(let error): throw error
            case .integrity: return .dropped(.notAuthentic)
            case .otherKind, .length, .padding: return .dropped(.malformed)
            }
        }
    }

    private func openPart(
        _ datagram: UnsafeRawBufferPointer, _ message: ParsedMessage,
        _ protection: borrowing MessageProtection
    ) throws(ProtectionFault) -> Opened {
        guard traits.contains(.fragments) else { return .dropped(.fragment) }
        let isResponse = message.header.flags.contains(.response)
        // Of a request that was answered, the first fragment asks for the answer (RFC 7383 §2.6.1).
        if !isResponse, !responses.isNew(message.header.messageID) {
            guard message.protected?.fragment?.number == 1 else { return .part }
            _ = try protection.openFragment(datagram, message)
            return .payloads([])
        }
        do throws(ReassemblyFault) {
            let whole =
                isResponse
                ? try responseParts.take(datagram, message, protection)
                : try requestParts.take(datagram, message, protection)
            return whole.map { .payloads($0) } ?? .part
        } catch {
            if case .protection(let fault) = error { throw fault }
            return .dropped(.fragment)
        }
    }

    private func receiveRequest(
        _ type: ExchangeType, _ id: UInt32, _ opened: Opened, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEDropReason? {
        guard stage != .authSent else { return .unexpected }
        requestParts = Reassembly()
        // It uses the ID that it was granted.
        sync.granted?.response = []
        switch opened {
        case .payloads(let payloads):
            // What is not empty is in the store: it can't have been missed.
            if !payloads.isEmpty { responses.mayHaveMissed = false }
            if stage == .initAnswered {
                guard type == .ikeAuth else { return .unexpected }
                try receiveAuthenticationRequest(payloads, step, &outcome)
            } else {
                try answer(type, id, payloads, step, &outcome)
            }
        case .unreadable(let fault):
            report(.syntax, .warning, "a request of the peer can't be read: \(fault)", &outcome)
            let notify = fault.notify ?? Notify(.invalidSyntax)
            try respond(type, id, [.notify(notify)], step, &outcome)
            if stage == .initAnswered { close(step, &outcome) }
        case .part, .dropped: break
        }
        if stage == .established { try runTasks(step, &outcome) }
        return nil
    }

    private func receiveResponse(
        _ type: ExchangeType, _ opened: Opened, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEDropReason? {
        guard type == requests.outstanding?.exchange.type else { return .unexpected }
        responseParts = Reassembly()
        guard case .payloads(let payloads) = opened, !payloads.hasDuplicates else {
            if requests.outstanding?.isReported == false {
                requests.outstanding?.isReported = true
                report(.syntax, .warning, "a response of the peer can't be read", &outcome)
            }
            return .malformed
        }
        try accept(payloads, step, &outcome)
        return nil
    }
}
