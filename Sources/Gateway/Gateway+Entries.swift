// Entries of both tables (patent Fig. 4, 400…403): new ones go to the card and the common table of
// their owner, then to the store, and through it to the tables of all others. What another node
// owns is handed to it (the patent's foreign entry).

import Cluster
import Crypto
import CryptoCardSim
public import ESP
public import Wire

extension Gateway {
    private static var retryNanoseconds: UInt64 { 50_000_000 }
    private static var patienceNanoseconds: UInt64 { 3_000_000_000 }

    // MARK: New entries

    /// Takes a tunnel that this node has agreed upon with a peer. The answer comes as the event
    /// `established` or `refused`: until then the peer must not be answered.
    ///
    /// The inbound association's SPI names the tunnel in the whole cluster.
    /// Without an outbound one the tunnel only receives. A successor of the tunnel `old` leaves the
    /// sending to it, until one of them is cleared or `prefer` is called.
    public mutating func establish(
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation?,
        replacing old: SPI? = nil, nowNanoseconds now: UInt64
    ) {
        let spi = inbound.parameters.spi
        let identifier = distribution.identifier(of: spi)
        guard let owner = record?.allocation.owner(of: identifier) else {
            refuse(spi, "no allocation is in force yet: try again")
            return
        }
        if owner == node {
            let refusal = install(
                inbound, outbound, identifier, replacing: old, origin: nil, now)
            if let refusal { refuse(spi, refusal.text) }
        } else {
            sendForeign(inbound, outbound, identifier, replacing: old, now)
        }
        retryEntries(now)
        pump(now)
    }

    private mutating func refuse(_ spi: SPI, _ reason: String) {
        outputs.append(.event(.refused(spi, reason)))
    }

    /// Puts a tunnel into card and table (400, 401), and on its way to the store (402). nil: it is
    /// under way.
    mutating func install(
        _ inbound: consuming SecurityAssociation, _ outbound: consuming SecurityAssociation?,
        _ identifier: DistributionIdentifier, replacing old: SPI? = nil,
        origin: (node: NodeID, request: UInt64)?, sends: Bool = false, isOfStep: Bool = false,
        isNegotiated: Bool = false, _ now: UInt64
    ) -> (text: String, code: ForeignEntryAnswer.Code)? {
        let spi = inbound.parameters.spi
        if plane.generations[Int(identifier.value)] > Allocation.lastGeneration {
            return (ClusterError.generationExhausted(identifier).description, .refused)
        }
        guard plane.owns(identifier), now < plane.servingUntil else {
            return ("this node may not serve its identifier now: try again", .notOwner)
        }
        guard plane.roles[Int(identifier.value)] != .awaiting else {
            return ("its identifier's entries are being read: try again", .notOwner)
        }
        // A step of an IKE SA waits for the store: its peer is told of the pair after that.
        guard isOfStep || !client.isAway(nowNanoseconds: now) else {
            return ("the store is away, so the tunnel could be lost: try again", .refused)
        }
        guard !entries.cleared.contains(spi, now) else {
            return ("its SPI was in use within the last 30 s: choose another, or wait", .duplicate)
        }
        if plane.roles[Int(identifier.value)] == .loading { _ = plane.load(identifier, now) }
        // An association whose numbers are used up begins at 2^64, which is 0.
        let received = inbound.parameters.firstSequence &- 1
        let sent = (outbound?.parameters.firstSequence ?? 1) &- 1
        let entry: AssociationHandle
        do {
            entry = try plane.insert(inbound, outbound, identifier, replacing: old)
        } catch {
            if case .duplicateSPI = error { return (error.description, .duplicate) }
            return (error.description, .tableFull)
        }
        plane.book.begin(
            entry, generation: plane.generations[Int(identifier.value)],
            sendLimit: sent.addingClamped(plane.book.sizing.sendMinimum), receiveEdge: received,
            receiveLimit: received.addingClamped(plane.book.sizing.receiveMinimum))
        // Nothing is sent or taken before the numbers are in the store.
        plane.grant(entry, send: sent, receive: received)
        if let refusal = plane.open(entry, now) {
            let reason = explain(refusal)
            switch configuration.whenFull {
            // Its peer has the successor of a tunnel already, and room is where that was.
            case .refuse where !(isOfStep && old != nil):
                plane.table.remove(entry)
                return (reason, .refused)
            case .refuse, .wait, .serveFromHost:
                plane.waiting.append(entry)
                outputs.append(.event(.refused(spi, reason)))
            }
        }
        if !configuration.rules.hold(.entryStored) { settle(entry, spi, origin: origin) }
        entries.adding.append(
            PendingEntry(
                spi: spi, identifier: identifier, origin: origin, sends: sends,
                replaced: old, isOfStep: isOfStep, isNegotiated: isNegotiated || isOfStep,
                triedAt: 0, beganAt: now))
        return nil
    }

