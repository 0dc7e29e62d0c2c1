// Sequence leases (docs/decisions/0011): which numbers of each tunnel may have been used, whatever
// became of the node that used them.
//
//     used so far       published        a successor starts here
//     ├────────────────────┤──── sendStart ────┤──── sendStart ────┤
//                       sendLimit     without a lease of its    and so on for each
//                                     own it ends here          generation in between
//
// An owner uses a number only after a limit above it is in the store, under its own generation, or
// within the first `sendStart` numbers after what all generations before it may have used.

public import ESP
public import Wire

/// Where an ownership of a tunnel begins.
public struct OwnershipStart: Hashable, Sendable {
    /// The last outbound number that may have been used before.
    public let sentThrough: UInt64
    /// The last outbound number that may be used now.
    public let sendLimit: UInt64
    /// The highest inbound number that is known to have been accepted.
    public let receivedThrough: UInt64
    /// The highest inbound number that may have been accepted.
    public let receivedPerhaps: UInt64
    /// The highest inbound number that may be accepted now.
    public let receiveLimit: UInt64
}

/// The leases of all tunnels of a common table, by the slot of the inbound association.
public struct LeaseBook: Sendable {
    struct Entry: Sendable {
        /// As last published: by which generation, and what.
        var generation: UInt16 = 0
        /// The store's revision of the tunnel's entry; 0: not known to be there.
        var storedRevision: UInt64 = 0
        var sendLimit: UInt64 = 0
        var receiveEdge: UInt64 = 0
        var receiveLimit: UInt64 = 0
        /// In force here, for tunnels of this node.
        var sendGranted: UInt64 = 0
        var receiveGranted: UInt64 = 0
        /// At the last visit.
        var sentSeen: UInt64 = 0
        /// Received packets, not numbers: these jump over what was lost.
        var packetsSeen: UInt64 = 0
        /// Numbers that last for the horizon, by the rate between the last two visits.
        var sendWanted: UInt64 = 0
        var receiveWanted: UInt64 = 0
        /// The highest authentic inbound number that was refused for want of a lease.
        var receiveMissed: UInt64 = 0
        /// At the last checkpoint.
        var receivedTold: UInt64 = 0
        var packetsTold: UInt64 = 0
        var bytesTold: UInt64 = 0
        /// The highest inbound number that counted as accepted when the ownership began.
        var receivedAtStart: UInt64 = 0
        /// Inbound numbers up to this may be replays; 0: none.
        var exposedThrough: UInt64 = 0
    }

    /// The sizes in force.
    public let sizing: LeaseSizing
    private var entries: [Entry] = []

    /// An empty book.
    public init(sizing: LeaseSizing) { self.sizing = sizing }

    subscript(tunnel: AssociationHandle) -> Entry {
        get { Int(tunnel.index) < entries.count ? entries[Int(tunnel.index)] : Entry() }
        set { entries[page(of: tunnel)] = newValue }
    }

    /// Where the tunnel's page is; an empty one is made if there is none.
    @inline(__always)
    private mutating func page(of tunnel: AssociationHandle) -> Int {
        while entries.count <= Int(tunnel.index) { entries.append(Entry()) }
        return Int(tunnel.index)
    }

    /// Begins the page of a tunnel that came into the table, with what its entry says.
    public mutating func begin(
        _ tunnel: AssociationHandle, generation: UInt16, sendLimit: UInt64, receiveEdge: UInt64,
        receiveLimit: UInt64
    ) {
        var entry = Entry()
        entry.generation = generation
        entry.sendLimit = sendLimit
        entry.receiveEdge = receiveEdge
        entry.receiveLimit = receiveLimit
        self[tunnel] = entry
    }

    /// Notes that the store holds the tunnel's entry.
    public mutating func noteStored(_ tunnel: AssociationHandle, revision: UInt64) {
        self[tunnel].storedRevision = revision
    }

    /// The store's revision of the tunnel's entry; 0: not known to be there.
    public func storedRevision(_ tunnel: AssociationHandle) -> UInt64 {
        self[tunnel].storedRevision
    }

    /// True when the store is known to hold the tunnel's entry.
    public func isStored(_ tunnel: AssociationHandle) -> Bool { storedRevision(tunnel) != 0 }

    /// Notes a lease that is in the store. Whatever order records are read in, and however old they
    /// are, no limit ever falls.
    public mutating func note(
        _ lease: TunnelLease, generation: UInt16, of tunnel: AssociationHandle
    ) {
        var entry = self[tunnel]
        entry.generation = max(entry.generation, generation)
        entry.sendLimit = max(entry.sendLimit, lease.sendLimit)
        entry.receiveEdge = max(entry.receiveEdge, lease.receiveEdge)
        entry.receiveLimit = max(entry.receiveLimit, lease.receiveLimit)
        self[tunnel] = entry
    }

