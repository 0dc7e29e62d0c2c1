// The workload of `spindle bench esp`: pairs of associations, one card that sends and one that
// receives, and plain OpenSSL beside them. Each round seals and opens the same packets in place.

import Crypto
import CryptoCardSim
import ESP
import Wire

/// One row of the benchmark. Times are medians in nanoseconds per packet.
struct ESPBenchRow: Encodable {
    let bytes: Int
    let associations: Int
    let encapsulateNs: Double
    let decapsulateNs: Double
    let plainEncryptNs: Double
    let plainDecryptNs: Double
    let bareUpdateNs: Double
}

final class ESPBench {
    static let batch = 32
    /// Not a power of two, or all packets would compete for the same cache sets.
    static let slotBytes = 1664

    let bytes: Int
    let associations: Int
    private var sender: CryptoCard
    private var receiver: CryptoCard
    private var handles: [CardHandle] = []
    private let memory: UnsafeMutableRawPointer
    private let packets: UnsafeMutableBufferPointer<PacketDescriptor>
    private let plain: PlainBaseline
    private var generator: SeededGenerator
    private var nextHot = 0

    /// `bytes`: length of the inner packet. AES-256-GCM-16, tunnel mode, IPv4 in IPv4.
    init(bytes: Int, associations: Int, seed: UInt64) throws {
        self.bytes = bytes
        self.associations = associations
        let library = try CryptoLibrary()
        let catalogue = AssociationCatalogue()
        sender = CryptoCard(capacity: associations, library: library, catalogue: catalogue)
        receiver = CryptoCard(capacity: associations, library: library, catalogue: catalogue)
        generator = SeededGenerator(seed: seed)
        memory = .allocate(byteCount: Self.batch * Self.slotBytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.batch * Self.slotBytes)
        packets = .allocate(capacity: Self.batch)
        plain = try PlainBaseline(bytes: bytes)
        for index in 0..<associations {
            let spi = SPI(UInt32(index) + 256)
            let outbound = try BenchTunnel.association(spi: spi, .outbound, seed: seed)
            let inbound = try BenchTunnel.association(spi: spi, .inbound, seed: seed)
            handles.append(
                try sender.open(outbound, distributionIdentifier: 0, ivGeneration: 1))
            _ = try receiver.open(inbound, distributionIdentifier: 0, ivGeneration: 1)
        }
        for index in 0..<Self.batch {
            packets.initializeElement(at: index, to: descriptor(index))
            BenchTunnel.writeInner(memory + index * Self.slotBytes + 128, bytes: bytes)
        }
    }

    deinit {
        packets.deallocate()
        memory.deallocate()
    }

    private func descriptor(_ index: Int) -> PacketDescriptor {
        PacketDescriptor(
            buffer: memory + index * Self.slotBytes, capacity: Self.slotBytes, offset: 128,
            length: bytes)
    }

    /// Seals and opens `batches` batches; adds the nanoseconds spent to `seal` and `open`.
    func run(batches: Int, seal: inout UInt64, open: inout UInt64) {
        for _ in 0..<batches {
            for index in 0..<Self.batch {
                packets[index] = descriptor(index)
                packets[index].handle = handles[nextAssociation()]
            }
            let start = monotonicNanoseconds()
            sender.send(packets, nowNanoseconds: 0)
            let sealed = monotonicNanoseconds()
            for index in packets.indices { classify(index) }
            let located = monotonicNanoseconds()
            receiver.receive(packets, nowNanoseconds: 0)
            let opened = monotonicNanoseconds()
            for index in packets.indices {
                precondition(packets[index].drop == nil, "a benchmark packet was refused")
            }
            seal += sealed - start
            open += opened - located
        }
    }

    /// The hot set in turn, the large one in random order.
    private func nextAssociation() -> Int {
        if associations > 1024 { return generator.below(associations) }
        nextHot = nextHot + 1 == associations ? 0 : nextHot + 1
        return nextHot
    }

    private func classify(_ index: Int) {
        precondition(packets[index].drop == nil, "a benchmark packet was refused")
        let packet = packets[index].packet
        guard let base = packet.baseAddress,
            case .esp(let location) = OuterPacket.classify(at: base, count: packet.count)
        else { preconditionFailure("a benchmark packet is not ESP") }
        packets[index].location = location
    }

    /// Medians over `rounds` rounds in which engine and plain calls take turns.
    func measure(rounds: Int, batches: Int) -> ESPBenchRow {
        var times = [[Double]](repeating: [], count: 5)
        let perRound = Double(batches * Self.batch)
        let warmUpRounds = 20
        for round in 0..<(rounds + warmUpRounds) {
            var seal: UInt64 = 0
            var open: UInt64 = 0
            run(batches: batches, seal: &seal, open: &open)
            let plain = plain.run(packets: batches * Self.batch)
            // The first rounds warm caches and keys.
            guard round >= warmUpRounds else { continue }
            times[0].append(Double(seal) / perRound)
            times[1].append(Double(open) / perRound)
            times[2].append(Double(plain.encrypt) / perRound)
            times[3].append(Double(plain.decrypt) / perRound)
            times[4].append(Double(plain.update) / perRound)
        }
        let medians = times.map(median)
        return ESPBenchRow(
            bytes: bytes, associations: associations, encapsulateNs: medians[0],
            decapsulateNs: medians[1], plainEncryptNs: medians[2], plainDecryptNs: medians[3],
            bareUpdateNs: medians[4])
    }
}

