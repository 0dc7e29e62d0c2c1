// What common tables hold in simulated clusters: `--backups` and `--table` of `spindle simulate`.

import ArgumentParser
import SimKit

/// How many nodes besides its owner hold the entries of an identifier.
struct BackupCount: ExpressibleByArgument {
    /// nil: all.
    let count: Int?

    init(count: Int?) { self.count = count }

    init?(argument: String) {
        if argument == "all" {
            count = nil
            return
        }
        guard let number = Int(argument), SimulateCommand.nodesRange.contains(number) else {
            return nil
        }
        count = number
    }

    var defaultValueDescription: String { count.map { "\($0)" } ?? "all" }
}

/// Whether a common table holds the keys of its own node's tunnels.
enum TableKind: String, CaseIterable, ExpressibleByArgument {
    case withOwn = "with-own"
    case withoutOwn = "without-own"

    init(_ options: SimulationOptions) {
        self = options.tableHoldsOwn ? .withOwn : .withoutOwn
    }
}
