// Entries between common table and card (patent Fig. 4 and Fig. 6B): added, loaded under a
// generation, cleared.

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    /// Puts a tunnel into the common table.
    mutating func insert(
        _ inbound: borrowing SecurityAssociation, _ outbound: consuming SecurityAssociation?,
        _ identifier: DistributionIdentifier
    ) throws(CommonTableError) -> AssociationHandle {
        if let outbound {
            // Where selectors overlap, all nodes must choose the same tunnel.
            return try table.insert(
                inbound: inbound, outbound: outbound, identifier: identifier,
                order: UInt64(inbound.parameters.spi.value))
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
    /// packets to this node. Returns how many there were, and those that found no room.
    mutating func load(
        _ identifier: DistributionIdentifier, _ now: UInt64
    ) -> (loaded: Int, refusals: [EntryRefusal]) {
        roles[Int(identifier.value)] = .owned
        isDirty[Int(identifier.value)] = true
        isLow[Int(identifier.value)] = true
        guard rules.hold(.loadBeforeSwitch) else { return (0, []) }
        var loaded = 0
        var refusals: [EntryRefusal] = []
        // Tunnels in use come first: where the card is too small, none of them loses its place to
        // one that never found any.
        let entries = table.entries(of: identifier)
        for isInUse in [true, false] {
            for entry in entries where (table.status(of: entry).packets > 0) == isInUse {
                // What was loaded for a planned move that came to nothing knows old numbers.
                close(entry)
                begin(entry, isExact: false)
                if let refusal = open(entry, now) {
                    waiting.append(entry)
                    refusals.append(
                        EntryRefusal(
                            spi: table.status(of: entry).spi, reason: refusal.description))
                } else {
                    loaded += 1
                }
            }
        }
        return (loaded, refusals)
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
                book.expose(entry, through: start.receivedPerhaps, packets: before.packets)
            }
        }
        let closes = rules.hold(.windowClosed)
        // An exact window stays open for what is still on its way.
        let edge = isExact ? 0 : receivedThrough
        table.updateStates { associations in
            if closes {
                associations.resumeReceiving(
                    closedUpTo: edge, limit: start.receiveLimit, of: entry)
            } else {
                associations.setLimit(.max, of: entry)
            }
            if let outbound {
                associations.resumeSending(
                    after: sentThrough, limit: start.sendLimit, of: outbound)
            }
        }
        book.take(
            entry, sendLimit: start.sendLimit, receiveLimit: start.receiveLimit,
            sent: sentThrough, received: receivedThrough, packets: before.packets)
    }

    /// Copies a tunnel to the card under this node's generation; nil: it is there.
    mutating func open(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        let identifier = Int(table.status(of: entry).distributionIdentifier)
        let generation = generations[identifier]
        do throws(CardError) {
            let session = try card.open(
                copying: entry, from: table.associations, ivGeneration: generation,
                nowNanoseconds: now)
            guard let outbound = table.outbound(of: entry) else {
                shedKeys(of: entry)
                return nil
            }
            do throws(CardError) {
                let sending = try card.open(
                    copying: outbound, from: table.associations, ivGeneration: generation,
                    nowNanoseconds: now)
                setOutboundSession(sending, of: outbound)
            } catch {
                try card.close(session)
                throw error
            }
            shedKeys(of: entry)
            return nil
        } catch {
            noteLack(error, of: entry)
            return error
        }
    }

    /// Loads again what the card lost.
    mutating func reload(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        close(entry)
        return open(entry, now)
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
        if let session = card.session(for: table.status(of: entry).spi) {
            try? card.setLimit(receive, of: session)
        }
        if let outbound { try? card.setLimit(send, of: outboundSession(outbound)) }
    }

    // MARK: Clearing

    /// Closes a tunnel's sessions; its keys leave the card.
    @discardableResult
    mutating func close(_ entry: AssociationHandle) -> Bool {
        var isClosed = false
        if let outbound = table.outbound(of: entry) {
            isClosed = (try? card.close(outboundSession(outbound))) != nil
        }
        if let session = card.session(for: table.status(of: entry).spi) {
            isClosed = (try? card.close(session)) != nil || isClosed
        }
        return isClosed
    }

    /// Clears the sessions of a lost identifier from the card (614…616), and says how many tunnels
    /// there were.
    mutating func closeAll(of identifier: DistributionIdentifier) -> Int {
        guard rules.hold(.lostCleared) else { return 0 }
        var closed = 0
        for entry in table.entries(of: identifier) where close(entry) { closed += 1 }
        return closed
    }

    /// Tries the tunnels that found the card full; those that are no longer owned are forgotten.
    @discardableResult
    mutating func openWaiting(_ now: UInt64) -> Int {
        guard !waiting.isEmpty, card.count < card.capacity else { return 0 }
        var opened = 0
        var still: [AssociationHandle] = []
        for entry in waiting where table.associations.isCurrent(entry) {
            let status = table.status(of: entry)
            guard owns(DistributionIdentifier(status.distributionIdentifier)),
                card.session(for: status.spi) == nil
            else { continue }
            if open(entry, now) == nil { opened += 1 } else { still.append(entry) }
        }
        waiting = still
        return opened
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
        guard let outbound = table.outbound(of: entry) else { return }
        let spi = table.status(of: outbound).spi
        let sent = SequenceCheckpoint(
            spi: spi, sequence: state.sent, packets: state.sentPackets, bytes: state.sentBytes)
        table.updateStates { _ = $0.apply(sent, to: outbound) }
        try? card.apply(sent, to: outboundSession(outbound))
    }
}
