// What the nodes of one process can do for each other and nodes of their own machines can't: tell
// every packet's checkpoint before the next packet comes, and take what arrived at once as one.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import Wire

extension Gateway {
    /// From now on every checkpoint that this node takes is of the owner's last packet, with the
    /// window: a takeover begins exactly where the old owner ended.
    mutating func followExactly() { plane.isFollowedExactly = true }

    /// Takes datagrams of the HA link that came at one moment, and decides once after the last.
    mutating func receive(datagrams: [[UInt8]], nowNanoseconds now: UInt64) {
        for datagram in datagrams { follow(datagram, now) }
        pump(now)
    }

    /// Takes a datagram that gives nothing to decide, such as a checkpoint.
    mutating func follow(_ datagram: [UInt8], _ now: UInt64) {
        datagram.withUnsafeBytes { octets in
            guard let (peer, message) = link.open(octets) else { return }
            handle(message, from: peer, now)
        }
    }

    // MARK: Checkpoints

    /// Tells all others exactly how far a tunnel of this node has come, if they don't know.
    mutating func checkpointNow(_ spi: SPI) {
        guard let entry = plane.table.find(spi), plane.isOnCard(entry) || plane.isOnHost(entry)
        else { return }
        let received = plane.table.status(of: entry)
        let ahead = plane.book.bytesAhead(
            entry, received: received.sequence, packets: received.packets, bytes: received.bytes)
        guard ahead != nil else { return }
        plane.book.noteTold(
            entry, received: received.sequence, packets: received.packets, bytes: received.bytes)
        tellExactly([entry], of: distribution.identifier(of: spi))
    }

    /// Tells all others exactly how far all tunnels of this node have come: a newcomer knows no
    /// more of them than their entries.
    mutating func checkpointAll() {
        for place in plane.roles.indices where plane.roles[place] == .owned {
            let identifier = DistributionIdentifier(UInt16(place))
            tellExactly(plane.table.entries(of: identifier), of: identifier)
        }
    }

    private mutating func tellExactly(
        _ entries: [AssociationHandle], of identifier: DistributionIdentifier
    ) {
        guard !entries.isEmpty else { return }
        let messages = Checkpoints.split(
            identifier: identifier, generation: plane.generations[Int(identifier.value)],
            states: entries.map { plane.state(of: $0, withWindow: true) })
        for peer in membership.members where peer != node && isHolder(peer, of: identifier) {
            for message in messages { tell(.checkpoints(message), to: peer) }
        }
    }

    // MARK: State

    /// True when the allocation is in force with all that it means for this node, and nothing more
    /// is under way.
    func isSettled(nowNanoseconds now: UInt64) -> Bool {
        guard let record, record.allocation.nodes.contains(node), !record.isMoving,
            agreedRevision == recordRevision, decision == nil, now < plane.servingUntil,
            loadingQueue.isEmpty, reports.isEmpty, !isStale.contains(true), contents.isQuiet
        else { return false }
        return record.allocation.owners.indices.allSatisfy { place in
            plane.roles[place] == (record.allocation.owners[place] == node ? .owned : .foreign)
        }
    }

    /// Why a new tunnel has no place in the common table; nil: it has one.
    borrowing func tableRefusal(of spi: SPI) -> CommonTableError? {
        if plane.table.find(spi) != nil { return .duplicateSPI(spi) }
        if plane.table.count >= plane.table.capacity {
            return .full(capacity: plane.table.capacity)
        }
        return nil
    }

    /// True when the tunnel stands in the common table.
    borrowing func knows(_ spi: SPI) -> Bool { plane.table.find(spi) != nil }

    /// True when an association fits one datagram, sealed and with what is around it.
    static func fitsLink(_ association: borrowing SecurityAssociation) -> Bool {
        association.encode().count + 64 <= ForeignEntry.sealedMaximum
    }

    // MARK: Full cards

    /// Gives the places of a card that is too small for what it gained: tunnels in use come first,
    /// over all gained identifiers, so that none of them loses its place to one that never found
    /// any. `spis` are all gained tunnels in the order of preference among equals.
    mutating func placeAgain(_ spis: [SPI], nowNanoseconds now: UInt64) -> TakenTunnels {
        let found = spis.compactMap { plane.table.find($0) }
        // Those whose keys are on the card only keep their places.
        let gained = found.filter { plane.table.hasKeys($0) }
        for entry in gained { plane.close(entry) }
        plane.waiting.remove(gained)
        var taken = TakenTunnels()
        taken.loaded = found.count - gained.count
        for isInUse in [true, false] {
            for entry in gained where (plane.table.status(of: entry).packets > 0) == isInUse {
                let spi = plane.table.status(of: entry).spi
                taken.note(plane.place(entry, now), of: spi)
            }
        }
        return taken
    }
}
