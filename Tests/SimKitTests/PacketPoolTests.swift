// Fooled by: slots that overlap, slots that move when the pool grows, a user too few.

import ESP
import SimKit
import Testing

@Suite struct PacketPoolTests {
    @Test func slotsKeepTheirOctetsWhileThePoolGrows() {
        let pool = PacketPool()
        let slots = (0..<1000).map { _ in pool.allocate() }
        #expect(Set(slots).count == 1000 && pool.inUse == 1000 && pool.capacity >= 1000)
        for slot in slots {
            pool.base(slot).initializeMemory(
                as: UInt16.self, repeating: UInt16(slot), count: PacketPool.slotBytes / 2)
        }
        for slot in slots {
            let words = UnsafeRawBufferPointer(
                start: pool.base(slot), count: PacketPool.slotBytes
            ).bindMemory(to: UInt16.self)
            #expect(words.allSatisfy { $0 == UInt16(slot) })
        }
        for slot in slots { pool.release(slot) }
        #expect(pool.inUse == 0)
        let capacity = pool.capacity
        for _ in 0..<capacity { _ = pool.allocate() }
        #expect(pool.capacity == capacity, "free slots are used before new ones")
    }

    @Test func theLastUserFreesASlot() {
        let pool = PacketPool()
        let slot = pool.allocate()
        pool.retain(slot)
        pool.release(slot)
        #expect(pool.users(slot) == 1 && pool.inUse == 1)
        #expect(pool.allocate() != slot)
        pool.place(slot, offset: 100, length: 9)
        pool.setWord(slot, 77)
        pool.release(slot)
        #expect(pool.users(slot) == 0 && pool.inUse == 1)
        // Given out again, it knows nothing of its last packet.
        #expect(pool.allocate() == slot)
        #expect(pool.offset(slot) == PacketPool.headroom && pool.length(slot) == 0)
        #expect(pool.word(slot) == 0)
    }

    @Test func aCopyIsAPacketOfItsOwn() {
        let pool = PacketPool()
        let slot = pool.allocate()
        pool.place(slot, offset: 50, length: 1998)
        for index in 0..<1998 {
            pool.base(slot).storeBytes(
                of: UInt8(truncatingIfNeeded: index), toByteOffset: 50 + index, as: UInt8.self)
        }
        pool.setWord(slot, 5)
        let twin = pool.copy(slot)
        #expect(pool.packet(twin).elementsEqual(pool.packet(slot)) && pool.word(twin) == 5)
        #expect(pool.offset(twin) == 50 && pool.users(slot) == 1 && pool.users(twin) == 1)
        (pool.base(slot) + 50).storeBytes(of: 0xEE, as: UInt8.self)
        #expect(pool.packet(twin)[0] == 0)
        let descriptor = pool.descriptor(twin)
        #expect(descriptor.offset == 50 && descriptor.length == 1998)
        #expect(descriptor.buffer == pool.base(twin))
        #expect(descriptor.capacity == PacketPool.slotBytes)
    }
}
