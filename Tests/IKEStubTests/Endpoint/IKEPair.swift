// Two endpoints and the wire between them: every datagram passes through the hands of the test.

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

/// A reproducible source: SplitMix64.
struct SeededSource: RandomSource {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        for index in bytes.indices {
            if index % 8 == 0 {
                state &+= 0x9E37_79B9_7F4A_7C15
            }
            var word = state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            word ^= word >> 31
            bytes[index] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (index % 8)))
        }
    }
}

func ipv4(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure(text) }
    return address
}

func network(_ text: String, _ length: Int) -> TrafficSelector {
    let (first, last) = ipv4(text).prefixRange(length: length)
    guard let selector = TrafficSelector(first: first, last: last) else {
        preconditionFailure(text)
    }
    return selector
}

/// A datagram on the wire.
struct Flight {
    let toResponder: Bool
    var octets: [UInt8]
    /// As its sender sees it.
    var path: IKEPath
}

extension IKEPath {
    /// As the other end sees it.
    var reversed: IKEPath {
        IKEPath(
            local: remote, localPort: remotePort, remote: local, remotePort: localPort,
            hasMarker: hasMarker)
    }
}

/// One of the two ends, with what a data plane would know.
final class IKEEnd {
    let world: IKEEnvironment
    var endpoint: IKEEndpoint
    var children: [SPI: NewChild] = [:]
    /// Pairs that replaced one another have one line; each line sends through one pair.
    private var lines: [SPI: Int] = [:]
    private(set) var senders: [Int: SPI] = [:]
    private var lineCount = 0
    var reports: [IKEReport] = []
    var redirects: [(SPI, IKEPath)] = []
    var keepalives = 0
    /// By how much pairs were asked to go on with higher numbers.
    var advances: [SPI: UInt64] = [:]
    /// What the store has of each IKE SA, as the endpoint asked for it.
    var stored: [UInt64: [UInt8]] = [:]

    let capacity: Int

    init(_ world: IKEEnvironment, capacity: Int, now: UInt64) {
        self.world = world
        self.capacity = capacity
        endpoint = IKEEndpoint(world, now: now)
    }

    func install(_ child: NewChild) {
        let spi = child.inbound.parameters.spi
        children[spi] = child
        let line: Int
        if let old = child.replaces, let found = lines[old] {
            line = found
        } else {
            lineCount += 1
            line = lineCount
        }
        lines[spi] = line
        if child.isReadyToSend { senders[line] = spi }
    }

    func send(through spi: SPI) {
        guard children[spi] != nil, let line = lines[spi] else { return }
        senders[line] = spi
    }

    func remove(_ spi: SPI) {
        children[spi] = nil
        if let line = lines[spi], senders[line] == spi { senders[line] = nil }
    }

    /// IKE SAs with CHILD SAs, or that could have.
    var established: [IKEAssociation] {
        endpoint.sorted(endpoint.associations.values.filter { $0.stage == .established })
    }

    /// Nothing is under way.
    var isIdle: Bool {
        endpoint.associations.values.allSatisfy {
            $0.stage == .established && $0.requests.outstanding == nil && !$0.sync.isWaiting
                && $0.requests.tasks.isEmpty && $0.requests.postponed.isEmpty
                && $0.children.allSatisfy { $0.stage == .active }
        }
    }

    var resources: LocalResources {
        guard let local = world.resources as? LocalResources else {
            preconditionFailure("tests use local resources")
        }
        return local
    }

    /// The state of all IKE SAs.
    func exported(now: UInt64, seconds: Int64) -> [[UInt8]] {
        endpoint.sorted(endpoint.associations.values).compactMap {
            state(of: $0.localSPI, now: now, seconds: seconds)
        }
    }

    func state(of spi: UInt64, now: UInt64, seconds: Int64) -> [UInt8]? {
        switch endpoint.export(localSPI: spi, now: now, seconds: seconds) {
        case .some(let state): state.array()
        case .none: nil
        }
    }

    func has(_ kind: IKEReport.Kind) -> Bool { reports.contains { $0.kind == kind } }
    func count(_ kind: IKEReport.Kind) -> Int { reports.count { $0.kind == kind } }
}

/// How IKE SAs get a new owner.
enum Revival: CustomTestStringConvertible {
    case never
    /// After every call, with all that is known then.
    case move
    /// After every so many calls, with what the endpoint asked to be stored.
    case crash(Int)
    /// The same, and the peer is asked where it is (RFC 6311).
    case takeover(Int)

    static let all: [Revival] = [.never, .move, .crash(1), .crash(7), .takeover(1), .takeover(7)]

    /// Of random schedules, so that they take about as long.
    var seeds: UInt64 {
        switch self {
        case .never: 150
        case .move, .crash: 30
        case .takeover: 15
        }
    }

    var testDescription: String {
        switch self {
        case .never: "never"
        case .move: "move"
        case .crash(let interval): "crash after \(interval)"
        case .takeover(let interval): "takeover after \(interval)"
        }
    }
}

