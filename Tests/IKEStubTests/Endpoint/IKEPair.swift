// Two endpoints and the wire between them: every datagram passes through the hands of the test.

import Crypto
import ESP
import IKEStub
import Wire

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
    let octets: [UInt8]
    let path: IKEPath
}

/// The two ends; `left` is the one that the tests let begin.
final class IKEPair {
    let left: IKEEndpoint
    let right: IKEEndpoint
    let leftWorld: IKEEnvironment
    let rightWorld: IKEEnvironment
    var now: UInt64 = 1_000_000_000
    let seconds: Int64 = 1_790_000_000
    var wire: [Flight] = []
    var leftChildren: [SPI: NewChild] = [:]
    var rightChildren: [SPI: NewChild] = [:]
    var reports: [String] = []
    /// Decides what happens to a datagram; false: it is lost.
    var passes: (Flight) -> Bool = { _ in true }

    init(
        left: IKEConfiguration, right: IKEConfiguration, seed: UInt64 = 1, capacity: Int = 1000
    ) throws {
        let library = try CryptoLibrary()
        leftWorld = IKEEnvironment(
            library: library, configuration: left, random: SeededSource(seed),
            resources: LocalResources(capacity: capacity), generation: 1)
        rightWorld = IKEEnvironment(
            library: library, configuration: right, random: SeededSource(seed &+ 1_000_003),
            resources: LocalResources(capacity: capacity), generation: 1)
        self.left = IKEEndpoint(leftWorld, now: now)
        self.right = IKEEndpoint(rightWorld, now: now)
    }

    static let path = IKEPath(
        local: ipv4("192.0.2.1"), localPort: 500, remote: ipv4("192.0.2.2"), remotePort: 500,
        hasMarker: false)

    func take(_ outcome: IKEOutcome, fromLeft: Bool) {
        for event in outcome.events {
            switch event {
            case .send(let datagrams, let path):
                wire += datagrams.map {
                    Flight(toResponder: fromLeft, octets: $0, path: path)
                }
            case .install(let child):
                if fromLeft {
                    leftChildren[child.inbound.parameters.spi] = child
                } else {
                    rightChildren[child.inbound.parameters.spi] = child
                }
            case .remove(let spi):
                if fromLeft { leftChildren[spi] = nil } else { rightChildren[spi] = nil }
            case .report(let report): reports.append((fromLeft ? "L " : "R ") + "\(report)")
            case .keepalive, .sendThrough, .redirect, .established, .closed: break
            }
        }
    }

    /// Carries datagrams until none is left.
    func deliver() {
        while !wire.isEmpty {
            let flight = wire.removeFirst()
            guard passes(flight) else { continue }
            let path = IKEPath(
                local: flight.path.remote, localPort: flight.path.remotePort,
                remote: flight.path.local, remotePort: flight.path.localPort,
                hasMarker: flight.path.hasMarker)
            let outcome = flight.octets.withUnsafeBytes {
                (flight.toResponder ? right : left).receive(
                    $0, path: path, now: now, seconds: seconds)
            }
            take(outcome, fromLeft: !flight.toResponder)
        }
    }

    /// Lets time pass to the next deadline of either end.
    func advance(to time: UInt64) {
        now = time
        take(left.advance(to: now, seconds: seconds), fromLeft: true)
        take(right.advance(to: now, seconds: seconds), fromLeft: false)
        deliver()
    }

    func initiate(child: String? = "net") throws -> UInt64? {
        guard
            let (spi, outcome) = left.initiate(
                "right", child: child, path: Self.path, now: now, seconds: seconds)
        else { return nil }
        take(outcome, fromLeft: true)
        deliver()
        return spi
    }
}

/// Configurations of two ends that share a key.
struct PairConfiguration {
    var ike = ["aes256gcm16-prfsha384-x25519"]
    var esp = ["aes256gcm16"]
    var leftIdentity = Identity.fqdn("left.test")
    var rightIdentity = Identity.fqdn("right.test")
    var leftSecret = "swordfish"
    var rightSecret = "swordfish"
    var timers = IKETimers()
    var mode = Mode.tunnel

    func connection(isLeft: Bool) throws -> IKEConfiguration {
        let own = isLeft ? leftIdentity : rightIdentity
        let other = isLeft ? rightIdentity : leftIdentity
        let left = ChildPolicy.Selectors.fixed([network("10.1.0.0", 16)])
        let right = ChildPolicy.Selectors.fixed([network("10.2.0.0", 16)])
        let child = ChildPolicy(
            name: "net", proposals: try esp.map { try ProposalPolicy($0, for: .child) },
            local: isLeft ? left : right, remote: isLeft ? right : left, mode: mode)
        var connection = Connection(
            name: isLeft ? "right" : "left",
            proposals: try ike.map { try ProposalPolicy($0, for: .ike) }, localIdentity: own,
            remoteIdentity: .exactly(other), localAuthentication: .presharedKey,
            remoteAuthentication: .presharedKey, children: [child])
        connection.timers = timers
        let secret = Array((isLeft ? leftSecret : rightSecret).utf8)
        let key = secret.withUnsafeBytes {
            PresharedKey(
                identities: [], secret: SharedSecret(SecretBytes(copying: $0)))
        }
        return IKEConfiguration(connections: [connection], presharedKeys: [key])
    }

    func pair(seed: UInt64 = 1) throws -> IKEPair {
        try IKEPair(
            left: connection(isLeft: true), right: connection(isLeft: false), seed: seed)
    }
}
