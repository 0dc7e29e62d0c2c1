// The lab's network: namespaces for hosts, bridges in one of their own, and virtual cables.

internal import Foundation

/// The wires of a lab, laid with ip(8).
struct LabNetwork {
    /// A host's device that can be pulled out of its switch.
    enum Segment: String {
        case outside, inside, link, store

        /// The name of its switch.
        var bridge: String { "\(rawValue)-lan" }

        /// Its name at the host.
        var device: String {
            switch self {
            case .outside: "eth0"
            case .inside: "eth1"
            case .link: "eth2"
            case .store: "eth3"
            }
        }
    }

    private static let switches = "switch"
    private let processes: ProcessTable
    private let plan: LabPlan
    /// By namespace: lines for `ip -batch`.
    private var commands: [String: [String]] = [:]
    private var cables: [String] = []
    private var hosts: [String] = []

    /// Lays everything. `isCluster`: a node alone has the gateway's addresses for itself.
    init(_ plan: LabPlan, _ processes: ProcessTable, isCluster: Bool) throws(LabError) {
        self.plan = plan
        self.processes = processes
        add(host: Self.switches)
        for segment in [Segment.outside, .inside, .link, .store] {
            // Bridges flood groups that nobody joined, as switches do without snooping.
            command(
                Self.switches,
                "link add \(segment.bridge) type bridge mcast_snooping 0 stp_state 0",
                "link set \(segment.bridge) up")
        }
        for node in plan.nodes { add(node, isCluster) }
        for daemon in 0..<plan.daemons {
            let name = LabPlan.daemonName(daemon)
            add(host: name)
            cable(name, .outside)
            let tunnels = plan.tunnels(of: daemon)
            for outer in Set(tunnels.map(\.outer)).sorted() {
                let length = outer.contains(":") ? "64 dev eth0 nodad" : "16 dev eth0"
                command(name, "address add \(outer)/\(length)")
            }
            for tunnel in tunnels { command(name, "address add \(tunnel.inner)/32 dev lo") }
        }
        add(host: "server")
        cable("server", .inside)
        command(
            "server", "address add \(LabPlan.server)/24 dev eth1",
            "route add 10.101.0.0/16 via \(LabPlan.insideCluster)")
        if isCluster {
            add(host: "etcd")
            cable("etcd", .store)
            command("etcd", "address add \(LabPlan.etcd)/24 dev eth3")
        }
        try lay()
    }

    /// Pulls a host's device out of its switch, or plugs it in again. The host does not see it:
    /// its carrier stays.
    func plug(_ segment: Segment, of host: String, isIn: Bool) throws(LabError) {
        let bridge = isIn ? "master \(segment.bridge)" : "nomaster"
        try processes.run(
            ["ip", "-n", Self.switches, "link", "set", "\(host).\(segment.device)"]
                + bridge.split(separator: " ").map(String.init))
    }

    // MARK: Hosts

    private mutating func add(_ node: LabPlan.Node, _ isCluster: Bool) {
        add(host: node.name)
        cable(node.name, .outside)
        cable(node.name, .inside, address: node.insideMAC)
        guard isCluster else {
            return command(
                node.name, "address add \(LabPlan.clusterAddress4)/16 dev eth0",
                "address add \(LabPlan.clusterAddress6)/64 dev eth0 nodad",
                "address add \(LabPlan.insideCluster)/24 dev eth1")
        }
        cable(node.name, .link)
        cable(node.name, .store)
        command(
            node.name, "address add \(node.outside4)/16 dev eth0",
            "address add \(node.outside6)/64 dev eth0 nodad",
            "address add \(node.inside)/24 dev eth1", "address add \(node.link)/24 dev eth2",
            "address add \(node.store)/24 dev eth3",
            "address add \(LabPlan.clusterAddress4)/32 dev lo",
            "address add \(LabPlan.clusterAddress6)/128 dev lo nodad")
    }

    private mutating func add(host: String) {
        hosts.append(host)
        command(host, "link set lo up")
    }

    private mutating func command(_ host: String, _ lines: String...) {
        commands[host, default: []] += lines
    }

    private mutating func cable(_ host: String, _ segment: Segment, address: String? = nil) {
        let (device, port) = (segment.device, "\(host).\(segment.device)")
        let mac = address.map { " address \($0)" } ?? ""
        cables.append(
            "link add name \(device)\(mac) netns \(host) type veth "
                + "peer name \(port) netns \(Self.switches)")
        // A row of packets goes as single frames, as on a wire.
        command(host, "link set \(device) up gso_max_segs 1")
        command(Self.switches, "link set \(port) master \(segment.bridge) up gso_max_segs 1")
    }

    // MARK: Laying

    private func lay() throws(LabError) {
        try batch(hosts.map { "netns add \($0)" }, [])
        // Before the devices are there: these settings are what they begin with.
        for host in hosts {
            var settings = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"]
            settings += ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
            if host == Self.switches {
                settings = ["net.ipv6.conf.all.disable_ipv6=1"]
            } else if plan.nodes.contains(where: { $0.name == host }) {
                settings += plan.nodes.count > 1 ? Self.memberSettings : ["net.ipv4.ip_forward=1"]
            }
            try processes.run(in: host, ["sysctl", "-qw"] + settings)
        }
        try batch(cables, [])
        for host in hosts { try batch(commands[host] ?? [], ["-n", host]) }
    }

    /// The kernel must not speak for the cluster's addresses (docs/decisions/0021).
    private static let memberSettings = [
        "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2",
        "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1",
    ]

    private func batch(_ lines: [String], _ options: [String]) throws(LabError) {
        let path = "\(Seclusion.folder)/batch"
        try write(lines.joined(separator: "\n") + "\n", to: path)
        try processes.run(["ip"] + options + ["-batch", path])
    }
}

/// Writes a file of the lab, for root alone.
func write(_ text: String, to path: String) throws(LabError) {
    guard
        FileManager.default.createFile(
            atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    else { throw LabError("\(path): could not be written") }
}
