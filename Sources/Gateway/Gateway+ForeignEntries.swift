// Entries that one node determines and another owns (the patent's FTP example; here a tunnel whose
// SPI is set by hand, or whose identifier moved while it was agreed upon).

import Cluster
import Crypto
import ESP
import Wire

extension Gateway {
    /// Hands a tunnel to its owner, again and again until it answers. The keys travel as they will
    /// stand in the store: sealed.
    mutating func sendForeign(
        _ inbound: consuming SecurityAssociation, _ outbound: consuming SecurityAssociation?,
        _ identifier: DistributionIdentifier, isOfStep: Bool = false, _ now: UInt64
    ) {
        let spi = inbound.parameters.spi
        let key = StoreKey.entry(identifier, spi)
        // The owner puts its own generation and limits in their places.
        let plain = TunnelRecord(
            identifier: identifier, generation: 1, sendLimit: 0, receiveLimit: 0,
            inbound: inbound, outbound: outbound
        ).encode()
        let nonce = makeNonce()
        let sealed = plain.withUnsafeBytes { seal.seal($0, key: key, nonce: nonce) }
        guard sealed.count <= ForeignEntry.sealedMaximum else {
            outputs.append(
                .event(
                    .refused(
                        spi, "its selectors are too many for the HA link: use fewer ranges")))
            return
        }
        // Who asks again waits for one answer.
        entries.foreign.removeAll { $0.spi == spi }
        entries.lastForeign += 1
        entries.foreign.append(
            ForeignRequest(
                number: entries.lastForeign, spi: spi, identifier: identifier, sealed: sealed,
                isOfStep: isOfStep, triedAt: now, beganAt: now))
        tellForeign(at: entries.foreign.count - 1, now)
    }

    mutating func tellForeign(at place: Int, _ now: UInt64) {
        entries.foreign[place].triedAt = now
        let foreign = entries.foreign[place]
        // The owner may have changed since the last try, even to this node.
        guard let owner = record?.allocation.owner(of: foreign.identifier) else { return }
        let entry = ForeignEntry(
            request: foreign.number, identifier: foreign.identifier, spi: foreign.spi,
            sealed: foreign.sealed)
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
        let isUnderWay = entries.adding.contains {
            $0.spi == foreign.spi && $0.origin?.node == peer
                && $0.origin?.request == foreign.request
        }
        if isUnderWay { return }
        if let entry = plane.table.find(foreign.spi) {
            let isStored = plane.book.isStored(entry) && plane.owns(foreign.identifier)
            answer(origin, isStored ? .stored : .duplicate)
            return
        }
        let key = StoreKey.entry(foreign.identifier, foreign.spi)
        do {
            let tunnel = try opened(foreign.sealed, key)
            guard tunnel.inbound.parameters.spi == foreign.spi else { throw RecordError.misplaced }
            let old = rival(of: tunnel)
            let refusal = install(
                tunnel.inbound, tunnel.outbound, foreign.identifier, replacing: old,
                origin: origin, now)
            if let refusal {
                answer(origin, refusal.code)
            } else {
                // Its peer's first packet says that it can decrypt (RFC 7296 §2.8).
                if old != nil { ike?.silent.insert(foreign.spi) }
                retryEntries(now)
            }
        } catch {
            answer(origin, .refused)
        }
    }

    /// The tunnel that a new one replaces, if it does.
    private borrowing func rival(of tunnel: borrowing TunnelRecord) -> SPI? {
        switch tunnel.outbound {
        case .some(let outbound): plane.tunnel(like: outbound.parameters)
        case .none: nil
        }
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
        if answer.code == .refused, entries.foreign[place].isOfStep { return }
        let spi = entries.foreign.remove(at: place).spi
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
