// `spindle bench publishing`: what nodes tell each other and the store while packets flow.

import ArgumentParser
import Cluster
import ESP
import Gateway
import SimKit

struct BenchPublishingCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "publishing",
        abstract: "Octets of checkpoints and leases beside the data, and writes to the store.",
        discussion: """
            Real nodes handle real packets in virtual time, half of them in each direction, spread \
            at random over all tunnels. After two seconds everything that the nodes say is \
            counted: all datagrams on the HA link, heartbeats included, all keys and values \
            written to the store, and their copies for all watching nodes. Data are octets of \
            inner packets.
            """)

    @Option(help: "Tunnels, of two associations each, 1 to 400000.")
    var tunnels = 50_000

    @Option(help: "Nodes, 2 to 16.")
    var nodes = 3

    @Option(help: "Distribution identifiers: a power of two from 16 to 4096.")
    var identifiers = 256

    @Option(help: "Packets per second, of the whole cluster, 1000 to 10000000.")
    var rate = 1_000_000

    @Option(help: "Octets of an inner packet, 64 to 1400; may be repeated.")
    var bytes: [Int] = [64, 1400]

    @Option(help: "Tunnels that have packets, the first so many; 0: all.")
    var hot = 0

    @Option(help: "Seconds of virtual time that are measured, 1 to 60.")
    var seconds = 5

    @Option(help: "Seed for SPIs, keys and the order of the tunnels.")
    var seed: UInt64 = 1

    @Flag(help: "Print a JSON array instead of a table.")
    var json = false

    func validate() throws {
        guard (1...400_000).contains(tunnels) else {
            throw ValidationError("--tunnels must be from 1 to 400000")
        }
        guard (2...16).contains(nodes) else {
            throw ValidationError("--nodes must be from 2 to 16")
        }
        guard (16...4096).contains(identifiers), identifiers.nonzeroBitCount == 1 else {
            throw ValidationError("--identifiers must be a power of two from 16 to 4096")
        }
        guard (1000...10_000_000).contains(rate) else {
            throw ValidationError("--rate must be from 1000 to 10000000")
        }
        guard !bytes.isEmpty, bytes.allSatisfy((64...1400).contains) else {
            throw ValidationError("--bytes must be from 64 to 1400")
        }
        guard (0...tunnels).contains(hot) else {
            throw ValidationError("--hot must be from 0 to the number of tunnels")
        }
        guard (1...60).contains(seconds) else {
            throw ValidationError("--seconds must be from 1 to 60")
        }
    }

    func run() throws {
        var rows: [PublishingRow] = []
        for bytes in bytes {
            let bench = try PublishingBench(
                tunnels: tunnels, nodes: nodes, identifiers: identifiers, bytes: bytes, seed: seed)
            rows.append(try bench.measure(rate: rate, hot: hot, seconds: seconds))
        }
        if json { return try printJSON(rows) }
        print(
            "\(rate) packets per second over \(tunnels * 2) associations, \(nodes) nodes, "
                + "\(seconds) s of virtual time; per second:")
        var table = TextTable(
            "bytes", "data MB", "HA link MB", "store MB", "watches MB", "share %", "writes",
            "leases", "refused", "CPU ms/node")
        for row in rows {
            table.add(
                "\(row.bytes)", hundredths(row.dataMegabytes), hundredths(row.linkMegabytes),
                hundredths(row.storeMegabytes), hundredths(row.watchMegabytes),
                hundredths(row.sharePercent), hundredths(row.storeWrites),
                hundredths(row.storePuts), "\(row.refused)",
                hundredths(row.controlMilliseconds))
        }
        table.lines().forEach { print($0) }
    }
}

/// One size of packets; everything per second of virtual time, but for `refused`.
struct PublishingRow: Encodable {
    let bytes: Int
    let dataMegabytes: Double
    let linkMegabytes: Double
    let storeMegabytes: Double
    let watchMegabytes: Double
    /// Of the data.
    let sharePercent: Double
    let storeWrites: Double
    let storePuts: Double
    /// Packets that were not handled.
    let refused: Int
    /// CPU time of one node for all that is not packets.
    let controlMilliseconds: Double
}

/// A cluster whose packets go to their owners only.
final class PublishingBench {
    private let tunnels: Int
    private let nodes: Int
    private let payloadBytes: Int
    private let bytes: Int
    private let cluster: ControlCluster
    private let peers: PeerBank
    private var generator: SeededGenerator
    /// By identifier.
    private var owners: [Int] = []
    private var serials: [UInt64]
    private var refused = 0
    private var hot = 0
    private let memory: UnsafeMutableRawPointer
    private let packets: UnsafeMutableBufferPointer<PacketDescriptor> = .allocate(capacity: 1)
    private let verdicts: UnsafeMutableBufferPointer<PacketVerdict> = .allocate(capacity: 1)
    private static let memoryBytes = 2048
    private static let warmUpSeconds = 2
    private static let stepsPerSecond = 5000

