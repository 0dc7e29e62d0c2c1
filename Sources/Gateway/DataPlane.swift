// What handles packets in a node (patent Fig. 7): card store 704, common table 708, and for each
// distribution identifier the part that this node plays (712). It decides nothing: who owns what,
// and until when the node may serve, is set by `Gateway`.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import Wire

/// The part a node plays for one distribution identifier.
enum Role: UInt8 {
    /// Packets are another node's.
    case foreign
    /// Packets are handled here.
    case owned
    /// Owned, but its entries are not all on the card yet: the first packet loads them.
    case loading
    /// Owned, but its entries are being read from the store: packets are held.
    case awaiting
    /// Owned, but its exact state was handed to a successor: packets are held.
    case frozen
    /// Another node's, which is about to hand it over: packets are held.
    case holding

    /// True when packets are handled here, at once or as soon as the entries are there.
    var isOwner: Bool {
        switch self {
        case .owned, .loading, .awaiting: true
        case .foreign, .frozen, .holding: false
        }
    }
}

/// Card, table and leases of one node, with the owner filter.
struct DataPlane: ~Copyable {
    let node: NodeID
    let distribution: Distribution
    let policy: TakeoverPolicy
    let rules: Rules
    let tableHoldsOwn: Bool
    let library: CryptoLibrary
    var counters = GatewayCounters()

    let cardContents: CardContents
    /// Tunnels without room on the card are served from the host's memory.
    let servesFromHost: Bool
    var card: CryptoCard
    /// A store like the card's, in host memory and without its limits; empty unless
    /// `servesFromHost`.
    var host: CryptoCard
    var table: CommonTable
    var book: LeaseBook
    /// By identifier.
    var roles: [Role]
    /// By identifier: the generation of this node's ownership; 0: none.
    var generations: [UInt16]
    /// By identifier: from the record in force.
    var overrunGenerations: [UInt16]
    /// By identifier: the card lost a session whose keys the table does not have.
    var lacksKeys: [Bool]
    /// One of these was set since it was last looked at.
    var isLackingKeys = false
    /// Every tunnel of the cluster is in the table.
    var isWhole = true
    /// By identifier: something moved since the last visit.
    var isDirty: [Bool]
    /// By identifier: a tunnel needs a new lease now.
    var isLow: [Bool]
    /// By identifier: packets handled since the last load report.
    var packetCounts: [UInt32]
    /// The right to serve ends at this time; checked once per batch.
    var servingUntil: UInt64 = 0
    /// By slot of an outbound association in the table: its session on the card.
    var outboundSessions: [CardHandle] = []
    /// The same in the host's memory.
    var hostOutboundSessions: [CardHandle] = []
    /// Entries that belong on the card and found it full, to be tried again when sessions close.
    var waiting = WaitingTunnels()
    var held = HeldPackets()
    /// Every checkpoint tells of the owner's last packet: among the nodes of one process only.
    var isFollowedExactly = false
    /// By identifier: digests of sent packets are recorded for a successor.
    var isRecording: [Bool]
    var digests: [(identifier: DistributionIdentifier, digest: UInt64)] = []
    /// More than a handover can tell: nothing is handed over before the moves have begun anew.
    var isRecordFull: Bool { digests.count >= Self.digestsMaximum }
    static let digestsMaximum = 1 << 20

    /// Pairs for which new keys are due, and sources of packets that are not where their peers were
    /// known to be: for the IKE side, which takes them after every batch.
    var worn: [SPI] = []
    var moved: [(spi: SPI, source: IPAddress, port: UInt16)] = []
    /// There is an IKE side.
    var followsPeers = false
    /// By slot of an inbound association in the table: a digest of the source that was found to be
    /// the peer's last. Grows with the highest slot.
    var sources: [UInt64] = []

    /// The last refused packets.
    var trace = RefusalTrace()

    let batch: UnsafeMutableBufferPointer<PacketDescriptor>
    /// Where each packet of the batch came from.
    let origins: UnsafeMutableBufferPointer<Int>

    init(_ configuration: GatewayConfiguration, library: CryptoLibrary) {
        node = configuration.node
        distribution = configuration.distribution
        policy = configuration.takeoverPolicy
        rules = configuration.rules
        tableHoldsOwn = configuration.tableHoldsOwn
        self.library = library
        isWhole = configuration.backups == nil
        let catalogue = AssociationCatalogue()
        let isBounded = configuration.rules.hold(.capacityKept)
        card = CryptoCard(
            capacity: isBounded ? configuration.cardCapacity : configuration.cardCapacity * 2,
            library: library, catalogue: catalogue,
            keyedContexts: configuration.keyedContexts, timing: configuration.cardTiming)
        cardContents = configuration.cardContents
        servesFromHost = configuration.whenFull == .serveFromHost
        host = CryptoCard(
            capacity: servesFromHost ? configuration.tableCapacity * 2 : 1, library: library,
            catalogue: catalogue,
            keyedContexts: servesFromHost ? configuration.keyedContexts : 1, isResident: false)
        let count = configuration.distribution.identifierCount
        table = CommonTable(
            capacity: configuration.tableCapacity, identifierCount: count, catalogue: catalogue)
        book = LeaseBook(
            sizing: configuration.leaseSizing
                ?? LeaseSizing(policy: configuration.takeoverPolicy))
        roles = Array(repeating: .foreign, count: count)
        generations = Array(repeating: 0, count: count)
        overrunGenerations = generations
        isDirty = Array(repeating: false, count: count)
        isLow = isDirty
        lacksKeys = isDirty
        isRecording = isDirty
        packetCounts = Array(repeating: 0, count: count)
        batch = .allocate(capacity: Gateway.batchMaximum)
        origins = .allocate(capacity: Gateway.batchMaximum)
    }

    deinit {
        batch.deallocate()
        origins.deallocate()
    }

    /// True when the identifier's packets are handled here, if the right to serve lasts.
    func owns(_ identifier: DistributionIdentifier) -> Bool {
        roles[Int(identifier.value)].isOwner
    }

    /// Packets whose identifier can't be read belong to the owner of identifier 0, so that exactly
    /// one node counts them.
    var ownsUnassigned: Bool { owns(DistributionIdentifier(0)) }

    mutating func tally(_ verdict: PacketVerdict, isInbound: Bool) {
        switch verdict {
        case .delivered: if isInbound { counters.delivered += 1 } else { counters.sealed += 1 }
        case .dropped(let reason): counters.drops[reason] += 1
        case .foreign: counters.foreign += 1
        case .ike: counters.ike += 1
        case .held: counters.held += 1
        case .natKeepalive, .other: break
        }
    }
}
