// Keys of the node's own tunnels, where the common table does not hold them: on the card only.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    /// True when all sessions of a tunnel are on the card.
    borrowing func hasSessions(_ entry: AssociationHandle) -> Bool {
        guard card.session(for: table.status(of: entry).spi) != nil else { return false }
        guard let outbound = table.outbound(of: entry) else { return true }
        return (try? card.status(of: outboundSession(outbound))) != nil
    }

    /// Wipes the keys of an own tunnel from the table, once the card has them and the store, too,
    /// from where they come again.
    mutating func shedKeys(of entry: AssociationHandle) {
        guard !tableHoldsOwn else { return }
        let role = roles[Int(table.status(of: entry).distributionIdentifier)]
        guard role == .owned || role == .frozen, book.isStored(entry), hasSessions(entry) else {
            return
        }
        table.wipeKeys(of: entry)
    }

    /// Remembers that the card lost a session whose keys are nowhere else in this node.
    mutating func noteLack(_ refusal: CardError, of entry: AssociationHandle) {
        guard case .keysWiped = refusal else { return }
        lacksKeys[Int(table.status(of: entry).distributionIdentifier)] = true
        isLackingKeys = true
    }
}
