// Fooled by: faults that reach into the quiet part, nodes that are stopped twice or never started
// again, kinds that are never drawn.

import SimKit
import Testing

@Suite struct FaultPlanTests {
    private let second: UInt64 = 1_000_000_000

    private func plans(
        _ kinds: [FaultKind], nodes: Int, seconds: UInt64 = 10, count: UInt64 = 300
    ) -> [[Fault]] {
        (0..<count).map {
            FaultPlan.draw(
                SimulationRandom(seed: $0), kinds: kinds, nodes: nodes, duration: seconds * second)
        }
    }

    @Test func everyKindIsDrawnAndTheLastPartIsQuiet() {
        var seen = Set<FaultKind>()
        for nodes in [1, 2, 5] {
            for plan in plans(FaultKind.allCases, nodes: nodes) {
                #expect(!plan.isEmpty && plan.map(\.at) == plan.map(\.at).sorted())
                for fault in plan {
                    seen.insert(fault.kind)
                    #expect(fault.end <= 6 * second)
                    let last = fault.kind == .join ? nodes + 2 : nodes
                    #expect((0...last).contains(fault.node) && (0...nodes).contains(fault.other))
                    #expect(fault.node == 0 || fault.node != fault.other)
                    #expect(!fault.description.isEmpty)
                }
                let joined = plan.filter { $0.kind == .join }.map(\.node)
                #expect(Set(joined).count == joined.count && !joined.contains { $0 <= nodes })
            }
        }
        #expect(seen == Set(FaultKind.allCases))
    }

    /// Walks through time and keeps count of who is up.
    @Test func nodesAreStoppedWhenUpAndStartedWhenDown() {
        for plan in plans(FaultKind.allCases, nodes: 4) {
            var down = Set<Int>()
            var pausedUntil = [UInt64](repeating: 0, count: 5)
            for fault in plan {
                let stopped: [Int]
                switch fault.kind {
                case .crash, .pause: stopped = [fault.node]
                case .multiCrash, .clusterRestart: stopped = fault.nodes
                case .restart:
                    #expect(down.remove(fault.node) != nil)
                    continue
                default: continue
                }
                for node in stopped {
                    #expect((1...4).contains(node) && !down.contains(node))
                    #expect(fault.at > pausedUntil[node])
                    if fault.kind == .pause {
                        pausedUntil[node] = fault.end
                    } else {
                        down.insert(node)
                    }
                }
                if fault.kind == .multiCrash { #expect((2...3).contains(stopped.count)) }
                if fault.kind == .clusterRestart { #expect(stopped == [1, 2, 3, 4]) }
            }
            #expect(down.isEmpty)
        }
    }

    @Test func crashesAreOneAtATime() {
        for plan in plans([.crash], nodes: 5) {
            for (index, fault) in plan.enumerated() {
                #expect(fault.kind == (index % 2 == 0 ? .crash : .restart))
                if index % 2 == 1 { #expect(fault.node == plan[index - 1].node) }
            }
        }
    }

    @Test func twoFaultsOfOneKindNeverHitOnePlace() {
        let links: Set<FaultKind> = [
            .partition, .oneWay, .loss, .delay, .duplicate, .reorder, .burst,
        ]
        for plan in plans(FaultKind.allCases, nodes: 4) {
            for (index, one) in plan.enumerated() where one.kind != .restart {
                for two in plan[(index + 1)...] where two.kind == one.kind && two.at <= one.end {
                    #expect(one.node != 0 && two.node != 0)
                    if links.contains(one.kind) {
                        #expect(one.other != 0 && two.other != 0)
                        #expect(Set([one.node, one.other]) != Set([two.node, two.other]))
                    } else {
                        #expect(one.node != two.node)
                    }
                }
            }
        }
    }

    @Test func aPlanFollowsFromItsSeed() {
        let first = plans(FaultKind.allCases, nodes: 3)
        #expect(first == plans(FaultKind.allCases, nodes: 3))
        #expect(Set(first).count > 290)
        #expect(plans([], nodes: 3, count: 1) == [[]])
        #expect(plans([.restart, .multiCrash], nodes: 1, count: 1) == [[]])
        #expect(plans(FaultKind.allCases, nodes: 3, seconds: 0, count: 1) == [[]])
        // The shortest run that has a busy part at all.
        for seed in 0..<200 as Range<UInt64> {
            let plan = FaultPlan.draw(
                SimulationRandom(seed: seed), kinds: FaultKind.allCases, nodes: 3, duration: 100)
            #expect(plan.allSatisfy { $0.end <= 60 })
        }
    }

    @Test func faultsAreToldInPlainWords() {
        let pause = Fault(.pause, at: 12_345_678, duration: 400_000_000, node: 2)
        #expect("\(pause)" == "12.3 ms: node 2 stops for 400 ms")
        let loss = Fault(
            .loss, at: 2_000_000_000, duration: 1_500_000_000, node: 1, other: 3, amount: 12_500)
        #expect(
            "\(loss)"
                == "2000.0 ms: the link from node 1 to 3 loses 1.2 % of the packets for 1.5 s")
        let cut = Fault(.partition, at: 0, duration: 1500, node: 3)
        #expect("\(cut)" == "0.0 ms: node 3 is cut off from all for 1.5 us")
        let many = Fault(.multiCrash, at: 0, duration: 2_000_000, amount: 0b1011)
        #expect("\(many)" == "0.0 ms: nodes 1, 2, 4 crash for up to 2 ms")
        let drift = Fault(.drift, at: 0, duration: 1, node: 1, amount: 999_800)
        #expect("\(drift)" == "0.0 ms: the clock of node 1 runs 200 ppm slow for 1 ns")
    }
}
