// How long a card takes: one queue, a fixed latency, a cost per packet and per octet.

/// A card's speed. All times in nanoseconds.
public struct CardTiming: Equatable, Sendable {
    /// From the end of the work on a batch to its completion at the host (bus, interrupt).
    public var latencyNanoseconds: UInt64
    /// Work per packet.
    public var packetNanoseconds: UInt64
    /// Work per 1024 octets.
    public var kibibyteNanoseconds: UInt64
    /// Work that may wait; a batch that finds more is refused whole.
    public var queueNanosecondsMaximum: UInt64

    /// The four costs; see the properties.
    public init(
        latencyNanoseconds: UInt64, packetNanoseconds: UInt64, kibibyteNanoseconds: UInt64,
        queueNanosecondsMaximum: UInt64
    ) {
        self.latencyNanoseconds = latencyNanoseconds
        self.packetNanoseconds = packetNanoseconds
        self.kibibyteNanoseconds = kibibyteNanoseconds
        self.queueNanosecondsMaximum = queueNanosecondsMaximum
    }
}

/// The card's queue: when the work taken so far will be done.
struct CardClock {
    private var busyUntil: UInt64 = 0

    func isFull(_ timing: CardTiming, _ now: UInt64) -> Bool {
        busyUntil > now && busyUntil - now > timing.queueNanosecondsMaximum
    }

    /// Adds a batch and returns when it completes.
    mutating func add(_ timing: CardTiming, packets: Int, bytes: Int, _ now: UInt64) -> UInt64 {
        let work =
            UInt64(packets) * timing.packetNanoseconds
            + UInt64(bytes) * timing.kibibyteNanoseconds / 1024
        busyUntil = max(busyUntil, now) + work
        return busyUntil + timing.latencyNanoseconds
    }
}
