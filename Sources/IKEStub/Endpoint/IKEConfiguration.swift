// What a gateway knows about its peers before they come: connections, credentials, pools, timers.
// Made by whoever reads a configuration file; never changed, but replaced as a whole.

public import Crypto
public import ESP
public import Wire

/// A secret that two peers share, kept in one place.
public final class SharedSecret {
    let octets: SecretBytes

    /// Takes over the octets.
    public init(_ octets: consuming SecretBytes) { self.octets = octets }
}

/// A pre-shared key and the pair of identities that may use it.
public struct PresharedKey {
    /// Whose key it is: it serves when one pattern matches our identity and one the peer's.
    public let identities: [IdentityPattern]
    /// The key.
    public let secret: SharedSecret

    /// The two ends match two different patterns, or both the only one: a peer can't take the name
    /// that is meant for us.
    func serves(_ local: Identity, _ remote: Identity) -> Bool {
        guard identities.count > 1 else {
            return identities.allSatisfy {
                $0.matches(local) && $0.matches(remote)
            }
        }
        return identities.indices.contains { own in
            identities[own].matches(local)
                && identities.indices.contains {
                    $0 != own && identities[$0].matches(remote)
                }
        }
    }

    /// Serves every pair of identities of the list; an empty list serves everybody.
    public init(identities: [IdentityPattern], secret: SharedSecret) {
        self.identities = identities
        self.secret = secret
    }
}

/// A private key with the certificates that vouch for it.
public final class SigningIdentity {
    let key: PrivateKey
    /// The key's own certificate first, then intermediates.
    public let chain: [Certificate]

    /// Nil unless the key is that of the first certificate.
    public init?(key: consuming PrivateKey, chain: [Certificate]) {
        guard let leaf = chain.first, key.matches(leaf) else { return nil }
        self.key = key
        self.chain = chain
    }
}

/// How one end proves who it is (RFC 7296 §2.15).
public enum LocalAuthentication {
    /// With a pre-shared key of the configuration.
    case presharedKey
    /// With a signature.
    case signature(SigningIdentity)
}

/// What the other end must prove.
public enum RemoteAuthentication {
    /// A pre-shared key of the configuration.
    case presharedKey
    /// A signature by a key that one of these authorities vouches for.
    case certificate(TrustAnchors)
}

/// How long things live and how long to wait, in nanoseconds.
public struct IKETimers: Hashable, Sendable {
    /// Until an IKE SA gets new keys.
    public var rekeyIKE: UInt64 = 4 * 3600 * 1_000_000_000
    /// Until a CHILD SA gets new keys.
    public var rekeyChild: UInt64 = 3600 * 1_000_000_000
    /// How much earlier than that, at most, by a random amount: both ends should not begin at once
    /// (RFC 7296 §2.8.1).
    public var rekeyJitter: UInt64 = 360 * 1_000_000_000
    /// From the time of rekeying until an SA that got no successor is given up.
    public var overtime: UInt64 = 360 * 1_000_000_000
    /// Silence of a peer after which it is asked whether it lives; 0: never.
    public var liveness: UInt64 = 30 * 1_000_000_000
    /// Between two keepalives from behind a NAT (RFC 3948 §4).
    public var keepalive: UInt64 = 20 * 1_000_000_000
    /// From a request to its first repetition; each further one waits `retransmissionBase` times
    /// as long, in hundredths.
    public var retransmission: UInt64 = 2 * 1_000_000_000
    /// 180: 1.8 times.
    public var retransmissionBase: UInt64 = 180
    /// Repetitions before the peer is taken for dead.
    public var retransmissionTries = 5
    /// How long a set-up of a peer's may stay half-open.
    public var halfOpen: UInt64 = 30 * 1_000_000_000

    /// The values of the properties' own documentation.
    public init() {}

    /// From a request to the moment when its sender gives the peer up, in nanoseconds.
    public var patience: UInt64 {
        var (sum, wait): (UInt64, UInt64) = (0, retransmission)
        for _ in 0...max(retransmissionTries, 0) {
            sum = min(sum.addingReportingOverflow(wait).partialValue, .max / 2)
            wait = backoff(wait)
        }
        return sum
    }

    /// How long to wait after a wait: at most a day, whatever is configured.
    func backoff(_ wait: UInt64) -> UInt64 {
        let (product, overflows) = wait.multipliedReportingOverflow(by: retransmissionBase)
        let day: UInt64 = 86_400 * 1_000_000_000
        return overflows ? day : min(product / 100, day)
    }
}

/// A CHILD SA that peers of a connection may have.
public struct ChildPolicy {
    /// Which inner addresses this is about.
    public enum Selectors {
        /// Fixed ones.
        case fixed([TrafficSelector])
        /// The addresses of the end itself: its virtual address if it has one, else its own.
        case dynamic
    }

