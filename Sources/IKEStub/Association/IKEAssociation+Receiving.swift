// A protected message at its IKE SA: authenticated first, then put in order, then acted upon.

internal import Crypto
internal import ESP
internal import Wire

/// What a message led to, beside events.
struct Arrivals {
    /// Set when the message was not acted upon.
    var drop: IKEDropReason?
    /// An IKE SA that came to be.
    var successor: IKEAssociation?
    /// The peer says that it has no other IKE SA with us (INITIAL_CONTACT).
    var onlyContactOf: Identity?

    init(drop: IKEDropReason? = nil) { self.drop = drop }
}

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
    func receive(
        _ message: ParsedMessage, _ datagram: UnsafeRawBufferPointer, _ path: IKEPath,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Arrivals {
        let header = message.header
        guard header.exchangeType != .ikeSAInit else {
            guard role == .initiator, stage == .initSent, header.messageID == 0 else {
                return Arrivals(drop: .unexpected)
            }
            try receiveInitResponse(message, Array(datagram), step, &outcome)
            return Arrivals()
        }
        guard header.initiatorSPI == initiatorSPI, header.responderSPI == responderSPI,
            let type = header.exchangeType
        else { return Arrivals(drop: .unknownSPI) }
        let isResponse = header.flags.contains(.response)
        guard isInWindow(header.messageID, isResponse: isResponse) else {
            return Arrivals(drop: .outOfWindow)
        }
        guard try hasKeys(for: type, step, &outcome) else { return Arrivals(drop: .unexpected) }
        let opened = try open(datagram, message, step.environment)
        if case .dropped(let reason) = opened { return Arrivals(drop: reason) }
        times.heard = max(times.heard, step.now)
        follow(path, step, &outcome)
        guard isResponse else {
            return try receiveRequest(type, header.messageID, opened, step, &outcome)
        }
        guard case .payloads(let payloads) = opened else {
            return Arrivals(drop: opened.isPart ? nil : .malformed)
        }
        var arrivals = Arrivals()
        arrivals.successor = try accept(payloads, step, &outcome)
        return arrivals
    }

    private func isInWindow(_ id: UInt32, isResponse: Bool) -> Bool {
        if isResponse { return requests.outstanding?.messageID == id }
        return id == responses.nextID || (id &+ 1 == responses.nextID && !responses.last.isEmpty)
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
        // Of a request that was answered, the first fragment asks for the answer (RFC 7383 §2.6.1).
        if !message.header.flags.contains(.response), message.header.messageID < responses.nextID {
            guard message.protected?.fragment?.number == 1 else { return .part }
            _ = try protection.openFragment(datagram, message)
            return .payloads([])
        }
        do throws(ReassemblyFault) {
            let whole = try reassembly.take(datagram, message, protection)
            return whole.map { .payloads($0) } ?? .part
        } catch {
            if case .protection(let fault) = error { throw fault }
            return .dropped(.fragment)
        }
    }

    private func receiveRequest(
        _ type: ExchangeType, _ id: UInt32, _ opened: Opened, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> Arrivals {
        guard !opened.isPart else { return Arrivals() }
        guard id == responses.nextID else {
            times.sent = step.now
            outcome.events.append(.send(responses.last, path))
            return Arrivals()
        }
        reassembly = Reassembly()
        var arrivals = Arrivals()
        switch opened {
        case .payloads(let payloads):
            if stage == .initAnswered, type == .ikeAuth {
                arrivals.onlyContactOf = try receiveAuthenticationRequest(
                    payloads, step, &outcome)
            } else {
                guard stage == .established || stage == .replaced else {
                    return Arrivals(drop: .unexpected)
                }
                arrivals.successor = try answer(type, id, payloads, step, &outcome)
            }
        case .unreadable(let fault):
            report(.syntax, .warning, "a request of the peer can't be read: \(fault)", &outcome)
            let notify = fault.notify ?? Notify(.invalidSyntax)
            try respond(type, id, [.notify(notify)], step, &outcome)
            if stage == .initAnswered { close(step, &outcome) }
        case .part, .dropped: break
        }
        if stage == .established { try runTasks(step, &outcome) }
        return arrivals
    }

    /// An authentic message came on another path: behind a NAT, that is where the peer is now
    /// (RFC 7296 §2.23).
    private func follow(
        _ path: IKEPath, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        guard path != self.path else { return }
        let old = self.path
        // The initiator goes to the other port by itself, once.
        let floats = stage == .initAnswered
        guard floats || traits.contains(.remoteNAT) else { return }
        self.path = path
        guard !floats else { return }
        report(.pathChanged, .info, "the peer was at \(old)", &outcome)
        outcome.noteChange(of: localSPI)
        for child in children { outcome.events.append(.redirect(child.inbound, path)) }
    }
}

extension Opened {
    fileprivate var isPart: Bool { if case .part = self { true } else { false } }
}