    /// Where `generation` begins. `overrun`: the last generation that had to begin beyond what may
    /// have been used while the store was away.
    public func start(
        of tunnel: AssociationHandle, generation: UInt16, overrunGeneration overrun: UInt16
    ) -> OwnershipStart {
        let entry = self[tunnel]
        let between = UInt64(max(Int(generation) - Int(entry.generation) - 1, 0))
        let isOverrun = overrun > entry.generation
        let sent = entry.sendLimit.addingClamped(isOverrun ? sizing.sendAllowance : 0)
            .addingClamped(between * sizing.sendStart)
        let received = entry.receiveLimit
            .addingClamped(isOverrun ? sizing.receiveAllowance : 0)
            .addingClamped(between * sizing.receiveStart)
        return OwnershipStart(
            sentThrough: sent, sendLimit: sent.addingClamped(sizing.sendStart),
            receivedThrough: entry.receiveEdge, receivedPerhaps: received,
            receiveLimit: received.addingClamped(sizing.receiveStart))
    }

    /// Takes limits into force for a tunnel of this node, and says from where exposure counts.
    public mutating func take(
        _ tunnel: AssociationHandle, sendLimit: UInt64, receiveLimit: UInt64, sent: UInt64,
        received: UInt64, packets: UInt64
    ) {
        let page = page(of: tunnel)
        entries[page].sendGranted = sendLimit
        entries[page].receiveGranted = receiveLimit
        entries[page].sentSeen = sent
        entries[page].packetsSeen = packets
        entries[page].receivedTold = received
        entries[page].receivedAtStart = received
    }

    /// Takes limits into force that are in the store now, or that an outage allows.
    public mutating func grant(
        _ tunnel: AssociationHandle, sendLimit: UInt64, receiveLimit: UInt64
    ) {
        let page = page(of: tunnel)
        entries[page].sendGranted = sendLimit
        entries[page].receiveGranted = receiveLimit
    }

    /// The limits in force for a tunnel of this node.
    public func granted(_ tunnel: AssociationHandle) -> (send: UInt64, receive: UInt64) {
        (self[tunnel].sendGranted, self[tunnel].receiveGranted)
    }

    /// True when fewer numbers are left than half of what is published at least: time to publish.
    @inline(__always)
    public func isLow(_ tunnel: AssociationHandle, sent: UInt64, received: UInt64) -> Bool {
        let entry = entries[Int(tunnel.index)]
        return entry.sendGranted &- sent < sizing.sendMinimum / 2
            || entry.sendGranted < sent || entry.receiveGranted < received
            || entry.receiveGranted &- received < sizing.receiveMinimum / 2
    }

    /// Looks at a tunnel of this node, `elapsed` after the last look; true when half of what it
    /// needs at its present rate is used up.
    public mutating func visit(
        _ tunnel: AssociationHandle, sent: UInt64, received: UInt64, packets: UInt64,
        elapsedNanoseconds elapsed: UInt64
    ) -> Bool {
        let page = page(of: tunnel)
        entries[page].sendWanted = max(
            sizing.sendMinimum,
            Self.numbers(
                for: sizing.horizonNanoseconds, used: sent, since: entries[page].sentSeen,
                elapsed))
        entries[page].receiveWanted = max(
            sizing.receiveMinimum,
            Self.numbers(
                for: sizing.receiveHorizonNanoseconds, used: packets,
                since: entries[page].packetsSeen, elapsed))
        entries[page].sentSeen = sent
        entries[page].packetsSeen = packets
        return entries[page].sendGranted < sent.addingClamped(entries[page].sendWanted / 2)
            || entries[page].receiveGranted
                < received.addingClamped(entries[page].receiveWanted / 2)
    }