/// The two ends; `left` is the one that the tests let begin.
final class IKEPair {
    let left: IKEEnd
    let right: IKEEnd
    var now: UInt64 = 1_000_000_000
    /// The world's clock when ours was at 0.
    var epoch: Int64 = 1_790_000_000
    var seconds: Int64 { epoch + Int64(now / 1_000_000_000) }
    var wire: [Flight] = []
    /// Decides what happens to a datagram; false: it is lost.
    var passes: (inout Flight) -> Bool = { _ in true }
    var revival = Revival.never
    private var generation: UInt16 = 1
    private var calls = 0
    private var revivedAt: UInt64 = 0

    init(
        left: IKEConfiguration, right: IKEConfiguration, seed: UInt64 = 1, capacity: Int = 1000
    ) throws {
        let library = try CryptoLibrary()
        func world(_ configuration: IKEConfiguration, _ seed: UInt64) -> IKEEnvironment {
            IKEEnvironment(
                library: library, configuration: configuration, random: SeededSource(seed),
                resources: LocalResources(capacity: capacity))
        }
        self.left = IKEEnd(world(left, seed), capacity: capacity, now: now)
        self.right = IKEEnd(
            world(right, seed &+ 1_000_003), capacity: capacity, now: now)
    }

    static let path = IKEPath(
        local: ipv4("192.0.2.1"), localPort: 500, remote: ipv4("192.0.2.2"), remotePort: 500,
        hasMarker: false)

    func end(isLeft: Bool) -> IKEEnd { isLeft ? left : right }

    func take(_ outcome: IKEOutcome, fromLeft: Bool) throws {
        let end = end(isLeft: fromLeft)
        for spi in outcome.changed {
            end.stored[spi] = end.state(of: spi, now: now, seconds: seconds)
        }
        defer { calls += 1 }
        for event in outcome.events {
            switch event {
            case .send(let datagrams, let path):
                wire += datagrams.map {
                    Flight(toResponder: fromLeft, octets: $0, path: path)
                }
            case .install(let child): end.install(child)
            case .remove(let spi): end.remove(spi)
            case .report(let report): end.reports.append(report)
            case .redirect(let spi, let path): end.redirects.append((spi, path))
            case .sendThrough(let spi): end.send(through: spi)
            case .advanceSequence(let spi, let delta): end.advances[spi, default: 0] += delta
            case .keepalive: end.keepalives += 1
            case .linger, .firstContact: break
            case .established, .closed: break
            }
        }
        switch revival {
        case .never: break
        case .move: try revive(end, end.exported(now: now, seconds: seconds))
        case .crash(let interval), .takeover(let interval):
            // Not again and again at one time: what is due would be due for ever.
            if calls % interval == 0, now > revivedAt {
                revivedAt = now
                let states = end.stored.sorted { $0.key < $1.key }.map(\.value)
                if case .takeover = revival {
                    try revive(end, states, mayBeBehind: true, delta: 1000)
                } else {
                    try revive(end, states)
                }
            }
        }
    }

    /// A fresh endpoint, with another clock, goes on with what is known of the old one.
    func revive(
        _ end: IKEEnd, _ states: [[UInt8]], mayBeBehind: Bool = false, delta: UInt64 = 0
    ) throws {
        generation += 1
        end.world.resources = LocalResources(capacity: end.capacity, generation: generation)
        end.endpoint = IKEEndpoint(end.world, now: now)
        for state in states {
            _ = try end.endpoint.adopt(
                SecretBytes(state), generation: generation, mayBeBehind: mayBeBehind,
                delta: delta, now: now, seconds: seconds)
        }
    }

    /// Gives one datagram to its receiver.
    func deliver(_ flight: Flight) throws {
        let end = end(isLeft: !flight.toResponder)
        let outcome = flight.octets.withUnsafeBytes {
            end.endpoint.receive($0, path: flight.path.reversed, now: now, seconds: seconds)
        }
        try take(outcome, fromLeft: !flight.toResponder)
    }

    /// Carries datagrams until none is left.
    func deliver() throws {
        while !wire.isEmpty {
            var flight = wire.removeFirst()
            if passes(&flight) { try deliver(flight) }
        }
    }

    /// Lets time pass, deadline by deadline.
    func advance(to time: UInt64) throws {
        while true {
            let next = [left, right].compactMap(\.endpoint.deadline).min() ?? .max
            guard next <= time else { break }
            try tick(at: max(now, next))
            try deliver()
        }
        now = max(now, time)
    }

    func advance(seconds: Double) throws {
        try advance(to: now + UInt64(seconds * 1_000_000_000))
    }

    /// What is due, at both ends.
    func tick(at time: UInt64) throws {
        now = time
        for isLeft in [true, false] {
            let endpoint = end(isLeft: isLeft).endpoint
            try take(endpoint.advance(to: now, seconds: seconds), fromLeft: isLeft)
        }
    }

