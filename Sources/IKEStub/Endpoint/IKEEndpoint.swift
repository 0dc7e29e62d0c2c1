// All IKE SAs of a node: datagrams and time come in, events go out.

internal import Crypto
internal import ESP
internal import HeapModule
public import Wire

/// The IKEv2 side of a gateway, for initiators and responders.
///
/// It has neither socket nor clock. Every call brings the time along: `now` in nanoseconds of a
/// clock that only goes forward, `seconds` since 1970 for certificates.
public final class IKEEndpoint {
    let environment: IKEEnvironment
    var associations: [UInt64: IKEAssociation] = [:]
    var halfOpen = HalfOpenTable()
    var peers = PeerIndex()
    var cookies: CookieJar
    var reports = ReportGate()
    var farewells = FarewellBook()
    /// What was not acted upon.
    public internal(set) var counters = IKECounters()
    private var due = Heap<Due>()
    /// By inbound SPI of a pair: the IKE SA that has it, or had it.
    private var owners: [SPI: UInt64] = [:]

    /// An IKE SA and when it wants to be advanced. Entries that were overtaken stay in the heap
    /// until their time comes, and are ignored then.
    private struct Due: Comparable {
        let time: UInt64
        let localSPI: UInt64

        static func < (left: Due, right: Due) -> Bool {
            (left.time, left.localSPI) < (right.time, right.localSPI)
        }
    }

    /// An endpoint without IKE SAs.
    public init(_ environment: IKEEnvironment, now: UInt64) {
        self.environment = environment
        cookies = CookieJar(&environment.random, now: now)
    }

    /// IKE SAs, half-open ones too.
    public var count: Int { associations.count }

    // MARK: Time

    /// When ``advance(to:seconds:)`` has something to do; nil: never.
    public var deadline: UInt64? {
        guard let end = reports.deadline else { return due.min?.time }
        return min(end, due.min?.time ?? end)
    }

    /// Does what is due.
    public func advance(to now: UInt64, seconds: Int64) -> IKEOutcome {
        var outcome = IKEOutcome()
        let step = Step(now: now, seconds: seconds, endpoint: self)
        while advanceNext(step, &outcome) {}
        return outcome
    }

    /// Does what is due for one IKE SA, with those that it takes along, or tells what is due to be
    /// told of strangers; nil: nothing is due.
    public func advanceNext(to now: UInt64, seconds: Int64) -> IKEOutcome? {
        var outcome = IKEOutcome()
        let step = Step(now: now, seconds: seconds, endpoint: self)
        return advanceNext(step, &outcome) ? outcome : nil
    }

    private func advanceNext(_ step: borrowing Step, _ outcome: inout IKEOutcome) -> Bool {
        if let end = reports.deadline, end <= step.now {
            for report in reports.takeEnded(now: step.now) { outcome.report(report) }
            return true
        }
        while let next = due.min, next.time <= step.now {
            due.removeMin()
            guard let association = associations[next.localSPI],
                association.scheduled == next.time
            else { continue }
            association.scheduled = .max
            perform(association, step, &outcome) { step, outcome throws(CryptoError) in
                try association.advance(step, &outcome)
            }
            return true
        }
        return false
    }

    /// Lets nothing be due for an IKE SA, while its state is on the way to the store or to another
    /// node. Messages to it are not to be shown to the endpoint meanwhile.
    public func hold(_ localSPI: UInt64) {
        guard let association = associations[localSPI], !association.isHeld else { return }
        association.isHeld = true
        settle(association)
    }

    /// Ends a ``hold(_:)``. The peer has as long for its answer as if a request that has not been
    /// repeated yet left now.
    public func release(_ localSPI: UInt64, now: UInt64) {
        guard let association = associations[localSPI], association.isHeld else { return }
        association.isHeld = false
        if let outstanding = association.requests.outstanding, outstanding.repetitions == 0 {
            let step = Step(now: now, seconds: 0, endpoint: self)
            let patience = association.timers(environment).retransmission
            association.requests.outstanding?.repeatAt = max(
                outstanding.repeatAt, step.after(patience))
        }
        settle(association)
    }

