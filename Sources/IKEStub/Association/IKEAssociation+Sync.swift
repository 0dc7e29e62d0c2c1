// Counters that the owner before may have moved (RFC 6311): asked for by who took over, and granted
// by its peer.

internal import Crypto
internal import ESP
internal import Wire

/// Requests that an owner may have sent after its last write, at most. There are enough Message IDs
/// for a new owner in every minute of eight years.
private let unknownRequests: UInt32 = 1024
/// IDs from here on are for no peer to choose: some are left to end the IKE SA with.
private let messageIDMaximum = UInt32.max - 65_536
/// Repetitions of a request for synchronization. Without an answer, things are as they are between
/// ends that do not know RFC 6311.
private let syncTries = 3
/// Between two repetitions of the answer, which anybody can cause who has the request.
private let answerPauseNanoseconds: UInt64 = 500_000_000
/// So far without extended numbers, keys are to be replaced soon (RFC 6311 §5.2).
private let farDelta: UInt64 = 1 << 28

// MARK: As the end that took over

extension IKEAssociation {
    /// The state that it goes on with may be older than the last messages. `generations`: how much
    /// newer the owner is; every owner from the same state asks for another, higher ID.
    func wantSync(generations: UInt16, delta: UInt64) {
        guard stage == .established,
            !traits.isDisjoint(with: [.messageIDSync, .replayCounterSync])
        else { return }
        let known = max(requests.nextID, sync.sendID)
        let (sendID, overflows) = known.addingReportingOverflow(
            unknownRequests * UInt32(generations))
        guard !overflows, sendID < messageIDMaximum else { return sync.stage = .none }
        sync.stage = .wanted(
            CounterSync.Wish(
                delta: delta, sendID: sendID,
                repetitions: (requests.outstanding?.repetitions ?? 0) + 2))
    }

    /// When ``advanceSync(_:_:)`` has something to do.
    var syncDeadline: UInt64 {
        guard stage == .established else { return .max }
        return switch sync.stage {
        case .none: .max
        case .wanted: isSafeToAskAgain ? times.heard : .max
        case .sent(let request): request.isGivenUp ? .max : request.repeatAt
        }
    }

    /// Where the peer may have made something that we do not know, its answer is better than a new
    /// question: the request is repeated a few times first.
    private var isSafeToAskAgain: Bool {
        switch requests.outstanding?.exchange {
        case .createChild, .rekeyIKE: false
        default: true
        }
    }

    /// Sends what is wanted, repeats what was sent, and in the end goes on without.
    func advanceSync(
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        switch sync.stage {
        case .none: break
        case .wanted(let wish):
            if let outstanding = requests.outstanding, !isSafeToAskAgain {
                guard outstanding.repetitions >= wish.repetitions,
                    step.now >= outstanding.repeatAt
                else { return }
            }
            try requestSync(wish, step, &outcome)
        case .sent(var request):
            guard step.now >= request.repeatAt, !request.isGivenUp else { return }
            guard request.repetitions < syncTries else {
                request.isGivenUp = true
                sync.stage = .sent(request)
                requests.outstanding?.repeatAt = step.now
                return outcome.noteChange(of: localSPI)
            }
            request.repetitions += 1
            request.repeatAt = step.after(request.patience)
            request.patience = timers(step.environment).backoff(request.patience)
            sync.stage = .sent(request)
            times.sent = step.now
            outcome.events.append(.send(request.datagrams, path))
        }
    }

