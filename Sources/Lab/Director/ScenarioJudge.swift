// What must hold in a scenario. The judge sees only what the ends of the tunnels saw.

internal import SimKit

/// Compares what happened with the limits.
enum ScenarioJudge {
    /// What must not be, in words; empty: nothing.
    static func violations(_ outcome: ScenarioOutcome, _ limits: ScenarioLimits) -> [String] {
        var violations: [String] = []
        func report(_ what: String, _ isWrong: (TunnelOutcome) -> Bool) {
            let wrong = outcome.tunnels.filter(isWrong).map { "t\($0.tunnel + 1)" }
            guard !wrong.isEmpty else { return }
            let rest = wrong.count > 5 ? " and \(wrong.count - 5) more" : ""
            violations.append("\(what): \(wrong.prefix(5).joined(separator: ", "))\(rest)")
        }
        report("no packet for more than \(limits.outage / 1_000_000) ms") {
            $0.outage > limits.outage
        }
        report("packets came twice") { $0.twice > 0 }
        report("nothing came at all") {
            $0.up.sent == 0 || $0.down.sent == 0 || $0.up.lost == $0.up.sent
                || $0.down.lost == $0.down.sent
        }
        if !limits.mayAuthenticate {
            report("the peer had to authenticate again") { $0.authentications > 0 }
            report("the peer lost an SA") { $0.endings > 0 }
        }
        if limits.mayRekey {
            report("new keys were asked for, and not made exactly once") {
                $0.isHit && $0.rekeys != 1
            }
        } else {
            report("new keys that nobody asked for") { $0.rekeys > 0 }
        }
        let lost = outcome.tunnels.reduce(0) { $0 + $1.lost }
        if let allowed = limits.lost, lost > allowed {
            violations.append("\(lost) packets were lost, of which \(allowed) may be")
        }
        return violations
    }

    /// The outages of the tunnels that a fault hit.
    static func outages(_ outcome: ScenarioOutcome) -> OutageSummary {
        OutageSummary(outcome.affected.map(\.outage))
    }
}
