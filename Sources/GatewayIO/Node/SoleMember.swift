// A cluster of one: a gateway whose store is in the same process and answers at once.

internal import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import Wire

/// A gateway with its store.
final class SoleMember {
    /// In a place of its own: as a property it would be checked for overlapping accesses, and
    /// partly copied, with every packet.
    private let place: UnsafeMutablePointer<Gateway>
    private var store = CoordinationStore()
    private var watch: (request: UInt64, revision: UInt64)?
    /// What the gateway wants done, or told, and nobody has taken yet.
    private var outputs: [GatewayOutput] = []
    private static let foundingNanoseconds: UInt64 = 60_000_000_000

    /// Founds the cluster. Its clock begins at `now` and jumps to what must be awaited, so that
    /// nobody waits: the clock of the node goes on from `founded`.
    init(
        capacity: Int, library: CryptoLibrary, random: inout some RandomSource
    ) throws(NodeError) {
        let configuration = try Self.configuration(capacity: capacity, &random)
        do {
            let secret = try ClusterSecret(key: random.secret(ClusterSecret.keyBytesMinimum))
            place = .allocate(capacity: 1)
            place.initialize(
                to: try Gateway(
                    configuration, library: library, secret: secret,
                    random: SystemRandomNumberGenerator(), nowNanoseconds: 0))
        } catch {
            throw .library("\(error)")
        }
        var clock: UInt64 = 0
        carry(clock)
        while !isServing(clock) {
            guard clock < Self.foundingNanoseconds else {
                preconditionFailure("a node that is alone has nobody to wait for")
            }
            clock = max(gateway.nextDeadline(nowNanoseconds: clock), clock + 1)
            gateway.tick(nowNanoseconds: clock)
            carry(clock)
        }
        founded = clock
        outputs = []
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

    private static func configuration(
        capacity: Int, _ random: inout some RandomSource
    ) throws(NodeError) -> GatewayConfiguration {
        guard let node = NodeID(exactly: 1),
            let key = try? CookieKey(bytes: random.octets(CookieKey.byteCount)),
            let distribution = try? Distribution(cookieKey: key)
        else { preconditionFailure("these are in their ranges") }
        var configuration = GatewayConfiguration(node: node, distribution: distribution)
        configuration.cardCapacity = 2 * capacity
        configuration.tableCapacity = capacity
        configuration.balancing = .byCount
        // The store is as near as the card: what it does not know, nobody takes over.
        configuration.timing.heartbeatNanoseconds = 1_000_000_000
        configuration.timing.keepAliveNanoseconds = 3600 * 1_000_000_000
        configuration.timing.sessionSeconds = 1_000_000
        var sizing = LeaseSizing(policy: configuration.takeoverPolicy)
        sizing.sendMinimum = 1 << 62
        sizing.receiveMinimum = 1 << 62
        configuration.leaseSizing = sizing
        return configuration
    }

    private func isServing(_ now: UInt64) -> Bool {
        guard let owners = gateway.allocation?.owners, now < gateway.servingUntilNanoseconds
        else { return false }
        return owners.indices.allSatisfy {
            gateway.owns(DistributionIdentifier(UInt16(truncatingIfNeeded: $0)))
        }
    }

    /// Carries requests, answers and changes until nothing is under way.
    func carry(_ now: UInt64) {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for output in gateway.takeOutputs() {
                isQuiet = false
                take(output, now)
            }
            if deliverChanges(now) { isQuiet = false }
        }
    }

    private func take(_ output: GatewayOutput, _ now: UInt64) {
        switch output {
        case .request(let id, let request):
            let reply = store.handle(request, nowNanoseconds: now)
            if case .watch(_, let from) = request, case .watching = reply { watch = (id, from) }
            gateway.receive(reply, to: id, nowNanoseconds: now)
        default: outputs.append(output)
        }
    }

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
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation,
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
        return "the store gave no answer"
    }

    /// What the gateway wants done, or told, since the last call.
    func takeOutputs() -> [GatewayOutput] { exchange(&outputs, with: []) }
}
