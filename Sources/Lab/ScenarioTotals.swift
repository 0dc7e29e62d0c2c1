// The same scenario many times over, in one line.

public import SimKit

/// All runs of one scenario.
public struct ScenarioTotals: Sendable {
    /// Which one.
    public let scenario: Scenario
    /// How often it was run.
    public let runs: Int
    /// The longest silences of all tunnels that were hit, run by run.
    public let outages: OutageSummary
    /// Packets lost on their way from the peers' sides.
    public let lostUp: Int
    /// Packets lost on their way to the peers' sides.
    public let lostDown: Int
    /// Packets that came twice.
    public let twice: Int
    /// New keys that were made.
    public let rekeys: Int
    /// Times that a peer had to authenticate again.
    public let authentications: Int
    /// Runs in which something was not as it must be.
    public let wrong: Int

    init(_ scenario: Scenario, _ outcomes: [ScenarioOutcome]) {
        self.scenario = scenario
        runs = outcomes.count
        outages = OutageSummary(outcomes.flatMap { $0.affected.map(\.outage) })
        let tunnels = outcomes.flatMap(\.tunnels)
        lostUp = tunnels.reduce(0) { $0 + $1.up.lost }
        lostDown = tunnels.reduce(0) { $0 + $1.down.lost }
        twice = tunnels.reduce(0) { $0 + $1.twice }
        rekeys = tunnels.reduce(0) { $0 + $1.rekeys }
        authentications = tunnels.reduce(0) { $0 + $1.authentications }
        wrong = outcomes.count { !$0.violations.isEmpty }
    }
}

extension LabResult {
    /// One for each scenario that was run, in order of its first run.
    public var totals: [ScenarioTotals] {
        var order: [Scenario] = []
        for outcome in scenarios where !order.contains(outcome.scenario) {
            order.append(outcome.scenario)
        }
        return order.map { scenario in
            ScenarioTotals(scenario, scenarios.filter { $0.scenario == scenario })
        }
    }
}
