// Load moves in whole clusters. What would fool us: a run in which load moves nothing loses
// nothing.

import Cluster
import Testing

@testable import SimKit

@Suite struct LoadMoveTests {
    private func run(_ seed: UInt64, skew: UInt64) throws -> Simulation {
        var options = SimulationOptions(seed: seed)
        options.nodes = 3
        options.tunnels = 12
        options.faults = []
        options.duration = 6_000_000_000
        options.packetInterval = 16_000_000
        options.linkDelay = 200_000
        options.balancing.reportNanoseconds = 200_000_000
        options.balancing.persistenceNanoseconds = 400_000_000
        options.balancing.intervalNanoseconds = 1_000_000_000
        options.makeUneven(skew)
        let simulation = try Simulation(options)
        simulation.run()
        return simulation
    }

    @Test func loadMovesLoseNothing() throws {
        var moves: UInt64 = 0
        for seed in 1...3 as ClosedRange<UInt64> {
            let simulation = try run(seed, skew: 8)
            #expect(simulation.violations.isEmpty, "\(simulation.violations)")
            let figures = simulation.figures
            #expect(figures.delivered + figures.received == figures.packets)
            #expect(figures.unowned == 0)
            moves += figures.loadMoves
        }
        #expect(moves > 10)
    }

    @Test func busyTunnelsChange() throws {
        let simulation = try run(5, skew: 8)
        let intervals = (0..<12).map { simulation.packetInterval(of: $0) }
        simulation.now = 0
        let early = (0..<12).map { simulation.packetInterval(of: $0) }
        #expect(Set(early + intervals) == [16_000_000, 2_000_000] && early != intervals)
        let even = try run(5, skew: 1)
        #expect((0..<12).allSatisfy { even.packetInterval(of: $0) == 16_000_000 })
    }
}
