// One IKE SA (RFC 7296): everything that is known about it between two messages.

internal import Crypto
internal import ESP
internal import Wire

/// The end that began an IKE SA, or the other. Rekeying an IKE SA gives the roles anew.
public enum IKERole: UInt8, Sendable { case initiator = 1, responder = 2 }

/// What the peer said it can do.
struct PeerTraits: OptionSet, Hashable {
    let rawValue: UInt16

    /// RFC 7383.
    static let fragments = PeerTraits(rawValue: 1)
    /// RFC 6023.
    static let childless = PeerTraits(rawValue: 2)
    /// A NAT stands before us.
    static let localNAT = PeerTraits(rawValue: 4)
    /// A NAT stands before the peer, or it says so to get UDP encapsulation.
    static let remoteNAT = PeerTraits(rawValue: 8)
    /// Both ends know Message ID synchronization (RFC 6311).
    static let messageIDSync = PeerTraits(rawValue: 16)
    /// Both ends know replay counter synchronization (RFC 6311).
    static let replayCounterSync = PeerTraits(rawValue: 32)
    static let all: PeerTraits = [
        .fragments, .childless, .localNAT, .remoteNAT, .messageIDSync, .replayCounterSync,
    ]
}

/// One IKE SA. It belongs to one ``IKEEndpoint`` and does nothing by itself: messages, time and
/// randomness come in, events go out, and between two calls ``encode()`` is the whole of it.
public final class IKEAssociation {
    /// Where it is in its life.
    enum Stage: UInt8 {
        /// We sent IKE_SA_INIT.
        case initSent = 1
        /// We answered IKE_SA_INIT; no keys are derived yet.
        case initAnswered
        /// We sent IKE_AUTH.
        case authSent
        case established
        /// A successor has the CHILD SAs; one of the ends will delete this one.
        case replaced
        /// Over, but for its removal.
        case closed
    }

    let role: IKERole
    let initiatorSPI: UInt64
    var responderSPI: UInt64
    /// The connection's name; empty while a responder does not know it.
    var connection = ""
    var path: IKEPath
    var stage: Stage
    var suite: IKESuite?
    var keys: IKEKeys?
    var handshake: Handshake?
    var traits: PeerTraits = []
    var remoteIdentity: Identity?
    var localIdentity: Identity?
    /// The address that the peer has from a pool, or that we have from the peer.
    var virtualAddresses: [IPAddress] = []
    var children: [Child] = []
    var requests = RequestWindow()
    var responses = ResponseWindow()
    var sync = CounterSync()
    /// The next IV's counter; see ``nextIV()``.
    var ivCounter: UInt64 = 0
    /// The upper 16 bits of IVs: unique per owner of this IKE SA, as for ESP.
    var generation: UInt16
    /// Fragments of a request of the peer's. Those of requests and of responses arrive interleaved.
    var requestParts = Reassembly(limits: IKEAssociation.strangerParts)
    /// Fragments of the response to ours.
    var responseParts = Reassembly()
    var times: IKETimes
    /// The first exchange was ours, and so is a virtual address. Rekeying does not change it.
    var hasOwnVirtualAddress: Bool
    /// Where the first message came from or went to.
    var origin: IKEPath
    /// Our SPI of the IKE SA that this one may inherit from, while both ends rekey it at once.
    var predecessor: UInt64?
    /// Where the endpoint finds it by its peer.
    var place: PeerIndex.Place?
    /// When the endpoint will look at it again.
    var scheduled = UInt64.max
    /// Its state is on the way to somewhere: nothing is due.
    var isHeld = false

    /// What a peer may send in fragments before it is authenticated: room for some certificates.
    private static let strangerParts = Reassembly.Limits(octets: 24_576)

    init(
        role: IKERole, initiatorSPI: UInt64, responderSPI: UInt64, path: IKEPath, stage: Stage,
        generation: UInt16, now: UInt64
    ) {
        self.role = role
        self.initiatorSPI = initiatorSPI
        self.responderSPI = responderSPI
        self.path = path
        self.stage = stage
        self.generation = generation
        hasOwnVirtualAddress = role == .initiator
        origin = path
        times = IKETimes(now: now)
    }

    /// The SPI that we chose: it names the IKE SA in messages to us.
    public var localSPI: UInt64 { role == .initiator ? initiatorSPI : responderSPI }

    /// True when CHILD SAs can be made.
    public var isEstablished: Bool { stage == .established }

    /// Generation (16 bit) | counter (48 bit): two nodes that both believe to own an IKE SA can't
    /// use a nonce twice (docs/decisions/0004-ivs.md).
    func nextIV() -> UInt64 {
        precondition(ivCounter < 1 << 48, "an IKE SA is rekeyed long before")
        defer { ivCounter += 1 }
        return UInt64(generation) << 48 | ivCounter
    }
}

/// When things are due, in nanoseconds on the owner's clock; `UInt64.max`: never.
struct IKETimes: Hashable {
    /// When it began.
    var created: UInt64
    /// When the peer was last heard, with authentication.
    var heard: UInt64
    /// When something was last sent to the peer's NAT.
    var sent: UInt64
    var rekey = UInt64.max
    var end = UInt64.max
    /// When postponed tasks are tried again.
    var retry = UInt64.max
    /// When packets may move it again; the next owner begins anew.
    var moveAgain: UInt64 = 0

    init(now: UInt64) {
        created = now
        heard = now
        sent = now
    }
}

/// A pair of CHILD SAs, as its IKE SA knows it; keys are in the store of associations only.
struct Child: Hashable {
    enum Stage: UInt8 {
        case active = 1
        /// A successor exists; one of the ends will delete this one.
        case replaced
        /// Deleted at the peer; packets on the way are still taken until `end`.
        case lingering
    }

    /// What we receive through, and how the pair is named here.
    let inbound: SPI
    let outbound: SPI
    let policy: String
    let suite: ChildSuite
    let mode: Mode
    let local: [TrafficSelector]
    let remote: [TrafficSelector]
    /// Packets that come again are refused.
    let hasReplayWindow: Bool
    var stage = Stage.active
    /// Made by a rekeying that the peer began: sends only after a sign that the peer is ready.
    var sends = true
    /// Its predecessor, which may be gone; nil for one that is superfluous too.
    var replaces: SPI?
    /// Not 0 after a change of owner at either end hid what became of its rekeying: the peer may
    /// have replaced it, or not have it any more. So often may the peer be busy before a new pair
    /// is asked for in its place.
    var doubts: UInt8 = 0
    /// So many packets went through it that it is to be rekeyed, whatever its time.
    var isNearlyUsed = false
    var rekey: UInt64
    var end: UInt64
}
