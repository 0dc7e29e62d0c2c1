// The last refused packets, for whoever asks why one was dropped.
//
// Each reason has places of its own, so that a flood of one hides no other; and within a flood only
// about one packet in a millisecond is noted. Nothing here allocates after the beginning.

public import ESP
public import Wire

/// A packet that was refused.
public struct Refusal: Equatable, Sendable {
    /// Rises with every note of one node, from 1.
    public internal(set) var number: UInt64 = 0
    /// When, on the node's clock, in nanoseconds.
    public internal(set) var timeNanoseconds: UInt64 = 0
    /// Why.
    public internal(set) var reason = DropReason.malformed
    /// It came from a peer; false: from the protected network.
    public internal(set) var isInbound = true
    /// The inbound SPI of its tunnel; nil: it can't be told.
    public internal(set) var spi: SPI?
    /// The low 32 bits of its ESP sequence number; 0 for what is no ESP.
    public internal(set) var sequence: UInt32 = 0
    /// The outer addresses of what came from a peer, else the inner ones; nil: they can't be read.
    public internal(set) var source: IPAddress?
    /// See ``source``.
    public internal(set) var destination: IPAddress?
    /// Octets of the packet.
    public internal(set) var byteCount: UInt32 = 0
}

/// Refused packets, by reason.
struct RefusalTrace {
    /// Packets kept for each reason.
    static let placesPerReason = 16
    /// Between two notes of one reason, once its places were filled at once.
    private static let intervalNanoseconds: UInt64 = 1_000_000

    private struct Row {
        var next = 0
        /// Notes that may be made without waiting, and when the last was earned.
        var credit = placesPerReason
        var creditedAt: UInt64 = 0
    }

    private var places: [Refusal]
    private var rows: [Row]
    private(set) var lastNumber: UInt64 = 0

    init() {
        let reasons = DropReason.allCases.count
        places = Array(repeating: Refusal(), count: reasons * Self.placesPerReason)
        rows = Array(repeating: Row(), count: reasons)
    }

    /// True when a packet of this reason is to be noted now.
    mutating func takes(_ reason: DropReason, _ now: UInt64) -> Bool {
        let row = Int(reason.rawValue)
        let earned = (now - min(now, rows[row].creditedAt)) / Self.intervalNanoseconds
        if earned > 0 {
            rows[row].creditedAt = now
            let limit = UInt64(Self.placesPerReason)
            rows[row].credit = Int(min(UInt64(rows[row].credit) + min(earned, limit), limit))
        }
        guard rows[row].credit > 0 else { return false }
        rows[row].credit -= 1
        return true
    }

    mutating func note(_ refusal: Refusal) {
        let row = Int(refusal.reason.rawValue)
        lastNumber += 1
        let place = row * Self.placesPerReason + rows[row].next
        places[place] = refusal
        places[place].number = lastNumber
        rows[row].next = (rows[row].next + 1) % Self.placesPerReason
    }

    /// All that were noted after `number` and are still there, the oldest first.
    func refusals(after number: UInt64) -> [Refusal] {
        places.filter { $0.number > number }.sorted { $0.number < $1.number }
    }
}

extension Gateway {
    /// The refused packets that are still known and were noted after `number`, the oldest first: at
    /// most 16 for each reason. Of many with one reason, about one in a millisecond is noted.
    public borrowing func refusals(after number: UInt64 = 0) -> [Refusal] {
        plane.trace.refusals(after: number)
    }

    /// The number of the newest note; 0: there is none.
    public var lastRefusal: UInt64 { plane.trace.lastNumber }
}

extension DataPlane {
    /// Notes a refused packet of a peer, given as it was before it was worked on, which leaves the
    /// headers there as they were.
    @inline(never)
    mutating func traceReceived(
        _ packet: UnsafeRawBufferPointer, _ reason: DropReason, _ now: UInt64
    ) {
        guard trace.takes(reason, now), let base = packet.baseAddress else { return }
        var refusal = Refusal(packet, reason, now)
        if case .esp(let location) = OuterPacket.classify(at: base, count: packet.count) {
            refusal.spi = location.spi
            refusal.sequence = location.sequence
        }
        trace.note(refusal)
    }

    /// Notes a refused packet of the protected network. `spi`: its tunnel's, where it has one.
    @inline(never)
    mutating func traceSent(
        _ packet: UnsafeRawBufferPointer, _ reason: DropReason, spi: SPI?, _ now: UInt64
    ) {
        guard trace.takes(reason, now) else { return }
        var refusal = Refusal(packet, reason, now)
        refusal.isInbound = false
        refusal.spi = spi
        trace.note(refusal)
    }
}

extension Refusal {
    /// Also broken packets may have addresses.
    fileprivate init(_ packet: UnsafeRawBufferPointer, _ reason: DropReason, _ now: UInt64) {
        timeNanoseconds = now
        self.reason = reason
        byteCount = UInt32(truncatingIfNeeded: packet.count)
        guard let base = packet.baseAddress, packet.count > 0 else { return }
        let version = load8(base, 0) >> 4
        if version == 4, packet.count >= IPPacket.ipv4HeaderBytes {
            source = IPAddress(.v4, at: base, 12)
            destination = IPAddress(.v4, at: base, 16)
        } else if version == 6, packet.count >= IPPacket.ipv6HeaderBytes {
            source = IPAddress(.v6, at: base, 8)
            destination = IPAddress(.v6, at: base, 24)
        }
    }
}
