// The judge and the accounts that it reads. What would fool us: a judge that is content with a lab
// in which nothing moved, or that looks at the tunnels that were hit only.

import Testing

@testable import Lab

@Suite struct ScenarioJudgeTests {
    private static func outcome(
        _ scenario: Scenario, _ change: (inout [TunnelOutcome]) -> Void = { _ in }
    ) -> ScenarioOutcome {
        var flow = FlowFigures()
        flow.sent = 100
        flow.outage = 12_000_000
        var tunnels = (0..<8).map {
            TunnelOutcome(
                tunnel: $0, isHit: $0 < 3, up: flow, down: flow, rekeys: 0, authentications: 0,
                endings: 0, owners: [])
        }
        change(&tunnels)
        return ScenarioOutcome(
            scenario: scenario, node: 1, begin: 0, end: 1, steps: [], tunnels: tunnels,
            memoryKilobytes: [:], violations: [])
    }

    private static func violations(
        _ scenario: Scenario, _ change: (inout [TunnelOutcome]) -> Void = { _ in }
    ) -> [String] {
        ScenarioJudge.violations(outcome(scenario, change), scenario.limits(nodes: 3))
    }

    @Test(arguments: Scenario.allCases)
    func whatIsGoodIsGood(scenario: Scenario) {
        let rekeyed: (inout [TunnelOutcome]) -> Void = { tunnels in
            for place in 0..<3 where scenario == .rekey { tunnels[place].rekeys = 1 }
        }
        #expect(Self.violations(scenario, rekeyed).isEmpty)
    }

    @Test(arguments: Scenario.allCases)
    func whatMustNotBeIsSeenInTunnelsThatWereNotHit(scenario: Scenario) {
        func finds(_ word: String, _ change: (inout [TunnelOutcome]) -> Void) {
            let found = Self.violations(scenario, change)
            #expect(found.contains { $0.contains(word) && $0.contains("t8") }, "\(found)")
        }
        finds("twice") { $0[7].down.twice = 1 }
        finds("authenticate") { $0[7].authentications = 1 }
        finds("lost an SA") { $0[7].endings = 1 }
        finds("no packet for more than 250 ms") { $0[7].up.outage = 251_000_000 }
        finds("nothing came") { $0[7].up.lost = 100 }
        finds("nothing came") { $0[7].down.sent = 0 }
        guard scenario != .rekey else { return }
        finds("nobody asked for") { $0[7].rekeys = 1 }
    }

    @Test func plannedMovesLoseNothing() {
        for scenario in [Scenario.calm, .drain, .restart] {
            let found = Self.violations(scenario) { $0[7].up.lost = 1 }
            #expect(found == ["1 packets were lost, of which 0 may be"])
        }
        #expect(Self.violations(.kill) { $0[7].up.lost = 1 }.isEmpty)
    }

    @Test func newKeysThatWereAskedForMustCome() {
        #expect(Self.violations(.rekey).contains { $0.contains("exactly once: t1, t2, t3") })
        let twice = Self.violations(.rekey) { tunnels in
            for place in 0..<3 { tunnels[place].rekeys = 2 }
        }
        #expect(twice.contains { $0.contains("exactly once") })
    }

    @Test func manyAreNamedShortly() {
        let found = Self.violations(.calm) { tunnels in
            for place in tunnels.indices { tunnels[place].up.twice = 1 }
        }
        #expect(found == ["packets came twice: t1, t2, t3, t4, t5 and 3 more"])
    }
}

@Suite struct SpindlePeerStateTests {
    private typealias State = SpindlePeerState

    private func kinds(
        _ before: (Set<String>, Set<String>), _ after: (Set<String>, Set<String>)
    ) -> [PeerEvent.Kind] {
        let states = [before, after].map {
            State(["t1": State.Connection(associations: $0.0, pairs: $0.1)])
        }
        return states[1].changes(since: states[0]).map(\.1)
    }

    @Test func changesAreTold() {
        #expect(kinds((["a"], ["1"]), (["a"], ["1"])) == [])
        #expect(kinds(([], []), (["a"], ["1"])) == [.authenticated, .pairAdded])
        #expect(kinds((["a"], ["1"]), (["b"], ["1"])) == [.rekeyedIKE])
        #expect(kinds((["a"], ["1"]), (["a"], ["2"])) == [.rekeyedChild])
        #expect(kinds((["a"], ["1"]), (["b"], ["2"])) == [.authenticated, .rekeyedChild])
        #expect(kinds((["a"], ["1"]), ([], [])) == [.ended, .pairEnded])
        #expect(kinds((["a"], ["1"]), (["a"], [])) == [.pairEnded])
        let gone = State([:]).changes(since: State(["t1": .init(associations: ["a"])]))
        #expect(gone.map(\.0) == ["t1"])
    }
}
