// One end of tunnels: a slab, an engine and memory for one packet.

package import Crypto
package import ESP
import Wire

/// What became of one packet.
package struct Processed {
    /// The packet that came out; nil when it was refused.
    package let bytes: [UInt8]?
    package let drop: DropReason?
    package let events: PacketEvents
    /// The whole buffer afterwards.
    package let memory: [UInt8]
}

/// A slab with its engine.
package final class Station {
    package static let headroom = 128
    package static let roomBytes = 1 << 17

    package var slab: AssociationSlab
    package var engine: ESPEngine
    private let memory: UnsafeMutableRawPointer
    private let batch: UnsafeMutableBufferPointer<PacketDescriptor>

    package init(
        capacity: Int = 8, keyedContexts: Int = 4,
        catalogue: AssociationCatalogue = AssociationCatalogue()
    ) throws(CryptoError) {
        slab = AssociationSlab(capacity: capacity, catalogue: catalogue)
        engine = ESPEngine(library: try CryptoLibrary(), keyedContexts: keyedContexts)
        memory = .allocate(byteCount: Self.roomBytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.roomBytes)
        batch = .allocate(capacity: 1)
    }

    deinit {
        memory.deallocate()
        batch.deallocate()
    }

    /// Adds an association with the keys of its SPI.
    @discardableResult
    package func add(
        _ parameters: AssociationParameters, generation: UInt16 = 1
    ) throws -> AssociationHandle {
        try slab.insert(
            association(parameters), distributionIdentifier: 7, ivGeneration: generation)
    }

    /// Sends one inner packet.
    package func seal(
        _ inner: [UInt8], _ handle: AssociationHandle, now: UInt64 = 0, isDummy: Bool = false,
        fixedIV: [UInt8]? = nil
    ) -> Processed {
        var descriptor = place(inner, at: Self.headroom)
        descriptor.slot = handle.index
        descriptor.isDummy = isDummy
        batch.initializeElement(at: 0, to: descriptor)
        if let fixedIV {
            fixedIV.withUnsafeBytes {
                engine.encapsulate(batch, slab: slab, nowNanoseconds: now, fixedIV: $0)
            }
        } else {
            engine.encapsulate(batch, slab: slab, nowNanoseconds: now)
        }
        return result(inner.count)
    }

    /// Receives one outer packet. It must be ESP.
    package func open(
        _ outer: [UInt8], _ handle: AssociationHandle, now: UInt64 = 0
    ) -> Processed {
        var descriptor = place(outer, at: Self.headroom)
        descriptor.slot = handle.index
        let kind = OuterPacket.classify(
            at: memory + Self.headroom, count: outer.count)
        guard case .esp(let location) = kind else {
            preconditionFailure("\(kind) is not ESP")
        }
        descriptor.location = location
        batch.initializeElement(at: 0, to: descriptor)
        engine.decapsulate(batch, slab: slab, nowNanoseconds: now)
        return result(outer.count)
    }

    private func place(_ packet: [UInt8], at offset: Int) -> PacketDescriptor {
        precondition(packet.count <= Self.roomBytes - offset)
        (memory + offset).copyMemory(from: packet, byteCount: packet.count)
        return PacketDescriptor(
            buffer: memory, capacity: Self.roomBytes, offset: offset, length: packet.count)
    }

    private func result(_ before: Int) -> Processed {
        let descriptor = batch[0]
        let used = min(Self.headroom + before + 128, Self.roomBytes)
        return Processed(
            bytes: descriptor.drop == nil ? Array(descriptor.packet) : nil,
            drop: descriptor.drop, events: descriptor.events,
            memory: Array(UnsafeRawBufferPointer(start: memory, count: used)))
    }
}