    @discardableResult
    func initiate(child: String? = "net", byLeft: Bool = true, path: IKEPath? = nil) throws
        -> UInt64
    {
        let path = path ?? (byLeft ? Self.path : Self.path.reversed)
        let end = end(isLeft: byLeft)
        guard
            let (spi, outcome) = end.endpoint.initiate(
                byLeft ? "right" : "left", child: child, path: path, now: now, seconds: seconds)
        else { preconditionFailure("the connection is configured") }
        try take(outcome, fromLeft: byLeft)
        return spi
    }

    /// Sets up, and waits for it.
    func connect(child: String? = "net") throws {
        try initiate(child: child)
        try deliver()
    }

    /// A command for the first established IKE SA of an end; false where there is none.
    @discardableResult
    func command(_ command: IKEEndpoint.Command, byLeft: Bool) throws -> Bool {
        let end = end(isLeft: byLeft)
        guard let association = end.established.first,
            let outcome = end.endpoint.command(
                command, localSPI: association.localSPI, now: now, seconds: seconds)
        else { return false }
        try take(outcome, fromLeft: byLeft)
        return true
    }

    /// Each end sends a packet on each of its lines, which the other notices if it has the keys.
    func exchangePackets() throws {
        for isLeft in [true, false] {
            let (from, to) = (end(isLeft: isLeft), end(isLeft: !isLeft))
            for spi in from.senders.values.sorted() {
                guard let outbound = from.children[spi]?.outbound.parameters.spi else { continue }
                for association in to.established
                where association.children.contains(where: { $0.inbound == outbound }) {
                    try take(
                        to.endpoint.noteReceived(outbound, localSPI: association.localSPI),
                        fromLeft: !isLeft)
                }
            }
        }
    }

    var reports: String {
        (left.reports.map { "L \($0)" } + right.reports.map { "R \($0)" }).joined(separator: "\n")
    }
}

/// Configurations of two ends that share a key.
struct PairConfiguration {
    var ike = ["aes256gcm16-prfsha384-x25519"]
    var esp = ["aes256gcm16"]
    var rightIKE: [String]?
    var rightESP: [String]?
    var leftIdentity = Identity.fqdn("left.test")
    var rightIdentity = Identity.fqdn("right.test")
    var leftSecret = "swordfish"
    var rightSecret = "swordfish"
    var timers = IKETimers()
    var mode = Mode.tunnel
    var rightMode: Mode?
    var replayWindow = 64
    var leftLimits = IKELimits()
    var rightLimits = IKELimits()
    var capacity = 1000
    /// Policies' selectors: what is behind left, and what is behind right, at each end.
    var leftSelectors: [ChildPolicy.Selectors] = PairConfiguration.networks
    var rightSelectors: [ChildPolicy.Selectors] = PairConfiguration.networks
    var pools: [AddressPool] = []
    /// Changes a connection, of the left end or not.
    var adjust: (inout Connection, Bool) -> Void = { _, _ in }

    static var networks: [ChildPolicy.Selectors] {
        [.fixed([network("10.1.0.0", 16)]), .fixed([network("10.2.0.0", 16)])]
    }

    func connection(isLeft: Bool) throws -> IKEConfiguration {
        let own = isLeft ? leftIdentity : rightIdentity
        let other = isLeft ? rightIdentity : leftIdentity
        let selectors = isLeft ? leftSelectors : rightSelectors
        let esp = isLeft ? esp : rightESP ?? esp
        let child = ChildPolicy(
            name: "net", proposals: try esp.map { try ProposalPolicy($0, for: .child) },
            local: selectors[isLeft ? 0 : 1], remote: selectors[isLeft ? 1 : 0],
            mode: isLeft ? mode : rightMode ?? mode, replayWindow: replayWindow)
        let ike = isLeft ? ike : rightIKE ?? ike
        var connection = Connection(
            name: isLeft ? "right" : "left",
            proposals: try ike.map { try ProposalPolicy($0, for: .ike) }, localIdentity: own,
            remoteIdentity: .exactly(other), localAuthentication: .presharedKey,
            remoteAuthentication: .presharedKey, children: [child])
        connection.timers = timers
        if !isLeft { connection.pools = pools.map(\.name) }
        adjust(&connection, isLeft)
        let secret = Array((isLeft ? leftSecret : rightSecret).utf8)
        let key = secret.withUnsafeBytes {
            PresharedKey(
                identities: [], secret: SharedSecret(SecretBytes(copying: $0)))
        }
        return IKEConfiguration(
            connections: [connection], presharedKeys: [key], pools: isLeft ? [] : pools,
            limits: isLeft ? leftLimits : rightLimits)
    }

    func pair(seed: UInt64 = 1) throws -> IKEPair {
        try IKEPair(
            left: connection(isLeft: true), right: connection(isLeft: false), seed: seed,
            capacity: capacity)
    }
}