    /// What to publish for a tunnel of this node: never less than what is in force, unless that
    /// is what an outage allows (`isOverrun`).
    public func lease(
        of tunnel: AssociationHandle, spi: SPI, sent: UInt64, received: UInt64, isOverrun: Bool
    ) -> TunnelLease {
        let entry = self[tunnel]
        let granted = isOverrun ? (0, 0) : (entry.sendGranted, entry.receiveGranted)
        let send = max(entry.sendWanted, sizing.sendMinimum)
        // As long as nothing was accepted, a successor has nothing more to refuse.
        let isIdle =
            received == entry.receivedAtStart && !isOverrun && granted.1 > received
            && entry.receiveMissed <= granted.1
        let receive = isIdle ? 0 : max(entry.receiveWanted, sizing.receiveMinimum)
        return TunnelLease(
            spi: spi, sendLimit: max(entry.sendLimit, granted.0, sent.addingClamped(send)),
            receiveEdge: max(entry.receiveEdge, received),
            receiveLimit: max(
                entry.receiveLimit, granted.1,
                max(received, entry.receiveMissed).addingClamped(receive)))
    }

    /// Notes an authentic inbound packet that was refused: the peer has come further than the
    /// lease, as packets were lost. `low`: the low half of its number.
    public mutating func noteMissed(_ tunnel: AssociationHandle, low: UInt32, received: UInt64) {
        var number = (received >> 32) << 32 | UInt64(low)
        if number < received { number = number.addingClamped(1 << 32) }
        self[tunnel].receiveMissed = max(self[tunnel].receiveMissed, number)
    }

    /// The limits that the store holds.
    public func published(_ tunnel: AssociationHandle) -> (send: UInt64, receive: UInt64) {
        (self[tunnel].sendLimit, self[tunnel].receiveLimit)
    }

    /// How far the peer may have come since the store's lease was written: so many numbers a new
    /// owner may have to refuse.
    public func receiveGap(_ tunnel: AssociationHandle) -> UInt64 {
        let entry = self[tunnel]
        return entry.receiveLimit - min(entry.receiveLimit, entry.receiveEdge)
    }

    /// True when nothing beyond what the store holds is in use.
    public func isWithinLease(_ tunnel: AssociationHandle, sent: UInt64, received: UInt64) -> Bool {
        self[tunnel].sendLimit >= sent && self[tunnel].receiveLimit >= received
    }

    /// The generation that published them.
    public func generation(_ tunnel: AssociationHandle) -> UInt16 { self[tunnel].generation }

    /// Numbers that last for `horizon` at the rate since the last visit.
    private static func numbers(
        for horizon: UInt64, used now: UInt64, since before: UInt64, _ elapsed: UInt64
    ) -> UInt64 {
        let used = now >= before ? now - before : 0
        // What came at once after a hold-up is no rate.
        let milliseconds = max(elapsed / 1_000_000, 100)
        let product = used.multipliedReportingOverflow(by: horizon / 1_000_000)
        return product.overflow ? used : product.partialValue / milliseconds
    }

    // MARK: Exposure

    /// After a takeover by `learn`: numbers up to `through` may be replays.
    public mutating func expose(_ tunnel: AssociationHandle, through: UInt64) {
        let page = page(of: tunnel)
        entries[page].exposedThrough = through
    }

    /// Inbound numbers up to this may be replays; 0: none.
    public func exposedThrough(_ tunnel: AssociationHandle) -> UInt64 {
        self[tunnel].exposedThrough
    }

    /// A packet was accepted; true when it may have been a replay: until the window, `window`
    /// numbers wide, has left the numbers in question behind.
    @inline(__always)
    public mutating func noteAccepted(
        _ tunnel: AssociationHandle, received: UInt64, window: UInt64
    ) -> Bool {
        guard entries[Int(tunnel.index)].exposedThrough != 0 else { return false }
        return noteExposed(tunnel, received, window)
    }

    @inline(never)
    private mutating func noteExposed(
        _ tunnel: AssociationHandle, _ received: UInt64, _ window: UInt64
    ) -> Bool {
        let page = Int(tunnel.index)
        if received >= entries[page].exposedThrough.addingClamped(window) {
            entries[page].exposedThrough = 0
        }
        return true
    }

    // MARK: Checkpoints

    /// Octets accepted since the others were told; nil: they know everything.
    public func bytesAhead(
        _ tunnel: AssociationHandle, received: UInt64, packets: UInt64, bytes: UInt64
    ) -> UInt64? {
        let entry = self[tunnel]
        guard entry.receivedTold != received || entry.packetsTold != packets else { return nil }
        return bytes - min(bytes, entry.bytesTold)
    }

    /// Notes what the others were told.
    public mutating func noteTold(
        _ tunnel: AssociationHandle, received: UInt64, packets: UInt64, bytes: UInt64
    ) {
        let page = page(of: tunnel)
        entries[page].receivedTold = received
        entries[page].packetsTold = packets
        entries[page].bytesTold = bytes
    }
}

extension UInt64 {
    /// The sum, or the greatest number there is.
    package func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
