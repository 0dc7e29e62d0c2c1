// Where a tunnel's sessions are: on the card, or in the host's memory when the card has no room.
// Never in both, as each would count numbers of its own (docs/decisions/0013).

import Cluster
import CryptoCardSim
import ESP
import Wire

extension DataPlane {
    // MARK: Where a tunnel is

    /// True when all sessions of a tunnel are on the card.
    borrowing func isOnCard(_ entry: AssociationHandle) -> Bool {
        guard card.holdsSession(for: table.status(of: entry).spi) else { return false }
        guard let outbound = table.outbound(of: entry) else { return true }
        return card.holds(outboundSession(outbound))
    }

    /// True when all sessions of a tunnel are in the host's memory.
    borrowing func isOnHost(_ entry: AssociationHandle) -> Bool {
        guard host.holdsSession(for: table.status(of: entry).spi) else { return false }
        guard let outbound = table.outbound(of: entry) else { return true }
        return host.holds(hostOutboundSession(outbound))
    }

    /// True when this node's card is the place for tunnels of an identifier.
    borrowing func belongsOnCard(_ identifier: DistributionIdentifier) -> Bool {
        cardContents == .allTunnels || owns(identifier)
    }

    /// The session of an outbound association of the table, on the card.
    borrowing func outboundSession(_ entry: AssociationHandle) -> CardHandle {
        Self.session(outboundSessions, entry)
    }

    /// The session of an outbound association of the table, in the host's memory.
    borrowing func hostOutboundSession(_ entry: AssociationHandle) -> CardHandle {
        Self.session(hostOutboundSessions, entry)
    }

    private static func session(
        _ sessions: [CardHandle], _ entry: AssociationHandle
    ) -> CardHandle {
        let slot = Int(entry.index)
        return slot < sessions.count ? sessions[slot] : noSession
    }

    private static var noSession: CardHandle { CardHandle(index: .max, generation: 0) }

    private static func note(
        _ session: CardHandle, of entry: AssociationHandle, in sessions: inout [CardHandle]
    ) {
        while sessions.count <= Int(entry.index) { sessions.append(noSession) }
        sessions[Int(entry.index)] = session
    }

    // MARK: Opening

    /// Copies a tunnel to the card under this node's generation, or to the host's memory if there
    /// is no room and the configuration allows it; nil: it is there.
    mutating func open(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        let status = table.status(of: entry)
        if host.holdsSession(for: status.spi) { return .duplicateSPI(status.spi) }
        guard let refusal = openOnCard(entry, now) else { return nil }
        guard servesFromHost, refusal.isForWantOfRoom else { return refusal }
        do throws(CardError) {
            let sessions = try Self.open(
                entry, of: table, in: &host,
                generation: generations[Int(status.distributionIdentifier)], now)
            if let outbound = table.outbound(of: entry), let session = sessions.outbound {
                Self.note(session, of: outbound, in: &hostOutboundSessions)
            }
            waiting.append(entry)
            return nil
        } catch {
            noteLack(error, of: entry)
            return refusal
        }
    }

    private mutating func openOnCard(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        let identifier = Int(table.status(of: entry).distributionIdentifier)
        do throws(CardError) {
            let sessions = try Self.open(
                entry, of: table, in: &card, generation: generations[identifier], now)
            if let outbound = table.outbound(of: entry), let session = sessions.outbound {
                Self.note(session, of: outbound, in: &outboundSessions)
            }
            shedKeys(of: entry)
            return nil
        } catch {
            noteLack(error, of: entry)
            return error
        }
    }

    /// Opens all sessions of a tunnel in one store, or none.
    private static func open(
        _ entry: AssociationHandle, of table: borrowing CommonTable, in store: inout CryptoCard,
        generation: UInt16, _ now: UInt64
    ) throws(CardError) -> (inbound: CardHandle, outbound: CardHandle?) {
        let session = try store.open(
            copying: entry, from: table.associations, ivGeneration: generation,
            nowNanoseconds: now)
        guard let outbound = table.outbound(of: entry) else { return (session, nil) }
        do throws(CardError) {
            let sending = try store.open(
                copying: outbound, from: table.associations, ivGeneration: generation,
                nowNanoseconds: now)
            return (session, sending)
        } catch {
            try store.close(session)
            throw error
        }
    }

    /// Loads again what the card lost.
    mutating func reload(_ entry: AssociationHandle, _ now: UInt64) -> CardError? {
        close(entry)
        return open(entry, now)
    }

    /// Loads a tunnel anew, and says where it went.
    mutating func place(_ entry: AssociationHandle, _ now: UInt64) -> OwnershipBeginning {
        if let refusal = reload(entry, now) {
            waiting.append(entry)
            return .refused(refusal)
        }
        return isOnHost(entry) ? .hosted : .loaded
    }

    // MARK: Taking over

    /// Begins this node's ownership of a tunnel, in the table and then in its sessions. `isExact`
    /// is that of `begin`.
    mutating func take(
        _ entry: AssociationHandle, isExact: Bool, _ now: UInt64
    ) -> OwnershipBeginning {
        begin(entry, isExact: isExact)
        if cardContents == .allTunnels, !rules.hold(.updatedInPlace) || renew(entry) {
            return .updated
        }
        // What was loaded for a planned move that came to nothing knows old numbers.
        return place(entry, now)
    }

    /// Brings sessions that were loaded before to the ownership's begin; false: they are not there.
    private mutating func renew(_ entry: AssociationHandle) -> Bool {
        if isOnCard(entry) {
            return Self.renew(
                entry, of: table, in: &card, outboundSessions: outboundSessions, generations)
        }
        guard isOnHost(entry) else { return false }
        return Self.renew(
            entry, of: table, in: &host, outboundSessions: hostOutboundSessions, generations)
    }

