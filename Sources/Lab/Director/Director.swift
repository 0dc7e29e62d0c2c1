// Sets a lab up, has things happen to it, and writes down what the ends of the tunnels saw.

internal import Foundation
internal import Glibc
internal import SimKit

/// The first process of a lab. One thread: whatever it waits for, it reads the stations' records
/// and the peers' events meanwhile.
final class Director {
    private static let sliceNanoseconds: UInt64 = 100_000_000
    private static let logBytes = 256 << 10

    let options: LabOptions
    let plan: LabPlan
    let processes = ProcessTable()
    private(set) var network: LabNetwork
    private(set) var nodes: [LabNode] = []
    private(set) var peers: [any LabPeer] = []
    private var stations: [(name: String, process: pid_t)] = []
    private var tails: [TrafficTail] = []
    var ledger: TrafficLedger
    /// What peers said, in order.
    var events: [PeerEvent] = []
    var random: SimulationRandom
    /// When the traffic began: what times count from.
    private(set) var epoch: UInt64 = 0
    private var slices: [TrafficSlice] = []
    var outcomes: [ScenarioOutcome] = []

    var isCluster: Bool { options.nodes > 1 }

    init(_ options: LabOptions) throws(LabError) {
        self.options = options
        plan = LabPlan(
            nodes: options.nodes, tunnels: options.tunnels,
            sharesAddresses: options.peers == .spindle)
        random = SimulationRandom(seed: options.seed)
        let silence = max(30_000_000, 3_000_000_000 / UInt64(options.rate))
        ledger = TrafficLedger(tunnels: options.tunnels, silence: silence)
        network = try LabNetwork(plan, processes, isCluster: options.nodes > 1)
    }

    /// Does everything; what went wrong is in the result.
    func run() -> LabResult {
        var result = LabResult(options: options, plan: plan)
        do throws(LabError) {
            let begin = monotonicNanoseconds()
            try setUp()
            say(readiness(since: begin))
            for scenario in options.scenarios { try perform(scenario) }
            try soak()
        } catch {
            result.failure = error.description
        }
        if epoch > 0 {
            read()
            slices += ledger.settle(before: .max, width: Self.sliceNanoseconds)
        }
        fill(&result)
        return result
    }

    /// Tells the user; at once, also into a pipe.
    func say(_ line: String) {
        print(line)
        fflush(nil)
    }

    // MARK: Set-up

    private func setUp() throws(LabError) {
        let key = "a key of the lab, made up and thrown away"
        try LabNode.writeSecrets(key: key)
        if isCluster {
            let path = "\(Seclusion.folder)/cluster.key"
            try processes.run([options.nodeProgram, "cluster-key", path])
            try startEtcd()
        }
        for place in plan.nodes {
            nodes.append(
                try LabNode(place, processes, program: options.nodeProgram, isCluster: isCluster))
        }
        for node in nodes { try node.launch() }
        for node in nodes { try node.waitUntilServing() }
        for daemon in 0..<plan.daemons {
            switch options.peers {
            case .strongswan:
                peers.append(try StrongSwanPeer(daemon, plan, processes, key: key))
            case .spindle:
                peers.append(
                    try SpindlePeer(daemon, plan, processes, program: options.nodeProgram))
            }
        }
        for peer in peers { try peer.initiate() }
        try startStations()
        guard try wait(upTo: 20, until: { self.allFlow(within: 300_000_000) }) else {
            throw LabError("no packets come through \(silentNames())")
        }
        _ = try waitUntilSteady()
    }

    private func startEtcd() throws(LabError) {
        let url = "http://\(LabPlan.etcd)"
        let process = try processes.start(
            "etcd", in: "etcd",
            [
                "etcd", "--data-dir", "\(Seclusion.folder)/etcd", "--name", "lab",
                "--listen-client-urls", "\(url):2379", "--advertise-client-urls", "\(url):2379",
                "--listen-peer-urls", "\(url):2380",
                "--initial-advertise-peer-urls", "\(url):2380",
                "--initial-cluster", "lab=\(url):2380",
            ])
        let end = monotonicNanoseconds() + 20_000_000_000
        let isReady = {
            (try? String(contentsOfFile: ProcessTable.logPath("etcd"), encoding: .utf8))?
                .contains("ready to serve client requests") ?? false
        }
        while !isReady() {
            guard processes.isRunning(process), monotonicNanoseconds() < end else {
                throw LabError("etcd does not start:\(ProcessTable.tail("etcd"))")
            }
            usleep(5000)
        }
    }