/// Pairs of associations with the same key.
enum BenchTunnel {
    /// Both directions of the pair have the same SPI and seed.
    static func association(
        spi: SPI, _ direction: Direction, seed: UInt64
    ) throws -> SecurityAssociation {
        var parameters = AssociationParameters(
            spi: spi, direction: direction, mode: .tunnel,
            transform: try Transform(.aesGCM16, keyBits: 256), source: IPAddress(v4: 0xC000_0201),
            destination: IPAddress(v4: 0xC633_6401))
        parameters.selectors = selectors
        var generator = SeededGenerator(seed: seed ^ UInt64(spi.value))
        var key = SecretBytes(count: 32)
        key.withUnsafeMutableBytes { bytes in
            for offset in bytes.indices {
                bytes[offset] = UInt8(truncatingIfNeeded: generator.next())
            }
        }
        return try SecurityAssociation(
            parameters, cipherKey: key, integrityKey: SecretBytes(count: 0),
            salt: SecretBytes(count: 4))
    }

    private static let selectors: AssociationSelectors = {
        func prefix(_ value: UInt32) -> [TrafficSelector] {
            let range = IPAddress(v4: value).prefixRange(length: 16)
            return TrafficSelector(first: range.first, last: range.last).map { [$0] } ?? []
        }
        return AssociationSelectors(source: prefix(0x0A01_0000), destination: prefix(0x0A02_0000))
    }()

    /// An IPv4 UDP packet from 10.1.0.1 to 10.2.0.1.
    static func writeInner(_ base: UnsafeMutableRawPointer, bytes: Int) {
        store32(0x4500_0000 | UInt32(bytes), base, 0)
        store32(0, base, 4)
        store32(0x4011_0000, base, 8)
        store32(0x0A01_0001, base, 12)
        store32(0x0A02_0001, base, 16)
        store16(checksumFold(checksumSum(base, count: 20)), base, 10)
        store32(0x1000_2000, base, 20)
        store32(UInt32(bytes - 20) << 16, base, 24)
    }
}

/// The same cryptography by plain EVP calls: 64 keys, the ESP body's length, 8 octets of AAD.
final class PlainBaseline {
    private let contexts: UnsafeMutablePointer<PlainGCM>
    private let memory: UnsafeMutableRawPointer
    private let bodyBytes: Int
    private var counter: UInt64 = 0
    private static let keys = 64

    init(bytes: Int) throws {
        bodyBytes = (bytes + 2 + 3) & ~3
        memory = .allocate(byteCount: ESPBench.slotBytes * ESPBench.batch, alignment: 64)
        memory.initializeMemory(
            as: UInt8.self, repeating: 7, count: ESPBench.slotBytes * ESPBench.batch)
        contexts = .allocate(capacity: Self.keys * 3)
        for index in 0..<Self.keys {
            let context = contexts + index * 3
            context.initialize(to: try PlainGCM(key: memory + index, encrypts: true))
            (context + 1).initialize(to: try PlainGCM(key: memory + index, encrypts: false))
            (context + 2).initialize(to: try PlainGCM(key: memory + index, encrypts: true))
            precondition(context[2].start(iv: memory))
        }
    }

    deinit {
        contexts.deinitialize(count: Self.keys * 3)
        contexts.deallocate()
        memory.deallocate()
    }

    /// Nanoseconds for `packets` packets each way, and for bare updates.
    func run(packets: Int) -> (encrypt: UInt64, decrypt: UInt64, update: UInt64) {
        var result: (encrypt: UInt64, decrypt: UInt64, update: UInt64) = (0, 0, 0)
        for batch in 0..<(packets / ESPBench.batch) {
            // Like the engine's hot set, all keys come in turn.
            let context = contexts + (batch * ESPBench.batch % Self.keys) * 3
            let start = monotonicNanoseconds()
            for index in 0..<ESPBench.batch {
                counter &+= 1
                store64(counter, memory + index * ESPBench.slotBytes, 12)
                precondition(context[index * 3].seal(layout(index)))
            }
            let sealed = monotonicNanoseconds()
            for index in 0..<ESPBench.batch {
                precondition(context[index * 3 + 1].open(layout(index)))
            }
            let opened = monotonicNanoseconds()
            for index in 0..<ESPBench.batch {
                precondition(
                    context[index * 3 + 2].update(
                        memory + index * ESPBench.slotBytes + 64, count: bodyBytes))
            }
            result.update += monotonicNanoseconds() - opened
            result.encrypt += sealed - start
            result.decrypt += opened - sealed
        }
        return result
    }

    private func layout(_ index: Int) -> MessageLayout {
        let base = memory + index * ESPBench.slotBytes
        return MessageLayout(
            aad: base, aadBytes: 8, iv: base + 8, ivBytes: 12, data: base + 64,
            dataBytes: bodyBytes, tag: base + 64 + bodyBytes)
    }
}