    /// What the card said. Where every card holds all tunnels, another node makes no room.
    private func explain(_ refusal: CardError) -> String {
        guard case .full(let capacity) = refusal, configuration.cardContents == .allTunnels else {
            return refusal.description
        }
        return "the cluster is full: every card holds all tunnels, and takes \(capacity) sessions: "
            + "raise the capacity of all cards"
    }

    /// The entry is in the store: its numbers may be used, and whoever waits is told.
    private mutating func settle(
        _ entry: AssociationHandle, _ spi: SPI, origin: (node: NodeID, request: UInt64)?
    ) {
        let published = plane.book.published(entry)
        plane.grant(entry, send: published.send, receive: published.receive)
        if let origin {
            answer(origin, .stored)
        } else {
            outputs.append(.event(.established(spi)))
        }
    }

    // MARK: To the store

    /// Sends what has no request under way, and gives up what nobody waits for any more.
    mutating func retryEntries(_ now: UInt64) {
        giveUpLateEntries(now)
        for place in entries.adding.indices
        where entries.adding[place].request == nil && !entries.adding[place].isOfStep
            && now >= entries.adding[place].triedAt + Self.retryNanoseconds
        {
            putEntry(at: place, now)
        }
        for place in entries.clearing.indices
        where entries.clearing[place].request == nil
            && now >= entries.clearing[place].triedAt + Self.retryNanoseconds
        {
            entries.clearing[place].triedAt = now
            entries.clearing[place].tried = entries.clearing[place].revision
            let key = StoreKey.entry(
                entries.clearing[place].identifier, entries.clearing[place].spi)
            entries.clearing[place].request = client.submit(
                .transaction(
                    CoordinationTransaction(
                        // Nothing that was set up since under the same SPI.
                        conditions: [
                            .init(
                                key: key.text,
                                modRevision: entries.clearing[place].revision)
                        ], operations: [.delete(key: key.text)])),
                nowNanoseconds: now)
        }
        // By number: an answer may come at once, and take one out.
        let due = entries.foreign.filter { now >= $0.triedAt + Self.retryNanoseconds }
        for number in due.map(\.number) {
            guard let place = entries.foreign.firstIndex(where: { $0.number == number })
            else { continue }
            tellForeign(at: place, now)
        }
        let late = entries.foreign.filter { isLate($0, now) }
        entries.foreign.removeAll { request in late.contains { $0.number == request.number } }
        for request in late {
            refuse(request.spi, "the owner of its identifier does not answer: try again")
            noteForeign(request.spi, isStored: false, now)
        }
    }

    private func isLate(_ request: ForeignRequest, _ now: UInt64) -> Bool {
        let patience = Self.patienceNanoseconds * (request.isOfStep ? 10 : 1)
        return now >= request.beganAt + patience
    }

    /// Refuses tunnels that can't be brought into the store. A request may come true yet: then the
    /// entry is cleared again.
    private mutating func giveUpLateEntries(_ now: UInt64) {
        let late = entries.adding.filter {
            $0.request == nil && !$0.isOfStep
                && now >= $0.beganAt + Self.patienceNanoseconds
        }
        for pending in late {
            entries.adding.removeAll { $0.spi == pending.spi }
            if let entry = plane.table.find(pending.spi) { drop(entry, now) }
            entries.clearedHere.note(pending.spi, now)
            entries.clearing.append(
                PendingClearing(
                    spi: pending.spi, identifier: pending.identifier, revision: 0, triedAt: 0))
            if let origin = pending.origin {
                answer(origin, .refused)
            } else {
                refuse(pending.spi, "the store does not take its entry: try again")
            }
        }
    }

    private mutating func putEntry(at place: Int, _ now: UInt64) {
        let pending = entries.adding[place]
        guard let entry = plane.table.find(pending.spi) else { return }
        entries.adding[place].triedAt = now
        let key = StoreKey.entry(pending.identifier, pending.spi)
        let value = sealedEntry(entry, key, isNegotiated: pending.isNegotiated)
        entries.adding[place].request = client.submit(
            .transaction(
                CoordinationTransaction(
                    conditions: [
                        .init(key: StoreKey.allocation.text, modRevision: agreedRevision),
                        .init(key: key.text, modRevision: 0),
                    ],
                    operations: [.put(key: key.text, value: value, lease: nil)])),
            nowNanoseconds: now)
    }

