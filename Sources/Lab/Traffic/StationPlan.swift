// What a station is told: whose packets it sends and takes.

/// One end of many tunnels' traffic, in one network namespace.
struct StationPlan: Codable, Sendable {
    /// One tunnel's traffic, IPv4 addresses as text.
    struct Stream: Codable, Sendable {
        var tunnel: Int
        /// The address on this side.
        var local: String
        /// The address on the other side.
        var remote: String
    }

    /// The way of what it sends.
    var way: TrafficWay
    var streams: [Stream]
    /// The UDP port of both ends.
    var port: UInt16
    /// Packets a second for each stream.
    var rate: Int
    /// Where it writes its records.
    var output: String
    /// The device at which it sees who carried a packet; nil: it takes packets from its sockets.
    var device: String?
}
