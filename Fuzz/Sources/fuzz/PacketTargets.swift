// Bytes from the network.

import Crypto
import ESP
import Wire

func outerPacket(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    // A copy of exactly this length: reading past it is found by the sanitizer.
    let copy = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyMemory(from: base, byteCount: bytes.count)
    if case .esp(let location) = OuterPacket.classify(at: copy, count: bytes.count) {
        precondition(Int(location.end) <= bytes.count)
        precondition(Int(location.espOffset) + 8 <= Int(location.end))
        precondition(location.protocolOffset < location.headerLength)
    }
}

func linkLayer(_ bytes: UnsafeRawBufferPointer) {
    for type in LinkType.allCases {
        if case .found(let range) = type.networkPacket(in: bytes) {
            precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        }
    }
}

/// One inbound and one outbound association per transform, tunnel and transport, ESN and not.
final class EngineTarget {
    private let library: CryptoLibrary
    private var slab: AssociationSlab
    private var engine: ESPEngine
    private var inbound: [(handle: AssociationHandle, transform: Transform)] = []
    private var outbound: [AssociationHandle] = []
    private let memory: UnsafeMutableRawPointer
    private static let memoryBytes = 1 << 17

    init() {
        guard let library = try? CryptoLibrary() else {
            preconditionFailure("OpenSSL is needed")
        }
        self.library = library
        slab = AssociationSlab(capacity: 1024, catalogue: AssociationCatalogue())
        engine = ESPEngine(library: library, keyedContexts: 4)
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 16)
        for transform in Transform.all {
            for mode in [Mode.tunnel, .transport] {
                for usesESN in [false, true] {
                    add(transform, mode, usesESN)
                }
            }
        }
    }

    private func add(_ transform: Transform, _ mode: Mode, _ usesESN: Bool) {
        var parameters = AssociationParameters(
            spi: SPI(0x1000 + UInt32(inbound.count)), direction: .inbound, mode: mode,
            transform: transform, source: IPAddress(v4: 0xC000_0201),
            destination: IPAddress(v4: 0xC000_0202))
        parameters.usesESN = usesESN
        parameters.replayWindow = 64
        for direction in [Direction.inbound, .outbound] {
            parameters.direction = direction
            guard
                let association = try? SecurityAssociation(
                    parameters, cipherKey: SecretBytes(count: transform.keyBytes),
                    integrityKey: SecretBytes(count: transform.integrityKeyBytes),
                    salt: SecretBytes(count: transform.saltBytes)),
                let handle = try? slab.insert(
                    association, distributionIdentifier: 0, ivGeneration: 1)
            else { preconditionFailure("the parameters are valid") }
            if direction == .inbound {
                inbound.append((handle, transform))
            } else {
                outbound.append(handle)
            }
        }
    }

    /// The whole outer packet is arbitrary; the first octet chooses the association.
    func decapsulate(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 1, bytes.count < Self.memoryBytes
        else { return }
        memory.copyMemory(from: base + 1, byteCount: bytes.count - 1)
        open(length: bytes.count - 1, association: Int(bytes[0]) % inbound.count)
    }

    /// The body is arbitrary but authentic: what a peer with the keys may send.
    ///
    /// NULL encryption, so that the input is payload, padding, pad length and next header as it is;
    /// the ICV over it is made here.
    func decryptedBody(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 3, bytes.count < 4096 else { return }
        let count = (bytes.count - 1) & ~3
        let place = Self.nullAssociations(inbound)[Int(bytes[0]) & 3]
        let transform = inbound[place].transform
        store32(0x4500_0000 | UInt32(20 + 8 + count + transform.icvBytes), memory, 0)
        store32(0, memory, 4)
        store32(0x4032_0000, memory, 8)
        store64(0, memory, 12)
        store32(0x1000 + UInt32(place), memory, 20)
        let handle = inbound[place].handle
        store32(UInt32(truncatingIfNeeded: slab.status(of: handle).sequence + 1), memory, 24)
        (memory + 28).copyMemory(from: base + 1, byteCount: count)
        var context = KeyedContext()
        let keys = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 1)
        defer { keys.deallocate() }
        keys.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
        guard
            (try? context.key(
                transform.recipe(encrypts: true), library: library, key: keys, hashKey: keys))
                != nil
        else { return }
        let mac = UnsafeMutableRawPointer.allocate(byteCount: maximumHashBytes, alignment: 1)
        defer { mac.deallocate() }
        precondition(
            context.authenticate(
                memory + 20, count: 8 + count, tail: keys,
                tailBytes: place & 1 == 1 ? 4 : 0, output: mac))
        (memory + 28 + count).copyMemory(from: mac, byteCount: transform.icvBytes)
        let drop = open(length: 28 + count + transform.icvBytes, association: place)
        precondition(drop != .integrity, "an authentic packet was refused")
    }

    /// The four associations of NULL with HMAC-SHA2-256: tunnel, tunnel ESN, transport, …
    private static func nullAssociations(
        _ all: [(handle: AssociationHandle, transform: Transform)]
    ) -> [Int] {
        all.indices.filter {
            all[$0].transform.encryption == .null && all[$0].transform.integrity == .hmacSHA256
        }
    }

    /// The inner packet is arbitrary; the first octet chooses the association.
    func encapsulate(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 1, bytes.count < Self.memoryBytes / 2
        else { return }
        let offset = ESPOverhead.headroom
        (memory + offset).copyMemory(from: base + 1, byteCount: bytes.count - 1)
        var packet = PacketDescriptor(
            buffer: memory, capacity: Self.memoryBytes, offset: offset, length: bytes.count - 1)
        packet.slot = outbound[Int(bytes[0]) % outbound.count].index
        let one = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)
        defer { one.deallocate() }
        one.initialize(repeating: packet)
        engine.encapsulate(one, slab: slab, nowNanoseconds: 0)
        if one[0].drop == nil {
            precondition(one[0].offset >= 0 && one[0].offset + one[0].length <= Self.memoryBytes)
        }
    }

    @discardableResult
    private func open(length: Int, association: Int) -> DropReason? {
        guard case .esp(let location) = OuterPacket.classify(at: memory, count: length) else {
            return nil
        }
        var packet = PacketDescriptor(
            buffer: memory, capacity: Self.memoryBytes, offset: 0, length: length)
        packet.location = location
        packet.slot = inbound[association].handle.index
        let one = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)
        defer { one.deallocate() }
        one.initialize(repeating: packet)
        engine.decapsulate(one, slab: slab, nowNanoseconds: 0)
        if one[0].drop == nil {
            precondition(one[0].offset >= 0 && one[0].offset + one[0].length <= length)
        }
        return one[0].drop
    }
}
