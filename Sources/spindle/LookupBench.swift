// The workload of `spindle bench lookup`: how long one search takes in the card's store (patent
// Fig. 3), and what filling card and common table costs.

import Cluster
import Crypto
import CryptoCardSim
import ESP
import Foundation
import Wire

/// One row: searches at random among `entries` entries, all of them hits.
struct LookupRow: Encodable {
    let entries: Int
    /// One search after the other, medians in nanoseconds.
    let nanoseconds: Double
    /// The same in batches of 32, as the packet path does it.
    let batchNanoseconds: Double
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

    /// Medians over `rounds` rounds.
    static func search(entries: Int, patent: Double?, rounds: Int, seed: UInt64) -> LookupRow {
        var generator = SeededGenerator(seed: seed)
        var index = SPIIndex(capacity: entries)
        var spis: [UInt32] = []
        while index.count < entries {
            let spi = SPI(UInt32(truncatingIfNeeded: generator.next()))
            if !spi.isReserved, index.insert(spi, slot: UInt32(index.count)) {
                spis.append(spi.value)
            }
        }
        // As many searches as entries, so that no part of the table stays in the cache by chance.
        let searches = max(entries, 65_536) / 32 * 32
        let wanted = (0..<searches).map { _ in spis[generator.below(entries)] }
        var slots = [UInt32](repeating: 0, count: 32)
        var single: [Double] = []
        var batched: [Double] = []
        for round in 0..<(rounds + 2) {
            let start = monotonicNanoseconds()
            var sum: UInt32 = 0
            for spi in wanted { sum &+= index.find(SPI(spi)) ?? .max }
            let middle = monotonicNanoseconds()
            wanted.withUnsafeBufferPointer { wanted in
                slots.withUnsafeMutableBufferPointer { slots in
                    for first in stride(from: 0, to: searches, by: 32) {
                        index.find(
                            UnsafeBufferPointer(rebasing: wanted[first..<(first + 32)]),
                            into: slots)
                        for slot in slots { sum &-= slot }
                    }
                }
            }
            let end = monotonicNanoseconds()
            precondition(sum == 0, "both ways must find the same slots")
            guard round >= 2 else { continue }
            single.append(Double(middle - start) / Double(searches))
            batched.append(Double(end - middle) / Double(searches))
        }
        return LookupRow(
            entries: entries, nanoseconds: median(single), batchNanoseconds: median(batched),
            patentNanoseconds: patent)
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
            let association = try BenchTunnel.association(index, .inbound, seed: seed)
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

    /// Resident memory of this process (proc(5), statm).
    private static func residentBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
    }
}
