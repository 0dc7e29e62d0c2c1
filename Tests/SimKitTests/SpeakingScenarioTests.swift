// Fooled by: a run in which nobody rekeys, moves or dies, and a checker that looks away. Every
// scenario counts what took place; a rule that is switched off must be noticed.

import Cluster
import ESP
import Gateway
import Testing

@testable import SimKit

@Suite struct SpeakingScenarioTests {
    private static let milliseconds: UInt64 = 1_000_000

    private func at(_ time: UInt64) -> UInt64 { time * Self.milliseconds }

    /// A small cluster whose peers speak IKE.
    private func options(
        _ faults: [Fault], with change: (inout SimulationOptions) -> Void = { _ in }
    ) -> SimulationOptions {
        var options = SimulationOptions(seed: 7)
        options.nodes = 3
        options.tunnels = 9
        options.duration = at(5000)
        options.packetInterval = at(10)
        options.faults = faults
        options.ike = SimulatedIKE()
        change(&options)
        return options
    }

    private func run(
        _ faults: Fault..., with change: (inout SimulationOptions) -> Void = { _ in }
    ) throws -> Simulation {
        let simulation = try Simulation(options(faults, with: change))
        simulation.run()
        for violation in simulation.violations {
            Issue.record("\(violation.time) ns: \(violation.text)")
        }
        return simulation
    }

    @Test func allIsRekeyedUnderTraffic() throws {
        let simulation = try run()
        let ike = try #require(simulation.figures.ike)
        #expect(ike.setUps == 9 && ike.records == 9 && ike.losses == 0 && ike.deletes == 0)
        #expect(ike.rekeysOfChildren > 30 && ike.rekeysOfIKE >= 9, "\(ike)")
        #expect(ike.collisions > 0, "\(ike)")
        #expect(simulation.figures.lost == 0 && simulation.figures.packets > 5000)
        #expect(simulation.figures.drops.total == 0)
    }

    @Test func plannedMovesLoseNeitherPacketsNorIKE() throws {
        let simulation = try run(
            Fault(.drain, at: at(1000), duration: at(1500), node: 2),
            Fault(.join, at: at(2800), node: 4)
        ) { $0.packetInterval = 4 * Self.milliseconds }
        let ike = try #require(simulation.figures.ike)
        #expect(ike.adoptions > 3 && ike.setUps == 9 && ike.losses == 0, "\(ike)")
        #expect(simulation.figures.lost == 0)
    }

    @Test func crashesNeedNoNewSetUp() throws {
        let simulation = try run(
            Fault(.crash, at: at(700), duration: at(600), node: 1),
            Fault(.restart, at: at(1300), node: 1),
            Fault(.clusterRestart, at: at(2000), duration: at(500), amount: 0b111),
            Fault(.restart, at: at(2500), node: 1), Fault(.restart, at: at(2500), node: 2),
            Fault(.restart, at: at(2500), node: 3))
        let ike = try #require(simulation.figures.ike)
        #expect(ike.setUps == 9 && ike.losses == 0, "\(ike)")
        #expect(ike.adoptions >= 9, "\(ike)")
        #expect(simulation.figures.outages.maximum > at(500))
    }

    /// While messages are lost, doubled and late, peers take tunnels down, and some come back.
    @Test func peersComeAndGoInDisorder() throws {
        let simulation = try run(
            Fault(.loss, at: at(200), duration: at(2000), amount: 150_000),
            Fault(.duplicate, at: at(300), duration: at(2000), amount: 150_000),
            Fault(.reorder, at: at(400), duration: at(2000), amount: 150_000)
        ) {
            $0.tunnels = 24
            $0.churns = true
        }
        let ike = try #require(simulation.figures.ike)
        #expect(ike.deletes > 0 && simulation.figures.cleared > 0, "\(ike)")
        #expect(ike.setUps > ike.records && ike.losses == 0, "\(ike)")
    }

    @Test(arguments: [1, 3, 5] as [UInt64])
    func ikeMovesBetweenAnyTwoMessages(seed: UInt64) throws {
        let simulation = try run {
            $0.seed = seed
            $0.ike?.restless = 1
        }
        let ike = try #require(simulation.figures.ike)
        #expect(ike.adoptions > 25 && ike.setUps == 9 && ike.losses == 0, "\(ike)")
    }

    @Test func aRunFollowsFromItsSeed() throws {
        func hash(_ seed: UInt64) throws -> UInt64 {
            let simulation = try Simulation(
                options([Fault(.crash, at: at(700), duration: at(600), node: 1)]) {
                    $0.seed = seed
                    $0.duration = at(2000)
                    $0.ike?.restless = 5
                })
            simulation.run()
            return simulation.figures.traceHash
        }
        let first = try hash(3)
        #expect(try first == hash(3))
        #expect(try first != hash(4))
    }

    /// An answer that leaves before its state is in the store is forgotten by the next owner, and
    /// its peer with it. The store is away for a while, and a node dies before it has told it what
    /// it told its peers.
    @Test func aBrokenRuleIsSeen() throws {
        let faults = [
            Fault(.storeOutage, at: at(900), duration: at(1000)),
            Fault(.crash, at: at(1700), duration: at(800), node: 3),
            Fault(.restart, at: at(2500), node: 3),
        ]
        let whole = try Simulation(options(faults))
        whole.run()
        #expect(whole.violations.isEmpty, "\(whole.violations)")
        #if RULE_BREAKS
            let broken = try Simulation(options(faults) { $0.rules.broken = .ikeStored })
            broken.run()
            #expect(!broken.violations.isEmpty)
        #endif
    }
}
