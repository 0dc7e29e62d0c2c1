import TestSupport
import Testing
import Wire

@testable import ESP

/// SPIs that wish for few places of an index: the multiplier's inverse, found by search over powers
/// (an odd number's order modulo 2^32 divides 2^30).
private func colliding(_ count: Int, homes: UInt32, _ random: inout SeededGenerator) -> [UInt32] {
    var inverse: UInt32 = 1
    var power: UInt32 = 0x85EB_CA77
    for _ in 0..<30 {
        inverse = inverse &* power
        power = power &* power
    }
    precondition(inverse &* 0x85EB_CA77 == 1)
    var spis: Set<UInt32> = []
    while spis.count < count {
        let home = UInt32.random(in: 0..<homes, using: &random)
        // The top bits are the place; at the end of the table runs wrap around.
        let hash = (UInt32.max << 20 &+ home << 20) | UInt32.random(in: 0..<1 << 20, using: &random)
        spis.insert(hash &* inverse)
    }
    return spis.sorted()
}

@Suite struct SPIIndexTests {
    // What would fool us: a removal that leaves a hole in a run, so that an entry behind it is
    // lost, or moves an entry in front of the place it wishes for. Few places for many SPIs, and
    // runs around the end of the table.
    @Test(arguments: [1, 2, 8, 64])
    func agreesWithADictionary(homes: UInt32) {
        var random = SeededGenerator()
        let capacity = 64
        let universe = colliding(100, homes: homes, &random)
        var index = SPIIndex(capacity: capacity)
        var model: [UInt32: UInt32] = [:]
        for step in 0..<6_000 {
            let spi = universe[Int.random(in: 0..<universe.count, using: &random)]
            if Bool.random(using: &random), model.count < capacity {
                let slot = UInt32.random(in: 0..<1 << 31, using: &random)
                let isNew = index.insert(SPI(spi), slot: slot)
                #expect(isNew == (model[spi] == nil))
                if model[spi] == nil { model[spi] = slot }
            } else {
                let wasThere = index.remove(SPI(spi))
                #expect(wasThere == (model.removeValue(forKey: spi) != nil))
            }
            #expect(index.count == model.count)
            if step % 50 == 0 || model.count == capacity {
                for spi in universe { #expect(index.find(SPI(spi)) == model[spi]) }
            }
        }
    }

    @Test func holdsItsCapacityAndNoMore() {
        for capacity in [1, 2, 3, 8, 9, 100] {
            var index = SPIIndex(capacity: capacity)
            for spi in 0..<UInt32(capacity) {
                let isNew = index.insert(SPI(spi), slot: spi)
                #expect(isNew)
            }
            #expect(index.count == capacity)
            for spi in 0..<UInt32(capacity) { #expect(index.find(SPI(spi)) == spi) }
            #expect(index.find(SPI(UInt32(capacity))) == nil)
        }
    }

    @Test func overfillingIsACallersBug() async {
        await #expect(processExitsWith: .failure) {
            var index = SPIIndex(capacity: 2)
            for spi: UInt32 in 1...3 { _ = index.insert(SPI(spi), slot: spi) }
        }
    }

    // SPI 0 has the hash 0 and looks like an empty place.
    @Test func spiZeroAndSlotZeroAreOrdinary() {
        var index = SPIIndex(capacity: 4)
        #expect(index.find(SPI(0)) == nil)
        let isNew = (index.insert(SPI(0), slot: 0), index.insert(SPI(0), slot: 1))
        #expect(isNew == (true, false))
        #expect(index.find(SPI(0)) == 0)
        let wasThere = (index.remove(SPI(0)), index.remove(SPI(0)))
        #expect(wasThere == (true, false))
        #expect(index.find(SPI(0)) == nil)
    }
}
