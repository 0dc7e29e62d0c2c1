// Where the protected network is, as seen from a node.

internal import Cluster
internal import ESP
internal import IKEStub
internal import Wire

/// The way to the protected network.
enum ProtectedSide {
    /// A TUN device: the host routes. The table: where the node sets the routes.
    case device(TunnelDevice, RouteTable?)
    /// A segment that all nodes of a cluster hear: the node routes.
    case segment(SharedSegment)
}
