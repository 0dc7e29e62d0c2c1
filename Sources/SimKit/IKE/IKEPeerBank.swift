// The far ends of a simulated cluster that speak IKE: they set up, rekey and delete their tunnels
// with real endpoints, and really encrypt what goes through them.

import Crypto
import ESP
import IKEStub
import Wire

/// What is the same for all peers of a bank, and for the gateway that they meet.
struct IKEPeerOptions {
    /// How many peers, each with one tunnel.
    var peers: Int
    /// How long things live at the peers.
    var timers = IKETimers.brisk
    /// How long things live at the gateway.
    var gatewayTimers = IKETimers.brisk
    /// Of four peers, so many wait until the gateway begins.
    var gatewayBegins = 0
    /// Every fourth peer wants ESP in UDP.
    var encapsulates = true
    /// Window of replays, in packets.
    var replayWindow = 64

    init(peers: Int) { self.peers = peers }
}

extension IKETimers {
    /// Everything happens within seconds, and nobody is taken for dead within ten of them.
    static let brisk: IKETimers = {
        var timers = IKETimers()
        timers.rekeyIKE = 3_000_000_000
        timers.rekeyChild = 1_200_000_000
        timers.rekeyJitter = 300_000_000
        timers.overtime = 60_000_000_000
        timers.liveness = 700_000_000
        timers.keepalive = 900_000_000
        timers.retransmission = 250_000_000
        timers.retransmissionBase = 100
        timers.retransmissionTries = 40
        timers.halfOpen = 3_000_000_000
        return timers
    }()

    /// The same, but nothing is rekeyed any more.
    var settled: IKETimers {
        var timers = self
        timers.rekeyIKE = 3600 * 1_000_000_000
        timers.rekeyChild = timers.rekeyIKE
        return timers
    }
}

/// Figures of all peers together.
struct IKEPeerFigures: Equatable {
    /// IKE SAs that were set up with authentication.
    var setUps = 0
    /// IKE SAs that came to their end at their peer's wish.
    var deletes = 0
    /// IKE SAs that were lost although their peer wanted them.
    var losses = 0
    /// IKE SAs that got a successor.
    var rekeysOfIKE = 0
    /// Pairs of CHILD SAs that got a successor.
    var rekeysOfChildren = 0
    /// CREATE_CHILD_SA requests of both ends that crossed.
    var collisions = 0
    /// IKE messages that peers sent, repetitions included.
    var messages: UInt64 = 0
    /// IKE messages that reached a peer.
    var received: UInt64 = 0
}

/// Peers 0..<count with one tunnel each, on one slab and one engine.
///
/// Addresses and inner packets are those of ``PeerBank``: peer n is at 100.64.0.1 + n, its user has
/// the address 10.0.0.1 + n. It authenticates with a key of its own, by the name `peer-n.sim`.
final class IKEPeerBank {
    /// When virtual time began, in seconds since 1970.
    static let epochSeconds: Int64 = 1_700_000_000
    /// The name of every policy of CHILD SAs.
    static let policy = "net"
    static let gatewayIdentity = Identity.fqdn("gateway.sim")
    /// From the end of an IKE SA to the next set-up, where one is wanted.
    private static let pauseNanoseconds: UInt64 = 20_000_000
    /// A peer whose IKE SA has no pair asks for one after so long.
    private static let patienceNanoseconds: UInt64 = 500_000_000

    let count: Int
    let register = SPIRegister()
    let peers: [IKEPeer]
    /// What a gateway has to know about these peers: connection "peer-n" is for peer n.
    let gatewayConfiguration: IKEConfiguration
    /// The same, with nothing to be rekeyed any more.
    let settledGatewayConfiguration: IKEConfiguration
    var slab: AssociationSlab
    var engine: ESPEngine
    /// Packets to send, in order.
    var outgoing: [(peer: Int, packet: [UInt8])] = []
    var figures = IKEPeerFigures()
    /// Called with every report of a peer's endpoint, if set.
    var onReport: ((Int, IKEReport) -> Void)?
    /// The serial of the last packet sealed, by peer.
    var serials: [UInt64]
    let batch: UnsafeMutableBufferPointer<PacketDescriptor>
    private let settledConfigurations: [IKEConfiguration]

