// strongSwan with many tunnels, in a namespace of its own.

internal import Foundation
internal import Glibc

/// One daemon with its connections.
///
/// ESP is in user space (kernel-libipsec): the kernel may have none. It is always in UDP.
final class StrongSwanPeer: LabPeer {
    private static let program = "/usr/sbin/charon-systemd"
    /// What must be there.
    static let programs = [program, "/usr/sbin/swanctl"]
    private static let atOnce = 4
    private static let patienceNanoseconds: UInt64 = 3_000_000_000
    private let tunnels: [LabPlan.Tunnel]
    private let places: [String: Int]
    private let process: pid_t
    private let name: String
    private let processes: ProcessTable
    private let vici: ViciConnection

    /// Starts the daemon of `number` and gives it its connections.
    init(_ number: Int, _ plan: LabPlan, _ processes: ProcessTable, key: String) throws(LabError) {
        name = LabPlan.daemonName(number)
        self.processes = processes
        tunnels = plan.tunnels(of: number)
        places = Dictionary(uniqueKeysWithValues: tunnels.map { ($0.name, $0.place) })
        let folder = "\(Seclusion.folder)/\(name)"
        for path in [folder, folder + "/swanctl"] where mkdir(path, 0o700) != 0 {
            throw LabError("\(path): \(lastSystemError())")
        }
        try write(Self.settings(folder), to: "\(folder)/strongswan.conf")
        let connections = tunnels.map(Self.connection).joined()
        try write(
            "connections {\n\(connections)}\nsecrets { ike { secret = \"\(key)\" } }\n",
            to: "\(folder)/swanctl.conf")
        process = try processes.start(
            name, in: name, [Self.program],
            environment: ["STRONGSWAN_CONF": "\(folder)/strongswan.conf"])
        vici = try Self.connect("\(folder)/vici", process, name, processes)
        for event in PeerEvent.viciNames { try vici.register(event) }
        try processes.run(
            [
                "swanctl", "--load-all", "--file", "\(folder)/swanctl.conf", "--uri",
                "unix://\(folder)/vici",
            ],
            environment: ["SWANCTL_DIR": "\(folder)/swanctl"])
    }

    private static func connect(
        _ path: String, _ process: pid_t, _ name: String, _ processes: ProcessTable
    ) throws(LabError) -> ViciConnection {
        let end = monotonicNanoseconds() + 20_000_000_000
        while true {
            do throws(LabError) {
                return try ViciConnection(path: path)
            } catch {
                guard processes.isRunning(process), monotonicNanoseconds() < end else {
                    throw LabError("strongSwan does not start: \(ProcessTable.tail(name))")
                }
                usleep(5000)
            }
        }
    }

    /// Some at a time. One that has not come far in a while is begun anew, as its user would: who
    /// has answered its first message may have lost it since, and others have nothing of it.
    func initiate() throws(LabError) {
        var next = 0
        /// By place: when it is begun anew.
        var waiting: [Int: UInt64] = [:]
        let end = monotonicNanoseconds() + 60_000_000_000
        while next < tunnels.count || !waiting.isEmpty {
            while next < tunnels.count, waiting.count < Self.atOnce {
                waiting[tunnels[next].place] = try begin(tunnels[next])
                next += 1
            }
            for event in try takeEvents() where event.kind == .pairAdded {
                waiting[event.tunnel] = nil
            }
            let now = monotonicNanoseconds()
            for tunnel in tunnels where waiting[tunnel.place].map({ $0 < now }) ?? false {
                try vici.command(
                    "terminate",
                    .texts(["ike": tunnel.name, "timeout": "-1", "force": "yes"]))
                waiting[tunnel.place] = try begin(tunnel)
            }
            guard now < end else {
                let names = waiting.keys.sorted().map { "t\($0 + 1)" }.joined(separator: ", ")
                throw LabError(
                    "\(name): not set up within 60 s: \(names)\(ProcessTable.tail(name))")
            }
            usleep(1000)
        }
    }

    /// Begins a set-up; until when it should stand.
    private func begin(_ tunnel: LabPlan.Tunnel) throws(LabError) -> UInt64 {
        // -1: the answer comes at once, the set-up's end as an event. An answer that waits holds
        // one of the daemon's threads.
        try vici.command(
            "initiate",
            .texts(["child": tunnel.name, "timeout": "-1", "init-limits": "no"]))
        return monotonicNanoseconds() + Self.patienceNanoseconds
    }

    func rekey(_ tunnel: LabPlan.Tunnel) throws(LabError) {
        try vici.command("rekey", .texts(["child": tunnel.name]))
    }

    func takeEvents() throws(LabError) -> [PeerEvent] {
        let now = monotonicNanoseconds()
        return try vici.takeEvents().flatMap {
            PeerEvent.read($0, at: now, tunnels: places)
        }
    }

    // MARK: Files

    private static func settings(_ folder: String) -> String {
        """
        charon-systemd {
          # kernel-libipsec first: both offer the same, and kernel-netlink is for addresses only
          load = random nonce openssl aes sha1 sha2 hmac kdf gcm curve25519 kernel-libipsec \
        kernel-netlink socket-default vici
          # many tunnels of one host: no cookies
          dos_protection = no
          ikesa_table_size = 256
          ikesa_table_segments = 4
          plugins { vici { socket = unix://\(folder)/vici } }
          filelog { main {
            path = \(folder).log
            default = 1
            append = yes
            flush_line = yes
            time_format = %H:%M:%S
            time_add_ms = yes
            ike_name = yes
          } }
        }
        """
    }

    private static func connection(_ tunnel: LabPlan.Tunnel) -> String {
        """
          \(tunnel.name) {
            version = 2
            local_addrs = \(tunnel.outer)
            remote_addrs = \(tunnel.gateway)
            proposals = \(LabNode.ikeProposal)
            mobike = no
            unique = never
            rekey_time = 0
            dpd_delay = 3s
            local { auth = psk
                    id = \(tunnel.identity) }
            remote { auth = psk
                     id = gw.lab.example }
            children { \(tunnel.name) {
              local_ts = \(tunnel.inner)/32
              remote_ts = 10.88.0.0/24
              esp_proposals = \(LabNode.espProposal)
              rekey_time = 0
              dpd_action = restart
            } }
          }

        """
    }
}
