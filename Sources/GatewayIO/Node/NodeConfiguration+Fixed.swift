// What of a configuration stays as it was while the node runs.

internal import Cluster
internal import EtcdMessages
internal import Gateway
internal import Wire

extension NodeConfiguration {
    /// The settings in which another configuration differs from this one and that only the next
    /// start takes over, as the file names them.
    func fixedSettings(changedIn other: NodeConfiguration) -> [String] {
        let changes = [
            ("node.addresses", addresses != other.addresses),
            ("node.ike_port", ikePort != other.ikePort),
            ("node.encapsulation_port", encapsulationPort != other.encapsulationPort),
            ("node.tunnel.device", tunnelDevice != other.tunnelDevice),
            ("node.tunnel.mtu", tunnelMTU != other.tunnelMTU),
            ("node.tunnel.routes", setsRoutes != other.setsRoutes),
            ("node.control_socket", controlSocket != other.controlSocket),
            ("node.monitor", monitor != other.monitor),
            ("node.card_capacity", cardCapacity != other.cardCapacity),
            ("node.state", stateDirectory != other.stateDirectory),
            ("associations", associationsDigest != other.associationsDigest),
        ]
        let names = changes.filter(\.1).map(\.0)
        switch (cluster, other.cluster) {
        case (nil, nil): return names
        case (let own?, let other?): return names + own.settings(changedIn: other)
        case (_, nil), (nil, _): return names + ["cluster"]
        }
    }
}

extension ClusterConfiguration {
    /// The settings in which another configuration differs, but for what the key's file holds. All
    /// of them stay as they were while the node runs.
    fileprivate func settings(changedIn other: ClusterConfiguration) -> [String] {
        let changes = [
            ("cluster.node", node != other.node),
            ("cluster.store", store != other.store),
            (
                "cluster.link",
                linkAddress != other.linkAddress || linkPort != other.linkPort
            ),
            ("cluster.outside", outside != other.outside),
            ("cluster.inside", inside != other.inside),
            ("cluster.shared_mac", sharedAddressForm != other.sharedAddressForm),
            ("cluster.identifiers", identifierCount != other.identifierCount),
            ("cluster.heartbeat, heartbeats_missed or session", timing != other.timing),
            ("cluster.takeover", takeoverPolicy != other.takeoverPolicy),
            ("cluster.backups", backups != other.backups),
            ("cluster.when_full", whenFull != other.whenFull),
        ]
        return changes.filter(\.1).map(\.0)
    }
}