    /// True while an IKE SA and another are the two results of one crossing of requests, of which
    /// one will inherit (RFC 7296 §2.8.2): they can't be parted.
    public func isEntangled(_ localSPI: UInt64) -> Bool {
        guard let predecessor = associations[localSPI]?.predecessor,
            case .rekeyIKE(let offer) = associations[predecessor]?.requests.outstanding?.exchange
        else { return false }
        return offer.collision?.localSPI == localSPI
    }

    /// Puts an IKE SA that was touched in its place: in the heap, or out of the tables.
    func settle(_ association: IKEAssociation) {
        if association.stage != .initAnswered { halfOpen.remove(association) }
        peers.place(association) {
            environment.configuration.connection(named: association.connection)?.remoteIdentity
        }
        for child in association.children { owners[child.inbound] = association.localSPI }
        guard association.stage != .closed else {
            if associations[association.localSPI] === association {
                associations[association.localSPI] = nil
            }
            return
        }
        let deadline = association.isHeld ? .max : association.deadline(environment)
        guard deadline != association.scheduled else { return }
        association.scheduled = deadline
        if deadline != .max { due.insert(Due(time: deadline, localSPI: association.localSPI)) }
    }

    /// Runs a step of one IKE SA, and the tasks of others that it touched. Where OpenSSL has no
    /// memory, the rest of the step is not done.
    func perform(
        _ association: IKEAssociation, _ step: borrowing Step, _ outcome: inout IKEOutcome,
        _ body: (borrowing Step, inout IKEOutcome) throws(CryptoError) -> Void
    ) {
        outcome.involve(association.localSPI)
        let known = outcome.events.count
        defer { forgetPairs(removedBy: outcome.events[known...]) }
        do throws(CryptoError) {
            try body(step, &outcome)
            while let other = outcome.touched.popLast() {
                outcome.involve(other.localSPI)
                try other.runTasks(step, &outcome)
                settle(other)
            }
        } catch {
            counters.count(.library)
        }
        settle(association)
    }

    private func forgetPairs(removedBy events: ArraySlice<IKEEvent>) {
        for case .remove(let spi) in events { owners[spi] = nil }
    }

    /// Takes an IKE SA out, with nothing told.
    func drop(_ association: IKEAssociation) {
        for child in association.children where owners[child.inbound] == association.localSPI {
            owners[child.inbound] = nil
        }
        associations[association.localSPI] = nil
    }

    /// The local SPI of the IKE SA that a pair of CHILD SAs belongs to; nil: none knows the pair.
    public func localSPI(ofChild spi: SPI) -> UInt64? {
        guard let localSPI = owners[spi], let association = associations[localSPI],
            association.children.contains(where: { $0.inbound == spi })
        else { return nil }
        return localSPI
    }

    func keep(_ association: IKEAssociation) {
        associations[association.localSPI] = association
        settle(association)
    }

    // MARK: Commands

    /// Begins an IKE SA. Nil: there is no such connection, or it does not say where the peer is.
    public func initiate(
        _ connection: String, child: String?, path: IKEPath, now: UInt64, seconds: Int64
    ) -> (localSPI: UInt64, IKEOutcome)? {
        guard let policy = environment.configuration.connection(named: connection) else {
            return nil
        }
        let step = Step(now: now, seconds: seconds, endpoint: self)
        var outcome = IKEOutcome()
        let isFirstContact = !knowsPeer(of: policy)
        let childPolicy = child.flatMap { name in policy.children.first { $0.name == name } }
        guard child == nil || childPolicy != nil,
            let association = try? IKEAssociation.begin(
                policy, child: childPolicy, path: path, isFirstContact: isFirstContact, step,
                &outcome)
        else { return nil }
        keep(association)
        return (association.localSPI, outcome)
    }

