// What can go wrong in a simulation, and how to say it to people.

/// A kind of fault. What `node`, `other`, `duration` and `amount` of a fault mean depends on it;
/// "for d" below means that the fault ends after `duration`. Nodes are numbered from 1, as
/// `NodeID`; 0 is none or all.
public enum FaultKind: String, CaseIterable, Sendable {
    /// `node` stops and loses its memory; a `restart` follows after `duration`.
    case crash
    /// `node` starts again. Only drawn after what stopped it.
    case restart
    /// `node` stands still for d, and goes on as if nothing had been.
    case pause
    /// `node` and `other` (0: all others and the store) don't hear each other for d.
    case partition
    /// Nothing from `node` reaches `other` (0: any other node) for d.
    case oneWay
    /// `node` does not reach the store for d.
    case storePartition
    /// The store answers nobody for d.
    case storeOutage
    /// The store takes `amount` ns longer for d.
    case storeSlow
    /// The watch of `node` is broken for d, and the store forgets the history meanwhile.
    case storeCompaction
    /// The link from `node` to `other` (both 0: all links) loses `amount` of a million packets for
    /// d.
    case loss
    /// The link takes `amount` ns longer for d.
    case delay
    /// The link delivers `amount` of a million packets twice for d.
    case duplicate
    /// The link lets others overtake `amount` of a million packets for d.
    case reorder
    /// The link holds all packets for d, and delivers them at once.
    case burst
    /// The clock of `node` runs at `amount` millionths of its rate for d.
    case drift
    /// The card of `node` takes only `amount` more associations for d.
    case cardFull
    /// The card of `node` loses all associations.
    case cardReset
    /// The nodes of `nodes` crash at once; they restart one by one, the last after d.
    case multiCrash
    /// All nodes crash, and restart together after d.
    case clusterRestart
    /// `node` is drained, and gets its share back after d.
    case drain
    /// A node with the new number `node` joins.
    case join
    /// Somebody sends `amount` packets again that he recorded before, over d.
    case replayAttack
}

/// One thing that goes wrong. Times are nanoseconds of virtual time.
public struct Fault: Hashable, Sendable {
    /// What.
    public var kind: FaultKind
    /// When it begins.
    public var at: UInt64
    /// How long it lasts; 0 for what happens at once.
    public var duration: UInt64
    /// Whom it hits: see the kind.
    public var node: Int
    /// The other node of a link: see the kind.
    public var other: Int
    /// How much: see the kind.
    public var amount: UInt64

    /// A fault from its parts.
    public init(
        _ kind: FaultKind, at: UInt64, duration: UInt64 = 0, node: Int = 0, other: Int = 0,
        amount: UInt64 = 0
    ) {
        self.kind = kind
        self.at = at
        self.duration = duration
        self.node = node
        self.other = other
        self.amount = amount
    }

    /// When it is over.
    public var end: UInt64 { at + duration }

    /// `multiCrash`: the nodes, ascending; bit n - 1 of `amount` is node n.
    public var nodes: [Int] { (1...64).filter { amount >> UInt64($0 - 1) & 1 == 1 } }
}

extension Fault: CustomStringConvertible {
    /// For example "12.3 ms: node 2 stops for 400 ms".
    public var description: String { "\(Self.milliseconds(at)): \(text)" }

    private var text: String {
        let time = Self.time(duration)
        return switch kind {
        case .crash: "node \(node) crashes for \(time)"
        case .restart: "node \(node) restarts"
        case .pause: "node \(node) stops for \(time)"
        case .partition where other == 0: "node \(node) is cut off from all for \(time)"
        case .partition: "nodes \(node) and \(other) are cut off from each other for \(time)"
        case .oneWay where other == 0: "nothing from node \(node) arrives for \(time)"
        case .oneWay: "nothing from node \(node) arrives at node \(other) for \(time)"
        case .storePartition: "node \(node) is cut off from the store for \(time)"
        case .storeOutage: "the store is away for \(time)"
        case .storeSlow: "the store takes \(Self.time(amount)) longer for \(time)"
        case .storeCompaction:
            "the watch of node \(node) is broken for \(time), and the store forgets its history"
        case .loss: "\(link) \(loses) \(Self.percent(amount)) of the packets for \(time)"
        case .delay: "\(link) \(takes) \(Self.time(amount)) longer for \(time)"
        case .duplicate: "\(link) \(delivers) \(Self.percent(amount)) twice for \(time)"
        case .reorder: "\(link) \(delivers) \(Self.percent(amount)) out of order for \(time)"
        case .burst: "\(link) \(isOne ? "holds" : "hold") all packets for \(time)"
        case .drift: "the clock of node \(node) runs \(Self.rate(amount)) for \(time)"
        case .cardFull:
            "the card of node \(node) takes \(amount) more associations at most for \(time)"
        case .cardReset: "the card of node \(node) loses all associations"
        case .multiCrash:
            "nodes \(nodes.map(String.init).joined(separator: ", ")) crash for up to \(time)"
        case .clusterRestart: "all nodes crash for \(time)"
        case .drain: "node \(node) is drained for \(time)"
        case .join: "node \(node) joins"
        case .replayAttack: "\(amount) recorded packets are sent again within \(time)"
        }
    }

    private var isOne: Bool { node != 0 }
    private var link: String { isOne ? "the link from node \(node) to \(other)" : "all links" }
    private var loses: String { isOne ? "loses" : "lose" }
    private var takes: String { isOne ? "takes" : "take" }
    private var delivers: String { isOne ? "delivers" : "deliver" }

    private static func rate(_ millionths: UInt64) -> String {
        millionths < 1_000_000
            ? "\(1_000_000 - millionths) ppm slow" : "\(millionths - 1_000_000) ppm fast"
    }

    private static func percent(_ perMillion: UInt64) -> String {
        decimal(perMillion, unit: 10_000) + " %"
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        "\(nanoseconds / 1_000_000).\(nanoseconds / 100_000 % 10) ms"
    }

    /// With the largest unit that leaves something before the point.
    static func time(_ nanoseconds: UInt64) -> String {
        switch nanoseconds {
        case ..<1000: "\(nanoseconds) ns"
        case ..<1_000_000: decimal(nanoseconds, unit: 1000) + " us"
        case ..<1_000_000_000: decimal(nanoseconds, unit: 1_000_000) + " ms"
        default: decimal(nanoseconds, unit: 1_000_000_000) + " s"
        }
    }

    /// Cut off after one digit behind the point, which is left out when it is 0.
    private static func decimal(_ value: UInt64, unit: UInt64) -> String {
        let tenth = value % unit * 10 / unit
        return tenth == 0 ? "\(value / unit)" : "\(value / unit).\(tenth)"
    }
}
