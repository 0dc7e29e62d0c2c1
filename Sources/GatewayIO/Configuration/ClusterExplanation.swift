// Says in words what a member of a cluster would do, and what its host has to be told.

internal import Cluster
internal import EtcdMessages
internal import Gateway
internal import Wire

extension ClusterConfiguration {
    /// Lines for a terminal. `addresses` are the cluster's toward the peers.
    func explanation(addresses: [IPAddress]) -> [String] {
        let shared = key.secret.sharedAddress(sharedAddressForm)
        var lines = [
            "", "Cluster",
            "  is node \(node) of the cluster with the key tag \(key.tagText), which all of its "
                + "nodes have",
            "  stands between peers, who send to \(joined(addresses)) on \(outside.device), and "
                + "what is behind \(joined(inside.addresses)) on \(inside.device)",
            "  answers for these addresses with the MAC address \(shared), as every node does",
        ]
        lines += inside.routes.map {
            "  gives packets to \($0.prefix)/\($0.length) to the router \($0.gateway) on "
                + inside.device
        }
        lines += agreement + choices
        return lines + hostSettings(addresses)
    }

    private var agreement: [String] {
        let keys = printable(path: store.keyPrefix) + "spindle/"
        let trust =
            store.tls.map { tls in
                let name = tls.serverName.map { ", known as \(printable(path: $0))" } ?? ""
                return "with TLS\(name), trusting \(printable(path: tls.authority))"
                    + (tls.certificate.map { ", showing \(printable(path: $0))" } ?? "")
            } ?? "without TLS"
        let detection = DurationText.text(timing.detectionNanoseconds)
        let session = DurationText.text(UInt64(timing.sessionSeconds) * 1_000_000_000)
        return [
            "  agrees with the others in etcd at \(joined(store.endpoints)), \(trust); its keys "
                + "begin with \(keys)",
            "  speaks to the others from \(linkAddress), UDP \(linkPort)",
            "  sends a heartbeat each \(DurationText.text(timing.heartbeatNanoseconds)); a node "
                + "that misses \(timing.heartbeatsMissed) serves nothing after \(detection), and "
                + "then the others take its tunnels",
            "  where too few nodes are left to vote, that happens when the store ends the dead "
                + "one's session, after \(session) at the earliest",
        ]
    }

    private var choices: [String] {
        let holders =
            backups.map { "its owner, its successor and \(count($0, "backup"))" } ?? "all nodes"
        let takeover =
            switch takeoverPolicy {
            case .learn:
                "accepts what is above the last checkpoint, and counts what may be replays"
            case .strict:
                "refuses all that may be replays, until the peer's numbers are above it"
            }
        let full =
            switch whenFull {
            case .refuse: "is refused, and the peer told"
            case .wait: "waits for room, and its packets are dropped"
            case .serveFromHost: "is served from host memory, slower"
            }
        return [
            "  shares all tunnels out by \(identifierCount) identifiers; each tunnel is known to "
                + holders,
            "  after a takeover \(takeover)",
            "  a new tunnel that finds the card full \(full)",
        ]
    }

    // MARK: The host

    /// The kernel takes packets to the cluster addresses, and must not speak for them
    /// (docs/decisions/0021).
    private func hostSettings(_ addresses: [IPAddress]) -> [String] {
        var lines = ["", "Host of node \(node): to be typed as root before it starts"]
        lines += addresses.map { "  ip address add \($0)/\($0.bitWidth) dev lo" }
        let families = Set((addresses + inside.addresses).map(\.family))
        if families.contains(.v4) {
            lines.append(
                "  sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 "
                    + "net.ipv4.icmp_echo_ignore_all=1")
        }
        if families.contains(.v6) {
            lines.append("  sysctl -w net.ipv6.icmp.echo_ignore_all=1")
        }
        lines += [outside.device, inside.device].map {
            "  ip link set dev \(TextFile.shellWord($0)) up"
        }
        return lines + [
            "  \(outside.device) and \(inside.device) need an address of this node's own each, and "
                + "\(linkAddress) is on the device of the link"
        ]
    }
}
