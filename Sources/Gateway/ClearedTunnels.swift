// SPIs that were cleared a moment ago. A request that was sent before may still arrive, and must
// not bring old keys back to life: their numbers would begin anew.

import Wire

/// What was cleared, for as long as a request may be on its way.
struct ClearedTunnels {
    /// Longer than a foreign entry is told again and links may hold it.
    static let memoryNanoseconds: UInt64 = 30_000_000_000

    private var known: Set<SPI> = []
    /// In order of time; those before `first` are forgotten.
    private var queue: [(spi: SPI, at: UInt64)] = []
    private var first = 0

    mutating func note(_ spi: SPI, _ now: UInt64) {
        forget(now)
        if known.insert(spi).inserted { queue.append((spi, now)) }
    }

    func contains(_ spi: SPI) -> Bool { known.contains(spi) }

    mutating func forget(_ now: UInt64) {
        while first < queue.count, now >= queue[first].at + Self.memoryNanoseconds {
            known.remove(queue[first].spi)
            first += 1
        }
        if first > 1024, first * 2 > queue.count {
            queue.removeFirst(first)
            first = 0
        }
    }
}
