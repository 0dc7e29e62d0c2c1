// Requests and responses on their way out, sealed once and repeated as they are.

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// Keys of the direction, with the suite that they are for.
    func protection(
        sending: Bool, _ environment: IKEEnvironment
    ) throws(CryptoError) -> MessageProtection {
        guard let suite, keys != nil else {
            preconditionFailure("messages are protected after IKE_SA_INIT only")
        }
        let byInitiator = sending == (role == .initiator)
        return try withKeys { keys throws(CryptoError) in
            byInitiator
                ? MessageProtection(
                    suite.protection, encryptionKey: keys.initiatorEncryption,
                    integrityKey: keys.initiatorIntegrity, library: environment.library)
                : MessageProtection(
                    suite.protection, encryptionKey: keys.responderEncryption,
                    integrityKey: keys.responderIntegrity, library: environment.library)
        }
    }

    func message(
        _ exchange: ExchangeType, _ id: UInt32, isResponse: Bool, _ payloads: [Payload]
    ) -> IKEMessage {
        var flags: IKEHeader.Flags = role == .initiator ? .initiator : []
        if isResponse { flags.insert(.response) }
        return IKEMessage(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, exchange: exchange,
            flags: flags, messageID: id, payloads: payloads)
    }

    /// The datagrams of a protected message, in fragments when it is long and the peer can.
    func sealed(
        _ message: IKEMessage, _ environment: IKEEnvironment
    ) throws(CryptoError) -> [[UInt8]] {
        let limit = environment.configuration.limits.fragmentBytes
        let protection = try protection(sending: true, environment)
        let fragments =
            traits.contains(.fragments)
            && environment.configuration.connection(named: connection)?.fragments != false
        let length =
            fragments
            ? IKEMessage.lengthMaximum(
                datagramBytes: limit, path.remote.family, hasMarker: path.hasMarker)
            : IKEMessage.lengthMaximum
        let isCombined = protection.suite.encryption.isCombined
        return try protection.seal(message, lengthMaximum: length) { _ in
            isCombined ? .counter(nextIV()) : .random(environment.random.octets(16))
        }
    }

    /// Sends a protected request and waits for its response.
    func request(
        _ type: ExchangeType, _ exchange: Exchange, _ payloads: [Payload],
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        precondition(requests.outstanding == nil, "the window is one request")
        // Message IDs don't begin again (RFC 7296 §2.2).
        guard requests.nextID != .max else { return close(step, &outcome) }
        let id = requests.nextID
        let message = message(type, id, isResponse: false, payloads)
        let datagrams = try sealed(message, step.environment)
        transmit(datagrams, id, exchange, step, &outcome)
    }

    /// Sends a request's datagrams for the first time.
    func transmit(
        _ datagrams: [[UInt8]], _ id: UInt32, _ exchange: Exchange, _ step: borrowing Step,
        _ outcome: inout IKEOutcome
    ) {
        let timers = timers(step.environment)
        requests.outstanding = Outstanding(
            messageID: id, exchange: exchange, datagrams: datagrams,
            repeatAt: step.after(timers.retransmission),
            patience: timers.backoff(timers.retransmission))
        requests.nextID = id + 1
        times.sent = step.now
        outcome.noteChange(of: localSPI)
        outcome.events.append(.send(datagrams, path))
    }

    /// Sends the response to the peer's request `id`, and keeps it.
    func respond(
        _ type: ExchangeType, _ id: UInt32, _ payloads: [Payload], changes: Bool = true,
        _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) throws(CryptoError) {
        let message = message(type, id, isResponse: true, payloads)
        responses.last = try sealed(message, step.environment)
        responses.nextID = id + 1
        times.sent = step.now
        if changes { outcome.noteChange(of: localSPI) }
        outcome.events.append(.send(responses.last, path))
    }

    /// The connection's timers.
    func timers(_ environment: IKEEnvironment) -> IKETimers {
        environment.configuration.connection(named: connection)?.timers ?? IKETimers()
    }

    /// Runs `body` with the keys. Precondition: there are keys.
    func withKeys<Result: ~Copyable>(
        _ body: (borrowing IKEKeys) throws(CryptoError) -> Result
    ) throws(CryptoError) -> Result {
        guard let taken = keys.take() else { preconditionFailure("no keys yet") }
        let result: Result
        do {
            result = try body(taken)
        } catch {
            keys = consume taken
            throw error
        }
        keys = consume taken
        return result
    }
}

/// What a call brings along: the time and the world.
struct Step: ~Copyable {
    /// Nanoseconds of the owner's clock, which only goes forward.
    let now: UInt64
    /// Seconds since 1970, for certificates.
    let seconds: Int64
    /// Whose IKE SAs these are.
    let endpoint: IKEEndpoint

    var environment: IKEEnvironment { endpoint.environment }

    /// `interval` from now; never, where that is beyond the clock's end.
    borrowing func after(_ interval: UInt64) -> UInt64 {
        let (sum, overflows) = now.addingReportingOverflow(interval)
        return overflows ? .max : sum
    }
}
