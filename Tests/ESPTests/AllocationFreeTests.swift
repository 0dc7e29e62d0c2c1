import CMallocCounter
import TestSupport
import Testing
import Wire

@testable import ESP

/// Many packets in memory, as a batch that can be sealed and opened without touching the heap.
private final class Traffic {
    static let packets = 10_000
    static let batchPackets = 50
    private static let roomBytes = 320
    let sender: Station
    let receiver: Station
    private let memory: UnsafeMutableRawPointer
    private let descriptors: UnsafeMutableBufferPointer<PacketDescriptor>

    /// `associations` in turn.
    init(_ transform: Transform, associations: Int, contexts: Int) throws {
        sender = try Station(capacity: associations, keyedContexts: contexts)
        receiver = try Station(capacity: associations, keyedContexts: contexts)
        memory = .allocate(byteCount: Self.packets * Self.roomBytes, alignment: 64)
        descriptors = .allocate(capacity: Self.packets)
        let pairs = try (0..<associations).map { index in
            var wanted = parameters(0x1001 + UInt32(index), .outbound, transform)
            wanted.lifetimes.softPackets = .max - 1
            return (try sender.add(wanted), try receiver.add(wanted.reversedDirection))
        }
        let inner = IPv4Packet(payload: Array(repeating: 7, count: 100)).bytes
        // The first packets key contexts; the run-time looks up what it keeps for later.
        for _ in 0..<4 {
            for (out, into) in pairs {
                let outer = sender.seal(inner, out).bytes ?? []
                // The first refusals make constants, and OpenSSL's error queue of the thread.
                _ = receiver.open(outer.dropLast() + [~(outer.last ?? 0)], into)
                _ = receiver.open(outer, into)
                _ = receiver.open(outer, into)
            }
        }
        for index in 0..<Self.packets {
            let room = memory + index * Self.roomBytes
            (room + 128).copyMemory(from: inner, byteCount: inner.count)
            var packet = PacketDescriptor(
                buffer: room, capacity: Self.roomBytes, offset: 128, length: inner.count)
            packet.slot = pairs[index % associations].0.index
            descriptors.initializeElement(at: index, to: packet)
        }
    }

    deinit {
        memory.deallocate()
        descriptors.deallocate()
    }

    /// Allocations while all packets are sealed.
    func seal() -> UInt64 {
        count { sender.engine.encapsulate($0, slab: sender.slab, nowNanoseconds: 1) }
    }

    /// Allocations while all packets are opened, their classification included.
    func open() -> UInt64 {
        count { batch in
            for index in batch.indices {
                guard let base = batch[index].packet.baseAddress,
                    case .esp(let location) = OuterPacket.classify(
                        at: base, count: batch[index].length)
                else { continue }
                batch[index].location = location
                batch[index].drop = nil
            }
            receiver.engine.decapsulate(batch, slab: receiver.slab, nowNanoseconds: 1)
        }
    }

    private func count(
        _ work: (UnsafeMutableBufferPointer<PacketDescriptor>) -> Void
    ) -> UInt64 {
        let before = malloc_counter_value()
        var start = 0
        while start < Self.packets {
            work(
                UnsafeMutableBufferPointer(
                    rebasing: descriptors[start..<start + Self.batchPackets]))
            start += Self.batchPackets
        }
        return malloc_counter_value() - before
    }

    /// Damages every packet: `octet` from its end.
    func damage(_ octet: Int) {
        for index in 0..<Self.packets {
            let packet = descriptors[index]
            let place = packet.buffer + packet.offset + packet.length - 1 - octet
            place.storeBytes(of: place.load(as: UInt8.self) ^ 1, as: UInt8.self)
        }
    }

    var isClean: Bool { descriptors.allSatisfy { $0.drop == nil } }
}

@Suite struct AllocationFreeTests {
    // Without this, a counter that counts nothing would pass for a path without allocations.
    @Test func counterCounts() {
        let before = malloc_counter_value()
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 1000, alignment: 8)
        memory.deallocate()
        let aligned = UnsafeMutableRawPointer.allocate(byteCount: 1000, alignment: 64)
        aligned.deallocate()
        #expect(malloc_counter_value() - before >= 2)
    }

    /// AEAD but for CCM, whose contexts OpenSSL can't re-key in place.
    static let aeads = [
        Transform.gcm, .find(.aesGCM8, 128), .find(.chaCha20Poly1305, 256), .find(.aesGMAC, 256),
    ]

    @Test(arguments: aeads + [.find(.aesCCM16, 256)])
    func hotPath(_ transform: Transform) throws {
        let traffic = try Traffic(transform, associations: 1, contexts: 4)
        #expect(traffic.seal() == 0 && traffic.isClean)
        #expect(traffic.open() == 0 && traffic.isClean)
        #expect(traffic.sender.engine.keyings <= 4)
    }

    // Every packet finds the shared context with another association's key.
    @Test(arguments: aeads)
    func rekeyingPath(_ transform: Transform) throws {
        let traffic = try Traffic(transform, associations: 7, contexts: 0)
        #expect(traffic.seal() == 0 && traffic.isClean)
        #expect(traffic.open() == 0 && traffic.isClean)
        #expect(traffic.sender.engine.keyings >= UInt64(Traffic.packets))
    }

    // What would fool us: good packets cost nothing, and a flood of bad ones fills the heap's
    // locks.
    @Test func refusalsAreFreeToo() throws {
        let traffic = try Traffic(.gcm, associations: 1, contexts: 4)
        _ = traffic.seal()
        traffic.damage(0)
        #expect(traffic.open() == 0)
        let drops = traffic.receiver.engine.drops[.integrity]
        #expect(drops == UInt64(Traffic.packets) + 4)
        // A receiver that is far ahead refuses them without any cryptography.
        traffic.receiver.slab.records[0].sequence = 1 << 31
        #expect(traffic.open() == 0)
        #expect(traffic.receiver.engine.drops[.tooOld] == UInt64(Traffic.packets))
    }

    // A lease that ends under full traffic must not make matters worse.
    @Test func endedLeasesAreFree() throws {
        let traffic = try Traffic(.gcm, associations: 1, contexts: 4)
        _ = traffic.seal()
        let into = try #require(traffic.receiver.handle(at: 0))
        traffic.receiver.slab.setLimit(4, of: into)
        #expect(traffic.open() == 0)
        #expect(traffic.receiver.engine.drops[.leaseEnded] == UInt64(Traffic.packets))
        let fresh = try Traffic(.gcm, associations: 1, contexts: 4)
        let out = try #require(fresh.sender.handle(at: 0))
        fresh.sender.slab.setLimit(4, of: out)
        #expect(fresh.seal() == 0)
        #expect(fresh.sender.engine.drops[.leaseEnded] == UInt64(Traffic.packets))
    }

    // HMAC goes through EVP, whose state copies allocate in OpenSSL 3.0; nothing beside them may.
    @Test(arguments: [Transform.find(.aesCBC, 256, .hmacSHA256), .find(.null, 0, .hmacSHA1)])
    func hmacAllocatesInsideOpenSSLOnly(_ transform: Transform) throws {
        let traffic = try Traffic(transform, associations: 1, contexts: 4)
        let sealing = traffic.seal()
        #expect(traffic.isClean && sealing <= UInt64(Traffic.packets) * 2)
        let opening = traffic.open()
        #expect(traffic.isClean && opening <= UInt64(Traffic.packets) * 2)
    }
}
