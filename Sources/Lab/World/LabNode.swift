// A node of the lab: its configuration, and its process.

internal import Foundation
internal import Glibc

/// One `spindle node`, which may die and start again.
final class LabNode {
    static let ikeProposal = "aes256gcm16-prfsha256-x25519"
    static let espProposal = "aes256gcm16-x25519"
    private static let startSeconds = 20.0

    let place: LabPlan.Node
    private let isCluster: Bool
    private let processes: ProcessTable
    private let program: String
    /// The running process; nil: it is down.
    private(set) var process: pid_t?

    var number: Int { place.number }
    /// Where its log stood when the process was started.
    private var logBegin = 0
    private var log: String { place.name }
    private var path: String { "\(Seclusion.folder)/\(place.name)" }

    init(
        _ place: LabPlan.Node, _ processes: ProcessTable, program: String, isCluster: Bool
    ) throws(LabError) {
        (self.place, self.processes) = (place, processes)
        (self.program, self.isCluster) = (program, isCluster)
        try write(isCluster ? member : alone, to: path + ".yaml")
    }

    /// Starts the process and waits until it says that it serves.
    func start() throws(LabError) {
        try launch()
        try waitUntilServing()
    }

    /// Starts the process.
    func launch() throws(LabError) {
        logBegin = logSize
        let words = [program, "node", "--config", path + ".yaml"]
        process = try processes.start(
            log, in: place.name, isCluster ? words : words + ["--handover"])
    }

    /// Waits until the process says that it serves.
    func waitUntilServing() throws(LabError) {
        guard let process else { return }
        let end = monotonicNanoseconds() + UInt64(Self.startSeconds * 1e9)
        while !hasSaid(" info serving") {
            guard processes.isRunning(process), monotonicNanoseconds() < end else {
                throw LabError("node \(number) does not start:\(ProcessTable.tail(log))")
            }
            usleep(2000)
        }
    }

    /// It dies at once.
    func kill() { signal(SIGKILL) }

    func signal(_ number: Int32) {
        guard let process else { return }
        Glibc.kill(process, number)
        if number == SIGKILL, processes.waitForEnd(process, seconds: 10) { self.process = nil }
    }

    /// True when the process has ended, whoever wanted it.
    var hasEnded: Bool { process.map { !processes.isRunning($0) } ?? true }

    /// True from when it is asked to leave until it is forgotten.
    private(set) var mayEnd = false

    /// It is asked to leave.
    func leave() {
        mayEnd = true
        signal(SIGTERM)
    }

    /// An ended process is no concern any more.
    func forget() {
        mayEnd = false
        process = nil
    }

    /// What the process holds in memory, in units of 1024 octets (proc(5)); nil: it is down.
    var memoryKilobytes: Int? {
        guard let process,
            let text = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmRSS:") })
        else { return nil }
        return line.split(separator: " ").dropLast().last.flatMap { Int($0) }
    }

    // MARK: Log

    private var logSize: Int {
        (try? FileManager.default.attributesOfItem(atPath: ProcessTable.logPath(log))[.size])
            as? Int ?? 0
    }

    private func hasSaid(_ word: String) -> Bool {
        guard let data = FileManager.default.contents(atPath: ProcessTable.logPath(log)) else {
            return false
        }
        return String(decoding: data.dropFirst(logBegin), as: UTF8.self).contains(word)
    }

    // MARK: Configuration

    private var alone: String {
        """
        node:
          addresses: [\(LabPlan.clusterAddress4), "\(LabPlan.clusterAddress6)"]
          control_socket: \(path).control
          state: \(path)-state
        \(Self.rest)
        """
    }

    private var member: String {
        """
        node:
          addresses: [\(LabPlan.clusterAddress4), "\(LabPlan.clusterAddress6)"]
          control_socket: \(path).control
        cluster:
          node: \(number)
          key: cluster.key
          store: {endpoints: ["\(LabPlan.etcd):2379"], prefix: lab/}
          link: {address: \(place.link)}
          outside: {device: eth0}
          inside: {device: eth1, addresses: [\(LabPlan.insideCluster)]}
        \(Self.rest)
        """
    }

    private static let rest = """
        secrets: secrets.yaml
        limits: {half_open_per_address: 1000, cookies_above: 1000}
        connections:
          peers:
            local: {identity: gw.lab.example, auth: psk}
            remote: {identity: "*.lab.example", auth: psk}
            proposals: [\(ikeProposal)]
            children:
              net:
                local: [10.88.0.0/24]
                remote: [10.101.0.0/16]
                proposals: [\(espProposal)]
            timers: {liveness: 5s}

        """

    /// What all nodes share: the peers' key.
    static func writeSecrets(key: String) throws(LabError) {
        try write(
            """
            preshared_keys:
              - identities: [gw.lab.example, "*.lab.example"]
                secret: "\(key)"

            """, to: "\(Seclusion.folder)/secrets.yaml")
    }
}
