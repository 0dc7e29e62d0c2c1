// One member of a cluster: its gateway, the store that all members have in common, and the HA link
// to the others.

internal import Cluster
internal import Crypto
internal import Gateway
internal import IKEStub
internal import Wire

/// A gateway with its store and its link.
final class ClusterMember: Member {
    private let store: any CoordinationBackend
    private let link: LinkSocket
    /// The request that began the watch that goes on.
    private var watch: UInt64?
    private var trouble: String?
    private var faults: [String] = []

    /// A member that asks the store at once; `now` is in nanoseconds since 1970.
    init(
        _ configuration: ClusterConfiguration, capacity: Int, station: MACAddress,
        store: any CoordinationBackend, ike: IKEConfiguration, library: CryptoLibrary,
        now: UInt64
    ) throws(NodeError) {
        self.store = store
        link = try LinkSocket(configuration.linkAddress, port: configuration.linkPort)
        let gateway: Gateway
        do {
            gateway = try Gateway(
                try configuration.gateway(capacity: capacity, station: station), library: library,
                secret: configuration.key.secret, random: SystemRandomNumberGenerator(),
                nowNanoseconds: now)
        } catch {
            throw .library("\(error)")
        }
        super.init(gateway)
        // Before it reads the store: IKE SAs may be in it.
        self.gateway.secondsSince1970 = Int64(now / 1_000_000_000)
        self.gateway.speakIKE(ike, random: SystemRandomSource(), nowNanoseconds: now)
    }

    override var news: [Int32] { [store.file, link.descriptor.number] }

    override func carry(_ now: UInt64) {
        receiveLink(now)
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for output in gateway.takeOutputs() {
                isQuiet = false
                switch output {
                case .request(let id, let request): submit(request, id)
                case .datagram(let peer, let datagram):
                    guard let endpoint = gateway.endpoint(of: peer) else { continue }
                    link.send(datagram, to: endpoint)
                default: outputs.append(output)
                }
            }
            for event in store.takeEvents() {
                isQuiet = false
                take(event, now)
            }
        }
        noteTrouble()
    }

    /// What the other nodes say. Read before anything is decided: after a pause of this process,
    /// the time that passed says nothing of them.
    private func receiveLink(_ now: UInt64) {
        link.receive { gateway.receive(datagram: $0, nowNanoseconds: now) }
    }

    private func submit(_ request: CoordinationRequest, _ id: UInt64) {
        if case .watch = request {
            if let watch { store.endWatch(watch) }
            watch = id
        }
        store.submit(request, id: id)
    }

    private func take(_ event: CoordinationEvent, _ now: UInt64) {
        switch event {
        case .reply(let reply, let id):
            gateway.receive(reply, to: id, nowNanoseconds: now)
        case .changes(let changes, let watch):
            gateway.receive(changes, ofWatch: watch, nowNanoseconds: now)
        case .watchLost(let watch):
            if watch == self.watch { self.watch = nil }
            gateway.loseWatch(watch, nowNanoseconds: now)
        }
    }

    private func noteTrouble() {
        let text = store.troubleText
        guard text != trouble else { return }
        trouble = text
        faults.append(
            text.map { "\($0); tunnels go on, and new ones wait" } ?? "the store answers again")
    }

    override var storeTrouble: String? { trouble }

    override func takeFaults() -> [String] { exchange(&faults, with: []) }
}

extension ClusterConfiguration {
    /// What the gateway is made of. `station` is the node's MAC address on the outer segment.
    fileprivate func gateway(
        capacity: Int, station: MACAddress
    ) throws(ClusterError) -> GatewayConfiguration {
        var configuration = GatewayConfiguration(
            node: node,
            distribution: try Distribution(
                identifierCount: identifierCount, cookieKey: key.secret.cookieKey()))
        configuration.endpoint = MemberEndpoint(
            address: linkAddress, port: linkPort, station: station)
        configuration.cardCapacity = 2 * capacity
        configuration.timing = timing
        configuration.takeoverPolicy = takeoverPolicy
        configuration.backups = backups
        configuration.whenFull = whenFull
        return configuration
    }
}
