// What a live node is configured with, whatever file it came from.

public import IKEStub
public import Wire

/// One live node.
public struct NodeConfiguration {
    /// Our addresses toward the peers; IKE and ESP are answered on these only. Never empty.
    public var addresses: [IPAddress]
    /// The UDP port of IKE.
    public var ikePort: UInt16 = 500
    /// The UDP port that IKE and ESP share behind NATs (RFC 7296 §2.23).
    public var encapsulationPort: UInt16 = 4500
    /// Name of the TUN device toward the protected network.
    public var tunnelDevice = "spindle0"
    /// The device's MTU, in octets.
    public var tunnelMTU = 1400
    /// Whether routes to the peers' selectors are set, and taken away again.
    public var setsRoutes = true
    /// Path of the control socket.
    public var controlSocket = "/run/spindle/control"
    /// Where metrics and health are served over HTTP; nil: nowhere.
    public var monitor: MonitorAddress?
    /// Pairs of CHILD SAs that the card holds.
    public var cardCapacity = 65_536
    /// Path of the directory for what outlives the process; nil: nothing does.
    public var stateDirectory: String?
    /// Manually keyed associations, each with one of ``addresses`` at exactly one end. They need a
    /// state directory.
    public var associations: AssociationFile?
    /// SHA-256 of the file of ``associations``, by which changes are noticed; nil: there is none.
    public var associationsDigest: [UInt8]?
    /// Ports of peers that are not at 500 and 4500, by name of the connection: there they take IKE
    /// and ESP in UDP, told apart by the marker (RFC 3948 §2.2).
    public var remotePorts: [String: UInt16] = [:]
    /// What makes it a member of a cluster, which ``addresses`` belong to; nil: it is alone.
    public var cluster: ClusterConfiguration?
    /// Connections, keys, pools and limits.
    public var ike: IKEConfiguration

    /// What has no default.
    public init(addresses: [IPAddress], ike: IKEConfiguration) {
        self.addresses = addresses
        self.ike = ike
    }
}
