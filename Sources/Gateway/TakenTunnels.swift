// What taking tunnels over costs a node.

import CryptoCardSim
import Wire

/// How this node's ownership of a tunnel began.
enum OwnershipBeginning {
    /// It was copied to the card.
    case loaded
    /// It was on the card, which was told where the ownership begins.
    case updated
    /// It was copied to the host's memory, for want of room on the card.
    case hosted
    /// There was no room for it.
    case refused(CardError)
}

/// Tunnels whose ownership began.
struct TakenTunnels {
    var loaded = 0
    var updated = 0
    var hosted = 0
    var refusals: [EntryRefusal] = []

    var count: Int { loaded + updated + hosted + refusals.count }

    mutating func note(_ beginning: OwnershipBeginning, of spi: SPI) {
        switch beginning {
        case .loaded: loaded += 1
        case .updated: updated += 1
        case .hosted: hosted += 1
        case .refused(let error):
            refusals.append(EntryRefusal(spi: spi, reason: error.description))
        }
    }
}

extension ReallocationReport {
    mutating func add(_ taken: TakenTunnels) {
        loaded += taken.loaded
        updated += taken.updated
        hosted += taken.hosted
        refusals += taken.refusals
    }
}
