// The workload of `spindle bench lookup`: how long one search takes in the card's store (patent
// Fig. 3), and what filling card and common table costs.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import Wire

/// One row: searches at random among the `entries` sessions of a card, all of them hits.
struct LookupRow: Encodable {
    let entries: Int
    /// One search for an SPI; median in nanoseconds.
    let nanoseconds: Double
    /// The patent's figure for as many entries (Fig. 3), where it gives one.
    let patentNanoseconds: Double?
}

/// What filling costs.
struct LoadRow: Encodable {
    /// `card` (from the common table, as in a failover) or `commonTable`.
    let store: String
    let associations: Int
    let milliseconds: Double
    /// Growth of the process's resident memory.
    let bytesPerAssociation: Double
}

enum LookupBench {
    static let sizes: [(entries: Int, patent: Double?)] = [
        (30_000, 2576), (90_000, 8718), (1_000_000, nil),
    ]

    /// More points, for a line that shows its bends: from the first cache to main memory.
    static let sizesToDraw: [(entries: Int, patent: Double?)] = [
        (1000, nil), (3000, nil), (10_000, nil), (30_000, 2576), (90_000, 8718), (300_000, nil),
        (1_000_000, nil),
    ]

    /// The median over `rounds` rounds.
    static func search(
        entries: Int, patent: Double?, rounds: Int, seed: UInt64
    ) throws -> LookupRow {
        var generator = SeededGenerator(seed: seed)
        var card = CryptoCard(
            capacity: entries, library: try CryptoLibrary(), catalogue: AssociationCatalogue())
        var spis: [UInt32] = []
        while spis.count < entries {
            let spi = SPI(UInt32(truncatingIfNeeded: generator.next()))
            if spi.isReserved || card.holdsSession(for: spi) { continue }
            let association = try BenchTunnel.association(spi: spi, .inbound, seed: seed)
            _ = try card.open(association, distributionIdentifier: 0, ivGeneration: 1)
            spis.append(spi.value)
        }
        // As many searches as entries, so that no part of the store stays in the cache by chance.
        let searches = max(entries, 65_536)
        let wanted = (0..<searches).map { _ in spis[generator.below(entries)] }
        var times: [Double] = []
        for round in 0..<(rounds + 2) {
            let start = monotonicNanoseconds()
            var hits = 0
            for spi in wanted where card.holdsSession(for: SPI(spi)) { hits += 1 }
            let end = monotonicNanoseconds()
            precondition(hits == searches, "every search is a hit")
            if round >= 2 { times.append(Double(end - start) / Double(searches)) }
        }
        return LookupRow(
            entries: entries, nanoseconds: median(times), patentNanoseconds: patent)
    }

    /// Fills a common table with `tableEntries` associations, and a card with the first
    /// `cardSessions` of them.
    static func load(
        tableEntries: Int, cardSessions: Int, seed: UInt64
    ) throws -> (table: LoadRow, card: LoadRow) {
        let catalogue = AssociationCatalogue()
        let library = try CryptoLibrary()
        let distribution = try Distribution(
            cookieKey: CookieKey(multipliers: SIMD4(1, 3, 5, 7), offset: 9))
        let before = residentBytes()
        var table = CommonTable(
            capacity: tableEntries, identifierCount: distribution.identifierCount,
            catalogue: catalogue)
        var entries: [AssociationHandle] = []
        entries.reserveCapacity(cardSessions)
        var spent: UInt64 = 0
        for index in 0..<tableEntries {
            let association = try BenchTunnel.association(
                spi: SPI(UInt32(index) + 256), .inbound, seed: seed)
            let start = monotonicNanoseconds()
            let entry = try table.insert(
                association, identifier: distribution.identifier(of: association.parameters.spi))
            spent += monotonicNanoseconds() - start
            if index < cardSessions { entries.append(entry) }
        }
        let filled = residentBytes()
        var card = CryptoCard(capacity: cardSessions, library: library, catalogue: catalogue)
        let start = monotonicNanoseconds()
        for entry in entries {
            _ = try card.open(copying: entry, from: table.associations, ivGeneration: 1)
        }
        let loaded = monotonicNanoseconds() - start
        let after = residentBytes()
        return (
            LoadRow(
                store: "commonTable", associations: tableEntries,
                milliseconds: Double(spent) / 1e6,
                bytesPerAssociation: Double(filled - before) / Double(tableEntries)),
            LoadRow(
                store: "card", associations: cardSessions, milliseconds: Double(loaded) / 1e6,
                bytesPerAssociation: Double(after - filled) / Double(cardSessions))
        )
    }
}
