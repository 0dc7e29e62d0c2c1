// Entries between common table and card (patent Fig. 4 and Fig. 6B): added, loaded under a
// generation, cleared.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    /// Puts a tunnel into the common table; a successor behind the tunnel that it replaces.
    mutating func insert(
        _ inbound: borrowing SecurityAssociation, _ outbound: consuming SecurityAssociation?,
        _ identifier: DistributionIdentifier, replacing old: SPI? = nil
    ) throws(CommonTableError) -> AssociationHandle {
        if let outbound {
            // Where selectors overlap, all nodes must choose the same tunnel.
            let place = old.flatMap { table.find($0) }.flatMap { table.order(of: $0) }
            return try table.insert(
                inbound: inbound, outbound: outbound, identifier: identifier,
                order: place ?? UInt64(inbound.parameters.spi.value))
        }
        return try table.insert(inbound, identifier: identifier)
    }

    /// The outbound association of a tunnel, with its keys; nil when it only receives.
    borrowing func outboundAssociation(of entry: AssociationHandle) -> SecurityAssociation? {
        guard let outbound = table.outbound(of: entry) else { return nil }
        return table.associations.association(of: outbound)
    }

    // MARK: Loading

    /// Loads the entries of a gained identifier into the card (611…613), and only then switches its
    /// packets to this node.
    mutating func load(_ identifier: DistributionIdentifier, _ now: UInt64) -> TakenTunnels {
        roles[Int(identifier.value)] = .owned
        isDirty[Int(identifier.value)] = true
        isLow[Int(identifier.value)] = true
        var taken = TakenTunnels()
        guard rules.hold(.loadBeforeSwitch) else { return taken }
        // Tunnels in use come first: where the card is too small, none of them loses its place to
        // one that never found any.
        let entries = entriesInUseFirst(of: identifier)
        for place in entries.indices {
            prefetch(entries, after: place)
            let spi = table.status(of: entries[place]).spi
            taken.note(take(entries[place], isExact: false, now), of: spi)
        }
        return taken
    }

    private borrowing func entriesInUseFirst(
        of identifier: DistributionIdentifier
    ) -> [AssociationHandle] {
        var used: [AssociationHandle] = []
        var unused: [AssociationHandle] = []
        used.reserveCapacity(table.count(of: identifier))
        table.forEachEntry(of: identifier) { entry in
            if table.status(of: entry).packets > 0 {
                used.append(entry)
            } else {
                unused.append(entry)
            }
        }
        return used + unused
    }

    /// Most of the time of a load is spent waiting for memory: so it is asked for ahead.
    @inline(__always)
    private borrowing func prefetch(_ entries: [AssociationHandle], after place: Int) {
        let (near, far) = (place + 3, place + 6)
        if far < entries.count { table.prefetch(entries[far]) }
        if near < entries.count { card.prefetch(table.status(of: entries[near]).spi) }
    }

    /// Sets where this node's ownership of a tunnel begins, in the table; the card copies it.
    ///
    /// `isExact`: the old owner told how far it has come. Else leases and checkpoints tell what it
    /// may have done.
    mutating func begin(_ entry: AssociationHandle, isExact: Bool) {
        let isExact = isExact || isFollowedExactly
        let before = table.status(of: entry)
        let identifier = Int(before.distributionIdentifier)
        let start = book.start(
            of: entry, generation: generations[identifier],
            overrunGeneration: overrunGenerations[identifier])
        let outbound = table.outbound(of: entry)
        var sentThrough = outbound.map { table.status(of: $0).sequence } ?? 0
        var receivedThrough = before.sequence
        if !isExact {
            if rules.hold(.startAfterLease) { sentThrough = max(sentThrough, start.sentThrough) }
            receivedThrough = max(receivedThrough, start.receivedThrough)
            if policy == .strict {
                receivedThrough = max(receivedThrough, start.receivedPerhaps)
            } else if start.receivedPerhaps > receivedThrough, rules.hold(.exposureCounted) {
                book.expose(entry, through: start.receivedPerhaps)
            }
        }
        // Nothing is used before the entry is in the store, which says from where.
        let isStored = book.isStored(entry)
        let sendLimit = isStored ? start.sendLimit : sentThrough
        let receiveLimit = isStored ? start.receiveLimit : receivedThrough
        let closes = rules.hold(.windowClosed)
        // An exact window stays open for what is still on its way.
        let edge = isExact ? 0 : receivedThrough
        table.updateStates { associations in
            if closes {
                associations.resumeReceiving(
                    closedUpTo: edge, limit: receiveLimit, of: entry)
            } else {
                associations.setLimit(.max, of: entry)
            }
            if let outbound {
                associations.resumeSending(
                    after: sentThrough, limit: sendLimit, of: outbound)
            }
        }
        book.take(
            entry, sendLimit: sendLimit, receiveLimit: receiveLimit,
            sent: sentThrough, received: receivedThrough, packets: before.packets)
    }

    /// Puts limits that are in the store now into force.
    mutating func grant(_ entry: AssociationHandle, send: UInt64, receive: UInt64) {
        let send = rules.hold(.leaseAwaited) ? send : .max
        book.grant(entry, sendLimit: send, receiveLimit: receive)
        let outbound = table.outbound(of: entry)
        table.updateStates { associations in
            associations.setLimit(receive, of: entry)
            if let outbound { associations.setLimit(send, of: outbound) }
        }
        let spi = table.status(of: entry).spi
        if let session = card.session(for: spi) { try? card.setLimit(receive, of: session) }
        if let session = host.session(for: spi) { try? host.setLimit(receive, of: session) }
        guard let outbound else { return }
        try? card.setLimit(send, of: outboundSession(outbound))
        try? host.setLimit(send, of: hostOutboundSession(outbound))
    }

    // MARK: Clearing

    /// Clears the sessions of a lost identifier from the card (614…616), and says how many tunnels
    /// there were. A card that holds all tunnels keeps them: the owner filter alone decides.
    mutating func closeAll(of identifier: DistributionIdentifier) -> Int {
        guard rules.hold(.lostCleared), cardContents == .ownTunnels else { return 0 }
        var closed = 0
        for entry in table.entries(of: identifier) where close(entry) { closed += 1 }
        return closed
    }

    // MARK: State

    /// Exactly how far a tunnel has come.
    borrowing func state(of entry: AssociationHandle, withWindow: Bool) -> TunnelState {
        let received = table.associations.checkpoint(of: entry)
        let sent = table.outbound(of: entry).map { table.status(of: $0) }
        return TunnelState(
            spi: received.spi, sent: sent?.sequence ?? 0, sentPackets: sent?.packets ?? 0,
            sentBytes: sent?.bytes ?? 0, received: received.sequence,
            receivedPackets: received.packets, receivedBytes: received.bytes,
            exposedThrough: book.exposedThrough(entry),
            window: withWindow ? received.window : [])
    }

    /// Brings an entry of the table, and its sessions if it has some, to what its owner told.
    mutating func apply(_ state: TunnelState) {
        guard let entry = table.find(state.spi) else { return }
        let received = SequenceCheckpoint(
            spi: state.spi, sequence: state.received, packets: state.receivedPackets,
            bytes: state.receivedBytes, window: state.window)
        table.apply(received)
        if let session = card.session(for: state.spi) { try? card.apply(received, to: session) }
        if let session = host.session(for: state.spi) { try? host.apply(received, to: session) }
        guard let outbound = table.outbound(of: entry) else { return }
        let spi = table.status(of: outbound).spi
        let sent = SequenceCheckpoint(
            spi: spi, sequence: state.sent, packets: state.sentPackets, bytes: state.sentBytes)
        table.updateStates { _ = $0.apply(sent, to: outbound) }
        try? card.apply(sent, to: outboundSession(outbound))
        try? host.apply(sent, to: hostOutboundSession(outbound))
    }
}
