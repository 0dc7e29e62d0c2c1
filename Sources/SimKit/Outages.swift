// How long each tunnel's users waited: the longest time without a delivery, in integers, so that a
// run gives the same figures on every machine.

/// The outages of many tunnels in figures. All in nanoseconds.
public struct OutageSummary: Hashable, Sendable {
    /// Half of the tunnels waited no longer.
    public let median: UInt64
    /// 99 of 100 tunnels waited no longer.
    public let percentile99: UInt64
    /// No tunnel waited longer.
    public let maximum: UInt64
    /// Tunnels counted.
    public let tunnels: Int

    /// The figures of some outages, in any order; all 0 when there are none.
    public init(_ outages: [UInt64]) {
        let sorted = outages.sorted()
        tunnels = sorted.count
        median = Self.percentile(500, of: sorted)
        percentile99 = Self.percentile(990, of: sorted)
        maximum = sorted.last ?? 0
    }

    /// The least value that `perMille` of 1000 values do not exceed (nearest rank); 0 without
    /// values. Preconditions: ascending values, `perMille` from 0 to 1000.
    public static func percentile(_ perMille: Int, of ascending: [UInt64]) -> UInt64 {
        precondition((0...1000).contains(perMille))
        guard !ascending.isEmpty else { return 0 }
        let rank = (ascending.count * perMille + 999) / 1000
        return ascending[max(rank, 1) - 1]
    }
}

/// The longest time without delivery of each tunnel inside one window of time.
///
/// The window's ends count: a tunnel that delivers nothing waited for the whole window. Users that
/// send every n ns show waits of n even when nothing is wrong.
public struct Outages: Sendable {
    /// Where the window begins, in nanoseconds of virtual time.
    public let begin: UInt64
    /// Where it ends.
    public let end: UInt64
    private var latest: [UInt64]
    private var longest: [UInt64]
    /// Where the window ends for a tunnel that does.
    private var ends: [UInt64]

    /// Watches tunnels 0..<`tunnels`. Precondition: the window does not run backwards.
    public init(tunnels: Int, from begin: UInt64, until end: UInt64) {
        precondition(begin <= end)
        self.begin = begin
        self.end = end
        latest = Array(repeating: begin, count: tunnels)
        longest = Array(repeating: 0, count: tunnels)
        ends = Array(repeating: end, count: tunnels)
    }

    /// The tunnel is there from now on, perhaps again: what was before does not count.
    public mutating func begin(tunnel: Int, at time: UInt64) {
        ends[tunnel] = end
        latest[tunnel] = min(max(latest[tunnel], time), end)
    }

    /// The tunnel is no more: what comes after does not count.
    public mutating func end(tunnel: Int, at time: UInt64) {
        ends[tunnel] = max(min(time, end), latest[tunnel])
    }

    /// A delivery. Those outside the window, and those earlier than one noted before, change
    /// nothing.
    public mutating func note(tunnel: Int, at time: UInt64) {
        guard time > latest[tunnel], time <= ends[tunnel] else { return }
        longest[tunnel] = max(longest[tunnel], time &- latest[tunnel])
        latest[tunnel] = time
    }

    /// The longest wait of a tunnel, in nanoseconds, the one that the window's end cuts off
    /// included.
    public func longest(of tunnel: Int) -> UInt64 {
        max(longest[tunnel], ends[tunnel] - latest[tunnel])
    }

    /// The figures of all tunnels.
    public var summary: OutageSummary { summary(of: longest.indices) }

    /// The figures of some tunnels, such as those that a crashed node owned.
    public func summary(of tunnels: some Sequence<Int>) -> OutageSummary {
        OutageSummary(tunnels.map(longest(of:)))
    }
}
