// Fooled by: a scenario in which nothing happens, a run that depends on the machine, a checker that
// sees nothing. Every scenario names what once went wrong, or what the cluster is for, and shows
// that it took place.

import Cluster
import ESP
import Gateway
import Testing

@testable import SimKit

@Suite struct ScenarioTests {
    private static let milliseconds: UInt64 = 1_000_000

    /// A small cluster with links of 1 ms and these faults.
    private func run(
        nodes: Int = 3, tunnels: Int = 12, seconds: UInt64 = 4, _ faults: Fault...,
        with change: (inout SimulationOptions) -> Void = { _ in }
    ) throws -> Simulation {
        var options = SimulationOptions(seed: 7)
        options.nodes = nodes
        options.tunnels = tunnels
        options.duration = seconds * 1000 * Self.milliseconds
        options.packetInterval = 10 * Self.milliseconds
        options.faults = faults
        change(&options)
        let simulation = try Simulation(options)
        simulation.run()
        for violation in simulation.violations {
            Issue.record("\(violation.time) ns: \(violation.text)")
        }
        #expect(simulation.figures.established == tunnels)
        return simulation
    }

    /// With `strict`, what a successor refuses must pass before the run is over.
    private func follow(_ policy: TakeoverPolicy, _ options: inout SimulationOptions) {
        options.policy = policy
        guard policy == .strict else { return }
        var sizing = LeaseSizing(policy: .strict)
        sizing.receiveMinimum = 8
        sizing.receiveStart = 4
        sizing.receiveAllowance = 8
        sizing.receiveHorizonNanoseconds = at(100)
        options.leaseSizing = sizing
    }

    private func at(_ time: UInt64) -> UInt64 { time * Self.milliseconds }

    @Test func aRunFollowsFromItsSeed() throws {
        var options = SimulationOptions.drawn(seed: 3)
        options.duration = at(3000)
        let first = try Simulation(options)
        first.run()
        let second = try Simulation(options)
        second.run()
        #expect(first.figures.traceHash == second.figures.traceHash)
        #expect(first.figures.packets > 1000)
        options.seed = 4
        let other = try Simulation(options)
        other.run()
        #expect(first.figures.traceHash != other.figures.traceHash)
    }

    @Test func aCrashIsAShortOutage() throws {
        let simulation = try run(Fault(.crash, at: at(1000), duration: at(3000), node: 1))
        // Longer than the detection time, or there was no crash.
        #expect(simulation.figures.outages.maximum > at(30))
        #expect(simulation.figures.outages.maximum < at(150))
        #expect(simulation.figures.reallocations > 3)
    }

    @Test func aPairFailsOverToo() throws {
        let simulation = try run(
            nodes: 2, Fault(.crash, at: at(1000), duration: at(3000), node: 2))
        #expect(simulation.figures.outages.maximum > at(30))
        #expect(simulation.figures.outages.maximum < at(150))
    }

    /// The sleeper must not serve a single packet after it woke up.
    @Test func whoWakesUpIsFenced() throws {
        let simulation = try run(
            Fault(.pause, at: at(1000), duration: at(1500), node: 1),
            Fault(.pause, at: at(1200), duration: at(500), node: 2))
        #expect(simulation.figures.outages.maximum > at(30))
        #expect(simulation.figures.delivered > 1000)
    }

    @Test func theLastSurvivorServesAll() throws {
        let simulation = try run(
            nodes: 4, seconds: 6,
            Fault(.multiCrash, at: at(1000), duration: at(2500), amount: 0b0111),
            Fault(.restart, at: at(3400), node: 1), Fault(.restart, at: at(3450), node: 2),
            Fault(.restart, at: at(3500), node: 3))
        #expect(simulation.figures.outages.maximum > at(100))
        #expect(simulation.figures.outages.maximum < at(5000))
    }

    @Test(arguments: TakeoverPolicy.allCases)
    func aRestartedClusterKeepsItsTunnels(_ policy: TakeoverPolicy) throws {
        let simulation = try run(
            seconds: 8, Fault(.clusterRestart, at: at(1000), duration: at(500), amount: 0b111),
            Fault(.restart, at: at(1500), node: 1), Fault(.restart, at: at(1500), node: 2),
            Fault(.restart, at: at(1500), node: 3)
        ) { follow(policy, &$0) }
        #expect(simulation.figures.outages.maximum > at(500))
    }

