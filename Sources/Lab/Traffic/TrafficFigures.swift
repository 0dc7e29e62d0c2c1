// What became of the packets of a time, in figures.

/// One way through one tunnel.
public struct FlowFigures: Codable, Hashable, Sendable {
    /// Packets that left in that time.
    public var sent = 0
    /// Of these, packets that never came.
    public var lost = 0
    /// Packets that came again after they had come.
    public var twice = 0
    /// Packets that a later one had overtaken.
    public var late = 0
    /// The longest time between two packets that came, in nanoseconds; the ends of the time count.
    public var outage: UInt64 = 0
    /// Half of the packets took no longer, in nanoseconds.
    public var latencyMedian: UInt64 = 0
    /// 99 of 100 packets took no longer.
    public var latency99: UInt64 = 0
    /// No packet took longer.
    public var latencyMaximum: UInt64 = 0
}

/// When a tunnel came to another node.
public struct OwnerChange: Codable, Hashable, Sendable {
    /// When the first packet came by way of it, in nanoseconds.
    public var time: UInt64
    /// The node's number.
    public var node: Int
}

/// A time in which nothing came through a tunnel one way.
public struct Silence: Codable, Hashable, Sendable {
    /// The tunnel's place.
    public var tunnel: Int
    /// Which way.
    public var way: TrafficWay
    /// When the last packet before came, in nanoseconds.
    public var from: UInt64
    /// When the first packet after came.
    public var until: UInt64
}

/// All packets that left in a short time, both ways.
public struct TrafficSlice: Codable, Hashable, Sendable {
    /// Where it begins, in nanoseconds.
    public var time: UInt64
    /// Packets that left.
    public var sent: Int
    /// Of these, packets that never came.
    public var lost: Int
    /// Half of those that came took no longer, in nanoseconds.
    public var latencyMedian: UInt64
    /// 99 of 100 took no longer.
    public var latency99: UInt64
    /// None took longer.
    public var latencyMaximum: UInt64
}
