import Crypto
import TestSupport
import Testing

@testable import ESP

@Suite struct KeyPoolTests {
    // What would fool us: a context that holds the key of whoever had it before. Many associations
    // of many transforms over few contexts, and every packet is checked by a receiver that keys
    // afresh: with a wrong key, its ICV is wrong.
    @Test(arguments: [0, 1, 2, 5, 40])
    func keyIsAlwaysTheRightOne(contexts: Int) throws {
        var random = SeededGenerator()
        let count = 24
        let sender = try Station(capacity: count, keyedContexts: contexts)
        let receiver = try Station(capacity: count, keyedContexts: contexts)
        var pairs: [(out: AssociationHandle, into: AssociationHandle)] = []
        var spi: UInt32 = 0x2000
        func addPair() throws -> (out: AssociationHandle, into: AssociationHandle) {
            spi += 1
            let transform = Transform.kinds[Int.random(in: 0..<8, using: &random)]
            let wanted = parameters(spi, .outbound, transform)
            return (try sender.add(wanted), try receiver.add(wanted.reversedDirection))
        }
        for _ in 0..<count { pairs.append(try addPair()) }
        for _ in 0..<2_500 {
            // Mostly the first few, so that some associations own contexts and others share.
            let busy = Int.random(in: 0..<3, using: &random) > 0
            let index = Int.random(in: 0..<(busy ? 4 : count), using: &random)
            let inner = IPv4Packet(payload: random.bytes(Int.random(in: 0...60, using: &random)))
            let sealed = sender.seal(inner.bytes, pairs[index].out)
            let outer = try #require(sealed.bytes)
            #expect(receiver.open(outer, pairs[index].into).bytes == inner.bytes)
            guard Int.random(in: 0..<20, using: &random) == 0 else { continue }
            // Another association comes to the same slots.
            sender.engine.forget(pairs[index].out, in: sender.slab)
            sender.slab.remove(pairs[index].out)
            receiver.engine.forget(pairs[index].into, in: receiver.slab)
            receiver.slab.remove(pairs[index].into)
            pairs[index] = try addPair()
        }
        #expect(sender.engine.drops.total == 0 && receiver.engine.drops.total == 0)
    }

    @Test func busyAssociationsAreKeyedOnce() throws {
        let station = try Station(keyedContexts: 2)
        let handles = try (1...2).map { try station.add(parameters(0x1000 + UInt32($0))) }
        for _ in 0..<50 { for handle in handles { _ = station.seal(IPv4Packet().bytes, handle) } }
        // Once on the shared context, once on the own.
        #expect(station.engine.keyings <= 4)
        let alone = try Station(keyedContexts: 0)
        let others = try (1...2).map { try alone.add(parameters(0x1000 + UInt32($0))) }
        for _ in 0..<50 { for handle in others { _ = alone.seal(IPv4Packet().bytes, handle) } }
        #expect(alone.engine.keyings == 100)
    }

    // What would fool us: the scan of many associations that evicts the busy one.
    @Test func scansDoNotEvictTheBusy() throws {
        let station = try Station(capacity: 300, keyedContexts: 4)
        let handles = try (0..<300).map { try station.add(parameters(0x1000 + UInt32($0))) }
        for _ in 0..<4 { _ = station.seal(IPv4Packet().bytes, handles[0]) }
        for handle in handles[1...] {
            _ = station.seal(IPv4Packet().bytes, handle)
            let before = station.engine.keyings
            _ = station.seal(IPv4Packet().bytes, handles[0])
            #expect(station.engine.keyings <= before + 1)
        }
        #expect(station.engine.keyings <= 299 + 3)
    }

    // What would fool us: the record is wiped, but a key schedule of it still opens packets.
    @Test(arguments: [0, 4])
    func forgottenKeysAreNotUsed(contexts: Int) throws {
        let station = try Station(keyedContexts: contexts)
        let handle = try station.add(parameters())
        for _ in 0..<3 { _ = station.seal(IPv4Packet().bytes, handle) }
        let before = station.engine.keyings
        _ = station.seal(IPv4Packet().bytes, handle)
        #expect(station.engine.keyings == before, "it was ready")
        station.engine.forget(handle, in: station.slab)
        _ = station.seal(IPv4Packet().bytes, handle)
        #expect(station.engine.keyings == before + 1, "it had to be keyed again")
        station.engine.forgetAll()
        _ = station.seal(IPv4Packet().bytes, handle)
        #expect(station.engine.keyings == before + 2)
    }

    @Test func failedKeyingsCostTheirPacketsOnly() throws {
        let tunnel = try Tunnel()
        let packets = try (0..<4).map { _ in try tunnel.seal(IPv4Packet().bytes) }
        tunnel.receiver.engine.failKeyings(2)
        #expect(tunnel.open(packets[0]).drop == .cryptoFailure)
        #expect(tunnel.open(packets[1]).drop == .cryptoFailure)
        // Nothing was marked: they are good when the engine is.
        for packet in packets { #expect(tunnel.open(packet).drop == nil) }
        // A sender uses no number on a failure.
        tunnel.sender.engine.forgetAll()
        tunnel.sender.engine.failKeyings(1)
        let before = tunnel.sender.status(tunnel.out).sequence
        let failed = tunnel.sender.seal(IPv4Packet().bytes, tunnel.out)
        #expect(failed.drop == .cryptoFailure)
        #expect(tunnel.sender.status(tunnel.out).sequence == before)
        #expect(tunnel.open(try tunnel.seal(IPv4Packet().bytes)).drop == nil)
    }
}
