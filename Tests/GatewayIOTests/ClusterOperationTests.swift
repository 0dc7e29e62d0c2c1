// What operators ask of a cluster. What would fool us: an answer before it is true (so when the
// operation says that it is done, the store's allocation is looked at), and one that never comes
// (so each of these ends by the nodes' own clock).

import Cluster
import Crypto
import ESP
import Testing
import Wire

@testable import Gateway
@testable import GatewayIO

@Suite struct ClusterOperationTests {
    private func cluster(_ nodes: Int) throws -> InProcessCluster {
        let template = GatewayConfiguration(
            node: NodeID(1),
            distribution: try Distribution(
                identifierCount: 64,
                cookieKey: CookieKey(
                    multipliers: SIMD4(0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F),
                    offset: 0x1234)))
        var small = template
        small.cardCapacity = 16
        small.tableCapacity = 64
        return try InProcessCluster(nodes: nodes, template: small, library: CryptoLibrary())
    }

    /// Asks one node, lets time pass until the operation ends, and returns how it did.
    private func run(
        _ goal: ClusterOperation.Goal, at place: Int, of cluster: InProcessCluster,
        seconds: Int = 20
    ) throws -> (end: ClusterOperation.Step, reports: [String]) {
        let member = cluster.members[place]
        var operation = try ClusterOperation(
            goal, &member.gateway, seconds: seconds, nowNanoseconds: cluster.clock)
        var reports: [String] = []
        var end: ClusterOperation.Step?
        let latest = cluster.clock + UInt64(seconds + 1) * 1_000_000_000
        cluster.onStep = {
            guard end == nil else { return }
            switch operation.step(&member.gateway, nowNanoseconds: cluster.clock) {
            case .waits: break
            case .reports(let text): reports.append(text)
            case .isDone(let text): end = .isDone(text)
            case .fails(let text): end = .fails(text)
            }
        }
        defer { cluster.onStep = nil }
        try cluster.settle { _ in end != nil || cluster.clock > latest }
        return (try #require(end, "it has no end"), reports)
    }

    private func owned(_ cluster: InProcessCluster) -> [Int] {
        cluster.members.map { member in
            let owners = cluster.members[0].gateway.allocation?.owners ?? []
            return owners.count { $0 == member.node }
        }
    }

    /// Whichever node is asked: the drained one, the one that decides, or another.
    @Test(arguments: 0..<3)
    func drainsAndComesBack(asked: Int) throws {
        let cluster = try cluster(3)
        let drained = try run(.drain(NodeID(2)), at: asked, of: cluster)
        #expect(drained.end == .isDone("node 2 has nothing left, and may be stopped"))
        #expect(owned(cluster)[1] == 0 && owned(cluster).reduce(0, +) == 64)
        // Again: nothing is left to do.
        let again = try run(.drain(NodeID(2)), at: asked, of: cluster)
        #expect(again.end == drained.end)
        let back = try run(.weight(NodeID(2), nil), at: asked, of: cluster)
        guard case .isDone(let text) = back.end else {
            Issue.record("\(back.end)")
            return
        }
        #expect(text == "node 2 has weight 1, and \(owned(cluster)[1]) identifiers")
        #expect(owned(cluster)[1] >= 20)
    }

    @Test(arguments: 0..<2)
    func movesOneIdentifier(asked: Int) throws {
        let cluster = try cluster(2)
        for target in [NodeID(2), NodeID(1), NodeID(1)] {
            let moved = try run(.move(DistributionIdentifier(5), target), at: asked, of: cluster)
            #expect(moved.end == .isDone("identifier 5 is node \(target)'s"))
            let owner = cluster.members[1].gateway.allocation?.owner(of: DistributionIdentifier(5))
            #expect(owner == target)
        }
    }

    /// The nodes of this cluster have no load, so nothing is to be evened; the end says what is.
    @Test func aRestingClusterIsEven() throws {
        let cluster = try cluster(3)
        for identifier in UInt16(0)..<4 {
            _ = try run(
                .move(DistributionIdentifier(identifier), NodeID(3)), at: 0, of: cluster)
        }
        let even = try run(.rebalance, at: 1, of: cluster)
        let counts = owned(cluster)
        #expect(
            even.end
                == .isDone(
                    "the load is as even as it can be: node 1 has \(counts[0]), node 2 has "
                        + "\(counts[1]), node 3 has \(counts[2]) identifiers"))
    }

    /// Weights count when shares are given.
    @Test func sharesFollowWeights() throws {
        let cluster = try cluster(3)
        let heavy = try run(.weight(NodeID(2), 3), at: 1, of: cluster)
        guard case .isDone = heavy.end else {
            Issue.record("\(heavy.end)")
            return
        }
        let before = owned(cluster)
        _ = try run(.drain(NodeID(1)), at: 0, of: cluster)
        #expect(owned(cluster) == [0, before[0] + before[1], before[2]], "node 2 lacks most")
    }

    // MARK: What can't be

    private func refusal(
        _ goal: ClusterOperation.Goal, _ cluster: InProcessCluster
    ) throws -> String? {
        do throws(ClusterOperation.Refusal) {
            _ = try ClusterOperation(
                goal, &cluster.members[0].gateway, seconds: 5, nowNanoseconds: cluster.clock)
            return nil
        } catch {
            return error.text
        }
    }

    @Test func refusesWhatCanNotBe() throws {
        let cluster = try cluster(2)
        let unknown = "there is no node 7 in the cluster: choose one of 1, 2"
        #expect(try refusal(.drain(NodeID(7)), cluster) == unknown)
        #expect(try refusal(.weight(NodeID(7), 2), cluster) == unknown)
        #expect(try refusal(.move(DistributionIdentifier(1), NodeID(7)), cluster) == unknown)
        let beyond = try #require(
            try refusal(.move(DistributionIdentifier(64), NodeID(2)), cluster))
        #expect(beyond.contains("64"))
        _ = try run(.drain(NodeID(2)), at: 0, of: cluster)
        let last = try #require(try refusal(.drain(NodeID(1)), cluster))
        #expect(last.hasPrefix("no other member would take what node 1 has"))
        let drained = try #require(
            try refusal(.move(DistributionIdentifier(1), NodeID(2)), cluster))
        #expect(drained.hasPrefix("node 2 is being drained"))
    }

    /// A store that is gone: the operator hears so, and is not kept longer than was asked for.
    @Test func saysWhatHoldsItUp() throws {
        let cluster = try cluster(2)
        let gateway = cluster.members[0]
        var operation = try ClusterOperation(
            .drain(NodeID(2)), &gateway.gateway, seconds: 3, nowNanoseconds: cluster.clock)
        // Nothing is carried any more: no request is answered, and nobody is heard.
        var now = cluster.clock
        var reports: [String] = []
        var end: String?
        while end == nil, now < cluster.clock + 10_000_000_000 {
            now += 10_000_000
            gateway.gateway.tick(nowNanoseconds: now)
            _ = gateway.gateway.takeOutputs()
            switch operation.step(&gateway.gateway, nowNanoseconds: now) {
            case .waits: break
            case .reports(let text): reports.append(text)
            case .isDone(let text), .fails(let text): end = text
            }
        }
        #expect(now - cluster.clock <= 3_050_000_000)
        #expect(reports == Array(repeating: Self.away, count: reports.count) && reports.count >= 2)
        #expect(
            end == "not done within 3 s, and the cluster goes on with it: " + Self.away)
    }

    private static let away = "the store does not answer: nothing moves until it does"
}
