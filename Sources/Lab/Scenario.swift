// What can happen in a lab, and how much of it tunnels may notice.

/// One thing that happens to the nodes, from the fault until all is well again.
public enum Scenario: String, Codable, CaseIterable, Sendable {
    /// Nothing: what the machine itself does to packets.
    case calm
    /// The node with most tunnels dies at once (SIGKILL).
    case kill
    /// Nodes that are down start again and take their share.
    case restart
    /// Another node hands its tunnels over and leaves (SIGTERM).
    case drain
    /// A node can't reach etcd for a while.
    case etcd
    /// A node can't reach the others for a while.
    case link
    /// A node stands still for 5 s and wakes up (SIGSTOP, SIGCONT).
    case pause
    /// All tunnels of a node get new keys, and the node dies meanwhile.
    case rekey

    /// What `scripts/lab` shows.
    public static let usual: [Scenario] = [
        .calm, .kill, .restart, .drain, .restart, .etcd, .link, .pause, .rekey, .restart,
    ]

    /// One line of help.
    public var help: String {
        switch self {
        case .calm: "nothing happens: what the machine itself does to packets"
        case .kill: "kill -9 for the node with most tunnels"
        case .restart: "nodes that are down start again"
        case .drain: "another node hands over and leaves"
        case .etcd: "a node can't reach etcd for 5 s"
        case .link: "a node can't reach the others for 3 s"
        case .pause: "a node stands still for 5 s, and wakes up"
        case .rekey: "all tunnels of a node get new keys, and it is killed meanwhile"
        }
    }

    /// A node alone has nobody to be cut off from.
    public var needsCluster: Bool { self == .etcd || self == .link }

    /// What may become of tunnels in it.
    func limits(nodes: Int) -> ScenarioLimits {
        guard nodes > 1 else {
            // A node alone: what it loses is what a cluster is there for.
            return ScenarioLimits(
                outage: 10_000_000_000, mayRekey: self == .rekey, mayAuthenticate: true)
        }
        switch self {
        case .calm, .drain, .restart: return ScenarioLimits(outage: 250_000_000, lost: 0)
        case .kill, .etcd, .link, .pause: return ScenarioLimits(outage: 250_000_000)
        case .rekey: return ScenarioLimits(outage: 250_000_000, mayRekey: true)
        }
    }
}

/// What tunnels may notice of a scenario. No limit allows a packet that comes twice.
struct ScenarioLimits: Hashable, Sendable {
    /// The longest time without a packet, of any tunnel and in any direction, in nanoseconds.
    var outage: UInt64
    /// Packets of all tunnels that may be lost; nil: those of the outage.
    var lost: Int?
    /// New keys for tunnels are what was asked for.
    var mayRekey = false
    /// A peer may have to set its tunnel up again.
    var mayAuthenticate = false
}
