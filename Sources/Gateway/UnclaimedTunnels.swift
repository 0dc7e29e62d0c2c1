// Tunnels of IKE SAs that no record of the store names: their negotiations ended, or may have.

import Wire

/// In the order in which they were noted. A look at them costs the same however many there are.
struct UnclaimedTunnels {
    /// A pair is stored milliseconds before its record.
    private static let patienceNanoseconds: UInt64 = 3_000_000_000

    private var since: [SPI: UInt64] = [:]
    private var order: [(spi: SPI, time: UInt64)] = []
    /// Those before it were looked at; they leave the array in large groups.
    private var head = 0
    /// What records say counts only while they come: until here they may not have.
    private var interruptedUntil: UInt64 = 0

    /// No record names the tunnel, from now on.
    mutating func note(_ spi: SPI, _ now: UInt64) {
        since[spi] = now
        order.append((spi, now))
    }

    /// A record names it, or it is gone.
    mutating func remove(_ spi: SPI) { since[spi] = nil }

    /// The store does not answer.
    mutating func interrupt(_ now: UInt64) { interruptedUntil = now }

    /// The next one that nobody has claimed in time, which leaves; nil: none. To be asked until
    /// then, but for a few at a time.
    mutating func takeLate(_ now: UInt64) -> SPI? {
        while head < order.count {
            let (spi, time) = order[head]
            let isWaiting = since[spi] == time
            let due = max(time, interruptedUntil) + Self.patienceNanoseconds
            if isWaiting, now < due { return nil }
            head += 1
            if head > order.count / 2 {
                order.removeFirst(head)
                head = 0
            }
            if isWaiting {
                since[spi] = nil
                return spi
            }
        }
        return nil
    }
}
