// `spindle seal`: the opposite of `replay`, so that other stacks can check this one.

import ArgumentParser
import Crypto
import CryptoCardSim
import ESP
import GatewayIO
import Wire

struct SealCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "seal",
        abstract: "Encrypt the IP packets of a capture under the associations of an SA file.",
        discussion: """
            Each packet goes through the first association of the file whose selectors (ts_src, \
            ts_dst) cover it, or through the one that --spi names. The result is a capture of raw \
            IP packets that Wireshark, tshark and scapy decrypt with the same keys.

              spindle seal vectors/captures/aes256gcm16.inner-a.pcap \\
                --sas vectors/captures/aes256gcm16.json --spi d2e0cd6a --write sealed.pcap
            """)

    @Argument(help: "Inner packets: pcap or pcapng.")
    var capture: String

    @Option(help: "The security associations: JSON with an `esp` array.")
    var sas: String

    @Option(help: ArgumentHelp("Where to write the ESP packets.", valueName: "out.pcap"))
    var write: String

    @Option(help: "Use only the association with this SPI (eight hexadecimal digits).")
    var spi: String?

    @Option(help: "Send a dummy packet (RFC 4303 §2.6) after every N packets.")
    var dummyEvery: Int?

    @Option(help: "The owner's generation: the upper 16 bits of counter-mode IVs.")
    var generation: UInt16 = 1

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    struct Report: Encodable {
        var sealed = 0
        var dummies = 0
        var notIP = 0
        var dropped: [String: Int] = [:]
    }

    func validate() throws {
        if let dummyEvery, dummyEvery < 1 {
            throw ValidationError("--dummy-every must be at least 1")
        }
        if let spi, spi.utf8.count > 8 || UInt32(spi, radix: 16) == nil {
            throw ValidationError("--spi \(spi): use up to eight hexadecimal digits")
        }
    }

    func run() throws {
        try requireDistinct(output: write, capture: capture, sas: sas)
        let sealer = try makeSealer()
        var reader = try CaptureReader(path: capture)
        let sink = try InnerSink(path: write, precision: reader.timestampPrecision)
        var report = Report()
        var frame: [UInt8] = []
        while let captured = try reader.next(into: &frame) {
            let now = captured.timestampNanoseconds
            let result: Sealer.Result? = frame.withUnsafeBytes { bytes in
                guard case .found(let range) = reader.linkType.networkPacket(in: bytes) else {
                    return nil
                }
                return sealer.seal(UnsafeRawBufferPointer(rebasing: bytes[range]), now)
            }
            switch result {
            case nil: report.notIP += 1
            case .dropped(let reason): report.dropped[reason.name, default: 0] += 1
            case .sealed(let packet):
                report.sealed += 1
                try sink.write(packet, now)
            }
            guard let dummyEvery, captured.number.isMultiple(of: dummyEvery),
                case .sealed(let packet) = sealer.sealDummy(now)
            else { continue }
            report.dummies += 1
            try sink.write(packet, now)
        }
        try sink.finish()
        try tell(report)
    }

    /// The entries, and with them their copies of the keys, go when this returns.
    private func makeSealer() throws -> Sealer {
        let file = try AssociationFile(path: sas)
        try file.requireUnambiguousSelectors(for: .outbound)
        let start = try CaptureExtent(path: capture).startNanoseconds
        return try Sealer(
            file.entries, only: spi.flatMap { UInt32($0, radix: 16) }, generation,
            createdNanoseconds: start)
    }

    private func tell(_ report: Report) throws {
        if json { return try printJSON(report) }
        let reasons = report.dropped.sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        print(
            "\(report.sealed) sealed, \(report.dummies) dummies, "
                + "\(report.dropped.values.reduce(0, +)) dropped"
                + (reasons.isEmpty ? "" : " (\(reasons))") + ", \(report.notIP) not IP")
    }
}

/// A card full of outbound associations, and memory for one packet.
final class Sealer {
    enum Result {
        /// Valid until the next packet.
        case sealed(UnsafeRawBufferPointer)
        case dropped(DropReason)
    }

    private var card: CryptoCard
    private var handles: [CardHandle] = []
    private let packets: UnsafeMutableBufferPointer<PacketDescriptor> = .allocate(capacity: 1)
    private let memory: UnsafeMutableRawPointer
    private static let memoryBytes = 1 << 18
    private static let dummyBytes = 64

    /// Lifetimes count from `createdNanoseconds`, on the clock of the packets.
    init(
        _ entries: [AssociationEntry], only spi: UInt32?, _ generation: UInt16,
        createdNanoseconds: UInt64
    ) throws {
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
        card = CryptoCard(
            capacity: max(1, entries.count), library: try CryptoLibrary(),
            catalogue: AssociationCatalogue())
        for entry in entries where spi == nil || entry.spi.value == spi {
            let association = try entry.association(
                direction: .outbound, createdNanoseconds: createdNanoseconds)
            handles.append(
                try card.open(
                    association, distributionIdentifier: 0, ivGeneration: generation))
        }
        if handles.isEmpty, let spi {
            throw ValidationError("--spi \(SPI(spi)): the SA file has no such association")
        }
    }

    deinit {
        packets.deallocate()
        memory.deallocate()
    }

    func seal(_ packet: UnsafeRawBufferPointer, _ now: UInt64) -> Result {
        guard packet.count <= 1 << 17 else { return .dropped(.packetTooBig) }
        guard let base = packet.baseAddress,
            (try? IPPacket(at: base, count: packet.count)) != nil
        else { return .dropped(.innerMalformed) }
        guard let handle = card.firstSession(of: handles, covering: packet) else {
            return .dropped(.noAssociation)
        }
        (memory + ESPOverhead.headroom).copyMemory(from: base, byteCount: packet.count)
        return submit(handle, packet.count, isDummy: false, now)
    }

    /// A dummy through the first association.
    func sealDummy(_ now: UInt64) -> Result {
        (memory + ESPOverhead.headroom)
            .initializeMemory(as: UInt8.self, repeating: 0, count: Self.dummyBytes)
        return submit(handles[0], Self.dummyBytes, isDummy: true, now)
    }

    private func submit(
        _ handle: CardHandle, _ length: Int, isDummy: Bool, _ now: UInt64
    ) -> Result {
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.memoryBytes, offset: ESPOverhead.headroom,
            length: length)
        descriptor.handle = handle
        descriptor.isDummy = isDummy
        packets.initializeElement(at: 0, to: descriptor)
        card.send(packets, nowNanoseconds: now)
        if let reason = packets[0].drop { return .dropped(reason) }
        return .sealed(packets[0].packet)
    }
}
