import TestSupport
import Testing

@testable import Cluster

private func nodes(_ numbers: some Sequence<UInt16>) -> [NodeID] { numbers.map { NodeID($0) } }

@Suite struct AllocationTests {
    @Test(arguments: [1, 2, 3, 7, 16], [16, 256, 4096])
    func firstSplitIsEvenAndIndependentOfOrder(nodeCount: UInt16, count: Int) throws {
        var random = SeededGenerator()
        let members = nodes(1...nodeCount)
        let allocation = try Allocation(
            nodes: members.shuffled(using: &random), identifierCount: count)
        #expect(try allocation == Allocation(nodes: members, identifierCount: count))
        #expect(allocation.epoch == 1)
        #expect(allocation.nodes == members)
        #expect(allocation.generations.allSatisfy { $0 == 1 })
        let counts = try countsByFilter(allocation)
        #expect(try #require(counts.max()) - #require(counts.min()) <= 1)
        // Contiguous runs.
        #expect(allocation.owners == allocation.owners.sorted())
    }

    // What would fool us: one lucky sequence. Every step of long random ones is compared with
    // what the step may do, computed here in another way.
    @Test(arguments: [16, 256, 4096])
    func randomJoinsAndLeavesKeepEveryPromise(count: Int) throws {
        var random = SeededGenerator()
        var allocation = try Allocation(nodes: nodes(1...3), identifierCount: count)
        for _ in 0..<120 {
            let before = allocation
            let isJoin =
                before.nodes.count == 1
                || before.nodes.count < 16 && Bool.random(using: &random)
            let strangers = nodes(1...40).filter { !before.nodes.contains($0) }
            let node = try #require(
                (isJoin ? strangers : before.nodes).randomElement(using: &random))
            allocation = isJoin ? try before.adding(node) : try before.removing(node)

            #expect(allocation.epoch == before.epoch + 1)
            #expect(
                Set(allocation.nodes)
                    == Set(before.nodes).symmetricDifference([node]))
            #expect(allocation.nodes == allocation.nodes.sorted())
            let changed = changedIdentifiers(from: before, to: allocation)
            if isJoin {
                // It moves to the new node only, and no more than its share.
                #expect(changed == allocation.identifiers(of: node))
                #expect(changed.count == count / allocation.nodes.count)
            } else {
                #expect(changed == before.identifiers(of: node))
            }
            try expectGenerationsRoseOnly(for: changed, from: before, to: allocation)
            // The first split is even, and every step keeps it so.
            let counts = try countsByFilter(allocation)
            #expect(counts.reduce(0, +) == count)
            #expect(try #require(counts.max()) - #require(counts.min()) <= 1)
        }
    }

    // What would fool us: even allocations hide how an uneven one is treated.
    @Test func leavingFillsThePoorestFirst() throws {
        var allocation = try Allocation(nodes: nodes(1...3), identifierCount: 16)  // 6, 5, 5
        for value in 0..<4 as Range<UInt16> {
            allocation = try allocation.moving(DistributionIdentifier(value), to: NodeID(3))
        }
        #expect(try countsByFilter(allocation) == [2, 5, 9])
        #expect(try countsByFilter(allocation.removing(NodeID(2))) == [7, 9])
        #expect(try countsByFilter(allocation.removing(NodeID(3))) == [8, 8])
        #expect(try countsByFilter(allocation.adding(NodeID(4))) == [2, 5, 5, 4])
    }

    @Test func movingTakesOneIdentifierAndEmptiesNoMembership() throws {
        let first = try Allocation(nodes: nodes(1...16), identifierCount: 16)
        let identifier = DistributionIdentifier(4)
        let moved = try first.moving(identifier, to: NodeID(9))
        #expect(changedIdentifiers(from: first, to: moved) == [identifier])
        #expect(moved.owner(of: identifier) == NodeID(9))
        #expect(moved.generation(of: identifier) == 2)
        #expect(moved.nodes == first.nodes)
        #expect(moved.identifiers(of: NodeID(5)).isEmpty)
        try expectGenerationsRoseOnly(for: [identifier], from: first, to: moved)
    }

    // What would fool us: nothing moves, so nothing seems to need a new generation. But a node
    // that restarted alone has lost its counters.
    @Test func renewingRaisesGenerationsWithoutMoving() throws {
        let first = try Allocation(nodes: nodes(1...2), identifierCount: 16)
        let renewed = try first.renewing(NodeID(2))
        #expect(renewed.owners == first.owners)
        #expect(renewed.epoch == 2)
        try expectGenerationsRoseOnly(
            for: first.identifiers(of: NodeID(2)), from: first, to: renewed)
        let alone = try Allocation(nodes: nodes(1...1), identifierCount: 16).renewing(NodeID(1))
        #expect(alone.generations.allSatisfy { $0 == 2 })
    }

    @Test func impossibleChangesAreRefused() throws {
        let pair = try Allocation(nodes: nodes(1...2), identifierCount: 16)
        let single = try pair.removing(NodeID(1))
        let full = try Allocation(nodes: nodes(1...16), identifierCount: 16)
        let outside = DistributionIdentifier(16)
        let stranger = NodeID(17)
        #expect(throws: ClusterError.noNodes) { try Allocation(nodes: [], identifierCount: 16) }
        #expect(throws: ClusterError.nodeExists(NodeID(2))) {
            try Allocation(nodes: nodes([2, 1, 2]), identifierCount: 16)
        }
        #expect(throws: ClusterError.tooManyNodes(nodes: 17, identifiers: 16)) {
            try Allocation(nodes: nodes(1...17), identifierCount: 16)
        }
        #expect(throws: ClusterError.noNodes) { try single.removing(NodeID(2)) }
        #expect(throws: ClusterError.nodeUnknown(NodeID(1))) { try single.removing(NodeID(1)) }
        #expect(throws: ClusterError.nodeExists(NodeID(2))) { try pair.adding(NodeID(2)) }
        #expect(throws: ClusterError.tooManyNodes(nodes: 17, identifiers: 16)) {
            try full.adding(stranger)
        }
        #expect(throws: ClusterError.nodeUnknown(stranger)) {
            try pair.moving(DistributionIdentifier(0), to: stranger)
        }
        #expect(throws: ClusterError.identifierUnknown(outside, count: 16)) {
            try pair.moving(outside, to: NodeID(1))
        }
        #expect(throws: ClusterError.nodeUnknown(stranger)) { try pair.renewing(stranger) }
    }

    // What would fool us: a generation that wraps to 0 looks new and repeats every nonce.
    @Test func generationsRunOutLoudly() throws {
        var generations = Array(repeating: 1 as UInt16, count: 16)
        generations[3] = .max - 2
        let first = try Allocation(
            epoch: 70_000, nodes: nodes(1...2), owners: Array(repeating: NodeID(1), count: 16),
            generations: generations)
        let identifier = DistributionIdentifier(3)
        let last = try first.moving(identifier, to: NodeID(2))
        #expect(last.generation(of: identifier) == Allocation.lastGeneration)
        #expect(!last.isSpent(identifier) && !last.mayMove(identifier))
        #expect(throws: ClusterError.generationExhausted(identifier)) {
            try last.moving(identifier, to: NodeID(1))
        }
        // A crash asks nobody: the identifier is used up, and does not begin again.
        let spent = try last.removing(NodeID(2))
        #expect(spent.isSpent(identifier))
        let again = try spent.adding(NodeID(3)).removing(NodeID(1))
        #expect(again.generation(of: identifier) == .max)
        // The others can still move.
        #expect(try last.moving(DistributionIdentifier(4), to: NodeID(2)).epoch == 70_002)
    }

    @Test func storedAllocationsAreChecked() throws {
        let good = try Allocation(nodes: nodes(1...3), identifierCount: 16).removing(NodeID(2))
        func stored(
            epoch: UInt64 = 2, nodes: [NodeID]? = nil, owners: [NodeID]? = nil,
            generations: [UInt16]? = nil
        ) throws -> Allocation {
            try Allocation(
                epoch: epoch, nodes: nodes ?? good.nodes, owners: owners ?? good.owners,
                generations: generations ?? good.generations)
        }
        #expect(try stored() == good)
        #expect(throws: ClusterError.allocationMalformed(.epoch)) { try stored(epoch: 0) }
        #expect(throws: ClusterError.allocationMalformed(.epoch)) { try stored(epoch: 1 << 63) }
        #expect(throws: ClusterError.allocationMalformed(.generationCount)) {
            try stored(generations: [1])
        }
        #expect(throws: ClusterError.allocationMalformed(.generationZero)) {
            try stored(generations: Array(repeating: 0, count: 16))
        }
        #expect(throws: ClusterError.nodeUnknown(NodeID(3))) { try stored(nodes: nodes([1, 2])) }
        #expect(throws: ClusterError.identifierCount(1)) { try stored(owners: nodes([1])) }
    }
}

// MARK: - Judging

/// Counted through the public view, not the private tally that the changes work with.
private func countsByFilter(_ allocation: Allocation) throws -> [Int] {
    let lists = allocation.nodes.map { allocation.identifiers(of: $0) }
    // Disjoint and complete (patent claim: the union is the whole range).
    #expect(
        lists.joined().sorted()
            == (0..<allocation.identifierCount).map { DistributionIdentifier(UInt16($0)) })
    return lists.map(\.count)
}

private func changedIdentifiers(
    from before: Allocation, to after: Allocation
) -> [DistributionIdentifier] {
    zip(before.owners, after.owners).enumerated()
        .filter { $0.element.0 != $0.element.1 }
        .map { DistributionIdentifier(UInt16($0.offset)) }
}

private func expectGenerationsRoseOnly(
    for changed: [DistributionIdentifier], from before: Allocation, to after: Allocation
) throws {
    var expected = before.generations
    for identifier in changed { expected[Int(identifier.value)] += 1 }
    #expect(after.generations == expected)
}
