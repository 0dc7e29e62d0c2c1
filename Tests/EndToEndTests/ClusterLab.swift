// A live cluster in namespaces: nodes, etcd, a server behind them and strongSwan in front of them.

import Foundation
import Glibc

/// A network that goes with its last user; see Live/cluster for who is where.
final class ClusterLab {
    static let isPossible: Bool =
        LiveLab.isPossible && FileManager.default.isExecutableFile(atPath: "/usr/bin/etcd")

    private static let script = LiveLab.path(of: "cluster")

    let scratch: Scratch
    let prefix: String
    private let etcd: Daemon
    private(set) var nodes: [Int: Daemon] = [:]

    init(nodes: Int, tunnels: Int) throws {
        scratch = try Scratch()
        prefix = "c\(getpid())-\(UInt16.random(in: 0...9999))"
        let made = try Program.run(Self.script, ["up", prefix, "\(nodes)", "\(tunnels)"])
        guard made.code == 0 else { throw RunError(description: made.testDescription) }
        let url = "http://10.99.0.2:2379"
        etcd = try Daemon(
            "/usr/sbin/ip",
            [
                "netns", "exec", "\(prefix)-etcd", "etcd", "--data-dir", scratch.path("etcd"),
                "--listen-client-urls", url, "--advertise-client-urls", url,
                "--listen-peer-urls", "http://127.0.0.1:2380",
            ], log: scratch.path("etcd.log"))
        let key = try Program.spindle(["cluster-key", scratch.path("cluster.key")])
        guard key.code == 0 else { throw RunError(description: key.testDescription) }
        let secrets = scratch.path("secrets.yaml")
        try LiveLab.secrets.write(toFile: secrets, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: secrets)
    }

    deinit {
        nodes.values.forEach { $0.kill() }
        etcd.kill()
        _ = try? Program.run(Self.script, ["down", prefix, "0", "0"])
    }

    /// Tests run beside each other, and unoptimized: the members are patient.
    private func configuration(_ number: Int) -> String {
        """
        node: {addresses: [192.0.2.1], control_socket: \(scratch.path("n\(number).control"))}
        secrets: secrets.yaml
        cluster:
          node: \(number)
          key: cluster.key
          store: {endpoints: ["10.99.0.2:2379"]}
          link: {address: 10.99.0.\(10 + number)}
          outside: {device: eth0}
          inside: {device: eth1, addresses: [10.88.0.1]}
          heartbeat: 50ms
          heartbeats_missed: 10
        limits: {half_open_per_address: 100}
        connections:
          peers:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: "*.lab.example", auth: psk}
            proposals: [aes256gcm16-prfsha256-x25519]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.0/16]
                proposals: [aes256gcm16-x25519]
        """
    }

    /// Starts a node; it serves when the others let it.
    func startNode(_ number: Int) throws {
        let file = try scratch.write(
            Data(configuration(number).utf8), as: "n\(number).yaml")
        nodes[number] = try Daemon(
            "/usr/sbin/ip",
            [
                "netns", "exec", "\(prefix)-n\(number)", Program.path(of: "spindle"), "node",
                "--config", file,
            ], log: scratch.path("n\(number).log"))
    }

    /// The end of what a node said.
    func told(_ number: Int) -> String { "\(nodes[number]?.text.suffix(3000) ?? "")" }

    /// IKE SAs that a node speaks for, by the peer's identity.
    func associations(of number: Int) throws -> [ListedAssociation] {
        let outcome = try Program.spindle([
            "list", "--json", "--socket", scratch.path("n\(number).control"),
        ])
        guard outcome.code == 0 else { return [] }
        return try JSONDecoder().decode([ListedAssociation].self, from: outcome.output)
    }

