// Keys of the node's own tunnels, where the common table does not hold them: on the card only.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    /// True when all sessions of a tunnel are there.
    borrowing func hasSessions(_ entry: AssociationHandle) -> Bool {
        isOnCard(entry) || isOnHost(entry)
    }

    /// Wipes the keys of an own tunnel from the table, once the card has them and the store, too,
    /// from where they come again.
    mutating func shedKeys(of entry: AssociationHandle) {
        guard !tableHoldsOwn else { return }
        let role = roles[Int(table.status(of: entry).distributionIdentifier)]
        guard role == .owned || role == .frozen, book.isStored(entry), isOnCard(entry) else {
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
