// SPI → slot, by open addressing with linear probing. Eight octets a place, at most half of the
// places taken, removal by shifting back: no tombstones, so a look-up never slows down with age.

import Crypto
public import Wire

/// A bounded map from SPI to slot number.
///
/// SPIs are chosen by the gateway itself (or by its operator), never by an attacker, so a fixed
/// multiplicative hash is enough. Its multiplier differs from the distribution hash, or the entries
/// of one node, which share that hash's upper bits, would crowd together.
public struct SPIIndex: ~Copyable {
    private struct Place {
        var spi: UInt32
        /// slot + 1; 0: empty.
        var slot: UInt32
    }

    private static let multiplier: UInt32 = 0x85EB_CA77
    private let places: UnsafeMutablePointer<Place>
    private let mask: UInt32
    private let shift: UInt32
    /// The most entries it takes.
    public let capacity: Int
    /// Entries now.
    public private(set) var count = 0

    /// Room for `capacity` entries: 16 to 32 octets each, all taken now if `isResident`.
    public init(capacity: Int, isResident: Bool = false) {
        precondition((1...(1 << 30)).contains(capacity))
        self.capacity = capacity
        var bits: UInt32 = 4
        while 1 << bits < capacity * 2 { bits += 1 }
        places = zeroedPages(Place.self, count: 1 << bits, isResident: isResident)
        mask = (1 << bits) &- 1
        shift = 32 - bits
    }

    deinit { freePages(places) }

    @inline(__always)
    private func home(_ spi: UInt32) -> UInt32 { (spi &* Self.multiplier) >> shift }

    /// The slot of `spi`, or nil.
    @inline(__always)
    public borrowing func find(_ spi: SPI) -> UInt32? {
        var place = home(spi.value)
        while places[Int(place)].slot != 0 {
            if places[Int(place)].spi == spi.value { return places[Int(place)].slot &- 1 }
            place = (place &+ 1) & mask
        }
        return nil
    }

    /// Brings the place where a search for `spi` begins into the cache.
    @inline(__always)
    public borrowing func prefetchPlace(of spi: SPI) {
        prefetch(places + Int(home(spi.value)))
    }

    /// Sets the slot of each received packet by its SPI; `unknownSPI` where there is none.
    public borrowing func resolve(_ packets: UnsafeMutableBufferPointer<PacketDescriptor>) {
        for index in packets.indices {
            if let location = packets[index].location {
                prefetch(places + Int(home(location.spi.value)))
            }
        }
        for index in packets.indices where packets[index].drop == nil {
            guard let location = packets[index].location, let slot = find(location.spi) else {
                packets[index].drop = .unknownSPI
                continue
            }
            packets[index].slot = slot
        }
    }

    /// False when `spi` is there already. Precondition: `count < capacity`.
    public mutating func insert(_ spi: SPI, slot: UInt32) -> Bool {
        precondition(count < capacity && slot != .max)
        var place = home(spi.value)
        while places[Int(place)].slot != 0 {
            if places[Int(place)].spi == spi.value { return false }
            place = (place &+ 1) & mask
        }
        places[Int(place)] = Place(spi: spi.value, slot: slot &+ 1)
        count += 1
        return true
    }

    /// Forgets `spi`; false when it was not there.
    @discardableResult
    public mutating func remove(_ spi: SPI) -> Bool {
        var hole = home(spi.value)
        while places[Int(hole)].slot != 0, places[Int(hole)].spi != spi.value {
            hole = (hole &+ 1) & mask
        }
        guard places[Int(hole)].slot != 0 else { return false }
        // Every later entry of the run that may stand at the hole moves there.
        var next = (hole &+ 1) & mask
        while places[Int(next)].slot != 0 {
            let wish = home(places[Int(next)].spi)
            if (next &- wish) & mask >= (next &- hole) & mask {
                places[Int(hole)] = places[Int(next)]
                hole = next
            }
            next = (next &+ 1) & mask
        }
        places[Int(hole)].slot = 0
        count -= 1
        return true
    }
}