    /// Starts strongSwan with so many connections, each with one tunnel, which it begins.
    func startPeers(_ count: Int) throws -> Daemon {
        let folder = scratch.path("strongswan")
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true)
        let connections = (1...count).map { number in
            """
            peer\(number) {
              version = 2
              local_addrs = 192.0.2.101
              remote_addrs = 192.0.2.1
              proposals = aes256gcm16-prfsha256-x25519
              mobike = no
              rekey_time = 0
              local { auth = psk
                      id = peer\(number).lab.example }
              remote { auth = psk
                       id = gw.lab.example }
              children { net\(number) {
                local_ts = 10.101.1.\(number)/32
                remote_ts = 10.88.0.0/24
                esp_proposals = aes256gcm16-x25519
                rekey_time = 0
                start_action = start
              } }
            }

            """
        }
        let secret = "secrets { ike { secret = \"a key for the tests of the live node\" } }"
        try "connections {\n\(connections.joined())}\n\(secret)\n".write(
            toFile: folder + "/swanctl.conf", atomically: true, encoding: .utf8)
        return try Daemon(
            LiveLab.path(of: "lab"), ["strongswan", prefix, folder],
            log: scratch.path("strongswan.log"))
    }

    /// What strongSwan has: lines with the SPIs of all IKE and CHILD SAs, sorted.
    func peerAssociations() throws -> [String] {
        let outcome = try Program.run(
            "/usr/sbin/swanctl",
            ["--list-sas", "--uri", "unix://" + scratch.path("strongswan") + "/vici"])
        return outcome.text.split(separator: "\n").map(String.init).filter { line in
            line.contains("ESTABLISHED") || line.hasPrefix("    in ") || line.hasPrefix("    out ")
        }.map { line in
            // Counters follow the SPI.
            line.hasPrefix("    ") ? String(line.prefix(16)) : line
        }.sorted()
    }

    /// Pings from the server to the peer's address behind a tunnel, until they are told to stop.
    func ping(tunnel number: Int) throws -> Daemon {
        try Daemon(
            "/usr/sbin/ip",
            [
                "netns", "exec", "\(prefix)-server", "ping", "-i", "0.02", "-W", "2",
                "10.101.1.\(number)",
            ], log: scratch.path("ping\(number).log"))
    }

    /// How many of `count` pings of so many octets came back through a tunnel, each after the one
    /// before: from the server, or to it.
    func pingOnce(
        tunnel number: Int, bytes: Int, fromServer: Bool, count: Int = 5
    ) throws -> (received: Int, text: String) {
        let peer = "10.101.1.\(number)"
        let ends = fromServer ? ["server", "10.88.0.2", peer] : ["peer", peer, "10.88.0.2"]
        var received = 0
        var text = ""
        for _ in 0..<count {
            let outcome = try Program.run(
                "/usr/sbin/ip",
                [
                    "netns", "exec", "\(prefix)-\(ends[0])", "ping", "-q", "-c", "1", "-W", "5",
                    "-M", "dont", "-s", "\(bytes)", "-I", ends[1], ends[2],
                ])
            if outcome.code == 0 { received += 1 }
            text += outcome.text
        }
        return (received, text)
    }

    /// Runs a program in a namespace.
    func run(in name: String, _ arguments: [String]) throws -> Outcome {
        try Program.run("/usr/sbin/ip", ["netns", "exec", "\(prefix)-\(name)"] + arguments)
    }

    /// Starts a program in a namespace that runs beside the test.
    func start(in name: String, _ arguments: [String], log: String) throws -> Daemon {
        try Daemon(
            "/usr/sbin/ip", ["netns", "exec", "\(prefix)-\(name)"] + arguments,
            log: scratch.path(log))
    }

    /// Waits for what must come, at most half a minute.
    func waitUntil(_ what: String, _ condition: () throws -> Bool) throws {
        let end = ContinuousClock.now + .seconds(30)
        while try !condition() {
            guard ContinuousClock.now < end else {
                throw RunError(description: "not within 30 s: \(what)")
            }
            usleep(50_000)
        }
    }
}

/// What `spindle list --json` says, as far as the tests look.
struct ListedAssociation: Decodable {
    let remoteIdentity: String?
    let isEstablished: Bool
}
