// A cluster of one: a gateway whose store is in the same process and answers at once. On disk, too,
// where the node is to be its own successor (docs/decisions/0018).

internal import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

/// A gateway with its store.
final class SoleMember {
    /// In a place of its own: as a property it would be checked for overlapping accesses, and
    /// partly copied, with every packet.
    private let place: UnsafeMutablePointer<Gateway>
    private var store: CoordinationStore
    private let journal: StateJournal?
    /// Changes of the store up to this revision are on the disk.
    private var kept: UInt64 = 0
    /// After a failure of the disk: when it is tried again.
    private var keepsAgainAt: UInt64 = 0
    private var watch: (request: UInt64, revision: UInt64)?
    /// What the gateway wants done, or told, and nobody has taken yet.
    private var outputs: [GatewayOutput] = []
    private var faults: [StateError] = []
    private static let foundingNanoseconds: UInt64 = 60_000_000_000
    private static let retryNanoseconds: UInt64 = 1_000_000_000

    /// Founds the cluster, or goes on with the one of the journal: under a new generation of every
    /// identifier. Its clock begins at `now`, in nanoseconds since 1970 where IKE is spoken, and jumps to what must be awaited, so that nobody
    /// waits: the clock of the node goes on from `founded`.
    init(
        capacity: Int, journal: StateJournal?, store: consuming CoordinationStore,
        ike: IKEConfiguration?, library: CryptoLibrary, random: inout some RandomSource,
        now: UInt64 = 0
    ) throws(NodeError) {
        self.journal = journal
        self.store = store
        do {
            let secret = try ClusterSecret(
                key: journal?.secret() ?? random.secret(ClusterSecret.keyBytesMinimum))
            let configuration = Self.configuration(
                capacity: capacity, secret.cookieKey(), isKept: journal != nil)
            place = .allocate(capacity: 1)
            place.initialize(
                to: try Gateway(
                    configuration, library: library, secret: secret,
                    random: SystemRandomNumberGenerator(), nowNanoseconds: now))
        } catch {
            throw .library("\(error)")
        }
        if let ike {
            // Before it reads the store: IKE SAs may be in it.
            gateway.secondsSince1970 = Int64(now / 1_000_000_000)
            gateway.speakIKE(ike, random: SystemRandomSource(), nowNanoseconds: now)
        }
        founded = try found(now)
        // Nothing is served under a generation that is not on the disk.
        do throws(StateError) {
            try journal?.write(&self.store)
        } catch {
            throw .state(error)
        }
        kept = self.store.revision
    }

    deinit {
        place.deinitialize(count: 1)
        place.deallocate()
    }

    /// All calls but those that carry outputs go to it directly; ``carry(_:)`` follows them.
    var gateway: Gateway {
        unsafeAddress { UnsafePointer(place) }
        unsafeMutableAddress { place }
    }

    /// The time of the gateway's clock when it began to serve.
    private(set) var founded: UInt64 = 0

    /// The generation of all identifiers.
    var generation: UInt16 { gateway.allocation?.generation(of: DistributionIdentifier(0)) ?? 0 }

    private static func configuration(
        capacity: Int, _ cookieKey: CookieKey, isKept: Bool
    ) -> GatewayConfiguration {
        guard let node = NodeID(exactly: 1),
            let distribution = try? Distribution(cookieKey: cookieKey)
        else { preconditionFailure("these are in their ranges") }
        var configuration = GatewayConfiguration(node: node, distribution: distribution)
        configuration.cardCapacity = 2 * capacity
        configuration.tableCapacity = capacity
        configuration.balancing = .byCount
        configuration.timing.keepAliveNanoseconds = 3600 * 1_000_000_000
        configuration.timing.sessionSeconds = 1_000_000
        var sizing = LeaseSizing(policy: configuration.takeoverPolicy)
        // There is nobody whose promises would let it go beyond its leases.
        sizing.sendAllowance = 0
        sizing.receiveAllowance = 0
        if isKept {
            // Leases are looked at ten times a second: before the rate of a tunnel is known, the
            // first one has to last until then.
            configuration.timing.heartbeatNanoseconds = 100_000_000
            sizing.sendMinimum = 1 << 16
            // A peer that is a cluster jumps over what its former owner might have sent.
            sizing.receiveMinimum = 1 << 22
            sizing.receiveStart = 1 << 22
        } else {
            // The store is as near as the card: what it does not know, nobody takes over.
            configuration.timing.heartbeatNanoseconds = 1_000_000_000
            sizing.sendMinimum = 1 << 62
            sizing.receiveMinimum = 1 << 62
        }
        configuration.leaseSizing = sizing
        return configuration
    }

    /// Lets the gateway come so far that it owns everything. Returns the time then.
    private func found(_ start: UInt64) throws(NodeError) -> UInt64 {
        var clock = start
        carry(clock)
        while !isServing(clock) {
            guard clock < start + Self.foundingNanoseconds else {
                let reason = outputs.last.map { "\($0)" } ?? "it has no owner"
                guard let journal else { throw .library(reason) }
                throw .state(.unusable(directory: journal.path, reason: reason))
            }
            clock = max(gateway.nextDeadline(nowNanoseconds: clock), clock + 1)
            gateway.tick(nowNanoseconds: clock)
            carry(clock)
        }
        return clock
    }