    /// What can be asked of an established IKE SA.
    public enum Command: Sendable {
        /// New keys for the pair with this inbound SPI.
        case rekeyChild(SPI)
        /// New keys for the IKE SA.
        case rekey
        /// A further pair of that policy.
        case createChild(String)
        /// The end of one pair.
        case deleteChild(SPI)
        /// The end of the IKE SA and all its pairs.
        case delete
        /// A sign of life.
        case probe
    }

    /// Asks the peer; nil: there is no such IKE SA or pair, or its time is over. Before it is
    /// established it can only be deleted, and without a word to the peer.
    public func command(
        _ command: Command, localSPI: UInt64, now: UInt64, seconds: Int64
    ) -> IKEOutcome? {
        guard let association = associations[localSPI] else { return nil }
        let step = Step(now: now, seconds: seconds, endpoint: self)
        var outcome = IKEOutcome()
        switch (association.stage, command) {
        case (.established, .rekeyChild(let spi)), (.established, .deleteChild(let spi)):
            let isThere = association.children.contains {
                $0.inbound == spi && $0.stage != .lingering
            }
            guard isThere else { return nil }
        case (.established, _): break
        case (.initSent, .delete), (.initAnswered, .delete), (.authSent, .delete):
            association.close(step, &outcome)
            settle(association)
            return outcome
        default: return nil
        }
        association.requests.add(command.task)
        perform(association, step, &outcome) { step, outcome throws(CryptoError) in
            try association.runTasks(step, &outcome)
        }
        return outcome
    }

    /// A good packet came in through a pair for the first time: the peer is ready for what the
    /// pair sends.
    public func noteReceived(_ spi: SPI, localSPI: UInt64) -> IKEOutcome {
        var outcome = IKEOutcome()
        associations[localSPI]?.beginSending(through: spi, &outcome)
        return outcome
    }

    /// So many packets went through a pair that it is to be rekeyed (ESP's soft lifetime). The
    /// first such call begins that, or waits for what is under way; further ones do nothing.
    public func noteSoftLifetime(
        _ spi: SPI, localSPI: UInt64, now: UInt64, seconds: Int64
    ) -> IKEOutcome {
        var outcome = IKEOutcome()
        guard let association = associations[localSPI] else { return outcome }
        let step = Step(now: now, seconds: seconds, endpoint: self)
        association.noteSoftLifetime(of: spi, now: now, &outcome)
        perform(association, step, &outcome) { step, outcome throws(CryptoError) in
            try association.advance(step, &outcome)
        }
        return outcome
    }

    /// An authentic packet came in UDP through a pair, from that address and port (RFC 7296
    /// §2.23): the IKE SA and its pairs follow the peer there where they would follow a message,
    /// at most once in a second. Nothing happens where the peer was known to be there.
    ///
    /// To be called when the source differs from where the pair sends to, and only for a packet
    /// whose number is the highest yet: packets overtake one another. It says what
    /// ``noteReceived(_:localSPI:)`` says too.
    public func noteReceived(
        _ spi: SPI, localSPI: UInt64, from remote: IPAddress, port: UInt16, now: UInt64
    ) -> IKEOutcome {
        var outcome = noteReceived(spi, localSPI: localSPI)
        guard let association = associations[localSPI] else { return outcome }
        association.followPacket(of: spi, remote, port, now: now, &outcome)
        return outcome
    }
}

extension IKEEndpoint.Command {
    fileprivate var task: PendingTask {
        switch self {
        case .rekeyChild(let spi): .rekeyChild(spi)
        case .rekey: .rekeyIKE
        case .createChild(let name): .createChild(policy: name)
        case .deleteChild(let spi): .deleteChildren([spi])
        case .delete: .deleteIKE
        case .probe: .liveness
        }
    }
}
