// What `spindle lab` tells in the end.

import Lab
import SimKit

/// A result as a table.
struct LabSummary {
    /// What a cluster must keep when it is measured, in nanoseconds.
    static let medianMaximum: UInt64 = 60_000_000
    static let worstMaximum: UInt64 = 250_000_000

    let result: LabResult

    func printAll() {
        guard !result.scenarios.isEmpty else { return }
        var table = TextTable(
            "scenario", "runs", "tunnels", "median ms", "p99 ms", "worst ms", "lost up",
            "lost down", "twice", "new keys", "set up again", "wrong")
        for total in result.totals {
            table.add(
                total.scenario.rawValue, "\(total.runs)", "\(total.outages.tunnels)",
                Self.milliseconds(total.outages.median),
                Self.milliseconds(total.outages.percentile99),
                Self.milliseconds(total.outages.maximum), "\(total.lostUp)",
                "\(total.lostDown)", "\(total.twice)", "\(total.rekeys)",
                "\(total.authentications)", "\(total.wrong)")
        }
        print("\nThe longest time without a packet, of the tunnels that each scenario hit:")
        table.lines().forEach { print($0) }
        printMemory()
    }

    /// What is wrong with the figures of all kills together.
    var measureFaults: [String] {
        guard let kills = result.totals.first(where: { $0.scenario == .kill }) else { return [] }
        var faults: [String] = []
        if kills.outages.median > Self.medianMaximum {
            faults.append(
                "after a kill, half of the tunnels are silent for longer than "
                    + Self.milliseconds(Self.medianMaximum) + " ms")
        }
        if kills.outages.maximum > Self.worstMaximum {
            faults.append(
                "after a kill, a tunnel is silent for longer than "
                    + Self.milliseconds(Self.worstMaximum) + " ms")
        }
        return faults
    }

    private func printMemory() {
        let samples = result.scenarios.map(\.memoryKilobytes)
        let names = Set(samples.flatMap(\.keys)).sorted()
        let words = names.map { name in
            let values = samples.compactMap { $0[name] }
            return "\(name) \((values.first ?? 0) / 1024) to \((values.last ?? 0) / 1024)"
        }
        print("\nMemory in MB, first and last: " + words.joined(separator: ", "))
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        "\(nanoseconds / 1_000_000)"
    }
}
