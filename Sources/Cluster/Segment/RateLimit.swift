// So much in a second, and no more.

/// A bucket of tokens: what anybody on the segment can have us do is bounded by it.
public struct RateLimit: Equatable, Sendable {
    private let burst: UInt64
    private let nanosecondsEach: UInt64
    /// Time that was saved up, at most a burst's worth.
    private var saved: UInt64
    private var last: UInt64?

    /// `perSecond` in the long run and `burst` at once; both at least 1.
    public init(perSecond: Int, burst: Int) {
        precondition((1...1_000_000_000).contains(perSecond) && (1...1_000_000).contains(burst))
        self.burst = UInt64(burst)
        nanosecondsEach = 1_000_000_000 / UInt64(perSecond)
        saved = self.burst * nanosecondsEach
    }

    /// True when one more is within the limit; it counts then.
    public mutating func take(nowNanoseconds now: UInt64) -> Bool {
        let passed = now > last ?? now ? now - (last ?? now) : 0
        last = max(now, last ?? now)
        saved = passed > burst * nanosecondsEach - saved ? burst * nanosecondsEach : saved + passed
        guard saved >= nanosecondsEach else { return false }
        saved -= nanosecondsEach
        return true
    }
}