    /// Its name, in configuration and logs.
    public let name: String
    /// The best first. Never empty.
    public let proposals: [ProposalPolicy]
    /// On our side.
    public let local: Selectors
    /// On the peer's side.
    public let remote: Selectors
    /// Tunnel, or transport if the peer asks for it.
    public let mode: Mode
    /// Packets of receive window; see ``AssociationParameters/replayWindow``.
    public let replayWindow: Int

    /// See the properties. Precondition: at least one proposal, all of them for CHILD SAs.
    public init(
        name: String, proposals: [ProposalPolicy], local: Selectors, remote: Selectors,
        mode: Mode = .tunnel, replayWindow: Int = 64
    ) {
        precondition(!proposals.isEmpty && proposals.allSatisfy { $0.use == .child })
        self.name = name
        self.proposals = proposals
        self.local = local
        self.remote = remote
        self.mode = mode
        self.replayWindow = replayWindow
    }
}

/// A kind of peer: where it is, who it is, what it may have.
public struct Connection {
    /// Its name, in configuration and logs.
    public let name: String
    /// The address we speak from as initiator; nil: any of ours answers.
    public var localAddress: IPAddress?
    /// Peers' addresses; empty: any.
    public var remoteAddresses: [TrafficSelector] = []
    /// Where an initiator finds the peer; nil: such peers come to us.
    public var remoteAddress: IPAddress?
    /// The best first. Never empty.
    public var proposals: [ProposalPolicy]
    /// Who we say we are.
    public var localIdentity: Identity
    /// Who the peer must be.
    public var remoteIdentity: IdentityPattern
    /// How we prove it.
    public var localAuthentication: LocalAuthentication
    /// What the peer proves.
    public var remoteAuthentication: RemoteAuthentication
    /// What may be protected.
    public var children: [ChildPolicy]
    /// Names of pools from which peers get addresses.
    public var pools: [String] = []
    /// Whether we ask the peer for an address, as initiator.
    public var asksForAddress = false
    /// UDP encapsulation even without a NAT.
    public var forcesEncapsulation = false
    /// Messages longer than one packet go in fragments (RFC 7383).
    public var fragments = true
    /// Message IDs and replay counters are synchronized after a change of owner, of ours or of the
    /// peer's, where both ends announce it (RFC 6311).
    public var synchronizesCounters = true
    /// IKE SAs that one identity may have of this connection, at least 1. A peer needs one, and a
    /// second one while it sets up anew; some more stay until liveness checks find them dead, when
    /// it comes again and again without INITIAL_CONTACT. Where many share an identity, it is their
    /// number.
    public var associationsPerIdentity = 16
    /// How long things live.
    public var timers = IKETimers()

    /// What has no default. Precondition: at least one proposal, all of them for IKE SAs.
    public init(
        name: String, proposals: [ProposalPolicy], localIdentity: Identity,
        remoteIdentity: IdentityPattern, localAuthentication: LocalAuthentication,
        remoteAuthentication: RemoteAuthentication, children: [ChildPolicy]
    ) {
        precondition(!proposals.isEmpty && proposals.allSatisfy { $0.use == .ike })
        self.name = name
        self.proposals = proposals
        self.localIdentity = localIdentity
        self.remoteIdentity = remoteIdentity
        self.localAuthentication = localAuthentication
        self.remoteAuthentication = remoteAuthentication
        self.children = children
    }
}

/// Limits that hold for all peers together.
public struct IKELimits: Hashable, Sendable {
    /// Half-open set-ups from which on peers must return a cookie (RFC 7296 §2.6).
    public var cookiesAbove = 10
    /// Half-open set-ups of one address.
    public var halfOpenPerAddress = 5
    /// Half-open set-ups in all.
    public var halfOpen = 1000
    /// Established IKE SAs.
    public var associations = 100_000
    /// CHILD SAs of one IKE SA.
    public var childrenPerAssociation = 32
    /// Octets of an IP packet that a fragment may fill (RFC 7383 §2.5.1).
    public var fragmentBytes = 1280

    /// The values of the properties' own documentation.
    public init() {}
}

/// Everything a gateway knows about its peers.
public final class IKEConfiguration {
    /// Tried in order.
    public let connections: [Connection]
    /// Tried in order.
    public let presharedKeys: [PresharedKey]
    /// By name.
    public let pools: [AddressPool]
    /// Against floods.
    public let limits: IKELimits

    /// See the properties.
    public init(
        connections: [Connection], presharedKeys: [PresharedKey] = [], pools: [AddressPool] = [],
        limits: IKELimits = IKELimits()
    ) {
        self.connections = connections
        self.presharedKeys = presharedKeys
        self.pools = pools
        self.limits = limits
    }

    func connection(named name: String) -> Connection? {
        connections.first { $0.name == name }
    }

    /// The key that two ends share, the first one that serves both.
    func presharedKey(local: Identity, remote: Identity) -> SharedSecret? {
        presharedKeys.first { key in
            key.serves(local, remote)
        }?.secret
    }
}
