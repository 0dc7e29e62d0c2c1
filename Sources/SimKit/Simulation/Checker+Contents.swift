// What the common tables must hold: the entries that are theirs to keep, no others, and no keys
// that belong on the card only (docs/decisions/0014).

import Cluster
import Crypto
import ESP
import Gateway
import Wire

extension Simulation {
    /// Between two looks at all entries of the store.
    private static let contentsNanoseconds: UInt64 = 50_000_000

    /// Now and then: whoever serves an identifier has all its entries, as far as its watch has told
    /// of them, and own keys are on the card only, where they are to be.
    func checkContents() {
        guard options.backups != nil || !options.tableHoldsOwn,
            now % Self.contentsNanoseconds == 0
        else { return }
        let stored = storedEntries()
        for node in nodes {
            guard let life = node.life, node.stoppedUntil <= now else { continue }
            checkServed(node, life, stored)
            if !options.tableHoldsOwn, let spi = life.gateway.tunnelsWithKeysTwice().first {
                fail("the table of node \(node.id) has keys of SPI \(spi), which its card has")
            }
        }
    }

    private func checkServed(
        _ node: SimulatedNode, _ life: SimulatedNode.Life,
        _ stored: [(spi: SPI, identifier: DistributionIdentifier, revision: UInt64)]
    ) {
        let table = Set(life.gateway.tableSPIs())
        let known = life.gateway.storeRevision
        for entry in stored where entry.revision <= known && !table.contains(entry.spi) {
            // What its peer is deleting may be gone here before it is from the store.
            guard life.gateway.serves(entry.identifier, nowNanoseconds: node.local(now)),
                !life.gateway.isAwaiting(entry.identifier),
                let tunnel = tunnel(usingGatewaySPI: entry.spi),
                tunnels[tunnel].state == .established
            else { continue }
            fail("node \(node.id) serves SPI \(entry.spi) without its entry")
            return
        }
    }

    /// All entries of the store, by their keys.
    private func storedEntries()
        -> [(spi: SPI, identifier: DistributionIdentifier, revision: UInt64)]
    {
        let reply = store.handle(
            .read(prefix: StoreKey.prefix + "entry/"), nowNanoseconds: now)
        guard case .pairs(let pairs, _) = reply else { return [] }
        return pairs.compactMap { pair in
            guard case .entry(let identifier, let spi) = StoreKey(text: pair.key) else {
                return nil
            }
            return (spi, identifier, pair.modRevision)
        }
    }

    /// In the end: every table holds exactly what the record in the store asks of its node, each
    /// tunnel with its keys in one place, and as many nodes have it as there are to be.
    func checkContents(_ alive: [SimulatedNode], _ stored: [SPI]) {
        guard let record = storedAllocation() else {
            fail("in the end the store holds no allocation")
            return
        }
        var holders: [SPI: Int] = [:]
        for node in alive {
            guard let gateway = node.life else { continue }
            let table = gateway.gateway.tableSPIs()
            let wanted = stored.filter {
                record.isHolder(
                    node.id, of: distribution.identifier(of: $0), backups: options.backups)
            }
            if table != wanted {
                fail(
                    "in the end node \(node.id) has \(table.count) tunnels of \(stored.count), "
                        + "and \(wanted.count) are its to hold")
                return
            }
            for spi in table { holders[spi, default: 0] += 1 }
            let keyless = gateway.gateway.tunnelsWithoutKeys()
            if let spi = keyless.first, !isForCard(spi, gateway) {
                fail("in the end node \(node.id) has no keys of SPI \(spi)")
                return
            }
        }
        let members = record.allocation.nodes.count
        let wanted = min((options.backups ?? members) + 1, members)
        for spi in stored where holders[spi, default: 0] < wanted && alive.count == members {
            fail("in the end \(holders[spi, default: 0]) nodes hold SPI \(spi), not \(wanted)")
            return
        }
    }

    /// A session that the card lost just now is read again when its next packet comes.
    private func isForCard(_ spi: SPI, _ life: SimulatedNode.Life) -> Bool {
        life.gateway.owns(distribution.identifier(of: spi))
    }

    private func storedAllocation() -> AllocationRecord? {
        let key = StoreKey.allocation
        let reply = store.handle(.read(prefix: key.text), nowNanoseconds: now)
        guard case .pairs(let pairs, _) = reply, let pair = pairs.first else { return nil }
        return pair.value.withUnsafeBytes { octets -> AllocationRecord? in
            guard let plain = try? seal.open(octets, key: key) else { return nil }
            return try? plain.withUnsafeBytes { bytes throws(RecordError) in
                try AllocationRecord(decoding: bytes)
            }
        }
    }
}
