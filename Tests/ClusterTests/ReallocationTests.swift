import TestSupport
import Testing

@testable import Cluster

private let one = NodeID(1)
private let two = NodeID(2)
private let three = NodeID(3)
private let identifier = DistributionIdentifier(0)

@Suite struct ReallocationTests {
    // What would fool us: each node's view is right by itself, but two nodes gain one identifier,
    // or nobody does.
    @Test func viewsOfAllNodesFitTogether() throws {
        var random = SeededGenerator()
        var before = try Allocation(nodes: [one, two, three], identifierCount: 64)
        for _ in 0..<100 {
            var after = before
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let node = try #require(after.nodes.randomElement(using: &random))
                let number = UInt16.random(in: 0..<64, using: &random)
                after = try after.moving(DistributionIdentifier(number), to: node)
            }
            let views = try before.nodes.map { try Reallocation(of: $0, from: before, to: after) }
            let renewed = zip(before.generations, after.generations).enumerated()
                .filter { $0.element.0 != $0.element.1 }
                .map { DistributionIdentifier(UInt16($0.offset)) }
            #expect(views.flatMap(\.gained).sorted() == renewed)
            #expect(views.flatMap(\.lost).sorted() == renewed)
            for view in views {
                #expect(view.gained.allSatisfy { after.owner(of: $0) == view.node })
                #expect(view.lost.allSatisfy { before.owner(of: $0) == view.node })
                #expect(view.gained == view.gained.sorted() && view.lost == view.lost.sorted())
                #expect(view.epochBefore == before.epoch && view.epochAfter == after.epoch)
            }
            for move in try Reallocation.moves(from: before, to: after) {
                #expect(move.from != move.to)
                #expect(before.owner(of: move.identifier) == move.from)
                #expect(after.owner(of: move.identifier) == move.to)
            }
            before = after
        }
    }

    @Test func nodeThatNeitherGainsNorLosesDoesNothing() throws {
        let before = try Allocation(nodes: [one, two, three], identifierCount: 16)
        let after = try before.moving(identifier, to: two)
        #expect(try Reallocation(of: three, from: before, to: after).isUnchanged)
        #expect(try Reallocation(of: one, from: before, to: before).isUnchanged)
        let loser = try Reallocation(of: one, from: before, to: after)
        #expect(loser.lost == [identifier] && loser.gained.isEmpty && !loser.isUnchanged)
        let winner = try Reallocation(of: two, from: before, to: after)
        #expect(winner.gained == [identifier] && winner.lost.isEmpty && !winner.isUnchanged)
        #expect(
            try Reallocation.moves(from: before, to: after)
                == [Reallocation.Move(identifier: identifier, from: one, to: two)])
    }

    @Test func startingAndLeavingNodesGainOrLoseEverything() throws {
        let before = try Allocation(nodes: [one, two], identifierCount: 16)
        let start = try Reallocation(of: one, from: nil, to: before)
        #expect(start.gained == before.identifiers(of: one))
        #expect(start.lost.isEmpty && start.epochBefore == 0)
        let gone = try Reallocation(of: one, from: before, to: before.removing(one))
        #expect(gone.lost == before.identifiers(of: one))
        #expect(gone.gained.isEmpty)
    }

    // What would fool us: the owner is the same before and after. In between another node may have
    // moved the window and the numbers on, so what the card holds is stale.
    @Test func ownershipThatWentAwayAndCameBackIsLostAndGained() throws {
        let before = try Allocation(nodes: [one, two], identifierCount: 16)
        let after = try before.moving(identifier, to: two).moving(identifier, to: one)
        let view = try Reallocation(of: one, from: before, to: after)
        #expect(view.lost == [identifier] && view.gained == [identifier])
        #expect(try Reallocation(of: two, from: before, to: after).isUnchanged)
        #expect(try Reallocation.moves(from: before, to: after).isEmpty)
        let renewal = try Reallocation(of: two, from: before, to: before.renewing(two))
        #expect(renewal.lost == before.identifiers(of: two) && renewal.gained == renewal.lost)
    }

    @Test func allocationsThatCannotFollowAreRefused() throws {
        let first = try Allocation(nodes: [one, two], identifierCount: 16)
        let second = try first.moving(identifier, to: two)
        let fork = try first.renewing(one)
        let other = try Allocation(nodes: [one, two], identifierCount: 32).renewing(one).renewing(
            one)
        #expect(throws: ClusterError.allocationStale(inForce: 2, offered: 1)) {
            try Reallocation(of: one, from: second, to: first)
        }
        #expect(throws: ClusterError.allocationForked(epoch: 2)) {
            try Reallocation(of: one, from: second, to: fork)
        }
        #expect(throws: ClusterError.identifierCountDiffers(inForce: 16, offered: 32)) {
            try Reallocation.moves(from: second, to: other)
        }
        let older = try Allocation(
            epoch: 9, nodes: first.nodes, owners: second.owners, generations: first.generations)
        #expect(
            throws: ClusterError.generationNotRaised(identifier, inForce: 2, offered: 1)
        ) {
            try Reallocation(of: one, from: second, to: older)
        }
        // A new owner under the old generation: the nonces of the old owner would come again.
        #expect(
            throws: ClusterError.generationNotRaised(identifier, inForce: 1, offered: 1)
        ) {
            try Reallocation(of: one, from: first, to: older)
        }
    }

    @Test(
        arguments: [
            .identifierCount(3), .cookieKeyLength(bytes: 3), .noNodes,
            .tooManyNodes(nodes: 17, identifiers: 16), .nodeExists(one), .nodeUnknown(one),
            .identifierUnknown(identifier, count: 16),
            .generationExhausted(identifier), .allocationMalformed(.generationZero),
            .allocationStale(inForce: 2, offered: 1), .allocationForked(epoch: 2),
            .identifierCountDiffers(inForce: 16, offered: 32),
            .generationNotRaised(identifier, inForce: 2, offered: 1),
        ] as [ClusterError])
    func errorTextIsOneLineThatSaysWhatToDo(error: ClusterError) {
        let parts = "\(error)".split(separator: ": ")
        #expect(parts.count == 2)
        #expect(!"\(error)".contains("\n"))
    }
}
