// A card with memory for its packets.

import Crypto
package import CryptoCardSim
package import ESP
import Wire

/// The macros of tests take no calls on values that can't be copied, such as a card.
package final class CardHolder {
    static let roomBytes = 2048
    private static let batchMaximum = 64

    package var card: CryptoCard
    private let memory: UnsafeMutableRawPointer
    private let batch: UnsafeMutableBufferPointer<PacketDescriptor>

    package init(
        capacity: Int, catalogue: AssociationCatalogue = AssociationCatalogue(),
        timing: CardTiming? = nil
    ) throws {
        card = CryptoCard(
            capacity: capacity, library: try CryptoLibrary(), catalogue: catalogue,
            keyedContexts: 3, timing: timing)
        memory = .allocate(byteCount: Self.batchMaximum * Self.roomBytes, alignment: 64)
        batch = .allocate(capacity: Self.batchMaximum)
    }

    deinit {
        memory.deallocate()
        batch.deallocate()
    }

    package func open(
        _ parameters: AssociationParameters, now: UInt64 = 0
    ) throws -> CardHandle {
        try card.open(
            association(parameters), distributionIdentifier: 5, ivGeneration: 1,
            nowNanoseconds: now)
    }

    package func replace(
        _ handle: CardHandle, _ parameters: AssociationParameters, now: UInt64 = 0
    ) throws -> CardHandle {
        try card.replace(
            handle, with: association(parameters), distributionIdentifier: 5, ivGeneration: 1,
            nowNanoseconds: now)
    }

    package func close(_ handle: CardHandle) throws { try card.close(handle) }

    /// The first of some sessions that may send a packet.
    package func first(of handles: [CardHandle], covering packet: [UInt8]) -> CardHandle? {
        packet.withUnsafeBytes { card.firstSession(of: handles, covering: $0) }
    }

    package func status(_ handle: CardHandle) throws -> AssociationStatus {
        try card.status(of: handle)
    }

    package func drops(_ handle: CardHandle) throws -> DropCounters { try card.drops(of: handle) }

    package func session(_ spi: UInt32) -> CardHandle? { card.session(for: SPI(spi)) }

    package var handles: [CardHandle] { card.handles() }

    /// What became of received packets, and when they were done.
    package func receive(
        _ packets: [[UInt8]], now: UInt64 = 0
    ) -> (results: [Result], doneAt: UInt64) {
        let used = UnsafeMutableBufferPointer(rebasing: batch[..<packets.count])
        for (index, packet) in packets.enumerated() {
            var descriptor = place(packet, index)
            if case .esp(let location) = OuterPacket.classify(
                at: descriptor.buffer + descriptor.offset, count: packet.count)
            {
                descriptor.location = location
            }
            used.initializeElement(at: index, to: descriptor)
        }
        let receipt = card.receive(used, nowNanoseconds: now)
        return (used.map(Result.init), receipt.completesAtNanoseconds)
    }

    /// The same for packets to be sent, each through its session.
    package func send(
        _ packets: [(packet: [UInt8], through: CardHandle)], now: UInt64 = 0
    ) -> (results: [Result], doneAt: UInt64) {
        let used = UnsafeMutableBufferPointer(rebasing: batch[..<packets.count])
        for (index, (packet, handle)) in packets.enumerated() {
            var descriptor = place(packet, index)
            descriptor.handle = handle
            used.initializeElement(at: index, to: descriptor)
        }
        let receipt = card.send(used, nowNanoseconds: now)
        return (used.map(Result.init), receipt.completesAtNanoseconds)
    }

    private func place(_ packet: [UInt8], _ index: Int) -> PacketDescriptor {
        let room = memory + index * Self.roomBytes
        (room + 128).copyMemory(from: packet, byteCount: packet.count)
        return PacketDescriptor(
            buffer: room, capacity: Self.roomBytes, offset: 128, length: packet.count)
    }

    /// A packet that came out, or why it did not.
    package enum Result: Equatable {
        case packet([UInt8])
        case drop(DropReason)

        package init(_ descriptor: PacketDescriptor) {
            if let reason = descriptor.drop {
                self = .drop(reason)
            } else {
                self = .packet(Array(descriptor.packet))
            }
        }
    }
}
