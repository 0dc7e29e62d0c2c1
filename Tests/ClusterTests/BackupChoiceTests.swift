// Who holds the entries of an identifier. Fooled by: a choice that looks balanced over all
// identifiers and is not for the ones that a dead node leaves; one that is stable only for the
// members of one test.

import TestSupport
import Testing

@testable import Cluster

private func record(_ nodes: some Sequence<UInt16>, _ count: Int = 256) throws -> AllocationRecord {
    AllocationRecord(
        try Allocation(nodes: nodes.map { NodeID($0) }, identifierCount: count))
}

private func ids(_ count: Int) -> [DistributionIdentifier] {
    (0..<count).map { DistributionIdentifier(UInt16($0)) }
}

@Suite struct BackupChoiceTests {
    // Computed by a python program from the text of docs/cluster-protocol.md alone.
    @Test func scoresAreThoseOfTheProtocol() {
        let known: [(UInt16, UInt16, UInt64)] = [
            (0, 1, 0x910a_2dec_8902_5cc1), (0, 2, 0x9758_35de_1c97_56ce),
            (1, 1, 0x5f4c_1dac_282d_656f), (7, 3, 0xa924_d7eb_ad36_b5ac),
            (4095, 2, 0x6382_8cbd_9b0c_4f7f),
        ]
        for (identifier, node, score) in known {
            #expect(
                AllocationRecord.score(NodeID(node), DistributionIdentifier(identifier)) == score)
        }
    }

    @Test func everyIdentifierHasItsNumberOfHolders() throws {
        var record = try record(1...7)
        record.successors[3] = NodeID(7)
        for identifier in ids(256) {
            for count in 1...8 {
                let backups = record.backups(of: identifier, count: count)
                let owner = record.allocation.owner(of: identifier)
                #expect(backups.count == min(count, 6) && Set(backups).count == backups.count)
                #expect(!backups.contains(owner))
                for node in record.allocation.nodes {
                    let isHolder = record.isHolder(node, of: identifier, backups: count)
                    let isSuccessor = record.successors[Int(identifier.value)] == node
                    #expect(
                        isHolder == (node == owner || isSuccessor || backups.contains(node)))
                    #expect(record.isHolder(node, of: identifier, backups: nil))
                }
                #expect(!record.isHolder(NodeID(99), of: identifier, backups: count))
            }
        }
    }

    @Test(arguments: [1, 2]) func workIsSpreadEvenly(count: Int) throws {
        let record = try record(1...8, 4096)
        var backed: [NodeID: Int] = [:]
        for identifier in ids(4096) {
            for node in record.backups(of: identifier, count: count) {
                backed[node, default: 0] += 1
            }
        }
        // The mean is 512 for each backup, the standard deviation about 21.
        for node in record.allocation.nodes {
            #expect((420 * count...604 * count).contains(backed[node] ?? 0))
        }
        // Also of what one node leaves behind.
        let next = try record.removing(
            [NodeID(3)], backups: count, mayHaveOverrun: { _ in false }, rules: Rules())
        for node in next.allocation.nodes {
            #expect((512 + 40...512 + 106).contains(next.allocation.identifiers(of: node).count))
        }
    }

    // A departure touches only what the node had; a return restores everything.
    @Test func onlyWhatALeaverHadMoves() throws {
        var random = SeededGenerator()
        let before = try record(1...9)
        for count in 1...3 {
            let leaver = NodeID(UInt16.random(in: 1...9, using: &random))
            let after = try before.removing(
                [leaver], backups: count, mayHaveOverrun: { _ in false }, rules: Rules())
            for identifier in ids(256) {
                let old = before.backups(of: identifier, count: count)
                let new = after.backups(of: identifier, count: count)
                let owner = before.allocation.owner(of: identifier)
                if owner == leaver {
                    // One of its backups owns it now, and one node more backs it.
                    #expect(old.contains(after.allocation.owner(of: identifier)))
                    #expect(Set(new).subtracting(old).count == 1)
                } else {
                    #expect(after.allocation.owner(of: identifier) == owner)
                    #expect(Set(old).subtracting([leaver]).isSubset(of: new))
                    #expect(Set(new).subtracting(old).count == (old.contains(leaver) ? 1 : 0))
                }
            }
        }
    }

    @Test func allBackupsDeadAtOnce() throws {
        let before = try record(1...5)
        let dead = [NodeID(1), NodeID(2), NodeID(4)]
        let after = try before.removing(
            dead, backups: 1, mayHaveOverrun: { _ in false }, rules: Rules())
        for identifier in ids(256) {
            let owner = before.allocation.owner(of: identifier)
            let heir = after.allocation.owner(of: identifier)
            #expect(!dead.contains(heir))
            if !dead.contains(owner) {
                #expect(heir == owner)
                continue
            }
            let backup = before.backups(of: identifier, count: 1)[0]
            #expect(dead.contains(backup) || heir == backup)
            #expect(
                after.allocation.generation(of: identifier)
                    == before.allocation.generation(of: identifier) + 1)
        }
    }

    // What was getting ready anyway comes first, as without backups.
    @Test func successorsComeBeforeBackups() throws {
        var before = try record(1...5)
        let identifier = DistributionIdentifier(0)
        let backup = before.backups(of: identifier, count: 1)[0]
        let other = try #require(
            before.allocation.nodes.first {
                $0 != backup && $0 != before.allocation.owner(of: identifier)
            })
        before.successors[0] = other
        let after = try before.removing(
            [NodeID(1)], backups: 1, mayHaveOverrun: { _ in false }, rules: Rules())
        #expect(after.allocation.owner(of: identifier) == other)
    }

    // A drain moves the same identifiers, each to one of its backups.
    @Test func drainsGiveToBackups() throws {
        let before = try record(1...5)
        let load = ClusterLoad(identifierCount: 256, weights: [NodeID(2): 0])
        var balancing = LoadBalancing()
        balancing.movesMaximum = 256
        let plain = BalancePlan(before, load, balancing, grounds: [])
        let near = BalancePlan(before, load, balancing, grounds: [], backups: 2)
        #expect(
            Set(plain.moves.map(\.identifier.value)) == Set(near.moves.map(\.identifier.value)))
        #expect(near.moves.count > 40)
        for move in near.moves {
            #expect(before.backups(of: move.identifier, count: 2).contains(move.to))
        }
        // And still as evenly as that allows.
        let counts = [1, 3, 4, 5].map { node in near.moves.count { $0.to == NodeID(node) } }
        #expect((counts.min() ?? 0) > 5)
    }
}