    /// Peers without IKE SAs that want none yet.
    ///
    /// Preconditions: 1…65 536 peers; `gatewayBegins` is 0…4; a window of 0 (off) or 32…4096.
    init(
        _ options: IKEPeerOptions, library: CryptoLibrary, random: SimulationRandom,
        keyedContexts: Int = 64
    ) {
        precondition(
            (1...65_536).contains(options.peers) && (0...4).contains(options.gatewayBegins))
        count = options.peers
        let plan = IKEPeerPlan(options, random.fork(1))
        gatewayConfiguration = plan.gateway(options.gatewayTimers)
        settledGatewayConfiguration = plan.gateway(options.gatewayTimers.settled)
        settledConfigurations = (0..<count).map { plan.peer($0, options.timers.settled) }
        let register = register
        peers = (0..<count).map { number in
            let numbers = PeerNumbers(peer: number, register)
            let source = SimulationRandomSource(random.fork(2).fork(UInt64(number)))
            return IKEPeer(
                number: number,
                beginner: number % 4 < options.gatewayBegins ? .gateway : .peer,
                environment: IKEEnvironment(
                    library: library, configuration: plan.peer(number, options.timers),
                    random: source, resources: numbers),
                numbers: numbers)
        }
        serials = Array(repeating: 0, count: count)
        slab = AssociationSlab(
            capacity: count * Self.associationsMaximum, catalogue: AssociationCatalogue())
        engine = ESPEngine(library: library, keyedContexts: keyedContexts)
        batch = .allocate(capacity: 1)
    }

    deinit { batch.deallocate() }

    /// Associations of one peer: what was deleted is received for 5 s more, so that pairs which are
    /// rekeyed without a pause add up.
    private static let associationsMaximum = 512

    static func seconds(_ now: UInt64) -> Int64 { epochSeconds + Int64(now / 1_000_000_000) }

    // MARK: Addresses

    /// The path between a peer and the gateway, as the peer sees it before any NAT is found.
    static func path(of peer: Int) -> IKEPath {
        IKEPath(
            local: address(of: peer), localPort: UDPPort.ike, remote: PeerBank.gatewayAddress,
            remotePort: UDPPort.ike, hasMarker: false)
    }

    /// The same path as the gateway sees it.
    static func gatewayPath(of peer: Int) -> IKEPath {
        IKEPath(
            local: PeerBank.gatewayAddress, localPort: UDPPort.ike, remote: address(of: peer),
            remotePort: UDPPort.ike, hasMarker: false)
    }

    static func address(of peer: Int) -> IPAddress {
        IPAddress(v4: firstAddress &+ UInt32(truncatingIfNeeded: peer))
    }

    /// The inner address of a peer's user.
    static func hostAddress(of peer: Int) -> UInt32 {
        0x0A00_0001 &+ UInt32(truncatingIfNeeded: peer)
    }

    private static let firstAddress: UInt32 = 0x6440_0001

    /// The peer at an address; nil: none is there.
    func peer(at address: IPAddress) -> Int? {
        guard address.family == .v4 else { return nil }
        let number = Int(UInt32(truncatingIfNeeded: address.low) &- Self.firstAddress)
        return number < count ? number : nil
    }

    // MARK: Lives

    /// The peer wants a tunnel: it begins, or waits until the gateway does.
    func want(_ peer: Int, now: UInt64) {
        peers[peer].wantsTunnel = true
        guard peers[peer].beginner == .peer, peers[peer].endpoint.count == 0 else { return }
        peers[peer].beginsAt = now
    }

