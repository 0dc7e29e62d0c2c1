// Who is where in a lab: names, addresses, and which daemon has which tunnel.
//
//     peer p1 ─┐                                   ┌─ n1 ─┐
//     peer p2 ─┼── outside 198.18.0.0/16 ──────────┼─ n2 ─┼── inside 10.88.0.0/24 ── server
//       …     ─┘           2001:db8:18::/64        └─ n3 ─┘
//                                                     ├── link 10.99.0.0/24
//                                                     └── store 10.98.0.0/24 ── etcd
//
// 198.18.0.0/15 is for tests of network devices (RFC 2544, C.2.2), 2001:db8::/32 for texts
// (RFC 3849).

/// The addresses of a lab.
struct LabPlan: Sendable {
    /// A host of the cluster, or the only node.
    struct Node: Sendable {
        /// Counts from 1.
        let number: Int
        var name: String { "n\(number)" }
        var outside4: String { "198.18.0.\(100 + number)" }
        var outside6: String { "2001:db8:18::\(100 + number)" }
        var inside: String { "10.88.0.\(100 + number)" }
        var link: String { "10.99.0.\(number)" }
        var store: String { "10.98.0.\(number)" }
        /// By it the server sees which node carried a packet.
        var insideMAC: String { "02:53:4c:00:00:0\(number)" }
    }

    /// A peer with its tunnel.
    struct Tunnel: Sendable {
        /// Counts from 0.
        let place: Int
        /// Which daemon has it.
        let daemon: Int
        /// All tunnels of its daemon come from the same address (one of each family).
        let sharesAddress: Bool
        var name: String { "t\(place + 1)" }
        var identity: String { "\(name).lab.example" }
        /// Every fourth comes over IPv6.
        var isV6: Bool { place % 4 == 3 }
        var outer: String {
            let number = sharesAddress ? 0xFE00 + daemon + 1 : place + 1
            return isV6
                ? "2001:db8:18::1:\(String(number, radix: 16))"
                : "198.18.\(1 + (number >> 8)).\(number & 255)"
        }
        /// What is behind the peer.
        var inner: String { "10.101.\((place + 1) >> 8).\((place + 1) & 255)" }
        /// The cluster's address that it goes to.
        var gateway: String { isV6 ? clusterAddress6 : clusterAddress4 }
    }

    static let clusterAddress4 = "198.18.0.1"
    static let clusterAddress6 = "2001:db8:18::1"
    static let insideCluster = "10.88.0.1"
    static let server = "10.88.0.2"
    static let etcd = "10.98.0.250"
    static let trafficPort: UInt16 = 7000
    private static let tunnelsPerDaemon = 30
    private static let daemonsMaximum = 8

    let nodes: [Node]
    let tunnels: [Tunnel]
    let daemons: Int

    init(nodes: Int, tunnels: Int, sharesAddresses: Bool = false) {
        self.nodes = (1...nodes).map(Node.init)
        // Two daemons at least, so that one that fails shows as that.
        let wanted = max(2, (tunnels + Self.tunnelsPerDaemon - 1) / Self.tunnelsPerDaemon)
        let daemons = min(wanted, Self.daemonsMaximum, tunnels)
        self.daemons = daemons
        self.tunnels = (0..<tunnels).map {
            Tunnel(place: $0, daemon: $0 % daemons, sharesAddress: sharesAddresses)
        }
    }

    static func daemonName(_ daemon: Int) -> String { "p\(daemon + 1)" }

    func tunnels(of daemon: Int) -> [Tunnel] { tunnels.filter { $0.daemon == daemon } }

    /// The number of the node with a MAC address in the protected network; nil: it is no node's.
    static func node(ofInsideAddress octets: [UInt8]) -> Int? {
        octets.count == 6 && octets[..<5] == [0x02, 0x53, 0x4C, 0, 0] ? Int(octets[5]) : nil
    }
}
