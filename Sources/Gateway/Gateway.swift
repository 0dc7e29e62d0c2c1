// One node of the cluster as a value (patent Fig. 7): card store 704, common table 708, own
// distribution identifiers 712. Packets, associations, allocations and time come in as arguments;
// verdicts, entries to communicate and reports go out. It has no clock, no socket and no thread.

public import Cluster
public import Crypto
public import CryptoCardSim
public import ESP
import Wire

/// A node: distributor, crypto card and common table.
public struct Gateway: ~Copyable {
    /// The most packets of one batch.
    public static let batchMaximum = 64

    /// Who this is.
    public let node: NodeID
    /// How packets become identifiers.
    public let distribution: Distribution
    /// The allocation in force; nil before the first.
    public private(set) var allocation: Allocation?
    /// What it did.
    public private(set) var counters = GatewayCounters()

    var card: CryptoCard
    var table: CommonTable
    /// One flag per identifier: the owner filter.
    private var owned: [Bool]
    /// The allocation whose gained identifiers are loaded but not yet served.
    var prepared: (allocation: Allocation, reallocation: Reallocation)?
    /// Owned entries that found the card full, to be tried again when sessions close.
    var waiting: [AssociationHandle] = []
    private let batch: UnsafeMutableBufferPointer<PacketDescriptor>

    /// A node that owns nothing yet.
    public init(_ configuration: GatewayConfiguration, library: CryptoLibrary) {
        node = configuration.node
        distribution = configuration.distribution
        let catalogue = AssociationCatalogue()
        card = CryptoCard(
            capacity: configuration.cardCapacity, library: library, catalogue: catalogue,
            keyedContexts: configuration.keyedContexts, timing: configuration.cardTiming)
        table = CommonTable(
            capacity: configuration.tableCapacity,
            identifierCount: configuration.distribution.identifierCount, catalogue: catalogue)
        owned = Array(repeating: false, count: configuration.distribution.identifierCount)
        batch = .allocate(capacity: Self.batchMaximum)
    }

    deinit { batch.deallocate() }

    // MARK: Packets

    /// Handles packets from the untrusted side in place: those of its own identifiers, and no
    /// others (patent Fig. 2, 202 and 204). `verdicts` receives one answer per packet.
    ///
    /// Precondition: at most `batchMaximum` packets, and as many places for verdicts.
    public mutating func receive(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        verdicts: UnsafeMutableBufferPointer<PacketVerdict>, nowNanoseconds now: UInt64
    ) {
        precondition(packets.count <= Self.batchMaximum && verdicts.count >= packets.count)
        var count = 0
        for index in packets.indices {
            verdicts[index] = distribute(&packets[index])
            if verdicts[index] == .delivered {
                batch.initializeElement(at: count, to: packets[index])
                count += 1
            }
        }
        let mine = UnsafeMutableBufferPointer(rebasing: batch[..<count])
        card.receive(mine, nowNanoseconds: now)
        var next = 0
        for index in packets.indices where verdicts[index] == .delivered {
            packets[index] = mine[next]
            next += 1
            if packets[index].drop == .unknownSPI {
                packets[index].drop = explainMiss(packets[index], now)
            }
            if let reason = packets[index].drop { verdicts[index] = .dropped(reason) }
            if packets[index].events.contains(.softLifetime) { counters.softLifetimes += 1 }
            noteProgress(packets[index])
        }
        for index in packets.indices { tally(verdicts[index]) }
    }

    /// Classifies a packet and applies the owner filter; `delivered` means: for the card.
    private func distribute(_ packet: inout PacketDescriptor) -> PacketVerdict {
        guard let base = packet.packet.baseAddress else { return .other }
        switch OuterPacket.classify(at: base, count: packet.length) {
        case .esp(let location):
            guard owns(distribution.identifier(of: location.spi)) else { return .foreign }
            if location.spi.isReserved { return .dropped(.reservedSPI) }
            packet.location = location
            packet.drop = nil
            packet.events = []
            return .delivered
        case .ike(let header):
            let identifier = distribution.identifier(ofInitiatorCookie: header.initiatorCookie)
            return owns(identifier) ? .ike : .foreign
        case .natKeepalive:
            return .natKeepalive
        case .other:
            return .other
        case .fragment:
            return ownsUnassigned ? .dropped(.fragment) : .foreign
        case .malformed(let error):
            return ownsUnassigned
                ? .dropped(error == .truncated ? .truncated : .malformed) : .foreign
        }
    }

    /// Packets whose identifier can't be read belong to the owner of identifier 0, so that exactly
    /// one node counts them.
    private var ownsUnassigned: Bool { owns(DistributionIdentifier(0)) }

    /// True when this node serves the identifier now.
    public func owns(_ identifier: DistributionIdentifier) -> Bool {
        owned[Int(identifier.value)]
    }

    private mutating func tally(_ verdict: PacketVerdict) {
        switch verdict {
        case .delivered: counters.delivered += 1
        case .dropped(let reason): counters.drops[reason] += 1
        case .foreign: counters.foreign += 1
        case .ike: counters.ike += 1
        case .natKeepalive, .other: break
        }
    }

    /// The node's own entry follows the card, so that a session which the card loses is loaded
    /// again with the window it had, and never accepts a packet twice.
    private mutating func noteProgress(_ packet: PacketDescriptor) {
        guard let location = packet.location, packet.drop != .unknownSPI,
            let session = card.session(for: location.spi), let entry = table.find(location.spi)
        else { return }
        table.updateStates { associations in
            try? card.copyState(of: session, to: entry, in: &associations)
        }
    }

    /// Why the card had no session for an owned packet. A session that the card lost is loaded
    /// again, so that the next packet finds it.
    private mutating func explainMiss(
        _ packet: PacketDescriptor, _ now: UInt64
    ) -> DropReason {
        guard let location = packet.location, let entry = table.find(location.spi) else {
            return .unknownSPI
        }
        switch load(entry, now) {
        // A duplicate: an earlier packet of the batch had it loaded.
        case nil, .duplicateSPI: return .sessionLost
        case .stalled: return .cardStalled
        default: return .cardFull
        }
    }

    // MARK: Sizes and state

    /// Sessions of the card now.
    public var sessionCount: Int { card.count }

    /// Entries of the common table now.
    public var entryCount: Int { table.count }

    /// What the card counted.
    public var cardCounters: CardCounters { card.counters }

    /// The SPIs of the card's inbound sessions, ascending.
    borrowing func sessionSPIs() -> [SPI] {
        card.handles().compactMap { try? card.status(of: $0).spi }.sorted()
    }

    /// Makes the card fail.
    public mutating func inject(_ fault: CardFault) { card.inject(fault) }

    /// The card's session for an SPI.
    borrowing func session(for spi: SPI) -> CardHandle? { card.session(for: spi) }

    /// Refusals of the session with this SPI; nil when the card has none.
    borrowing func drops(of spi: SPI) -> DropCounters? {
        card.session(for: spi).flatMap { try? card.drops(of: $0) }
    }

    mutating func serve(_ next: Allocation) {
        for identifier in next.owners.indices {
            owned[identifier] = next.owners[identifier] == node
        }
        allocation = next
    }
}
