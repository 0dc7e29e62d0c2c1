// What peers see of a cluster.

public import Wire

/// The addresses that all nodes stand behind, and the ports at which they speak.
public struct ClusterFront: Equatable, Sendable {
    /// The cluster addresses: at least one, at most ``addressesMaximum``, each once.
    public let addresses: [IPAddress]
    /// The UDP port of IKE without a marker.
    public let ikePort: UInt16
    /// The UDP port of ESP in UDP, and of IKE behind its marker.
    public let encapsulationPort: UInt16
    /// Whether UDP is captured. Where a node has UDP sockets at the cluster addresses, the kernel
    /// gives it datagrams that way, put together from their fragments, and what is captured leaves
    /// them out: else each would come twice.
    public let capturesDatagrams: Bool

    /// A few of each family; a filter compares them one by one.
    public static let addressesMaximum = 16

    /// A front with these addresses; see ``addresses`` for what the caller has to check before.
    public init(
        addresses: [IPAddress], ikePort: UInt16 = UDPPort.ike,
        encapsulationPort: UInt16 = UDPPort.natTraversal, capturesDatagrams: Bool = true
    ) {
        precondition((1...Self.addressesMaximum).contains(addresses.count))
        precondition(ikePort != encapsulationPort)
        self.addresses = addresses
        self.ikePort = ikePort
        self.encapsulationPort = encapsulationPort
        self.capturesDatagrams = capturesDatagrams
    }

    /// True when `address` is one of the cluster's. Asked for every packet.
    public func has(_ address: IPAddress) -> Bool {
        var place = 0
        while place < addresses.count {
            if addresses[place] == address { return true }
            place += 1
        }
        return false
    }
}
