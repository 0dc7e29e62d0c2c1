// Which identifiers' entries a node's common table holds, and which are being read from the store
// (docs/decisions/0014).

import Cluster
import Wire

/// What the common table of one node holds, by identifier.
struct TableContents {
    enum State {
        /// Not this node's to hold.
        case absent
        /// To be held, but entries or keys of some are missing: they are to be read.
        case wanted
        /// All entries are there, each with its keys in the table or on the card.
        case held
    }

    /// How an ownership begins that waits for its entries.
    enum Beginning {
        /// Where this very process ended the one before.
        case exact
        /// Where leases and checkpoints say.
        case byLease
    }

    /// A read of one identifier that is under way: its entries first, then its leases, so that
    /// every lease that comes by the watch meanwhile finds its entry.
    struct Reading {
        let identifier: DistributionIdentifier
        let request: UInt64
        let isOfLeases: Bool
        /// Entries that were cleared since, with the last revision of theirs that is void.
        var gone: [SPI: UInt64] = [:]
        /// The same of IKE SAs, by local SPI.
        var goneSpeakers: [UInt64: UInt64] = [:]
    }

    /// Reads at once, so that a node that joins does not flood the store.
    static let readingsMaximum = 16

    /// Not every node holds every identifier.
    let isSelective: Bool
    var states: [State]
    /// By identifier: changes of its entries up to this revision are in the table, though the watch
    /// may tell them yet.
    var readThrough: [UInt64]
    /// By identifier.
    var beginnings: [Beginning?]
    private(set) var readings: [Reading] = []
    private var queue: [DistributionIdentifier] = []
    private var isQueued: [Bool]
    var nextAttemptAt: UInt64 = 0

    init(identifierCount: Int, isSelective: Bool) {
        self.isSelective = isSelective
        states = Array(repeating: isSelective ? .absent : .held, count: identifierCount)
        readThrough = Array(repeating: 0, count: identifierCount)
        beginnings = Array(repeating: nil, count: identifierCount)
        isQueued = Array(repeating: false, count: identifierCount)
    }

    /// True when all entries of the identifier are there.
    func isHeld(_ identifier: DistributionIdentifier) -> Bool {
        states[Int(identifier.value)] == .held
    }

    /// True when nothing of the identifier is to be kept.
    func isAbsent(_ identifier: DistributionIdentifier) -> Bool {
        states[Int(identifier.value)] == .absent
    }

    /// Every tunnel of the cluster is in the table.
    var isWhole: Bool { !isSelective || states.allSatisfy { $0 == .held } }

    /// Nothing is being read, or is to be.
    var isQuiet: Bool { readings.isEmpty && queue.isEmpty }

    /// False for a value of the store that is not this node's to keep, or that it has read already.
    func takes(_ key: StoreKey, revision: UInt64) -> Bool {
        switch key {
        case .entry(let identifier, _) where Int(identifier.value) < states.count:
            let place = Int(identifier.value)
            return states[place] != .absent && revision > readThrough[place]
        // Who the peers are, and which addresses they have, every node knows of all.
        case .ike(let identifier, _) where Int(identifier.value) < states.count:
            return revision > readThrough[Int(identifier.value)]
        case .lease(let identifier) where Int(identifier.value) < states.count:
            return states[Int(identifier.value)] != .absent
        default:
            return true
        }
    }

    // MARK: Reading

    /// Lets an identifier be read, unless it is going to be.
    mutating func want(_ identifier: DistributionIdentifier) {
        guard !isQueued[Int(identifier.value)],
            !readings.contains(where: { $0.identifier == identifier })
        else { return }
        isQueued[Int(identifier.value)] = true
        queue.append(identifier)
    }

    /// The next identifier to be read: one for which packets wait, if there is one.
    mutating func next(
        isUrgent: (DistributionIdentifier) -> Bool
    ) -> DistributionIdentifier? {
        guard readings.count < Self.readingsMaximum, !queue.isEmpty else { return nil }
        let identifier = queue.remove(at: queue.firstIndex(where: isUrgent) ?? 0)
        isQueued[Int(identifier.value)] = false
        return identifier
    }

    var isReadWanted: Bool { !queue.isEmpty && readings.count < Self.readingsMaximum }

    mutating func begin(_ reading: Reading) { readings.append(reading) }

    func isReading(_ request: UInt64) -> Bool { readings.contains { $0.request == request } }

    /// Takes a read out that was answered.
    mutating func end(_ request: UInt64) -> Reading? {
        readings.firstIndex { $0.request == request }.map { readings.remove(at: $0) }
    }

    /// What is being read of the identifier is not waited for any more.
    mutating func cancel(_ identifier: DistributionIdentifier) {
        readings.removeAll { $0.identifier == identifier }
        guard isQueued[Int(identifier.value)] else { return }
        isQueued[Int(identifier.value)] = false
        queue.removeAll { $0 == identifier }
    }

    /// An entry was cleared: a read that began before may still tell of it.
    mutating func noteGone(
        _ spi: SPI, of identifier: DistributionIdentifier, through revision: UInt64
    ) {
        for place in readings.indices where readings[place].identifier == identifier {
            readings[place].gone[spi] = max(readings[place].gone[spi] ?? 0, revision)
        }
    }

    /// The same of the record of an IKE SA.
    mutating func noteGone(
        speaker: UInt64, of identifier: DistributionIdentifier, through revision: UInt64
    ) {
        for place in readings.indices where readings[place].identifier == identifier {
            let known = readings[place].goneSpeakers[speaker] ?? 0
            readings[place].goneSpeakers[speaker] = max(known, revision)
        }
    }
}