    private func requestSync(
        _ wish: CounterSync.Wish, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        sync.stage = .none
        let environment = step.environment
        let policy = environment.configuration.connection(named: connection)
        guard policy?.synchronizesCounters == true, !isBeingRekeyedTwice else { return }
        var payloads: [Payload] = []
        if traits.contains(.replayCounterSync), let delta = deltaOctets(wish.delta) {
            payloads.append(.notify(.replayCounterSync, delta))
        }
        guard traits.contains(.messageIDSync) else {
            if !payloads.isEmpty { requests.add(.replayCounters(wish.delta)) }
            return
        }
        let content = MessageIDSync(
            nonce: UInt32(truncatingIfNeeded: environment.random.uint64()),
            sendID: max(wish.sendID, requests.nextID), receiveID: responses.nextID)
        payloads.insert(.notify(.messageIDSync, content.octets), at: 0)
        let datagrams = try sealed(
            message(.informational, 0, isResponse: false, payloads), environment)
        let timers = timers(environment)
        sync.stage = .sent(
            CounterSync.Request(
                content: content, datagrams: datagrams,
                repeatAt: step.after(timers.retransmission),
                patience: timers.backoff(timers.retransmission)))
        times.sent = step.now
        // The next owner must not ask for the same ID again (RFC 6311 §5.1).
        outcome.noteChange(of: localSPI)
        outcome.events.append(.send(datagrams, path))
    }

    /// The content of IPSEC_REPLAY_COUNTER_SYNC (RFC 6311 §6.4); nil: nothing is to be advanced, or
    /// only some of the pairs have extended numbers, which it can't express.
    func deltaOctets(_ delta: UInt64) -> [UInt8]? {
        guard delta > 0, let usesESN = usesESN else { return nil }
        return usesESN ? delta.octets : UInt32(clamping: delta).octets
    }

    /// Whether the pairs have extended numbers; nil: there is none, or they differ.
    private var usesESN: Bool? {
        let first = children.first?.suite.usesESN
        return children.allSatisfy { $0.suite.usesESN == first } ? first : nil
    }

    /// Both ends are rekeying the IKE SA, and its windows end with it.
    private var isBeingRekeyedTwice: Bool {
        if case .rekeyIKE(let offer) = requests.outstanding?.exchange {
            return offer.collision != nil
        }
        return false
    }

    /// The peer's answer. What comes a second time finds no request (RFC 6311 §11).
    func acceptSync(
        _ answer: MessageIDSync, _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEDropReason? {
        guard case .sent(let request) = sync.stage, answer.nonce == request.content.nonce,
            answer.receiveID >= request.content.sendID,
            answer.sendID >= request.content.receiveID,
            max(answer.sendID, answer.receiveID) < messageIDMaximum, follow(path, &outcome)
        else { return .unexpected }
        times.heard = max(times.heard, step.now)
        sync.stage = .none
        moveWindows(send: answer.receiveID, receive: answer.sendID)
        responses.mayHaveMissed = false
        report(
            .synchronized, .info,
            "counters are synchronized: our next request is \(requests.nextID), the peer's is "
                + "\(responses.nextID)", &outcome)
        outcome.noteChange(of: localSPI)
        askAgain(step, &outcome)
        try runTasks(step, &outcome)
        return nil
    }
}

// MARK: As its peer

extension IKEAssociation {
    /// Messages of RFC 6311 have the ID 0, whatever the windows say.
    func mayBeSync(_ message: ParsedMessage, isResponse: Bool) -> Bool {
        guard message.header.messageID == 0, message.header.exchangeType == .informational,
            message.protected?.fragment == nil, stage == .established,
            traits.contains(.messageIDSync)
        else { return false }
        if isResponse, case .sent = sync.stage { return true }
        return !isResponse
    }

    /// Our request for a successor, which has windows of its own, needs its answer.
    private var isBeingRekeyed: Bool {
        if case .rekeyIKE = requests.outstanding?.exchange { true } else { false }
    }