    /// A tunnel of this node as it is stored under its key.
    mutating func sealedEntry(
        _ entry: AssociationHandle, _ key: StoreKey, isNegotiated: Bool
    ) -> [UInt8] {
        let identifier = DistributionIdentifier(
            plane.table.status(of: entry).distributionIdentifier)
        let published = plane.book.published(entry)
        let tunnel = TunnelRecord(
            identifier: identifier, generation: plane.generations[Int(identifier.value)],
            sendLimit: published.send, receiveLimit: published.receive,
            isNegotiated: isNegotiated, inbound: plane.table.associations.association(of: entry),
            outbound: plane.outboundAssociation(of: entry))
        let plain = tunnel.encode()
        let nonce = makeNonce()
        return plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce) }
    }

    /// The store's answer to an entry. A conflict means another allocation, or an entry with this
    /// SPI: the watch tells which, and then there is another try or none.
    mutating func finishEntry(_ reply: CoordinationReply, _ request: UInt64, _ now: UInt64) {
        if let place = entries.adding.firstIndex(where: { $0.request == request }) {
            entries.adding[place].request = nil
            // Where moves follow each other, the next record may be here already.
            if case .conflict = reply {
                entries.adding[place].triedAt = 0
            } else {
                entries.adding[place].triedAt = now
            }
            // Whether all cards have room shows in the order of the store, which the watch tells.
            if case .committed(let revision) = reply, configuration.cardContents == .ownTunnels {
                noteStored(at: place, revision: revision)
            }
        } else if let place = entries.clearing.firstIndex(where: { $0.request == request }) {
            entries.clearing[place].request = nil
            switch reply {
            case .committed, .conflict:
                // A request to store it came first, and the watch was faster than this answer.
                guard entries.clearing[place].revision <= entries.clearing[place].tried else {
                    entries.clearing[place].triedAt = 0
                    return
                }
                let cleared = entries.clearing.remove(at: place)
                contents.noteGone(
                    cleared.spi, of: cleared.identifier, through: cleared.revision)
            default: break
            }
        }
    }

    /// An entry that came into the store with a step of its IKE SA.
    mutating func noteStored(_ spi: SPI, revision: UInt64) {
        guard let place = entries.adding.firstIndex(where: { $0.spi == spi }) else { return }
        noteStored(at: place, revision: revision)
    }

    private mutating func noteStored(at place: Int, revision: UInt64) {
        let pending = entries.adding.remove(at: place)
        guard let entry = plane.table.find(pending.spi) else { return }
        plane.book.noteStored(entry, revision: revision)
        plane.shedKeys(of: entry)
        if pending.isNegotiated, !pending.isOfStep { noteUnclaimed(pending.spi, tickedAt) }
        if pending.sends {
            beginSending(through: pending.spi, insteadOf: pending.replaced, tickedAt)
        }
        settle(entry, pending.spi, origin: pending.origin)
    }

    // MARK: From the store

    /// An entry of the store (403). This node's own come back to it: then they surely are there.
    mutating func learn(
        _ tunnel: consuming TunnelRecord, _ spi: SPI, _ pair: CoordinationPair, _ now: UInt64
    ) {
        if let entry = plane.table.find(spi) {
            let known = plane.book.storedRevision(entry)
            // A read of its identifier was ahead of the watch, or the watch of a read.
            if known > pair.modRevision { return }
            if known == 0 || known == pair.modRevision {
                if let place = entries.adding.firstIndex(where: { $0.spi == spi }) {
                    if isBeyondCapacity(place) {
                        withdraw(at: place, revision: pair.modRevision, now)
                        return
                    }
                    noteStored(at: place, revision: pair.modRevision)
                }
                plane.book.noteStored(entry, revision: pair.modRevision)
                if refill(entry, tunnel, now) { return }
            }
            // Cleared and set up again while this node was not looking.
            drop(entry, now)
        }
        // Cleared here, and the store has not heard of it yet.
        if let place = entries.clearing.firstIndex(where: { $0.spi == spi }) {
            entries.clearing[place].revision = pair.modRevision
            return
        }
        let identifier = tunnel.identifier
        // Cleared here while a request to store it was under way, which came last.
        if entries.clearedHere.contains(spi, now),
            record?.allocation.owner(of: identifier) == node
        {
            entries.clearing.append(
                PendingClearing(
                    spi: spi, identifier: identifier, revision: pair.modRevision, triedAt: 0))
            return
        }
        let isNegotiated = tunnel.isNegotiated
        let (generation, sendLimit) = (tunnel.generation, tunnel.sendLimit)
        let receiveLimit = tunnel.receiveLimit
        let edge = tunnel.inbound.parameters.firstSequence &- 1
        let entry: AssociationHandle
        do {
            entry = try plane.insert(tunnel.inbound, tunnel.outbound, identifier)
        } catch {
            outputs.append(.event(.tableRefused(spi, error.description)))
            return
        }
        plane.book.begin(
            entry, generation: generation, sendLimit: sendLimit, receiveEdge: edge,
            receiveLimit: receiveLimit)
        plane.book.noteStored(entry, revision: pair.modRevision)
        followStored(entry, spi)
        if isNegotiated { noteUnclaimed(spi, now) }
        let place = Int(identifier.value)
        switch plane.roles[place] {
        case .owned where plane.generations[place] > Allocation.lastGeneration:
            discard(entry, spi, of: identifier, now)
        case .owned, .frozen:
            plane.begin(entry, isExact: false)
            if plane.open(entry, now) != nil { plane.waiting.append(entry) }
            publishing.isWanted[place] = true
        case .holding:
            _ = plane.open(entry, now)
        case .foreign, .loading, .awaiting:
            guard configuration.cardContents == .allTunnels else { return }
            if plane.open(entry, now) != nil { plane.waiting.append(entry) }
        }
    }

    // MARK: Where every card holds all tunnels

    /// True when an own entry came into the store after others had filled the cards: two nodes
    /// may take the last place at one moment, and the store's order tells who had it.
    private borrowing func isBeyondCapacity(_ place: Int) -> Bool {
        guard configuration.cardContents == .allTunnels, configuration.whenFull == .refuse else {
            return false
        }
        var sessions = plane.table.associations.count
        for (other, pending) in entries.adding.enumerated() where other != place {
            guard let entry = plane.table.find(pending.spi) else { continue }
            sessions -= plane.table.outbound(of: entry) == nil ? 1 : 2
        }
        return sessions > plane.card.capacity
    }

    /// Takes an entry of this node's out of the store again, before anyone was promised anything.
    private mutating func withdraw(at place: Int, revision: UInt64, _ now: UInt64) {
        let pending = entries.adding.remove(at: place)
        if let entry = plane.table.find(pending.spi) { drop(entry, now) }
        entries.clearing.append(
            PendingClearing(
                spi: pending.spi, identifier: pending.identifier, revision: revision, triedAt: 0))
        retryEntries(now)
        if let origin = pending.origin {
            answer(origin, .refused)
        } else {
            refuse(pending.spi, explain(.full(capacity: plane.card.capacity)))
        }
    }

    // MARK: Clearing

    /// Clears a tunnel of this node: from card and table at once, and from the store, which tells
    /// all others. False when this node does not own it.
    @discardableResult
    public mutating func clear(_ spi: SPI, nowNanoseconds now: UInt64) -> Bool {
        let identifier = distribution.identifier(of: spi)
        guard plane.owns(identifier), let entry = plane.table.find(spi) else { return false }
        let revision = plane.book.storedRevision(entry)
        drop(entry, now)
        entries.cleared.note(spi, now)
        entries.clearedHere.note(spi, now)
        entries.adding.removeAll { $0.spi == spi }
        if configuration.rules.hold(.clearingTold) {
            entries.clearing.append(
                PendingClearing(
                    spi: spi, identifier: identifier, revision: revision, triedAt: 0))
            retryEntries(now)
        }
        pump(now)
        return true
    }

    /// Takes a tunnel out of both tables.
    mutating func drop(_ entry: AssociationHandle, _ now: UInt64) {
        let spi = plane.table.status(of: entry).spi
        entries.unclaimed.remove(spi)
        ike?.begun.remove(spi)
        plane.close(entry)
        plane.table.remove(entry)
        plane.openWaiting(now)
    }

    /// What this node lost before the store had it was never promised to anyone.
    mutating func abandonEntries(
        of lost: [DistributionIdentifier], keptBy allocation: Allocation
    ) {
        let gone = lost.filter { allocation.owner(of: $0) != node }
        guard !gone.isEmpty else { return }
        for pending in entries.adding where gone.contains(pending.identifier) {
            guard let entry = plane.table.find(pending.spi) else { continue }
            plane.close(entry)
            plane.table.remove(entry)
            if let origin = pending.origin {
                tell(
                    .foreignEntryAnswer(
                        ForeignEntryAnswer(request: origin.request, code: .notOwner)),
                    to: origin.node)
            } else {
                refuse(pending.spi, "its identifier moved to another node: try again")
            }
        }
        entries.adding.removeAll { gone.contains($0.identifier) }
    }
}
