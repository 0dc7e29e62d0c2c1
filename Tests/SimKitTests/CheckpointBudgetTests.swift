// Fooled by: a budget that is kept by telling nothing, or by telling the same few again and again.

import Cluster
import ESP
import Gateway
import SimKit
import Testing

@Suite struct CheckpointBudgetTests {
    /// Many tunnels with little traffic each: all are told of, and octets stay bounded.
    @Test func checkpointsStayWithinTheirBudget() throws {
        let tunnels = 600
        let cluster = try ControlCluster(seed: 9, identifiers: 16)
        let peers = try PeerBank(
            tunnels: tunnels, distribution: cluster.template.distribution,
            transforms: SimulationOptions.counterModes(1), windowBits: 64,
            random: SimulationRandom(seed: 9))
        cluster.writeEntries(of: peers)
        for number in 0..<3 { try cluster.start(number) }
        cluster.run(until: cluster.now + 3_000_000_000)
        let before = cluster.figures
        let sender = Sender(cluster, peers)
        for _ in 0..<20 {
            for tunnel in 0..<tunnels { try sender.send(tunnel) }
            cluster.run(until: cluster.now + 50_000_000)
        }
        let octets = cluster.figures.since(before).datagramBytes
        // 0.1 MB of three nodes, an 80th of 12 000 packets, and the heartbeats.
        #expect(octets < 500_000)
        // An SPI, seven fields, for two peers each: once for every tunnel at least.
        #expect(octets > 60_000 + UInt64(tunnels * 11 * 2))

        // Whoever takes over knows what was accepted: nothing is accepted again.
        cluster.run(until: cluster.now + 1_000_000_000)
        let replayed = try (0..<tunnels).map { try sender.seal($0) }
        for packet in replayed { #expect(try sender.show(packet) == .delivered) }
        cluster.run(until: cluster.now + 3_000_000_000)
        cluster.stop(1)
        cluster.run(until: cluster.now + 1_000_000_000)
        for packet in replayed {
            #expect(try sender.show(packet) == .dropped(.replayed))
        }
    }

    /// Shows packets to the nodes that are there.
    private final class Sender {
        let cluster: ControlCluster
        let peers: PeerBank
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 64)
        let packets = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)
        let verdicts = UnsafeMutableBufferPointer<PacketVerdict>.allocate(capacity: 1)

        init(_ cluster: ControlCluster, _ peers: PeerBank) {
            self.cluster = cluster
            self.peers = peers
            verdicts.initialize(repeating: .other)
        }

        deinit {
            memory.deallocate()
            packets.deallocate()
            verdicts.deallocate()
        }

        func seal(_ tunnel: Int) throws -> [UInt8] {
            let place = try #require(
                peers.seal(
                    tunnel, into: memory, capacity: 2048, offset: 128, payloadBytes: 32,
                    now: cluster.now))
            return Array(
                UnsafeRawBufferPointer(start: memory + place.offset, count: place.length))
        }

        func send(_ tunnel: Int) throws {
            #expect(try show(seal(tunnel)) == .delivered)
        }

        /// What its owner made of it.
        func show(_ octets: [UInt8]) throws -> PacketVerdict {
            for node in cluster.nodes {
                guard let node else { continue }
                (memory + 128).copyMemory(from: octets, byteCount: octets.count)
                packets.initializeElement(
                    at: 0,
                    to: PacketDescriptor(
                        buffer: memory, capacity: 2048, offset: 128, length: octets.count))
                node.gateway.receive(packets, verdicts: verdicts, nowNanoseconds: cluster.now)
                if verdicts[0] != .foreign { return verdicts[0] }
            }
            return .foreign
        }
    }
}
