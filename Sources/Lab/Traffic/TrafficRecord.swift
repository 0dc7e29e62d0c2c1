// What a station notes of each packet that it sends or receives, 24 octets in a file in memory:
//
//     0         4         8                  16                 24
//     +---------+---------+------------------+------------------+
//     | notes   | number  | sent, ns         | received, ns     |
//     +---------+---------+------------------+------------------+
//      notes: tunnel (24 bits), way (1), event (2), node that carried it (5; 0: not known)
//
// In the machine's own order of octets: files do not leave it.

/// One packet at one end.
struct TrafficRecord: Hashable, Sendable {
    /// What happened to it.
    enum Event: UInt32, Sendable {
        case sent = 0
        case received = 1
        /// It came where it does not belong: out of another tunnel, or changed.
        case stray = 2
    }

    static let octets = 24

    var event: Event
    var way: TrafficWay
    var tunnel: Int
    var number: UInt32
    var sent: UInt64
    /// 0 where it left.
    var received: UInt64
    /// The node that sent it into the protected network; 0: not known.
    var node: Int

    func write(to room: inout [UInt8]) {
        let notes =
            UInt32(tunnel) & 0xFF_FFFF | way.rawValue << 24 | event.rawValue << 25
            | UInt32(node & 31) << 27
        withUnsafeBytes(of: notes) { room.append(contentsOf: $0) }
        withUnsafeBytes(of: number) { room.append(contentsOf: $0) }
        withUnsafeBytes(of: sent) { room.append(contentsOf: $0) }
        withUnsafeBytes(of: received) { room.append(contentsOf: $0) }
    }

    init(
        _ event: Event, _ way: TrafficWay, tunnel: Int, number: UInt32, sent: UInt64,
        received: UInt64 = 0, node: Int = 0
    ) {
        (self.event, self.way, self.tunnel, self.number) = (event, way, tunnel, number)
        (self.sent, self.received, self.node) = (sent, received, node)
    }

    /// Reads ``octets`` octets; nil: no station writes that.
    init?(_ room: UnsafeRawBufferPointer) {
        let notes = room.loadUnaligned(fromByteOffset: 0, as: UInt32.self)
        guard room.count == Self.octets, let event = Event(rawValue: notes >> 25 & 3),
            let way = TrafficWay(rawValue: notes >> 24 & 1)
        else { return nil }
        self.init(
            event, way, tunnel: Int(notes & 0xFF_FFFF),
            number: room.loadUnaligned(fromByteOffset: 4, as: UInt32.self),
            sent: room.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            received: room.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
            node: Int(notes >> 27))
    }
}
