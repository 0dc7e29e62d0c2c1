// A cluster of one: a gateway whose store is in the same process and answers at once. On disk, too,
// where the node is to be its own successor (docs/decisions/0018).

internal import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import IKEStub
internal import Wire

/// A gateway with its store.
final class SoleMember: Member {
    private var store: KeptStore
    private let journal: StateJournal?
    private static let foundingNanoseconds: UInt64 = 60_000_000_000

    /// Founds the cluster, or goes on with the one of the journal: under a new generation of every
    /// identifier. Its clock begins at `now`, in nanoseconds since 1970 where IKE is spoken, and
    /// jumps to what must be awaited, so that nobody waits: the clock of the node goes on from
    /// `founded`.
    init(
        capacity: Int, journal: StateJournal?, store: consuming CoordinationStore,
        ike: IKEConfiguration?, library: CryptoLibrary, random: inout some RandomSource,
        now: UInt64 = 0
    ) throws(NodeError) {
        self.journal = journal
        self.store = KeptStore(store, journal: journal)
        let gateway: Gateway
        do {
            let secret = try ClusterSecret(
                key: journal?.secret() ?? random.secret(ClusterSecret.keyBytesMinimum))
            let configuration = Self.configuration(
                capacity: capacity, secret.cookieKey(), isKept: journal != nil)
            gateway = try Gateway(
                configuration, library: library, secret: secret,
                random: SystemRandomNumberGenerator(), nowNanoseconds: now)
        } catch {
            throw .library("\(error)")
        }
        super.init(gateway)
        if let ike {
            // Before it reads the store: IKE SAs may be in it.
            self.gateway.secondsSince1970 = Int64(now / 1_000_000_000)
            self.gateway.speakIKE(ike, random: SystemRandomSource(), nowNanoseconds: now)
        }
        founded = try found(now)
        // Nothing is served under a generation that is not on the disk.
        do throws(StateError) {
            try self.store.begin()
        } catch {
            throw .state(error)
        }
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

    /// Carries requests, answers and changes, as far as the disk lets them. When it has more,
    /// ``news`` tells.
    override func carry(_ now: UInt64) { carry(now, waits: false) }

    /// The same, until nothing is under way any more.
    func settle(_ now: UInt64) { carry(now, waits: true) }

    override var news: [Int32] { journal.map { [$0.news.number] } ?? [] }

    private func carry(_ now: UInt64, waits: Bool) {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for output in gateway.takeOutputs() {
                isQuiet = false
                switch output {
                case .request(let id, let request):
                    if let reply = store.handle(request, id: id, now) {
                        gateway.receive(reply, to: id, nowNanoseconds: now)
                    }
                default: outputs.append(output)
                }
            }
            for (id, reply) in store.collect(now, waits: waits) {
                isQuiet = false
                gateway.receive(reply, to: id, nowNanoseconds: now)
            }
            if let (watch, changes) = store.nextChanges() {
                isQuiet = false
                if let changes {
                    gateway.receive(changes, ofWatch: watch, nowNanoseconds: now)
                } else {
                    gateway.loseWatch(watch, nowNanoseconds: now)
                }
            }
        }
    }

    /// Keeps a value that is no business of the gateway. False when the disk does not take it.
    func keep(_ operation: CoordinationTransaction.Operation, _ now: UInt64) -> Bool {
        settle(now)
        let request = CoordinationRequest.transaction(
            CoordinationTransaction(operations: [operation]))
        // Requests of the gateway have other numbers.
        var reply = store.handle(request, id: 0, now)
        for (id, late) in store.collect(now, waits: true) where id == 0 { reply = late }
        if case .committed = reply { return true }
        return false
    }

    /// Publishes what every tunnel has used and may use, as its successor will find it.
    func publishAll(_ now: UInt64) {
        gateway.publishAll(nowNanoseconds: now)
        settle(now)
        // One transaction has room for some only; a disk that fails is not waited for.
        var left = gateway.unpublishedCount
        while left > 0 {
            gateway.tick(nowNanoseconds: now)
            settle(now)
            let rest = gateway.unpublishedCount
            guard rest < left else { return }
            left = rest
        }
    }

    override func takeFaults() -> [String] { store.takeFaults().map(\.description) }

    /// Installs a pair. nil: it is in the store, and the peer may be answered; else why not.
    func establish(
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation?,
        replacing old: SPI?, _ now: UInt64
    ) -> String? {
        let spi = inbound.parameters.spi
        let known = outputs.count
        gateway.establish(
            inbound: inbound, outbound: outbound, replacing: old, nowNanoseconds: now)
        settle(now)
        for output in outputs[known...] {
            switch output {
            case .event(.established(spi)): return nil
            case .event(.refused(spi, let reason)): return reason
            default: break
            }
        }
        // It must not come true later, when nobody waits for it any more.
        gateway.clear(spi, nowNanoseconds: now)
        settle(now)
        return "the state directory takes nothing"
    }
}
