// What peers and gateway know about each other before they meet.

import Crypto
import ESP
import IKEStub
import Wire

/// Makes the configurations of both sides.
struct IKEPeerPlan {
    private static let ike = ["aes256gcm16-prfsha256-x25519"]
    /// In turn, by peer; the second has keys of its own for every pair (RFC 7296 §2.17).
    private static let esp = ["aes256gcm16", "aes128gcm16-x25519", "chacha20poly1305-esn"]

    private let options: IKEPeerOptions
    private let secrets: [SharedSecret]

    init(_ options: IKEPeerOptions, _ random: SimulationRandom) {
        self.options = options
        secrets = (0..<options.peers).map { number in
            var source = SimulationRandomSource(random.fork(UInt64(number)))
            return SharedSecret(source.secret(32))
        }
    }

    /// What peer `number` knows.
    func peer(_ number: Int, _ timers: IKETimers) -> IKEConfiguration {
        var connection = connection("gateway", number, isGateway: false)
        connection.remoteAddress = PeerBank.gatewayAddress
        connection.forcesEncapsulation = options.encapsulates && number % 4 == 3
        connection.timers = Self.timers(timers, number)
        return IKEConfiguration(connections: [connection], presharedKeys: [key(number)])
    }

    /// What the gateway knows of all peers.
    func gateway(_ timers: IKETimers) -> IKEConfiguration {
        let connections = (0..<options.peers).map { number in
            var connection = connection(Self.name(number), number, isGateway: true)
            let address = IKEPeerBank.address(of: number)
            connection.remoteAddress = address
            connection.remoteAddresses = Self.selector(address, length: 32)
            connection.timers = Self.timers(timers, number)
            return connection
        }
        return IKEConfiguration(
            connections: connections, presharedKeys: (0..<options.peers).map(key))
    }

    /// Without jitter both ends rekey what they have made together at the same time, and their
    /// requests cross (RFC 7296 §2.8.1): so it is for every third peer.
    private static func timers(_ timers: IKETimers, _ peer: Int) -> IKETimers {
        var timers = timers
        if peer % 3 == 0 { timers.rekeyJitter = 0 }
        return timers
    }

    /// The gateway's name for a connection.
    static func name(_ peer: Int) -> String { "peer-\(peer)" }

    private static func identity(_ peer: Int) -> Identity { .fqdn("\(name(peer)).sim") }

    private func key(_ number: Int) -> PresharedKey {
        PresharedKey(
            identities: [
                .exactly(IKEPeerBank.gatewayIdentity), .exactly(Self.identity(number)),
            ], secret: secrets[number])
    }

    private func connection(_ name: String, _ number: Int, isGateway: Bool) -> Connection {
        let host = Self.selector(IPAddress(v4: IKEPeerBank.hostAddress(of: number)), length: 32)
        let net = Self.selector(IPAddress(v4: PeerBank.serverAddress), length: 16)
        let child = ChildPolicy(
            name: IKEPeerBank.policy,
            proposals: [Self.proposal(Self.esp[number % Self.esp.count], .child)],
            local: .fixed(isGateway ? net : host), remote: .fixed(isGateway ? host : net),
            replayWindow: options.replayWindow)
        let own = Self.identity(number)
        return Connection(
            name: name, proposals: Self.ike.map { Self.proposal($0, .ike) },
            localIdentity: isGateway ? IKEPeerBank.gatewayIdentity : own,
            remoteIdentity: .exactly(isGateway ? own : IKEPeerBank.gatewayIdentity),
            localAuthentication: .presharedKey, remoteAuthentication: .presharedKey,
            children: [child])
    }

    private static func proposal(_ text: String, _ use: ProposalPolicy.Use) -> ProposalPolicy {
        do {
            return try ProposalPolicy(text, for: use)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    private static func selector(_ address: IPAddress, length: Int) -> [TrafficSelector] {
        let range = address.prefixRange(length: length)
        return TrafficSelector(first: range.first, last: range.last).map { [$0] } ?? []
    }
}
