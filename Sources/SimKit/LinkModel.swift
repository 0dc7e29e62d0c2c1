// One direction of a path between two parties: when a packet that is sent arrives, if it does.

/// Delay, loss and disorder of one direction. All times are nanoseconds of virtual time.
///
/// As long as `reorderPerMillion` is 0 the path keeps the order: no packet arrives before an
/// earlier one.
public struct LinkModel: Hashable, Sendable {
    /// What every packet takes.
    public var delayNanoseconds: UInt64
    /// At most this much more, drawn for each packet. At most 2³² - 2.
    public var jitterNanoseconds: UInt64
    /// Packets lost, of a million.
    public var lossPerMillion: UInt32 = 0
    /// Packets that arrive twice, of a million.
    public var duplicatePerMillion: UInt32 = 0
    /// Packets that later ones may overtake, of a million: they take up to
    /// `reorderExtraNanoseconds` more.
    public var reorderPerMillion: UInt32 = 0
    /// A partition: nothing that is sent arrives.
    public var isCut = false
    /// A burst: what would arrive before this time arrives at this time, all at once. 0: none.
    public var heldUntil: UInt64 = 0
    /// The latest arrival of a packet that was not reordered.
    private var latest: UInt64 = 0

    /// A path that loses nothing and keeps the order.
    public init(delayNanoseconds: UInt64 = 100_000, jitterNanoseconds: UInt64 = 0) {
        self.delayNanoseconds = delayNanoseconds
        self.jitterNanoseconds = jitterNanoseconds
    }

    /// The most that a reordered packet takes beyond delay and jitter.
    public var reorderExtraNanoseconds: UInt64 { 10 * jitterNanoseconds + 5_000_000 }

    /// When a packet sent at `now` arrives; nil: it does not. `second`: it arrives twice.
    ///
    /// Loss, duplication, disorder and jitter of one packet come from draws of their own, two for
    /// every packet: another loss rate leaves the delays of the packets as they were.
    public mutating func arrivals(
        sentAt now: UInt64, _ random: inout SimulationRandom
    ) -> (first: UInt64?, second: UInt64?) {
        let fates = random.next()
        let shape = random.next()
        guard !isCut, !Self.happens(lossPerMillion, fates >> 32) else { return (nil, nil) }
        let first = arrival(now, shape, &random)
        guard Self.happens(duplicatePerMillion, fates & 0xFFFF_FFFF) else { return (first, nil) }
        return (first, max(arrival(now, random.next(), &random), first))
    }

    /// Upper half of `shape`: overtaken or not. Lower half: jitter.
    private mutating func arrival(
        _ now: UInt64, _ shape: UInt64, _ random: inout SimulationRandom
    ) -> UInt64 {
        let fraction = shape & 0xFFFF_FFFF
        let jitter = (fraction &* (min(jitterNanoseconds, 0xFFFF_FFFE) &+ 1)) >> 32
        let due = now &+ delayNanoseconds &+ jitter
        if Self.happens(reorderPerMillion, shape >> 32) {
            return max(due &+ random.between(1, reorderExtraNanoseconds), heldUntil)
        }
        latest = max(due, heldUntil, latest)
        return latest
    }

    /// `draw`: 32 bits.
    @inline(__always)
    private static func happens(_ perMillion: UInt32, _ draw: UInt64) -> Bool {
        (draw &* 1_000_000) >> 32 < UInt64(perMillion)
    }
}