    /// The peer deletes its IKE SAs. `comesBack`: it sets up a new one at once.
    func delete(_ peer: Int, comesBack: Bool, now: UInt64) {
        let end = peers[peer]
        end.wantsTunnel = comesBack
        end.isUp = false
        end.beginsAt = .max
        end.isLeaving = true
        for summary in end.endpoint.summaries() {
            if summary.isEstablished { figures.deletes += 1 }
            delete(summary.localSPI, end, now)
        }
        resume(end, now)
    }

    func delete(_ localSPI: UInt64, _ peer: IKEPeer, _ now: UInt64) {
        let outcome = peer.endpoint.command(
            .delete, localSPI: localSPI, now: now, seconds: Self.seconds(now))
        if let outcome { perform(outcome, peer, now) }
    }

    /// The machine is switched off: its IKE SAs and keys are gone, and it tells nobody.
    func silence(_ peer: Int, now: UInt64) {
        let end = peers[peer]
        end.isSilent = true
        end.wantsTunnel = false
        for pair in end.pairs { wipe(pair) }
        end.pairs = []
        end.senders = []
        end.restart(now: now)
    }

    /// The machine is switched on again, and knows nothing of before.
    func wake(_ peer: Int) { peers[peer].isSilent = false }

    /// From now on nothing new is rekeyed: what is due already still is.
    func settle() {
        for number in peers.indices {
            peers[number].environment.configuration = settledConfigurations[number]
        }
    }

    // MARK: Time

    /// When a peer has something to do by itself; `.max`: never.
    func deadline(of peer: Int) -> UInt64 { peers[peer].deadline }

    /// Does what is due at a peer.
    func advance(_ peer: Int, now: UInt64) {
        let end = peers[peer]
        guard !end.isSilent else { return }
        if now >= end.beginsAt {
            end.beginsAt = .max
            begin(end, now)
        }
        if now >= end.asksAt {
            end.asksAt = .max
            askForPair(end, now)
        }
        if let due = end.endpoint.deadline, due <= now {
            perform(end.endpoint.advance(to: now, seconds: Self.seconds(now)), end, now)
        }
    }

    private func begin(_ peer: IKEPeer, _ now: UInt64) {
        let begun = peer.endpoint.initiate(
            "gateway", child: Self.policy, path: Self.path(of: peer.number), now: now,
            seconds: Self.seconds(now))
        guard let (_, outcome) = begun else {
            preconditionFailure("the connection to the gateway is configured")
        }
        perform(outcome, peer, now)
    }

    /// Whatever the gateway had no room for a while ago, it may have now.
    private func askForPair(_ peer: IKEPeer, _ now: UInt64) {
        // A request that has no answer yet may be for one.
        guard peer.wantsTunnel, peer.senders.isEmpty, peer.asking.isEmpty,
            let owner = peer.endpoint.summaries().first(where: \.isEstablished),
            let outcome = peer.endpoint.command(
                .createChild(Self.policy), localSPI: owner.localSPI, now: now,
                seconds: Self.seconds(now))
        else { return }
        perform(outcome, peer, now)
    }

    /// A peer that wants a tunnel and has no IKE SA begins anew, or asks for the pair it lacks.
    func resume(_ peer: IKEPeer, _ now: UInt64) {
        if peer.isUp, peer.senders.isEmpty, peer.asksAt == .max {
            peer.asksAt = now + Self.patienceNanoseconds
        }
        guard peer.endpoint.count == 0 else { return }
        peer.isLeaving = false
        if peer.isUp {
            peer.isUp = false
            figures.losses += 1
        }
        guard peer.wantsTunnel, peer.beginner == .peer, peer.beginsAt == .max else { return }
        peer.beginsAt = now + Self.pauseNanoseconds
    }

    /// Takes the packets to send.
    func takeOutgoing() -> [(peer: Int, packet: [UInt8])] {
        let packets = outgoing
        outgoing.removeAll(keepingCapacity: true)
        return packets
    }
}
