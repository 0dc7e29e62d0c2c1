// What nodes tell each other over the HA link, besides tunnels' state: values only. How they look
// on the wire is in HALinkMessage+Coding.swift, byte by byte in docs/cluster-protocol.md.

public import Wire

/// One message from node to node; each goes in one datagram.
public enum HALinkMessage: Hashable, Sendable {
    /// I am here, and I have heard you.
    case heartbeat(Heartbeat)
    /// How far the sender's tunnels have come.
    case checkpoints(Checkpoints)
    /// An entry that belongs to the receiver (patent: foreign entry).
    case foreignEntry(ForeignEntry)
    /// What became of a foreign entry.
    case foreignEntryAnswer(ForeignEntryAnswer)
    /// Owner to successor: I record what I send, get ready.
    case moveOffer(MoveNotice)
    /// Successor to owner: loaded, and holding packets.
    case moveReady(MoveNotice)
    /// Owner to successor: exact state, as the owner is frozen.
    case handover(Handover)
    /// What the sender's tunnels cost it.
    case load(LoadReport)
}

/// The sign of life, which also acknowledges: a node that is heard but does not hear counts for
/// nothing.
public struct Heartbeat: Hashable, Sendable {
    /// What the sender says of itself.
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The bits on the wire.
        public let rawValue: UInt8

        /// Any bits; unknown ones are refused on receipt.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// The sender cannot reach the coordination store.
        public static let storeAway = Flags(rawValue: 1)
        /// The sender's serving lease runs.
        public static let withinLease = Flags(rawValue: 2)
        /// The sender's common table holds all that the store held at its revision.
        public static let tableComplete = Flags(rawValue: 4)
        /// The sender handles packets.
        public static let serving = Flags(rawValue: 8)
        /// The sender wants to give up all it owns.
        public static let draining = Flags(rawValue: 16)

        static let known: UInt8 = 31
    }

    /// The most suspects one heartbeat names.
    public static let suspectsMaximum = 255

    /// Rises by 1 with every heartbeat to this receiver, from 1.
    public var number: UInt64
    /// The highest number that the sender received from the receiver; 0: none.
    public var echo: UInt64
    /// The highest number of the receiver that the sender vouches for; 0: none.
    public var grant: UInt64
    /// The epoch of the allocation that the sender knows; 0: none.
    public var epoch: UInt64
    /// The store's revision up to which the sender has applied all changes.
    public var revision: UInt64
    /// What the sender says of itself.
    public var flags: Flags
    /// Members that the sender no longer hears: ascending, at most ``suspectsMaximum``.
    public var suspects: [NodeID]

    /// A heartbeat; see the properties.
    public init(
        number: UInt64, echo: UInt64 = 0, grant: UInt64 = 0, epoch: UInt64 = 0,
        revision: UInt64 = 0, flags: Flags = [], suspects: [NodeID] = []
    ) {
        self.number = number
        self.echo = echo
        self.grant = grant
        self.epoch = epoch
        self.revision = revision
        self.flags = flags
        self.suspects = suspects
    }
}

/// An entry on its way to the owner of its identifier, or word of one that is there.
public struct ForeignEntry: Hashable, Sendable {
    /// The most octets of a sealed record that fit one datagram.
    public static let sealedMaximum =
        HALink.messageMaximum - 1 - ForeignEntry.fixedBytes

    /// Chosen by the sender, to find the answer by.
    public var request: UInt64
    /// The identifier of the entry's SPI.
    public var identifier: DistributionIdentifier
    /// The SPI of the entry's inbound association.
    public var spi: SPI
    /// The tunnel sends for its selectors from now on: its peer can decrypt (RFC 7296 §2.8).
    public var sends: Bool
    /// The inbound SPI of the tunnel that it replaces; 0: none.
    public var replaces: SPI
    /// A tunnel record, sealed for its place in the store: at most ``sealedMaximum`` octets. None
    /// if the receiver has the entry, and is told that it sends.
    public var sealed: [UInt8]

    /// A foreign entry; see the properties.
    public init(
        request: UInt64, identifier: DistributionIdentifier, spi: SPI, sends: Bool = false,
        replaces: SPI = SPI(0), sealed: [UInt8]
    ) {
        self.request = request
        self.identifier = identifier
        self.spi = spi
        self.sends = sends
        self.replaces = replaces
        self.sealed = sealed
    }
}

/// What became of a foreign entry.
public struct ForeignEntryAnswer: Hashable, Sendable {
    /// The outcome; the raw value is the octet on the wire.
    public enum Code: UInt8, CaseIterable, Hashable, Sendable {
        /// The entry is in the store.
        case stored = 1
        /// The receiver does not own the identifier: ask the allocation again.
        case notOwner = 2
        /// The common table is full.
        case tableFull = 3
        /// Another entry has the SPI.
        case duplicate = 4
        /// The record does not open, or contradicts its own identifier or SPI.
        case refused = 5
    }

    /// The request that is answered.
    public var request: UInt64
    /// The outcome.
    public var code: Code

    /// An answer; see the properties.
    public init(request: UInt64, code: Code) {
        self.request = request
        self.code = code
    }
}

/// Identifiers that are about to change their owner by plan.
public struct MoveNotice: Hashable, Sendable {
    /// One identifier, with the generation of its present ownership.
    public struct Move: Hashable, Sendable {
        /// What moves.
        public var identifier: DistributionIdentifier
        /// The present owner's generation, at least 1: an offer of an ownership that has ended is
        /// known by it.
        public var generation: UInt16

        /// A move; see the properties.
        public init(identifier: DistributionIdentifier, generation: UInt16) {
            self.identifier = identifier
            self.generation = generation
        }
    }

    /// Ascending by identifier, each once; at most ``movesMaximum``.
    public var moves: [Move]

    /// A notice of moves that fit one datagram. ``split(_:)`` takes any number.
    public init(moves: [Move]) { self.moves = moves }
}

/// What the sender's tunnels cost it, by identifier.
public struct LoadReport: Hashable, Sendable {
    /// The load of one identifier.
    public struct Load: Hashable, Sendable {
        /// Whose load.
        public var identifier: DistributionIdentifier
        /// Packets of both directions in the last second.
        public var packetsPerSecond: UInt32
        /// Tunnels now.
        public var tunnels: UInt32

        /// A load; see the properties.
        public init(
            identifier: DistributionIdentifier, packetsPerSecond: UInt32, tunnels: UInt32
        ) {
            self.identifier = identifier
            self.packetsPerSecond = packetsPerSecond
            self.tunnels = tunnels
        }
    }

    /// Ascending by identifier, each once; at most ``loadsMaximum``.
    public var loads: [Load]

    /// A report of loads that fit one datagram. ``split(_:)`` takes any number.
    public init(loads: [Load]) { self.loads = loads }
}