    private func isServing(_ now: UInt64) -> Bool {
        guard let owners = gateway.allocation?.owners, now < gateway.servingUntilNanoseconds
        else { return false }
        return owners.indices.allSatisfy {
            gateway.owns(DistributionIdentifier(UInt16(truncatingIfNeeded: $0)))
        }
    }

    // MARK: The store

    /// Carries requests, answers and changes until nothing is under way.
    func carry(_ now: UInt64) {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            var replies: [(id: UInt64, reply: CoordinationReply)] = []
            for output in gateway.takeOutputs() {
                isQuiet = false
                switch output {
                case .request(let id, let request):
                    replies.append((id, answer(request, id, now)))
                default: outputs.append(output)
                }
            }
            let isKept = keep(now)
            for (id, reply) in replies {
                gateway.receive(
                    isKept ? reply : reply.unkept, to: id, nowNanoseconds: now)
            }
            if isKept, deliverChanges(now) { isQuiet = false }
        }
    }

    private func answer(
        _ request: CoordinationRequest, _ id: UInt64, _ now: UInt64
    ) -> CoordinationReply {
        if case .transaction = request, now < keepsAgainAt { return .failed(.unavailable) }
        let reply = store.handle(request, nowNanoseconds: now)
        if case .watch(_, let from) = request, case .watching = reply { watch = (id, from) }
        return reply
    }

    /// Brings what changed to the disk; false when that fails: then nobody may count on it yet.
    private func keep(_ now: UInt64) -> Bool {
        // Before the first snapshot nothing is served.
        guard let journal, founded != 0, kept != store.revision else { return true }
        guard now >= keepsAgainAt else { return false }
        let changes = store.changes(prefix: "", from: kept + 1)
        do throws(StateError) {
            if let changes {
                try journal.keep(changes.compactMap(\.state), of: &store)
            } else {
                try journal.write(&store)
            }
            kept = store.revision
            keepsAgainAt = 0
            return true
        } catch {
            keepsAgainAt = now + Self.retryNanoseconds
            faults.append(error)
            return false
        }
    }

    /// Values that are no business of the gateway, at one time with all that it did before.
    func keep(_ operations: [CoordinationTransaction.Operation], _ now: UInt64) -> Bool {
        guard !operations.isEmpty else { return true }
        let request = CoordinationRequest.transaction(
            CoordinationTransaction(operations: operations))
        guard case .committed = answer(request, 0, now) else { return false }
        return keep(now)
    }

    /// Publishes what every tunnel has used and may use, as its successor will find it.
    func publishAll(_ now: UInt64) {
        gateway.publishAll(nowNanoseconds: now)
        carry(now)
        // One transaction has room for some only; a disk that fails is not waited for.
        var left = gateway.unpublishedCount
        while left > 0 {
            gateway.tick(nowNanoseconds: now)
            carry(now)
            let rest = gateway.unpublishedCount
            guard rest < left else { return }
            left = rest
        }
    }

    /// What went wrong with the disk since the last call.
    func takeFaults() -> [StateError] { exchange(&faults, with: []) }

    private func deliverChanges(_ now: UInt64) -> Bool {
        guard let (id, from) = watch, from <= store.revision else { return false }
        guard let changes = store.changes(prefix: StoreKey.prefix, from: from) else {
            watch = nil
            gateway.loseWatch(id, nowNanoseconds: now)
            return true
        }
        watch = (id, store.revision + 1)
        guard !changes.isEmpty else { return false }
        gateway.receive(changes, ofWatch: id, nowNanoseconds: now)
        return true
    }

    /// Installs a pair. nil: it is in the store, and the peer may be answered; else why not.
    func establish(
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation?,
        replacing old: SPI?, _ now: UInt64
    ) -> String? {
        let spi = inbound.parameters.spi
        gateway.establish(
            inbound: inbound, outbound: outbound, replacing: old, nowNanoseconds: now)
        carry(now)
        for output in outputs {
            switch output {
            case .event(.established(spi)): return nil
            case .event(.refused(spi, let reason)): return reason
            default: break
            }
        }
        // It must not come true later, when nobody waits for it any more.
        gateway.clear(spi, nowNanoseconds: now)
        carry(now)
        return "the state directory takes nothing"
    }

    /// What the gateway wants done, or told, since the last call.
    func takeOutputs() -> [GatewayOutput] { exchange(&outputs, with: []) }
}

extension CoordinationReply {
    /// What an answer is worth as long as the disk does not have it.
    fileprivate var unkept: CoordinationReply {
        if case .committed = self { .failed(.outcomeUnknown) } else { self }
    }
}

extension CoordinationChange {
    /// What the disk is to have of it; nil: it goes with a lease, and so with the process.
    fileprivate var state: StateChange? {
        switch kind {
        case .put(let pair):
            pair.lease == nil ? .put(key: pair.key, value: pair.value) : nil
        case .delete(let key): .delete(key: key)
        }
    }
}