    private func startStations() throws(LabError) {
        func start(
            _ namespace: String, _ way: TrafficWay, _ streams: [StationPlan.Stream],
            device: String?
        ) throws(LabError) {
            let path = "\(Seclusion.folder)/traffic-\(namespace)"
            let station = StationPlan(
                way: way, streams: streams, port: LabPlan.trafficPort, rate: options.rate,
                output: path, device: device)
            guard let data = try? JSONEncoder().encode(station) else {
                preconditionFailure("a plan has only texts and numbers")
            }
            try write(String(decoding: data, as: UTF8.self), to: path + ".json")
            tails.append(try TrafficTail(path: path))
            let name = "traffic-\(namespace)"
            stations.append(
                (
                    name,
                    try processes.start(
                        name, in: namespace, [options.program, "lab-traffic", path + ".json"])
                ))
        }
        epoch = monotonicNanoseconds()
        for daemon in 0..<plan.daemons {
            let streams = plan.tunnels(of: daemon).map {
                StationPlan.Stream(tunnel: $0.place, local: $0.inner, remote: LabPlan.server)
            }
            try start(LabPlan.daemonName(daemon), .up, streams, device: nil)
        }
        let streams = plan.tunnels.map {
            StationPlan.Stream(tunnel: $0.place, local: LabPlan.server, remote: $0.inner)
        }
        let device = LabNetwork.Segment.inside.device
        try start("server", .down, streams, device: device)
    }

    private func readiness(since begin: UInt64) -> String {
        let seconds = (monotonicNanoseconds() - begin) / 100_000_000
        let shares = shares()
        let counts = nodes.map { "node \($0.number) has \(shares[$0.number]?.count ?? 0)" }
        let owners = isCluster ? ": \(counts.joined(separator: ", "))" : ""
        return "Ready after \(seconds / 10).\(seconds % 10) s. \(options.rate) numbered packets a "
            + "second go through each of \(options.tunnels) tunnels, each way\(owners)."
    }

    // MARK: While time passes

    /// Reads what came meanwhile. Throws when something ended that must not end.
    func read() {
        for tail in tails { tail.read { ledger.note($0) } }
    }

    private func readAll() throws(LabError) {
        read()
        for peer in peers { events += try peer.takeEvents() }
        for station in stations where !processes.isRunning(station.process) {
            throw LabError("the traffic ended:\(ProcessTable.tail(station.name))")
        }
        for node in nodes where node.hasEnded && node.process != nil && !node.mayEnd {
            throw LabError(
                "node \(node.number) ended by itself:\(ProcessTable.tail(node.place.name))")
        }
    }

    /// Lets time pass.
    func pass(seconds: Double) throws(LabError) {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while monotonicNanoseconds() < end {
            try readAll()
            usleep(5000)
        }
    }

    /// Waits until something holds; false: it did not within so many seconds.
    func wait(
        upTo seconds: Double, until condition: () throws(LabError) -> Bool
    ) throws(LabError) -> Bool {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while true {
            try readAll()
            if try condition() { return true }
            guard monotonicNanoseconds() < end else { return false }
            usleep(5000)
        }
    }

    // MARK: What the ends see

    /// Packets came through all tunnels, both ways, within so many nanoseconds.
    func allFlow(within span: UInt64) -> Bool { silent(within: span).isEmpty }

    private func silent(within span: UInt64) -> [Int] {
        let now = monotonicNanoseconds()
        return plan.tunnels.map(\.place).filter { tunnel in
            TrafficWay.allCases.contains { ledger.lastReceived(tunnel, $0) + span < now }
        }
    }

    func silentNames() -> String {
        silent(within: 300_000_000).map { "t\($0 + 1)" }.joined(separator: ", ")
    }

    /// Waits until packets have come through all tunnels for a second and none changed its node;
    /// false: not within 20 s.
    func waitUntilSteady() throws(LabError) -> Bool {
        var since = monotonicNanoseconds()
        var before = shares()
        return try wait(upTo: 20) {
            let now = monotonicNanoseconds()
            let shares = shares()
            if !allFlow(within: 300_000_000) || shares != before { since = now }
            before = shares
            return now - since > 1_000_000_000
        }
    }

    /// Tunnels by the node that carries them now.
    func shares() -> [Int: [Int]] {
        Dictionary(grouping: plan.tunnels.map(\.place).filter { ledger.owner(of: $0) != nil }) {
            ledger.owner(of: $0) ?? 0
        }
    }

    func relative(_ time: UInt64) -> UInt64 { time > epoch ? time - epoch : 0 }

    /// Keeps of packets that left before `time` only what the report draws.
    func settle(before time: UInt64) {
        slices += ledger.settle(before: time, width: Self.sliceNanoseconds)
    }

    // MARK: Result

    private func fill(_ result: inout LabResult) {
        result.scenarios = outcomes
        result.owners = ledger.owners.map { changes in
            changes.map { OwnerChange(time: relative($0.time), node: $0.node) }
        }
        result.silences = ledger.silences.map { silence in
            var silence = silence
            silence.from = relative(silence.from)
            silence.until = relative(silence.until)
            return silence
        }
        result.slices = slices.map { slice in
            var slice = slice
            slice.time = relative(slice.time)
            return slice
        }
        result.end = epoch == 0 ? 0 : relative(monotonicNanoseconds())
        for name in processes.logs where name != "command" {
            let data = FileManager.default.contents(atPath: ProcessTable.logPath(name)) ?? Data()
            result.logs[name] = String(decoding: data.suffix(Self.logBytes), as: UTF8.self)
        }
    }
}
