// IKE SAs that go from one node to another, by way of the cluster's store or at a planned move.

public import Crypto
internal import ESP
internal import Wire

extension IKEEndpoint {
    /// The state of an IKE SA as octets, with secrets inside; nil: there is none with this SPI of
    /// ours. `now` and `seconds`: as for every call.
    public func export(localSPI: UInt64, now: UInt64, seconds: Int64) -> SecretBytes? {
        guard let association = associations[localSPI], association.stage != .closed else {
            return nil
        }
        return association.encode(now: now, seconds: seconds)
    }

    /// Forgets an IKE SA with which another node goes on: nothing is sent, removed or reported.
    /// Does nothing when there is none with this SPI.
    public func forget(localSPI: UInt64) {
        guard let association = associations[localSPI] else { return }
        for spi in association.spis { environment.resources.release(spi) }
        if !association.hasOwnVirtualAddress {
            for address in association.virtualAddresses { environment.resources.release(address) }
        }
        halfOpen.remove(association)
        peers.remove(association)
        drop(association)
    }

    /// Goes on with an IKE SA that another owner exported, under a generation that must be newer
    /// than the owner's (docs/decisions/0004-ivs.md). Returns its SPI of ours. A request that was
    /// outstanding is repeated when it is due, which it may be at once.
    ///
    /// `mayBeBehind`: the owner may have gone on after that state. Then counters are synchronized
    /// with a peer that knows RFC 6311, from the next ``advance(to:seconds:)`` on, and the peer is
    /// asked to send with numbers higher by `delta` in all pairs; 0: it is not. Without extended
    /// numbers it is 2^32 - 1 at most.
    ///
    /// Everything is checked; an error leaves the endpoint as it was.
    public func adopt(
        _ state: borrowing SecretBytes, generation: UInt16, mayBeBehind: Bool = false,
        delta: UInt64 = 0, now: UInt64, seconds: Int64
    ) throws(IKEStateFault) -> UInt64 {
        let association = try state.withUnsafeBytes { octets throws(IKEStateFault) in
            try IKEAssociation.decode(octets, now: now, seconds: seconds)
        }
        guard generation > association.generation else {
            throw .generation(association.generation)
        }
        guard associations[association.localSPI] == nil else {
            throw .known(association.localSPI)
        }
        if mayBeBehind {
            association.wantSync(generations: generation - association.generation, delta: delta)
        }
        association.generation = generation
        // The peer can't be blamed for the time without an owner.
        association.times.heard = now
        association.responses.mayHaveMissed = true
        for spi in association.spis { environment.resources.claim(spi) }
        if !association.hasOwnVirtualAddress, let identity = association.remoteIdentity {
            for address in association.virtualAddresses {
                environment.resources.claim(address, for: identity)
            }
        }
        if association.stage == .initAnswered { halfOpen.insert(association) }
        keep(association)
        return association.localSPI
    }
}

extension IKEAssociation {
    /// Inbound SPIs of its pairs and of offers.
    fileprivate var spis: [SPI] {
        var spis = children.map(\.inbound)
        if let offer = handshake?.child { spis.append(offer.inbound) }
        if case .createChild(let offer) = requests.outstanding?.exchange {
            spis.append(offer.inbound)
        }
        return spis
    }
}
