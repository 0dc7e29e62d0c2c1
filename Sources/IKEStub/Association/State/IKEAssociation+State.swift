// An IKE SA as octets, for whoever owns it next (docs/decisions/0017-ike-state.md). All of it is
// there but fragments of messages that are not complete: they come again, all of them.

internal import Crypto
internal import ESP
internal import Wire

/// Of the encoding.
private let stateVersion: UInt8 = 2

/// The exporter's clock and the world's at the time of the export.
private struct Moment {
    let now: UInt64
    let seconds: Int64

    /// A time on the exporter's clock, on the clock of who reads it at `now` and `seconds`. What
    /// passed between is counted on the world's clock; it does not go backwards.
    func convert(_ time: UInt64, now: UInt64, seconds: Int64) -> UInt64 {
        guard time != .max else { return .max }
        let passed = max(0, seconds.subtractingReportingOverflow(self.seconds).partialValue)
        let elapsed = UInt64(passed).multipliedReportingOverflow(by: 1_000_000_000)
        guard !elapsed.overflow else { return 0 }
        if time < self.now {
            let age = (self.now - time).addingReportingOverflow(elapsed.partialValue)
            return age.overflow || age.partialValue > now ? 0 : now - age.partialValue
        }
        let rest = time - self.now
        if rest < elapsed.partialValue {
            let age = elapsed.partialValue - rest
            return age > now ? 0 : now - age
        }
        let due = now.addingReportingOverflow(rest - elapsed.partialValue)
        return due.overflow ? .max - 1 : due.partialValue
    }
}

// MARK: Writing

extension IKEAssociation {
    /// The state, with secrets inside. `now` and `seconds`: this node's clocks, as for every call.
    func encode(now: UInt64, seconds: Int64) -> SecretBytes {
        precondition(stage != .closed, "what is closed is not handed on")
        var writer = StateWriter()
        writer.put(stateVersion)
        writer.put(now)
        writer.put(seconds)
        writer.put(generation)
        writer.put(ivCounter)
        writer.put(role.rawValue)
        writer.put(initiatorSPI)
        writer.put(responderSPI)
        writer.put(stage.rawValue)
        writer.put(connection)
        writer.put(origin)
        writer.put(path)
        writer.put(traits.rawValue)
        writer.put(hasOwnVirtualAddress)
        writer.put(localIdentity) { $0.put($1) }
        writer.put(remoteIdentity) { $0.put($1) }
        writer.put(virtualAddresses) { $0.put($1) }
        writer.put(predecessor) { $0.put($1) }
        putTimes(&writer)
        putKeys(&writer)
        writer.put(children) { $0.put($1) }
        writer.put(requests)
        writer.put(responses)
        writer.put(sync)
        writer.put(handshake) { $0.put($1) }
        return writer.finish()
    }

    private func putTimes(_ writer: inout StateWriter) {
        for time in [
            times.created, times.heard, times.sent, times.rekey, times.end, times.retry,
        ] {
            writer.put(time)
        }
    }

    private func putKeys(_ writer: inout StateWriter) {
        writer.put(suite) { $0.put($1) }
        switch keys {
        case .some(let keys):
            writer.put(true)
            writer.put(keys)
        case .none: writer.put(false)
        }
    }
}

extension StateWriter {
    fileprivate mutating func put(_ child: Child) {
        put(child.inbound.value)
        put(child.outbound.value)
        put(child.policy)
        put(child.suite)
        put(child.mode == .transport)
        put(child.local)
        put(child.remote)
        put(child.hasReplayWindow)
        put(child.stage.rawValue)
        put(child.sends)
        put(child.replaces) { $0.put($1.value) }
        put(child.doubts)
        put(child.isNearlyUsed)
        put(child.rekey)
        put(child.end)
    }
}

// MARK: Reading

extension IKEAssociation {
    /// Reads what ``encode(now:seconds:)`` wrote, with its times on the reader's clock.
    static func decode(
        _ octets: UnsafeRawBufferPointer, now: UInt64, seconds: Int64
    ) throws(IKEStateFault) -> IKEAssociation {
        var reader = StateReader(octets)
        let version = try reader.next(UInt8.self)
        guard version == stateVersion else { throw .version(version) }
        let moment = Moment(now: try reader.next(), seconds: try reader.next())
        let association = try head(&reader)
        try association.readParties(&reader)
        try association.readTimes(&reader)
        try association.readKeys(&reader)
        let place = reader.offset
        association.children = try reader.list { reader throws(IKEStateFault) in
            try reader.child()
        }
        try association.checkChildren(reader, at: place)
        try association.readExchanges(&reader)
        try reader.end()
        association.convertTimes { moment.convert($0, now: now, seconds: seconds) }
        return association
    }

    private static func head(_ reader: inout StateReader) throws(IKEStateFault) -> IKEAssociation {
        let generation = try reader.next(UInt16.self)
        var place = reader.offset
        let counter = try reader.next(UInt64.self)
        try reader.require(counter < 1 << 48, .counter, at: place)
        place = reader.offset
        guard let role = IKERole(rawValue: try reader.next()) else {
            throw .malformed(.role, at: place)
        }
        let initiatorSPI = try reader.next(UInt64.self)
        let responderSPI = try reader.next(UInt64.self)
        place = reader.offset
        let stage = Stage(rawValue: try reader.next())
        guard let stage, stage != .closed, initiatorSPI != 0,
            responderSPI != 0 || stage == .initSent
        else { throw .malformed(.stage, at: place) }
        switch stage {
        case .initSent, .authSent: try reader.require(role == .initiator, .role, at: place)
        case .initAnswered: try reader.require(role == .responder, .role, at: place)
        case .established, .replaced, .closed: break
        }
        let connection = try reader.text()
        let association = IKEAssociation(
            role: role, initiatorSPI: initiatorSPI, responderSPI: responderSPI,
            path: try reader.path(), stage: stage, generation: generation, now: 0)
        association.connection = connection
        association.ivCounter = counter
        association.path = try reader.path()
        return association
    }

