// The MAC address that all nodes of a cluster listen to.

public import Wire

/// How a cluster's shared MAC address is made.
public enum SharedAddressForm: String, Sendable, CaseIterable {
    /// A locally administered group address: nobody else's by IEEE 802's rules.
    case local
    /// One of IPv4's multicast addresses, `01:00:5e` and 23 bits (RFC 1112 §6.4): for switches and
    /// peers that take no other.
    case multicast
}

extension ClusterSecret {
    /// The MAC address that peers are told for the cluster addresses: a group address, so that
    /// switches give its frames to every port. Made of the public cluster tag, so that two clusters
    /// on one segment differ.
    public borrowing func sharedAddress(_ form: SharedAddressForm = .local) -> MACAddress {
        switch form {
        case .local: MACAddress(tag | 0x0300_0000_0000)
        case .multicast: MACAddress(0x0100_5E00_0000 | tag & 0x7F_FFFF)
        }
    }
}
