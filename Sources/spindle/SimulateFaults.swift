// What the options of `spindle simulate` mean: durations, kinds of faults, rules.

public import ArgumentParser
public import Cluster
import Foundation
public import Gateway
import SimKit

/// A time such as 2ms, 1.5s or 300us.
struct SimulatedDuration: ExpressibleByArgument, Hashable {
    let nanoseconds: UInt64

    static let units: [(name: String, nanoseconds: UInt64)] = [
        ("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000),
        ("min", 60_000_000_000),
    ]

    init?(argument: String) {
        let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = argument.dropFirst(number.count)
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard let scale = Self.units.first(where: { $0.name == unit })?.nanoseconds,
            parts.count <= 2, let whole = UInt64(parts[0])
        else { return nil }
        var (total, overflow) = whole.multipliedReportingOverflow(by: scale)
        if parts.count == 2 {
            guard !parts[1].isEmpty else { return nil }
            var place = scale
            for digit in parts[1] {
                guard let value = digit.wholeNumberValue, place % 10 == 0 else { return nil }
                place /= 10
                total &+= UInt64(value) * place
            }
        }
        overflow = overflow || total > 1 << 62
        guard !overflow else { return nil }
        nanoseconds = total
    }

    init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// In the largest unit that leaves no fraction: what the option takes.
    var defaultValueDescription: String {
        let unit = Self.units.last { nanoseconds % $0.nanoseconds == 0 && nanoseconds != 0 }
        return "\(nanoseconds / (unit?.nanoseconds ?? 1))\(unit?.name ?? "ns")"
    }
}

/// A comma list of kinds, `all`, or `none`.
struct FaultList: ExpressibleByArgument, Hashable {
    /// In the order of the declaration, each once, so that the same set means the same run.
    let kinds: [FaultKind]

    /// `restart` is no fault of its own: it follows what stops a node.
    static let choices = FaultKind.allCases.filter { $0 != .restart }

    init?(argument: String) {
        switch argument {
        case "all": kinds = FaultKind.allCases
        case "none": kinds = []
        default:
            var wanted: Set<FaultKind> = []
            for name in argument.split(separator: ",", omittingEmptySubsequences: false) {
                guard let kind = FaultKind(rawValue: String(name)), kind != .restart else {
                    return nil
                }
                wanted.insert(kind)
            }
            kinds = FaultKind.allCases.filter(wanted.contains)
        }
    }

    var defaultValueDescription: String {
        if kinds.isEmpty { return "none" }
        if kinds == FaultKind.allCases { return "all" }
        return kinds.map(\.rawValue).joined(separator: ",")
    }

    static let allValueStrings = choices.map(\.rawValue) + ["all", "none"]

    /// A line for each kind.
    static var help: String {
        let width = choices.map(\.rawValue.count).max() ?? 0
        return choices.map { kind in
            let space = String(repeating: " ", count: width - kind.rawValue.count)
            return "  \(kind.rawValue)\(space)  \(kind.summary)"
        }.joined(separator: "\n")
    }
}

extension TakeoverPolicy: ExpressibleByArgument {}

extension CardContents: ExpressibleByArgument {}

extension GatewayConfiguration.FullCardPolicy: ExpressibleByArgument {}

#if RULE_BREAKS
    extension Rule: ExpressibleByArgument {}
#endif

extension FaultKind {
    /// What it does, in one line.
    fileprivate var summary: String {
        switch self {
        case .crash: "a node stops, loses its memory, and restarts later"
        case .restart: "a node starts again"
        case .pause: "a node stands still, and goes on as if nothing had been"
        case .partition: "two nodes, or one and all else, do not hear each other"
        case .oneWay: "nothing from a node arrives at one or all of the others"
        case .storePartition: "a node does not reach the store"
        case .storeOutage: "the store answers nobody"
        case .storeSlow: "the store takes longer"
        case .storeCompaction: "a watch breaks, and the store forgets its history meanwhile"
        case .loss: "one link or all links lose packets"
        case .delay: "one link or all links take longer"
        case .duplicate: "one link or all links deliver packets twice"
        case .reorder: "on one link or all links packets overtake each other"
        case .burst: "one link or all links hold packets, and deliver them at once"
        case .drift: "a node's clock runs fast or slow"
        case .cardFull: "a node's card takes few more associations"
        case .cardReset: "a node's card loses all associations"
        case .multiCrash: "several nodes crash at once, and restart one by one"
        case .clusterRestart: "all nodes crash, and restart together"
        case .drain: "an operator drains a node, and gives it its share back later"
        case .join: "a new node joins"
        case .replayAttack: "somebody sends recorded packets again"
        }
    }
}
