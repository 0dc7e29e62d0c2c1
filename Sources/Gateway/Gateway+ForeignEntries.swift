// Entries that one node determines and another owns (the patent's FTP example; here a tunnel whose
// SPI is set by hand, or whose identifier moved while it was agreed upon).

import Cluster
import Crypto
import ESP
import Wire

extension Gateway {
    /// Hands a tunnel to its owner, again and again until it answers. The keys travel as they will
    /// stand in the store: sealed. False: no message has room for it.
    @discardableResult
    mutating func sendForeign(
        _ inbound: consuming SecurityAssociation, _ outbound: consuming SecurityAssociation?,
        _ identifier: DistributionIdentifier, replacing old: SPI? = nil, sends: Bool = false,
        isOfStep: Bool = false, isLater: Bool = false, _ now: UInt64
    ) -> Bool {
        let spi = inbound.parameters.spi
        let key = StoreKey.entry(identifier, spi)
        // The owner puts its own generation and limits in their places.
        let plain = TunnelRecord(
            identifier: identifier, generation: 1, sendLimit: 0, receiveLimit: 0,
            isNegotiated: isOfStep, inbound: inbound, outbound: outbound
        ).encode()
        let nonce = makeNonce()
        let sealed = plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce) }
        guard sealed.count <= ForeignEntry.sealedMaximum else {
            outputs.append(
                .event(
                    .refused(
                        spi, "its selectors are too many for the HA link: use fewer ranges")))
            return false
        }
        ask(
            ForeignRequest(
                number: entries.lastForeign + 1, spi: spi, identifier: identifier, sends: sends,
                replaced: old, sealed: sealed, isOfStep: isOfStep, triedAt: 0, beganAt: now),
            isLater: isLater, now)
        return true
    }

    /// Tells the owner of a tunnel that it sends from now on. A step of its IKE SA waits for that.
    mutating func tellSending(through spi: SPI, insteadOf old: SPI?, _ now: UInt64) {
        if let place = entries.foreign.firstIndex(where: { $0.spi == spi }) {
            entries.foreign[place].sends = true
            return tellForeign(at: place, now)
        }
        ask(
            ForeignRequest(
                number: entries.lastForeign + 1, spi: spi,
                identifier: distribution.identifier(of: spi), sends: true,
                replaced: old, sealed: [], isOfStep: true, triedAt: 0, beganAt: now), now)
    }

    /// Hands a tunnel that is on its way to the store to who owns its identifier now. False: it is
    /// not on its way any more.
    mutating func handOver(_ spi: SPI, replacing old: SPI?, sends: Bool) -> Bool {
        // What the store has is every node's, and stays in the table.
        guard let entry = plane.table.find(spi), !plane.book.isStored(entry) else { return false }
        let isAsked = sendForeign(
            plane.table.associations.association(of: entry), plane.outboundAssociation(of: entry),
            distribution.identifier(of: spi), replacing: old, sends: sends, isOfStep: true,
            isLater: true, tickedAt)
        entries.adding.removeAll { $0.spi == spi }
        plane.close(entry)
        plane.table.remove(entry)
        if !isAsked { ike?.doomed.append(spi) }
        return isAsked
    }

    /// `isLater`: a new allocation is about to take force.
    private mutating func ask(_ request: ForeignRequest, isLater: Bool = false, _ now: UInt64) {
        // Who asks again waits for one answer.
        entries.foreign.removeAll { $0.spi == request.spi }
        entries.lastForeign = request.number
        entries.foreign.append(request)
        guard !isLater else { return }
        tellForeign(at: entries.foreign.count - 1, now)
    }

    mutating func tellForeign(at place: Int, _ now: UInt64) {
        entries.foreign[place].triedAt = now
        let foreign = entries.foreign[place]
        // The owner may have changed since the last try, even to this node.
        guard let owner = record?.allocation.owner(of: foreign.identifier) else { return }
        let entry = ForeignEntry(
            request: foreign.number, identifier: foreign.identifier, spi: foreign.spi,
            sends: foreign.sends, replaces: foreign.replaced ?? SPI(0), sealed: foreign.sealed)
        if owner == node {
            takeForeign(entry, from: node, now)
        } else {
            tell(.foreignEntry(entry), to: owner)
        }
    }

    /// Installs what another node determined. One that is there already was asked for before.
    mutating func takeForeign(_ foreign: ForeignEntry, from peer: NodeID, _ now: UInt64) {
        guard distribution.identifier(of: foreign.spi) == foreign.identifier else { return }
        let origin = (node: peer, request: foreign.request)
        guard !foreign.sealed.isEmpty else { return takeSending(foreign, origin) }
        let key = StoreKey.entry(foreign.identifier, foreign.spi)
        do {
            let tunnel = try opened(foreign.sealed, key)
            guard tunnel.inbound.parameters.spi == foreign.spi else { throw RecordError.misplaced }
            if let entry = plane.table.find(foreign.spi) {
                return takeAgain(foreign, entry, isSame: isSame(entry, as: tunnel), origin)
            }
            let old = plane.table.find(foreign.replaces) == nil ? nil : foreign.replaces
            let isNegotiated = tunnel.isNegotiated
            let refusal = install(
                tunnel.inbound, tunnel.outbound, foreign.identifier, replacing: old,
                origin: origin, sends: foreign.sends, isNegotiated: isNegotiated, now)
            if let refusal {
                answer(origin, refusal.code)
            } else {
                // Its peer's first packet says that it can decrypt (RFC 7296 §2.8).
                if old != nil, !foreign.sends { ike?.silent.insert(foreign.spi) }
                retryEntries(now)
            }
        } catch {
            answer(origin, .refused)
        }
    }

    /// Word of a tunnel that this node has, or had.
    private mutating func takeSending(
        _ foreign: ForeignEntry, _ origin: (node: NodeID, request: UInt64)
    ) {
        guard plane.owns(foreign.identifier),
            plane.roles[Int(foreign.identifier.value)] != .awaiting
        else { return answer(origin, .notOwner) }
        guard let entry = plane.table.find(foreign.spi) else { return answer(origin, .refused) }
        takeAgain(foreign, entry, isSame: true, origin)
    }

    /// A tunnel that is here already was asked for before, maybe by another node.
    private mutating func takeAgain(
        _ foreign: ForeignEntry, _ entry: AssociationHandle, isSame: Bool,
        _ origin: (node: NodeID, request: UInt64)
    ) {
        guard isSame else { return answer(origin, .duplicate) }
        if let place = entries.adding.firstIndex(where: { $0.spi == foreign.spi }) {
            entries.adding[place].origin = origin
            if foreign.sends { entries.adding[place].sends = true }
            return
        }
        guard plane.book.isStored(entry), plane.owns(foreign.identifier) else {
            return answer(origin, .notOwner)
        }
        if foreign.sends {
            beginSending(through: foreign.spi, insteadOf: foreign.replaces, tickedAt)
        }
        answer(origin, .stored)
    }

    /// Two pairs of one number may have been drawn at the same moment.
    private func isSame(
        _ entry: AssociationHandle, as tunnel: borrowing TunnelRecord
    ) -> Bool {
        let known = plane.table.outbound(of: entry).map {
            plane.table.associations.parameters(of: $0).spi
        }
        switch tunnel.outbound {
        case .some(let outbound): return known == outbound.parameters.spi
        case .none: return known == nil
        }
    }

    /// A pair that another node speaks for sends. No record that is late changes that.
    mutating func beginSending(through spi: SPI, insteadOf old: SPI?, _ now: UInt64) {
        ike?.begun.insert(spi)
        letSend(spi, insteadOf: old, now)
    }

    /// A pair sends from now on. On a card without room it takes the place of the one before.
    mutating func letSend(_ spi: SPI, insteadOf old: SPI?, _ now: UInt64) {
        ike?.silent.remove(spi)
        prefer(spi)
        guard let old, let former = plane.table.find(old), let entry = plane.table.find(spi)
        else { return }
        plane.giveWay(former, to: entry, now)
    }

    mutating func answer(
        _ origin: (node: NodeID, request: UInt64), _ code: ForeignEntryAnswer.Code
    ) {
        let answer = ForeignEntryAnswer(request: origin.request, code: code)
        if origin.node == node {
            takeAnswer(answer, 0)
        } else {
            tell(.foreignEntryAnswer(answer), to: origin.node)
        }
    }

    mutating func takeAnswer(_ answer: ForeignEntryAnswer, _ now: UInt64) {
        guard let place = entries.foreign.firstIndex(where: { $0.number == answer.request })
        else { return }
        // Who is no owner (any more) said so: the next try goes to the next one.
        if answer.code == .notOwner { return }
        // The store may come back, or there may be room again.
        let request = entries.foreign[place]
        if answer.code == .refused, request.isOfStep, !request.sealed.isEmpty { return }
        entries.foreign.remove(at: place)
        let spi = request.spi
        guard !request.sealed.isEmpty else {
            // What its owner does not have is over: its peer must know.
            return noteForeign(spi, isStored: answer.code != .refused, max(now, tickedAt))
        }
        noteForeign(spi, isStored: answer.code == .stored, max(now, tickedAt))
        outputs.append(
            .event(
                answer.code == .stored
                    ? .established(spi) : .refused(spi, answer.code.explanation)))
    }

    private func opened(
        _ sealed: [UInt8], _ key: StoreKey
    ) throws(RecordError) -> TunnelRecord {
        let plain = try openedRecord(sealed, key)
        // `withUnsafeBytes` can't return what can't be copied.
        var tunnel: TunnelRecord?
        try plain.withUnsafeBytes { bytes throws(RecordError) in
            tunnel = try TunnelRecord(decoding: bytes)
        }
        guard let tunnel else { preconditionFailure("decoding throws or sets it") }
        return tunnel
    }

    /// 96 random bits: with fewer than 2^32 records under one key no two are alike in practice
    /// (NIST SP 800-38D §8.3).
    mutating func makeNonce() -> [UInt8] {
        (0..<12).map { _ in UInt8.random(in: 0 ... .max, using: &random) }
    }
}

extension ForeignEntryAnswer.Code {
    /// Why the owner refused, and what to do.
    var explanation: String {
        switch self {
        case .stored: "it is in the store"
        case .notOwner: "the node asked does not own its identifier: try again"
        case .tableFull: "the owner's common table is full: raise its capacity on every node"
        case .duplicate: "the cluster has an association with this SPI: choose another"
        case .refused: "its owner has no room for it or no store: try again, or add a node"
        }
    }
}