    private static func renew(
        _ entry: AssociationHandle, of table: borrowing CommonTable, in store: inout CryptoCard,
        outboundSessions: [CardHandle], _ generations: [UInt16]
    ) -> Bool {
        let status = table.status(of: entry)
        let generation = generations[Int(status.distributionIdentifier)]
        do throws(CardError) {
            guard let session = store.session(for: status.spi) else { return false }
            if let outbound = table.outbound(of: entry) {
                try store.renew(
                    Self.session(outboundSessions, outbound), from: outbound,
                    of: table.associations, ivGeneration: generation)
            }
            try store.renew(
                session, from: entry, of: table.associations, ivGeneration: generation)
            return true
        } catch {
            return false
        }
    }

    // MARK: Closing

    /// Closes a tunnel's sessions; its keys leave card and host's memory.
    @discardableResult
    mutating func close(_ entry: AssociationHandle) -> Bool {
        var isClosed = false
        let spi = table.status(of: entry).spi
        if let outbound = table.outbound(of: entry) {
            isClosed = (try? card.close(outboundSession(outbound))) != nil
            isClosed = (try? host.close(hostOutboundSession(outbound))) != nil || isClosed
        }
        if let session = card.session(for: spi) {
            isClosed = (try? card.close(session)) != nil || isClosed
        }
        if let session = host.session(for: spi) {
            isClosed = (try? host.close(session)) != nil || isClosed
        }
        return isClosed
    }

    // MARK: Room

    /// Brings tunnels to the card that found no room on it; those that don't belong there any more
    /// are forgotten. Returns how many it has now.
    @discardableResult
    mutating func openWaiting(_ now: UInt64) -> Int {
        guard card.count < card.capacity else { return 0 }
        if cardContents == .allTunnels { findMissing() }
        guard !waiting.isEmpty else { return 0 }
        var opened = 0
        // The first for which there is no room ends it: this is done after every clearing.
        while let entry = waiting.longest {
            guard table.associations.isCurrent(entry), isToMove(entry) else {
                waiting.removeLongest()
                continue
            }
            let needed = table.outbound(of: entry) == nil ? 1 : 2
            guard card.count + needed <= card.capacity, moveToCard(entry, now) else { break }
            waiting.removeLongest()
            opened += 1
        }
        return opened
    }

    /// Moves a tunnel that waits for room to the place of the one that it succeeds.
    mutating func giveWay(
        _ former: AssociationHandle, to entry: AssociationHandle, _ now: UInt64
    ) {
        guard isToMove(entry), !isOnHost(entry), isOnCard(former) else { return }
        close(former)
        _ = moveToCard(entry, now)
    }

    private borrowing func isToMove(_ entry: AssociationHandle) -> Bool {
        let identifier = table.status(of: entry).distributionIdentifier
        return belongsOnCard(DistributionIdentifier(identifier)) && !isOnCard(entry)
    }

    /// Every tunnel belongs on the card: those that it lost wait, too.
    private mutating func findMissing() {
        guard card.count + host.count < table.associations.count else { return }
        for entry in table.entries() where !isOnCard(entry) { waiting.append(entry) }
    }

    /// Loads a tunnel into the card. From the host's memory it comes with its exact state, and
    /// leaves it at once.
    private mutating func moveToCard(_ entry: AssociationHandle, _ now: UInt64) -> Bool {
        guard isOnHost(entry) else {
            _ = reload(entry, now)
            return isOnCard(entry)
        }
        copyHostState(of: entry)
        guard openOnCard(entry, now) == nil else { return false }
        guard rules.hold(.oneStore) else { return true }
        if let outbound = table.outbound(of: entry) {
            try? host.close(hostOutboundSession(outbound))
        }
        if let session = host.session(for: table.status(of: entry).spi) {
            try? host.close(session)
        }
        return true
    }

    private mutating func copyHostState(of entry: AssociationHandle) {
        let session = host.session(for: table.status(of: entry).spi)
        let outbound = table.outbound(of: entry)
        let sending = outbound.map { hostOutboundSession($0) }
        table.updateStates { associations in
            if let session {
                try? host.copyState(of: session, to: entry, in: &associations)
            }
            if let outbound, let sending {
                try? host.copyState(of: sending, to: outbound, in: &associations)
            }
        }
    }

    // MARK: The packet path beside the card

    /// Opens a packet that the card did not take, if its session is in the host's memory. False:
    /// it is not.
    @inline(never)
    mutating func receiveOnHost(
        _ packet: UnsafeMutableBufferPointer<PacketDescriptor>, _ now: UInt64
    ) -> Bool {
        guard host.count > 0, let location = packet[0].location,
            host.holdsSession(for: location.spi)
        else { return false }
        packet[0].drop = nil
        host.receive(packet, nowNanoseconds: now)
        counters.hostPackets += 1
        return true
    }

    /// Seals a packet that the card did not take, if its session is in the host's memory. False:
    /// it is not.
    @inline(never)
    mutating func sendOnHost(
        _ packet: UnsafeMutableBufferPointer<PacketDescriptor>, tableSlot: UInt32, _ now: UInt64
    ) -> Bool {
        guard host.count > 0, let outbound = table.associations.handle(at: tableSlot),
            host.holds(hostOutboundSession(outbound))
        else { return false }
        packet[0].drop = nil
        packet[0].handle = hostOutboundSession(outbound)
        host.send(packet, nowNanoseconds: now)
        counters.hostPackets += 1
        return true
    }
}

extension CardError {
    /// The host may serve the tunnel instead.
    fileprivate var isForWantOfRoom: Bool {
        switch self {
        case .full, .stalled: true
        case .duplicateSPI, .keysWiped, .staleHandle, .tooManyProfiles: false
        }
    }
}
