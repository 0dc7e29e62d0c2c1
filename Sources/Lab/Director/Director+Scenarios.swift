// What happens to the nodes.

internal import Glibc
internal import SimKit

extension Director {
    /// Packets that left before a scenario ended have so long to come.
    private static let stragglerSeconds = 0.6

    /// Has something happen, waits until all is well again, and judges it.
    func perform(_ scenario: Scenario) throws(LabError) {
        let before = shares()
        let eventsBefore = events.count
        let (straysBefore, copiesBefore) = (ledger.strays, ledger.copiesOfSettled)
        var outcome = ScenarioOutcome(
            scenario: scenario, node: nil, begin: 0, end: 0, steps: [], tunnels: [],
            memoryKilobytes: [:], violations: [])
        let begin = monotonicNanoseconds()
        try act(scenario, &outcome)
        let isSteady = try waitUntilSteady()
        if !isSteady { note("not steady after 20 s", &outcome) }
        let end = monotonicNanoseconds()
        try pass(seconds: Self.stragglerSeconds)
        outcome.begin = relative(begin)
        outcome.end = relative(end)
        let hit = outcome.node.flatMap { before[$0] } ?? []
        let noted = events[eventsBefore...]
        outcome.tunnels = plan.tunnels.map { tunnel in
            let place = tunnel.place
            let own = noted.filter { $0.tunnel == place }
            return TunnelOutcome(
                tunnel: place, isHit: hit.contains(place),
                up: ledger.figures(place, .up, from: begin, until: end),
                down: ledger.figures(place, .down, from: begin, until: end),
                rekeys: own.count { $0.kind == .rekeyedChild || $0.kind == .rekeyedIKE },
                authentications: own.count { $0.kind == .authenticated },
                endings: own.count { $0.kind == .ended || $0.kind == .pairEnded },
                owners: owners(of: place, from: begin, until: end))
        }
        for node in nodes { outcome.memoryKilobytes[node.place.name] = node.memoryKilobytes }
        let limits = scenario.limits(nodes: options.nodes)
        outcome.violations = ScenarioJudge.violations(outcome, limits)
        if ledger.strays > straysBefore {
            outcome.violations.append(
                "\(ledger.strays - straysBefore) packets came changed, or out of a wrong tunnel")
        }
        if ledger.copiesOfSettled > copiesBefore {
            outcome.violations.append(
                "\(ledger.copiesOfSettled - copiesBefore) packets of earlier scenarios came again")
        }
        if !isSteady {
            let silent = silentNames()
            outcome.violations.append(
                silent.isEmpty
                    ? "tunnels still change nodes after 20 s"
                    : "no packets after 20 s: \(silent)")
        }
        outcomes.append(outcome)
        settle(before: begin)
        say(outcome.sentence)
    }

    /// Faults by chance, until the time is over.
    func soak() throws(LabError) {
        let end = monotonicNanoseconds() + UInt64(options.soakSeconds) * 1_000_000_000
        let faults = Scenario.allCases.filter {
            $0 != .calm && $0 != .restart && (isCluster || !$0.needsCluster)
        }
        while monotonicNanoseconds() < end {
            try perform(faults[Int(random.below(UInt64(faults.count)))])
            if nodes.contains(where: { $0.process == nil }) { try perform(.restart) }
        }
    }

    private func owners(of tunnel: Int, from begin: UInt64, until end: UInt64) -> [OwnerChange] {
        let all = ledger.owners[tunnel]
        let first = all.last { $0.time <= begin }
        return ([first].compactMap(\.self) + all.filter { $0.time > begin && $0.time < end })
            .map { OwnerChange(time: max(relative($0.time), relative(begin)), node: $0.node) }
    }

    func note(_ text: String, _ outcome: inout ScenarioOutcome) {
        outcome.steps.append(
            ScenarioOutcome.Step(time: relative(monotonicNanoseconds()), text: text))
    }

    // MARK: Acts

    private func act(_ scenario: Scenario, _ outcome: inout ScenarioOutcome) throws(LabError) {
        switch scenario {
        case .calm: try pass(seconds: 3)
        case .kill: try kill(&outcome)
        case .restart: try restart(&outcome)
        case .drain: try drain(&outcome)
        case .etcd: try cut(.store, "etcd", seconds: 5, &outcome)
        case .link: try cut(.link, "the others", seconds: 3, &outcome)
        case .pause: try pause(&outcome)
        case .rekey: try rekey(&outcome)
        }
    }

    private func kill(_ outcome: inout ScenarioOutcome) throws(LabError) {
        let node = try busiest()
        outcome.node = node.number
        note("node \(node.number) killed", &outcome)
        node.kill()
        try pass(seconds: 1)
        try revive(node, &outcome)
    }

