// What a lab is asked for.

/// How large a lab is, and what happens in it.
public struct LabOptions: Codable, Hashable, Sendable {
    /// Who is at the other end of the tunnels.
    public enum Peers: String, Codable, CaseIterable, Sendable {
        /// Real strongSwan, with ESP in user space.
        case strongswan
        /// Nodes of our own, each alone.
        case spindle
    }

    /// Numbers of nodes that there can be.
    public static let nodesRange = 1...9
    /// Numbers of tunnels that there can be.
    public static let tunnelsRange = 1...1000
    /// Packets a second that a tunnel may carry each way.
    public static let rateRange = 1...1000

    /// Nodes behind the cluster addresses. 1: a node alone, without a cluster, to compare with.
    public var nodes = 3
    /// Tunnels, each with traffic of its own.
    public var tunnels = 12
    /// Packets a second through each tunnel, each way.
    public var rate = 100
    /// Who is at the other end.
    public var peers = Peers.strongswan
    /// What happens, in this order.
    public var scenarios: [Scenario] = []
    /// Seconds in which, after that, faults go on by chance.
    public var soakSeconds = 0
    /// What chance decides follows from it: whom faults hit.
    public var seed: UInt64 = 1
    /// Path of the program that directs the lab and makes its traffic.
    public var program: String
    /// Path of the program whose nodes run.
    public var nodeProgram: String

    /// A lab of the usual size.
    public init(program: String) {
        self.program = program
        nodeProgram = program
    }
}