    /// Grants what a new owner at the other end asks for, unless it has been seen before.
    func answerSync(
        _ request: MessageIDSync, _ payloads: [Payload], _ path: IKEPath, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) throws(CryptoError) -> IKEDropReason? {
        if let granted = sync.granted, granted.nonce == request.nonce,
            granted.sendID == request.sendID
        {
            return repeatGrant(path, step, &outcome)
        }
        guard request.sendID >= responses.nextID,
            sync.granted.map({ request.sendID > $0.sendID }) ?? true
        else { return .outOfWindow }
        guard max(request.sendID, request.receiveID) < messageIDMaximum, !isBeingRekeyed,
            follow(path, &outcome)
        else { return .unexpected }
        times.heard = max(times.heard, step.now)
        requestParts = Reassembly()
        moveWindows(send: max(request.receiveID, sync.sendID), receive: request.sendID)
        responses.mayHaveMissed = false
        let answer = MessageIDSync(
            nonce: request.nonce, sendID: requests.nextID, receiveID: responses.nextID)
        let message = message(
            .informational, 0, isResponse: true, [.notify(.messageIDSync, answer.octets)])
        let response = try sealed(message, step.environment)
        sync.granted = CounterSync.Granted(
            nonce: request.nonce, sendID: request.sendID, response: response)
        times.sent = step.now
        report(
            .synchronized, .info,
            "counters are synchronized with a new owner at the peer: our next request is "
                + "\(requests.nextID), the peer's is \(responses.nextID)", &outcome)
        outcome.noteChange(of: localSPI)
        outcome.events.append(.send(response, path))
        advanceSequences(payloads, step, &outcome)
        askAgain(step, &outcome)
        try advance(step, &outcome)
        return nil
    }

    /// The answer was lost, or somebody repeats the request.
    private func repeatGrant(
        _ path: IKEPath, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) -> IKEDropReason? {
        guard let granted = sync.granted, !granted.response.isEmpty,
            step.now >= granted.repeatAgain
        else { return .outOfWindow }
        sync.granted?.repeatAgain = step.now &+ answerPauseNanoseconds
        outcome.events.append(.send(granted.response, path))
        return nil
    }

    /// The windows only go forward. What was answered before they did can't be repeated.
    private func moveWindows(send: UInt32, receive: UInt32) {
        requests.nextID = max(requests.nextID, send)
        guard receive > responses.nextID else { return }
        responses.nextID = receive
        responses.last = []
    }

    /// IPSEC_REPLAY_COUNTER_SYNC, where it was announced: all pairs go on with higher numbers.
    func advanceSequences(
        _ payloads: [Payload], _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        guard traits.contains(.replayCounterSync),
            let notify = payloads.notify(.replayCounterSync), let usesESN,
            notify.data.count == (usesESN ? 8 : 4)
        else { return }
        let delta = notify.data.reduce(0) { $0 << 8 | UInt64($1) }
        guard delta > 0 else { return }
        for child in children where child.stage != .lingering {
            outcome.events.append(.advanceSequence(child.inbound, by: delta))
            if !usesESN, delta >= farDelta {
                noteSoftLifetime(of: child.inbound, now: step.now, &outcome)
            }
        }
    }
}

// MARK: At both ends

extension IKEAssociation {
    /// What is outstanding gets no answer any more (RFC 6311 §9). Whether the other end has acted
    /// upon it is not known: what it may have made is deleted, and asked for anew.
    private func askAgain(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        guard let outstanding = requests.outstanding else { return }
        requests.outstanding = nil
        responseParts = Reassembly()
        switch outstanding.exchange {
        case .ikeSAInit, .ikeAuth: preconditionFailure("windows move in established IKE SAs only")
        case .createChild(let offer):
            step.environment.resources.release(offer.inbound)
            askAgain(offer)
            requests.addFirst(.deleteChildren([offer.inbound]))
        case .rekeyIKE: requests.addFirst(.rekeyIKE)
        case .deleteChildren(let spis): requests.addFirst(.deleteChildren(spis))
        case .deleteIKE: requests.addFirst(.deleteIKE)
        case .liveness: requests.addFirst(.liveness)
        case .replayCounters(let delta): requests.addFirst(.replayCounters(delta))
        }
    }

    private func askAgain(_ offer: ChildOffer) {
        guard let old = offer.replaces else {
            return requests.addFirst(.createChild(policy: offer.policy))
        }
        // Where the peer has rekeyed it too, its own successor is at hand.
        guard offer.collision == nil else { return retire(old) }
        if let index = children.firstIndex(where: { $0.inbound == old }) {
            children[index].doubts = 2
        }
        requests.addFirst(offer.isAfresh ? .renewChild(old) : .rekeyChild(old))
    }
}