    /// A node alone has nobody who takes its tunnels: it is started again.
    private func revive(
        _ node: LabNode, _ outcome: inout ScenarioOutcome
    ) throws(LabError) {
        guard !isCluster else { return }
        try node.start()
        note("node \(node.number) started", &outcome)
    }

    private func restart(_ outcome: inout ScenarioOutcome) throws(LabError) {
        for node in nodes where node.process == nil {
            try node.start()
            note("node \(node.number) started", &outcome)
        }
        // A share comes to it when the others have seen it.
        try pass(seconds: isCluster ? 3 : 0)
    }

    private func drain(_ outcome: inout ScenarioOutcome) throws(LabError) {
        let last = outcomes.last { $0.scenario == .kill }?.node
        let node = try busiest(except: isCluster ? last : nil)
        outcome.node = node.number
        note("node \(node.number) told to leave", &outcome)
        node.leave()
        guard try wait(upTo: 20, until: { node.hasEnded }) else {
            throw LabError("node \(node.number) did not leave within 20 s")
        }
        node.forget()
        note("node \(node.number) left", &outcome)
        try revive(node, &outcome)
    }

    private func cut(
        _ segment: LabNetwork.Segment, _ from: String, seconds: Double,
        _ outcome: inout ScenarioOutcome
    ) throws(LabError) {
        let node = try anyone()
        outcome.node = node.number
        note("node \(node.number) cut off from \(from)", &outcome)
        try network.plug(segment, of: node.place.name, isIn: false)
        try pass(seconds: seconds)
        try network.plug(segment, of: node.place.name, isIn: true)
        note("node \(node.number) connected again", &outcome)
        try pass(seconds: 3)
    }

    private func pause(_ outcome: inout ScenarioOutcome) throws(LabError) {
        let node = try anyone()
        outcome.node = node.number
        note("node \(node.number) stands still", &outcome)
        node.signal(SIGSTOP)
        try pass(seconds: 5)
        note("node \(node.number) goes on", &outcome)
        node.signal(SIGCONT)
        try pass(seconds: 3)
    }

    private func rekey(_ outcome: inout ScenarioOutcome) throws(LabError) {
        let node = try busiest()
        outcome.node = node.number
        let hit = shares()[node.number] ?? []
        let before = events.count
        note("new keys for \(hit.count) of its tunnels", &outcome)
        for place in hit {
            try peers[plan.tunnels[place].daemon].rekey(plan.tunnels[place])
        }
        // Somewhere in the exchanges, which take a few milliseconds each.
        usleep(UInt32(random.below(10_000)))
        note("node \(node.number) killed", &outcome)
        node.kill()
        try pass(seconds: 1)
        try revive(node, &outcome)
        // A peer repeats a request that found nobody after 4 s.
        _ = try wait(upTo: 20) {
            let done = events[before...].filter { $0.kind == .rekeyedChild }.map(\.tunnel)
            return Set(done).isSuperset(of: hit)
        }
    }

    // MARK: Whom

    /// The running node with most tunnels.
    private func busiest(except number: Int? = nil) throws(LabError) -> LabNode {
        let shares = shares()
        let running = nodes.filter { $0.process != nil && $0.number != number }
        guard
            let node = running.max(by: {
                (shares[$0.number]?.count ?? 0) < (shares[$1.number]?.count ?? 0)
            })
        else { throw LabError("no node is left that something could happen to: restart some") }
        return node
    }

    /// One of the running nodes with tunnels, by chance.
    private func anyone() throws(LabError) -> LabNode {
        let shares = shares()
        let running = nodes.filter { $0.process != nil && shares[$0.number] != nil }
        guard !running.isEmpty else {
            throw LabError("no node is left that something could happen to: restart some")
        }
        return running[Int(random.below(UInt64(running.count)))]
    }
}

extension ScenarioOutcome {
    /// What happened, for somebody who sees it for the first time.
    var sentence: String {
        let outages = ScenarioJudge.outages(self)
        let lost = tunnels.reduce(0) { $0 + $1.lost }
        let told = steps.map { "\(fixed($0.time - min(begin, $0.time))) \($0.text)" }
        let what = told.isEmpty ? scenario.help : told.joined(separator: ", ")
        let who = affected.count == tunnels.count ? "all tunnels" : "its \(affected.count) tunnels"
        let verdict = violations.isEmpty ? "" : "\n    WRONG: " + violations.joined(separator: "; ")
        return "  \(scenario.rawValue): \(what). Longest silence of \(who): median "
            + "\(milliseconds(outages.median)), worst \(milliseconds(outages.maximum)); "
            + "\(lost) packets lost.\(verdict)"
    }

    private func milliseconds(_ nanoseconds: UInt64) -> String { "\(nanoseconds / 1_000_000) ms" }

    private func fixed(_ nanoseconds: UInt64) -> String {
        "+\(nanoseconds / 1_000_000_000).\(nanoseconds / 100_000_000 % 10) s"
    }
}