    private func readParties(_ reader: inout StateReader) throws(IKEStateFault) {
        let place = reader.offset
        traits = PeerTraits(rawValue: try reader.next())
        try reader.require(traits.isSubset(of: .all), .traits, at: place)
        hasOwnVirtualAddress = try reader.flag()
        localIdentity = try reader.optional { reader throws(IKEStateFault) in
            try reader.identity()
        }
        remoteIdentity = try reader.optional { reader throws(IKEStateFault) in
            try reader.identity()
        }
        virtualAddresses = try reader.list { reader throws(IKEStateFault) in try reader.address() }
        predecessor = try reader.optional { reader throws(IKEStateFault) in try reader.next() }
    }

    private func readTimes(_ reader: inout StateReader) throws(IKEStateFault) {
        times.created = try reader.next()
        times.heard = try reader.next()
        times.sent = try reader.next()
        times.rekey = try reader.next()
        times.end = try reader.next()
        times.retry = try reader.next()
    }

    private func readKeys(_ reader: inout StateReader) throws(IKEStateFault) {
        var place = reader.offset
        suite = try reader.optional { reader throws(IKEStateFault) in try reader.suite() }
        try reader.require(suite != nil || stage == .initSent, .suite, at: place)
        place = reader.offset
        if try reader.flag() {
            guard let suite else { throw .malformed(.keys, at: place) }
            keys = try reader.keys(suite)
        }
        let needsKeys = stage != .initSent && stage != .initAnswered
        try reader.require(keys != nil || !needsKeys, .keys, at: place)
    }

    /// Pairs have SPIs of their own, and replace only what stands before them.
    private func checkChildren(
        _ reader: StateReader, at place: Int
    ) throws(IKEStateFault) {
        var seen: Set<SPI> = []
        let spis = Set(children.map(\.inbound))
        for child in children {
            if let old = child.replaces, spis.contains(old), !seen.contains(old) {
                throw .malformed(.child, at: place)
            }
            guard !child.inbound.isReserved, !child.outbound.isReserved,
                seen.insert(child.inbound).inserted
            else { throw .malformed(.child, at: place) }
        }
        try reader.require(
            children.isEmpty || stage == .established || stage == .replaced, .child, at: place)
    }

    private func readExchanges(_ reader: inout StateReader) throws(IKEStateFault) {
        var place = reader.offset
        requests = try reader.requests()
        let isRight =
            switch (requests.outstanding?.exchange, stage) {
            case (nil, _), (.ikeSAInit, .initSent), (.ikeAuth, .authSent): true
            case (.ikeSAInit, _), (.ikeAuth, _): false
            default: stage == .established || stage == .replaced
            }
        try reader.require(isRight, .exchange, at: place)
        responses = try reader.responses()
        place = reader.offset
        sync = try reader.sync()
        let isKnown = !traits.isDisjoint(with: [.messageIDSync, .replayCounterSync])
        let isQuiet = if case .none = sync.stage { true } else { false }
        let mayBeGranted = isKnown && (stage == .established || stage == .replaced)
        try reader.require(
            (isQuiet || isKnown && stage == .established) && (sync.granted == nil || mayBeGranted),
            .synchronization, at: place)
        place = reader.offset
        handshake = try reader.optional { reader throws(IKEStateFault) in try reader.handshake() }
        let needsHandshake = stage != .established && stage != .replaced
        try reader.require((handshake != nil) == needsHandshake, .handshake, at: place)
    }

    private func convertTimes(_ convert: (UInt64) -> UInt64) {
        times.created = convert(times.created)
        times.heard = convert(times.heard)
        times.sent = convert(times.sent)
        times.rekey = convert(times.rekey)
        times.end = convert(times.end)
        times.retry = convert(times.retry)
        for index in children.indices {
            children[index].rekey = convert(children[index].rekey)
            children[index].end = convert(children[index].end)
        }
        if let time = requests.outstanding?.repeatAt {
            requests.outstanding?.repeatAt = convert(time)
        }
        if case .sent(var request) = sync.stage {
            request.repeatAt = convert(request.repeatAt)
            sync.stage = .sent(request)
        }
    }
}

extension StateReader {
    fileprivate mutating func child() throws(IKEStateFault) -> Child {
        let inbound = try spi()
        let outbound = try spi()
        let policy = try text()
        let suite = try childSuite()
        let mode: Mode = try flag() ? .transport : .tunnel
        let local = try selectors()
        let remote = try selectors()
        let hasReplayWindow = try flag()
        let place = offset
        guard let stage = Child.Stage(rawValue: try next()) else {
            throw .malformed(.child, at: place)
        }
        let sends = try flag()
        let replaces = try optional { reader throws(IKEStateFault) in try reader.spi() }
        return Child(
            inbound: inbound, outbound: outbound, policy: policy, suite: suite, mode: mode,
            local: local, remote: remote, hasReplayWindow: hasReplayWindow, stage: stage,
            sends: sends, replaces: replaces, doubts: try next(),
            isNearlyUsed: try flag(), rekey: try next(),
            end: try next())
    }
}
