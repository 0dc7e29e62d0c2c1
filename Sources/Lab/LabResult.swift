// What a lab found out. All times are nanoseconds since the traffic began.

/// One tunnel in one scenario.
public struct TunnelOutcome: Codable, Sendable {
    /// The tunnel's place, from 0.
    public var tunnel: Int
    /// The fault hit the node that carried it.
    public var isHit: Bool
    /// Packets from the peer's side.
    public var up: FlowFigures
    /// Packets to the peer's side.
    public var down: FlowFigures
    /// New keys for its CHILD or IKE SA, by the peer's account.
    public var rekeys: Int
    /// Times that the peer had to authenticate again.
    public var authentications: Int
    /// SAs that ended without a successor, by the peer's account.
    public var endings: Int
    /// Who carried it: at the beginning, and whenever that changed.
    public var owners: [OwnerChange]

    /// The worse of both ways, in nanoseconds.
    public var outage: UInt64 { max(up.outage, down.outage) }
    /// Of both ways.
    public var lost: Int { up.lost + down.lost }
    /// Of both ways.
    public var twice: Int { up.twice + down.twice }
}

/// One scenario from its fault until all was well again.
public struct ScenarioOutcome: Codable, Sendable {
    /// Something that was done or seen.
    public struct Step: Codable, Sendable {
        /// When.
        public var time: UInt64
        /// What, in a few words.
        public var text: String
    }

    /// What happened.
    public var scenario: Scenario
    /// Whom it hit; nil: nobody, or several.
    public var node: Int?
    /// When it began.
    public var begin: UInt64
    /// When all was well again.
    public var end: UInt64
    /// In order.
    public var steps: [Step]
    /// In order of their places.
    public var tunnels: [TunnelOutcome]
    /// By name of the node: memory that its process holds in the end, in units of 1024 octets.
    public var memoryKilobytes: [String: Int]
    /// What must not be; empty: all is as it must be.
    public var violations: [String]

    /// Tunnels that the fault hit, or all when it hit none.
    public var affected: [TunnelOutcome] {
        let hit = tunnels.filter(\.isHit)
        return hit.isEmpty ? tunnels : hit
    }
}

/// A whole run.
public struct LabResult: Codable, Sendable {
    /// A tunnel, as it was laid.
    public struct Tunnel: Codable, Sendable {
        /// Its name in the peers' logs.
        public var name: String
        /// The daemon that has it.
        public var peer: String
        /// The peer's address.
        public var outer: String
        /// What is behind the peer.
        public var inner: String
    }

    /// Raised when the members change.
    public static let formatVersion = 1

    /// Of this format.
    public var version = LabResult.formatVersion
    /// What was asked for.
    public var options: LabOptions
    /// In order of their places.
    public var tunnels: [Tunnel]
    /// In order.
    public var scenarios: [ScenarioOutcome] = []
    /// By tunnel: who carried it when.
    public var owners: [[OwnerChange]] = []
    /// Times without a packet.
    public var silences: [Silence] = []
    /// All packets, by when they left.
    public var slices: [TrafficSlice] = []
    /// How long it lasted.
    public var end: UInt64 = 0
    /// Why it came to an end too early; nil: it did not.
    public var failure: String?
    /// Ends of all logs by name.
    public var logs: [String: String] = [:]

    init(options: LabOptions, plan: LabPlan) {
        self.options = options
        tunnels = plan.tunnels.map {
            Tunnel(
                name: $0.name, peer: LabPlan.daemonName($0.daemon), outer: $0.outer,
                inner: $0.inner)
        }
    }

    /// True when all was as it must be.
    public var isGood: Bool {
        failure == nil && scenarios.allSatisfy(\.violations.isEmpty)
    }
}