    /// What was recorded before a crash is sent again to the new owner.
    @Test(arguments: TakeoverPolicy.allCases)
    func replaysAfterATakeoverAreRefusedOrCounted(_ policy: TakeoverPolicy) throws {
        let simulation = try run(
            Fault(.crash, at: at(1500), duration: at(2000), node: 1),
            Fault(.replayAttack, at: at(1550), duration: at(50), amount: 2000)
        ) { follow(policy, &$0) }
        let figures = simulation.figures
        #expect(figures.replayed > 1000)
        #expect(figures.drops[.replayed] + figures.drops[.tooOld] > 500)
        #expect(figures.duplicates <= figures.exposed)
        if policy == .strict { #expect(figures.duplicates == 0) }
    }

    @Test func plannedMovesLoseNothing() throws {
        let simulation = try run(
            seconds: 6, Fault(.drain, at: at(1000), duration: at(1500), node: 2),
            Fault(.join, at: at(2800), node: 4)
        ) { $0.packetInterval = 2 * Self.milliseconds }
        #expect(simulation.figures.drops.total == 0)
        #expect(simulation.figures.counters.held > 0)
    }

    /// Votes come back in time though the way there and back is as long as an interval.
    @Test(arguments: [2, 3]) func shortHeartbeatsServeWithoutAGap(_ nodes: Int) throws {
        for seed in 1...4 as ClosedRange<UInt64> {
            let simulation = try run(nodes: nodes, seconds: 2) {
                $0.seed = seed
                $0.startSpread = 2 * Self.milliseconds
                $0.timing.heartbeatNanoseconds = 2 * Self.milliseconds
                $0.packetInterval = Self.milliseconds
                $0.linkDelay = Self.milliseconds
                $0.jitter = 100_000
            }
            #expect(simulation.figures.drops.total == 0)
            #expect(simulation.figures.delivered > 20_000)
        }
    }

    /// A successor that has loaded sessions for a move which is called off, and then crashes.
    @Test func aMoveThatIsCalledOffLeavesNoStaleSession() throws {
        let simulation = try run(
            nodes: 4, seconds: 5, Fault(.drain, at: at(1000), duration: at(4), node: 2),
            Fault(.crash, at: at(1006), duration: at(2500), node: 2),
            Fault(.drain, at: at(1200), duration: at(6), node: 3),
            Fault(.crash, at: at(1208), duration: at(1500), node: 1))
        #expect(simulation.figures.outages.maximum > at(30))
    }

    /// Owners go on beyond their leases while all agree that the store is away; then one dies.
    @Test func aCrashAfterAStoreOutageReusesNoNumber() throws {
        let simulation = try run(
            seconds: 8, Fault(.storeOutage, at: at(1000), duration: at(2500)),
            Fault(.crash, at: at(3502), duration: at(3000), node: 1)
        ) {
            $0.leaseSizing = LeaseSizing(policy: .learn)
            $0.leaseSizing?.sendMinimum = 32
            $0.leaseSizing?.sendStart = 32
            $0.leaseSizing?.horizonNanoseconds = at(100)
        }
        // Traffic went on while the store was away.
        #expect(simulation.figures.outages.median < at(1000))
    }

    @Test func aNewcomerWithoutAPeerRemovesNobody() throws {
        let simulation = try run(
            nodes: 1, seconds: 5, Fault(.join, at: at(500), node: 2),
            Fault(.partition, at: at(505), duration: at(700), node: 2))
        #expect(simulation.figures.outages.maximum < at(400))
    }

    /// Changes come that the broken watch never showed.
    @Test func aWatchThatWasLostIsMadeUpFor() throws {
        let simulation = try run(
            tunnels: 30, seconds: 6,
            Fault(.storeCompaction, at: at(500), duration: at(2000), node: 1),
            Fault(.storePartition, at: at(800), duration: at(1500), node: 2)
        ) { $0.churns = true }
        #expect(simulation.figures.cleared > 0)
    }

    /// So much is lost on the way that a peer is beyond its receive lease.
    @Test func aPeerThatIsFarAheadComesBack() throws {
        let simulation = try run(
            seconds: 6, Fault(.loss, at: at(500), duration: at(2000), amount: 970_000)
        ) {
            $0.leaseSizing = LeaseSizing(policy: .strict)
            $0.policy = .strict
            $0.leaseSizing?.receiveMinimum = 8
            $0.leaseSizing?.receiveStart = 4
            $0.leaseSizing?.receiveHorizonNanoseconds = at(50)
            $0.packetInterval = 2 * Self.milliseconds
        }
        #expect(simulation.figures.drops[.leaseEnded] > 0)
    }

    @Test func clocksMayDrift() throws {
        let simulation = try run(
            seconds: 6, Fault(.drift, at: at(100), duration: at(4000), node: 1, amount: 999_500),
            Fault(.drift, at: at(100), duration: at(4000), node: 2, amount: 1_000_500),
            Fault(.partition, at: at(1500), duration: at(900), node: 1),
            Fault(.oneWay, at: at(3000), duration: at(500), node: 2))
        // Founded, and taken over from who was cut off, on each node that saw it.
        #expect(simulation.figures.reallocations >= 5)
    }

    @Test func aBrokenRuleIsSeen() throws {
        #if RULE_BREAKS
            var options = SimulationOptions.drawn(seed: 1)
            options.rules.broken = .handoverAwaited
            let simulation = try Simulation(options)
            simulation.run()
            #expect(!simulation.violations.isEmpty)
        #endif
    }
}
