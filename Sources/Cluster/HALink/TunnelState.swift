// The state of tunnels as it goes over the HA link: now and then as checkpoints, exactly at a
// planned handover.

public import Wire

/// How far both directions of a tunnel have come.
public struct TunnelState: Hashable, Sendable {
    /// The most words of a window: the ring of the widest one.
    public static let windowWordsMaximum = 128

    /// The tunnel's inbound SPI, which names the tunnel.
    public var spi: SPI
    /// The last outbound number used; 0: none.
    public var sent: UInt64
    /// Packets sent.
    public var sentPackets: UInt64
    /// Their octets of ESP payload.
    public var sentBytes: UInt64
    /// The highest inbound number accepted; 0: none.
    public var received: UInt64
    /// Authenticated packets received.
    public var receivedPackets: UInt64
    /// Their octets of ESP payload.
    public var receivedBytes: UInt64
    /// Inbound numbers up to this may be replays, as an owner before this one may have accepted
    /// them (`TakeoverPolicy.learn`); 0: none.
    public var exposedThrough: UInt64
    /// The words of the replay window's ring, as the engine keeps them; empty: not told. At most
    /// ``windowWordsMaximum``.
    public var window: [UInt64]

    /// A state; see the properties.
    public init(
        spi: SPI, sent: UInt64 = 0, sentPackets: UInt64 = 0, sentBytes: UInt64 = 0,
        received: UInt64 = 0, receivedPackets: UInt64 = 0, receivedBytes: UInt64 = 0,
        exposedThrough: UInt64 = 0, window: [UInt64] = []
    ) {
        self.spi = spi
        self.sent = sent
        self.sentPackets = sentPackets
        self.sentBytes = sentBytes
        self.received = received
        self.receivedPackets = receivedPackets
        self.receivedBytes = receivedBytes
        self.exposedThrough = exposedThrough
        self.window = window
    }
}

/// How far tunnels of one identifier have come. Each state stands for itself: the order is free,
/// and one message need not hold all tunnels.
public struct Checkpoints: Hashable, Sendable {
    /// Whose tunnels.
    public var identifier: DistributionIdentifier
    /// The sender's generation, at least 1.
    public var generation: UInt16
    /// As many as fit one datagram.
    public var states: [TunnelState]

    /// Checkpoints that fit one datagram. ``split(identifier:generation:states:)`` takes any
    /// number.
    public init(identifier: DistributionIdentifier, generation: UInt16, states: [TunnelState]) {
        self.identifier = identifier
        self.generation = generation
        self.states = states
    }
}

/// Exact state of all tunnels of one identifier, from an owner that has stopped to handle their
/// packets. It may take several datagrams; the successor waits for all parts.
public struct Handover: Hashable, Sendable {
    /// What is handed over.
    public var identifier: DistributionIdentifier
    /// The sender's generation, at least 1.
    public var generation: UInt16
    /// From 0 to one below ``parts``.
    public var part: UInt16
    /// At least 1.
    public var parts: UInt16
    /// States, each tunnel in one part only.
    public var states: [TunnelState]
    /// Digests of packets that the owner has handled since its offer.
    public var sentDigests: [UInt64]

    /// A part that fits one datagram. ``split(identifier:generation:states:sentDigests:)`` takes
    /// any number.
    public init(
        identifier: DistributionIdentifier, generation: UInt16, part: UInt16, parts: UInt16,
        states: [TunnelState], sentDigests: [UInt64]
    ) {
        self.identifier = identifier
        self.generation = generation
        self.part = part
        self.parts = parts
        self.states = states
        self.sentDigests = sentDigests
    }
}