    init(tunnels: Int, nodes: Int, identifiers: Int, bytes: Int, seed: UInt64) throws {
        self.tunnels = tunnels
        self.nodes = nodes
        self.bytes = bytes
        payloadBytes = bytes - InnerPacket.length(payloadBytes: 0)
        generator = SeededGenerator(seed: seed)
        serials = Array(repeating: 0, count: tunnels)
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
        verdicts.initialize(repeating: .other)
        cluster = try ControlCluster(seed: seed, identifiers: identifiers)
        cluster.template.tableCapacity = tunnels
        cluster.template.cardCapacity = tunnels * 2
        peers = try PeerBank(
            tunnels: tunnels, distribution: cluster.template.distribution,
            transforms: SimulationOptions.counterModes(1), windowBits: 64,
            random: SimulationRandom(seed: seed))
        cluster.writeEntries(of: peers)
        for number in 0..<nodes {
            try cluster.start(number)
            cluster.run(until: cluster.now + 1_300_000)
        }
        try settle()
    }

    deinit {
        packets.deallocate()
        verdicts.deallocate()
        memory.deallocate()
    }

    private func settle() throws {
        let limit = cluster.now + 30_000_000_000
        while !isServing {
            guard cluster.now < limit else {
                throw CommandError("the tunnels found no owner: report this")
            }
            cluster.run(until: cluster.now + 1_000_000)
        }
        guard let allocation = cluster.nodes[0]?.gateway.allocation else { return }
        owners = allocation.owners.map { Int($0.value) - 1 }
    }

    private var isServing: Bool {
        let sessions = cluster.nodes.reduce(0) { $0 + ($1?.gateway.sessionCount ?? 0) }
        return sessions == tunnels * 2
            && cluster.nodes.allSatisfy {
                $0?.gateway.servingUntilNanoseconds ?? 0 > cluster.now
            }
    }

    func measure(rate: Int, hot: Int, seconds: Int) throws -> PublishingRow {
        self.hot = hot == 0 ? tunnels : hot
        _ = drive(rate: rate, seconds: Self.warmUpSeconds)
        refused = 0
        let before = cluster.figures
        let control = drive(rate: rate, seconds: seconds)
        let figures = cluster.figures.since(before)
        let time = Double(seconds)
        let data = Double(rate * bytes) * time
        let told = figures.datagramBytes + figures.storeBytes + figures.watchBytes
        return PublishingRow(
            bytes: bytes, dataMegabytes: data / time / 1e6,
            linkMegabytes: Double(figures.datagramBytes) / time / 1e6,
            storeMegabytes: Double(figures.storeBytes) / time / 1e6,
            watchMegabytes: Double(figures.watchBytes) / time / 1e6,
            sharePercent: Double(told) / data * 100,
            storeWrites: Double(figures.storeWrites) / time,
            storePuts: Double(figures.storePuts) / time, refused: refused,
            controlMilliseconds: Double(control) / time / Double(nodes) / 1e6)
    }

    /// Returns the CPU time of all nodes for what is not packets, in nanoseconds.
    private func drive(rate: Int, seconds: Int) -> UInt64 {
        let steps = Self.stepsPerSecond * seconds
        let begin = cluster.now
        var control: UInt64 = 0
        var sent = 0
        for step in 1...steps {
            let due = rate * seconds * step / steps
            while sent < due {
                sent += 1
                let tunnel = generator.below(hot)
                if sent % 2 == 0 { fromPeer(tunnel) } else { fromServer(tunnel) }
            }
            let start = threadNanoseconds()
            cluster.run(
                until: begin + UInt64(step) * 1_000_000_000 / UInt64(Self.stepsPerSecond))
            control += threadNanoseconds() - start
        }
        return control
    }

    private func fromPeer(_ tunnel: Int) {
        guard
            let place = peers.seal(
                tunnel, into: memory, capacity: Self.memoryBytes, offset: 128,
                payloadBytes: payloadBytes, now: cluster.now),
            let node = cluster.nodes[owners[Int(peers.identifier(of: tunnel).value)]]
        else { preconditionFailure("numbers and nodes are there") }
        set(offset: place.offset, length: place.length)
        node.gateway.receive(packets, verdicts: verdicts, nowNanoseconds: cluster.now)
        if verdicts[0] != .delivered { refused += 1 }
    }

    private func fromServer(_ tunnel: Int) {
        guard let node = cluster.nodes[owners[Int(peers.identifier(of: tunnel).value)]] else {
            preconditionFailure("all nodes are there")
        }
        serials[tunnel] += 1
        let length = peers.innerPacket(
            toPeer: tunnel, serial: serials[tunnel], into: memory + 128,
            payloadBytes: payloadBytes)
        set(offset: 128, length: length)
        node.gateway.send(packets, verdicts: verdicts, nowNanoseconds: cluster.now)
        if verdicts[0] != .delivered { refused += 1 }
    }

    private func set(offset: Int, length: Int) {
        packets.initializeElement(
            at: 0,
            to: PacketDescriptor(
                buffer: memory, capacity: Self.memoryBytes, offset: offset, length: length))
    }
}
