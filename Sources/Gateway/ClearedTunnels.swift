// SPIs that were cleared a moment ago. A request that was sent before may still arrive, and must
// not bring old keys back to life: their numbers would begin anew.

import Wire

/// What was cleared, for as long as a request may be on its way.
struct ClearedTunnels {
    /// Longer than a foreign entry is told again and links may hold it.
    static let memoryNanoseconds: UInt64 = 30_000_000_000

    /// When each was cleared last.
    private var times: [SPI: UInt64] = [:]
    /// In order of time; those before `first` are forgotten.
    private var queue: [(spi: SPI, at: UInt64)] = []
    private var first = 0

    mutating func note(_ spi: SPI, _ now: UInt64) {
        forget(now)
        times[spi] = now
        queue.append((spi, now))
    }

    func contains(_ spi: SPI, _ now: UInt64) -> Bool {
        times[spi].map { now < $0 + Self.memoryNanoseconds } ?? false
    }

    private mutating func forget(_ now: UInt64) {
        while first < queue.count, now >= queue[first].at + Self.memoryNanoseconds {
            if times[queue[first].spi] == queue[first].at { times[queue[first].spi] = nil }
            first += 1
        }
        if first > 1024, first * 2 > queue.count {
            queue.removeFirst(first)
            first = 0
        }
    }
}
