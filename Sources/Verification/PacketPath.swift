// The gateway's packet path for one packet at a time: classify, find the association by SPI, open;
// or seal. The same calls as in production, with nothing in between but the vector.

import Crypto
import ESP
import Wire

/// What became of a received packet.
struct OpenedPacket {
    /// nil: delivered; else the name of the drop reason, or what the packet is instead of ESP.
    var refusal: String?
    /// The delivered packet.
    var inner: [UInt8] = []
    /// Set when the packet was ESP.
    var location: ESPLocation?
    /// The slot of its association, when one was found.
    var handle: AssociationHandle?
    /// The IV of the packet.
    var iv: [UInt8] = []
    /// What stands between IV and ICV afterwards: plaintext and trailer, or zeros.
    var body: [UInt8] = []

    /// Octets of payload: the body without padding, pad length and next header.
    var payloadBytes: Int? {
        guard body.count >= 2 else { return nil }
        return body.count - 2 - Int(body[body.count - 2])
    }
}

/// What became of a packet to be sent.
struct SealedPacket {
    /// nil: sealed; else the name of the drop reason.
    var refusal: String?
    /// From the SPI to the ICV.
    var esp: [UInt8] = []
}

/// A slab, its SPI index, and an engine.
final class PacketPath {
    private var engine: ESPEngine
    private var slab: AssociationSlab
    private var index: SPIIndex
    private var parameters: [UInt32: AssociationParameters] = [:]

    /// Room for `capacity` associations.
    init(capacity: Int, library: CryptoLibrary) {
        engine = ESPEngine(library: library, keyedContexts: 16)
        slab = AssociationSlab(capacity: capacity, catalogue: AssociationCatalogue())
        index = SPIIndex(capacity: capacity)
    }

    /// Takes an association that is found under `spi`, its own one or a reserved one. nil: no room.
    func insert(_ association: borrowing SecurityAssociation, spi: SPI) -> AssociationHandle? {
        guard
            let handle = try? slab.insert(
                association, distributionIdentifier: 0, ivGeneration: 1)
        else { return nil }
        slab.prepareKnownAnswer(handle, spi: spi)
        guard index.insert(spi, slot: handle.index) else {
            slab.remove(handle)
            return nil
        }
        parameters[handle.index] = association.parameters
        return handle
    }

    /// Wipes it.
    func remove(_ handle: AssociationHandle) {
        index.remove(slab.status(of: handle).spi)
        engine.forget(handle, in: slab)
        slab.remove(handle)
    }

    /// The highest sequence number of a current handle.
    func sequence(of handle: AssociationHandle) -> UInt64 { slab.status(of: handle).sequence }

    /// Receives one outer packet.
    func open(_ packet: [UInt8]) -> OpenedPacket {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: packet.count + 1, alignment: 16)
        defer { memory.deallocate() }
        packet.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(start: memory, count: packet.count).copyMemory(from: $0)
        }
        var opened = OpenedPacket()
        switch OuterPacket.classify(at: memory, count: packet.count) {
        case .esp(let location): opened.location = location
        case .malformed(.truncated): opened.refusal = DropReason.truncated.name
        case .malformed(.malformed): opened.refusal = DropReason.malformed.name
        case .fragment: opened.refusal = DropReason.fragment.name
        case .ike: opened.refusal = "IKE and not ESP"
        case .natKeepalive: opened.refusal = "a NAT keepalive and not ESP"
        case .other: opened.refusal = "not ESP"
        }
        guard let location = opened.location else { return opened }
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: packet.count + 1, offset: 0, length: packet.count)
        descriptor.location = location
        withUnsafeMutablePointer(to: &descriptor) { descriptor in
            let batch = UnsafeMutableBufferPointer(start: descriptor, count: 1)
            index.resolve(batch)
            engine.decapsulate(batch, slab: slab, nowNanoseconds: 0)
        }
        opened.refusal = descriptor.drop?.name
        if descriptor.drop == nil { opened.inner = Array(descriptor.packet) }
        if descriptor.drop != .unknownSPI, let transform = parameters[descriptor.slot]?.transform {
            opened.handle = slab.handle(at: descriptor.slot)
            let iv = Int(location.espOffset) + ESPLocation.espHeaderBytes
            let body = iv + transform.ivBytes
            let end = Int(location.end) - transform.icvBytes
            if body <= end {
                // Transport mode has moved the IP header over the IV.
                opened.iv = Array(packet[iv..<body])
                opened.body = Array(UnsafeRawBufferPointer(start: memory + body, count: end - body))
            }
        }
        return opened
    }

    /// Sends one inner packet with a fixed IV, which must have the transform's length.
    func seal(_ inner: [UInt8], with handle: AssociationHandle, iv: [UInt8]) -> SealedPacket {
        let tfcBytes = Int(parameters[handle.index]?.headers.tfcBytes ?? 0)
        let capacity =
            ESPOverhead.headroom + max(inner.count, tfcBytes) + ESPOverhead.tailroom
        let memory = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: capacity)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: capacity, offset: ESPOverhead.headroom, length: inner.count)
        inner.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(
                start: memory + ESPOverhead.headroom, count: inner.count
            ).copyMemory(from: $0)
        }
        descriptor.handle = handle
        withUnsafeMutablePointer(to: &descriptor) { descriptor in
            let batch = UnsafeMutableBufferPointer(start: descriptor, count: 1)
            slab.resolveHandles(batch)
            iv.withUnsafeBytes {
                engine.encapsulate(batch, slab: slab, nowNanoseconds: 0, fixedIV: $0)
            }
        }
        var sealed = SealedPacket(refusal: descriptor.drop?.name)
        guard descriptor.drop == nil, let base = descriptor.packet.baseAddress else {
            return sealed
        }
        // As a receiver would find it: the outer headers have to lead there.
        guard case .esp(let location) = OuterPacket.classify(at: base, count: descriptor.length)
        else {
            sealed.refusal = "sealed, but its outer header does not lead to ESP"
            return sealed
        }
        sealed.esp = Array(descriptor.packet[Int(location.espOffset)..<Int(location.end)])
        return sealed
    }
}

/// An outer header that the source of a packet did not give: IPv4 or IPv6 without options.
func withHeader(
    _ payload: [UInt8], ipProtocol: UInt8, source: IPAddress, destination: IPAddress
) -> [UInt8] {
    let headerBytes =
        source.family == .v4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
    var packet = [UInt8](repeating: 0, count: headerBytes) + payload
    packet.withUnsafeMutableBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        if source.family == .v4 {
            store32(0x4500_0000 | UInt32(truncatingIfNeeded: bytes.count) & 0xFFFF, base, 0)
            store32(0x4000_0000 | UInt32(ipProtocol) << 16, base, 8)
            store32(UInt32(truncatingIfNeeded: source.low), base, 12)
            store32(UInt32(truncatingIfNeeded: destination.low), base, 16)
            store16(checksumFold(checksumSum(base, count: headerBytes)), base, 10)
        } else {
            store32(6 << 28, base, 0)
            store16(UInt16(truncatingIfNeeded: payload.count), base, 4)
            store8(ipProtocol, base, 6)
            store8(64, base, 7)
            store64(source.high, base, 8)
            store64(source.low, base, 16)
            store64(destination.high, base, 24)
            store64(destination.low, base, 32)
        }
    }
    return packet
}
