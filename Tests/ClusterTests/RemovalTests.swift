// Crashes: who inherits what, how fast that is decided, and what becomes of identifiers whose
// generations are used up. What would fool us: equal loads, under which any order is good.

import TestSupport
import Testing

@testable import Cluster

private func node(_ number: Int) -> NodeID { NodeID(UInt16(number)) }
private let nobody: @Sendable (NodeID) -> Bool = { _ in false }

@Suite struct RemovalTests {
    @Test func orphansGoWhereLoadIsLow() throws {
        var random = SeededGenerator()
        for _ in 0..<50 {
            let count = Int.random(in: 2...9, using: &random)
            let record = AllocationRecord(
                try Allocation(nodes: (1...count).map(node), identifierCount: 256))
            let load = ClusterLoad(
                costs: (0..<256).map { _ in .random(in: 16...100_000, using: &random) })
            let dead = (1...count).shuffled(using: &random).prefix(
                .random(in: 1..<count, using: &random)
            ).map(node).sorted()
            let next = try record.removing(
                dead, load: load, mayHaveOverrun: nobody, rules: Rules())
            var sums: [NodeID: UInt64] = [:]
            var smallest: [NodeID: UInt64] = [:]
            for place in 0..<256 {
                let (old, new) = (record.allocation.owners[place], next.allocation.owners[place])
                let isOrphan = dead.contains(old)
                #expect(isOrphan ? !dead.contains(new) : new == old, "nothing else moves")
                #expect(next.allocation.generations[place] == (isOrphan ? 2 : 1))
                sums[new, default: 0] += load.costs[place]
                if isOrphan { smallest[new] = min(smallest[new] ?? .max, load.costs[place]) }
            }
            // The last one that a node was given found it lowest: no other is lower without it.
            let lowest = try #require(
                next.allocation.nodes.map { sums[$0] ?? 0 }.min())
            for (heir, cost) in smallest { #expect(try #require(sums[heir]) - cost <= lowest) }
        }
    }

    @Test func drainedNodesInheritOnlyWhenNobodyElseIsThere() throws {
        let record = AllocationRecord(
            try Allocation(nodes: (1...3).map(node), identifierCount: 16))
        var load = ClusterLoad(identifierCount: 16, weights: [node(2): 0])
        var next = try record.removing(
            [node(1)], load: load, mayHaveOverrun: nobody, rules: Rules())
        #expect(
            next.allocation.identifiers(of: node(2)) == record.allocation.identifiers(of: node(2)))
        load.weights[node(3)] = 0
        next = try record.removing([node(1)], load: load, mayHaveOverrun: nobody, rules: Rules())
        #expect(next.allocation.identifiers(of: node(2)).count == 8)
        #expect(throws: ClusterError.noNodes) {
            try record.removing(
                (1...3).map(node), load: load, mayHaveOverrun: nobody, rules: Rules())
        }
        #expect(throws: ClusterError.nodeUnknown(node(9))) {
            try record.removing([node(9)], mayHaveOverrun: nobody, rules: Rules())
        }
    }

    @Test(arguments: [(256, 3), (4096, 64)])
    func removalIsQuick(identifiers: Int, nodes: Int) throws {
        var random = SeededGenerator()
        let record = AllocationRecord(
            try Allocation(nodes: (1...nodes).map(node), identifierCount: identifiers))
        let load = ClusterLoad(
            costs: (0..<identifiers).map { _ in .random(in: 16...100_000, using: &random) })
        var best = Duration.seconds(1)
        for _ in 0..<20 {
            let time = try ContinuousClock().measure {
                _ = try record.removing(
                    [node(2)], load: load, mayHaveOverrun: nobody, rules: Rules())
            }
            best = min(best, time)
        }
        print("\(identifiers) identifiers, \(nodes) nodes: one removal takes \(best)")
        #expect(best < .milliseconds(identifiers == 256 ? 5 : 50), "even unoptimised")
    }

    // MARK: The end of generations

    /// Identifiers 0 and 8 (nodes 1 and 2) are in their last ownership.
    private func nearTheEnd() throws -> AllocationRecord {
        var generations = Array(repeating: 5 as UInt16, count: 16)
        generations[0] = Allocation.lastGeneration
        generations[8] = Allocation.lastGeneration
        return AllocationRecord(
            try Allocation(
                epoch: 200_000, nodes: [node(1), node(2)],
                owners: (0..<16).map { node($0 < 8 ? 1 : 2) }, generations: generations))
    }

    @Test func aCrashMovesTheOthersOn() throws {
        let record = try nearTheEnd()
        let next = try record.removing([node(1)], mayHaveOverrun: nobody, rules: Rules())
        let spent = next.allocation.allIdentifiers.filter(next.allocation.isSpent)
        #expect(spent == [DistributionIdentifier(0)])
        #expect(next.allocation.owners.allSatisfy { $0 == node(2) })
        #expect(next.allocation.generations[1..<8].allSatisfy { $0 == 6 })
        // Its owner may die too: somebody else has it then, under no new generation.
        let three = try next.adding(
            node(3), ClusterLoad(identifierCount: 16), .byCount)
        let later = try three.removing([node(2)], mayHaveOverrun: nobody, rules: Rules())
        #expect(later.allocation.isSpent(DistributionIdentifier(0)))
        #expect(later.allocation.isSpent(DistributionIdentifier(8)))
        for (before, after) in [(record, next), (next, three), (three, later)] {
            // Every node can follow, and who owns what is used up is told so.
            for number in 1...3 {
                let view = try Reallocation(
                    of: node(number), from: before.allocation, to: after.allocation)
                let owner = after.allocation.owner(of: DistributionIdentifier(0))
                let hadIt =
                    before.allocation.owner(of: DistributionIdentifier(0)) == owner
                    && before.allocation.isSpent(DistributionIdentifier(0))
                #expect(
                    view.gained.contains(DistributionIdentifier(0))
                        == (owner == node(number) && !hadIt))
            }
        }
    }

    @Test func noPlanMovesTheLastOwnership() throws {
        let record = try nearTheEnd()
        var load = ClusterLoad(identifierCount: 16)
        load.weights[node(1)] = 0
        let drain = BalancePlan(record, load, LoadBalancing(), grounds: [.load, .demand])
        #expect(drain.moves.map(\.identifier.value) == Array(1..<8))
        #expect(throws: ClusterError.generationExhausted(DistributionIdentifier(8))) {
            try record.planning(DistributionIdentifier(8), to: node(1))
        }
        #expect(throws: ClusterError.nodeUnknown(node(7))) {
            try record.planning(DistributionIdentifier(9), to: node(7))
        }
        // Load stops earlier, and leaves the rest to crashes and drains.
        var generations = Array(repeating: LoadBalancing().generationReserve, count: 16)
        generations[3] -= 1
        let reserved = AllocationRecord(
            try Allocation(
                epoch: 9, nodes: [node(1), node(2)],
                owners: (0..<16).map { node($0 < 12 ? 1 : 2) }, generations: generations))
        let moves = BalancePlan(
            reserved, ClusterLoad(identifierCount: 16), LoadBalancing(), grounds: .load
        ).moves
        #expect(moves.allSatisfy { $0.identifier == DistributionIdentifier(3) })
    }

    @Test func renewingTheLastOwnershipEndsIt() throws {
        let next = try nearTheEnd().renewing(node(1))
        #expect(next.allocation.isSpent(DistributionIdentifier(0)))
        #expect(!next.allocation.isSpent(DistributionIdentifier(8)))
        let again = try next.renewing(node(1))
        #expect(again.allocation.generation(of: DistributionIdentifier(0)) == .max)
    }
}
