// Which IKE SAs a peer has, found by who it is.

internal import Crypto

/// Identities that are the same (``Identity/isSame(as:)``) have equal names; others may have, too.
struct PeerName: Hashable {
    private let type: UInt8
    private let octets: [UInt8]

    init(_ identity: Identity) {
        type = identity.type
        switch identity {
        case .fqdn(let name), .email(let name): octets = Array(name.lowercased().utf8)
        case .distinguishedName(let der):
            // X.509 compares names without regard to case and to the number of spaces.
            let text = (try? DistinguishedName(der: der))?.description.lowercased()
            octets = text.map { $0.utf8.filter { $0 != 0x20 && $0 != 0x5C } } ?? der
        default: octets = identity.data
        }
    }
}

/// The local SPIs of the IKE SAs of each peer: of those that are established, that wait for their
/// end beside a successor, and that we set up.
struct PeerIndex {
    /// Under which name an IKE SA is here; nil: of ours, with a peer that may be anybody yet.
    struct Place: Hashable {
        let name: PeerName?
        let isProven: Bool
    }

    private(set) var localSPIs: [PeerName?: [UInt64]] = [:]

    /// In the order in which they came.
    subscript(_ identity: Identity) -> [UInt64] { localSPIs[PeerName(identity)] ?? [] }

    /// Of peers that may be anybody yet.
    var unnamed: [UInt64] { localSPIs[nil] ?? [] }

    /// Puts an IKE SA where it belongs after a step of its own. `expected`: whom its connection is
    /// for.
    mutating func place(_ association: IKEAssociation, _ expected: () -> IdentityPattern?) {
        // What a stranger claims is no name.
        guard association.stage != .closed, association.stage != .initAnswered else {
            return remove(association)
        }
        let identity = association.remoteIdentity
        let isProven = identity != nil
        guard association.place?.isProven != isProven else { return }
        remove(association)
        var name = identity.map(PeerName.init)
        if identity == nil, case .exactly(let peer) = expected() { name = PeerName(peer) }
        association.place = Place(name: name, isProven: isProven)
        localSPIs[name, default: []].append(association.localSPI)
    }

    mutating func remove(_ association: IKEAssociation) {
        guard let place = association.place else { return }
        association.place = nil
        localSPIs[place.name]?.removeAll { $0 == association.localSPI }
        if localSPIs[place.name]?.isEmpty == true { localSPIs[place.name] = nil }
    }
}

extension IKEEndpoint {
    /// IKE SAs with a peer, of all connections.
    func associations(with identity: Identity) -> [IKEAssociation] {
        peers[identity].compactMap { associations[$0] }.filter {
            $0.remoteIdentity?.isSame(as: identity) == true
        }
    }

    /// IKE SAs of a connection with a peer. One that has a successor, or is one beside its
    /// predecessor, is no second one.
    func count(of connection: String, with identity: Identity) -> Int {
        associations(with: identity).count {
            $0.connection == connection && $0.stage == .established && $0.predecessor == nil
        }
    }

    /// True while fewer IKE SAs of the peer's wait for their end beside a successor than it may
    /// have: a peer that rekeys again and again does not leave more behind.
    func mayBeRekeyed(_ association: IKEAssociation, _ policy: Connection) -> Bool {
        guard let identity = association.remoteIdentity else { return false }
        let replaced = associations(with: identity).count {
            $0.connection == policy.name && $0.stage == .replaced
        }
        return replaced <= policy.associationsPerIdentity
    }

    /// True when an IKE SA exists, or is being set up, between the same two ends: INITIAL_CONTACT
    /// would have the peer delete it (RFC 7296 §2.4).
    func knowsPeer(of policy: Connection) -> Bool {
        let candidates: [IKEAssociation]
        if case .exactly(let identity) = policy.remoteIdentity {
            candidates = (peers[identity] + peers.unnamed).compactMap { associations[$0] }
        } else {
            candidates = Array(associations.values)
        }
        return candidates.contains { other in
            other.localIdentity?.isSame(as: policy.localIdentity) == true
                && (other.remoteIdentity.map { policy.remoteIdentity.matches($0) } ?? true)
        }
    }

    /// The peer says that it has no other IKE SA with us (INITIAL_CONTACT, RFC 7296 §2.4).
    func closeOthers(
        than association: IKEAssociation, _ step: borrowing Step, _ outcome: inout IKEOutcome
    ) {
        guard let identity = association.remoteIdentity else { return }
        let others = associations(with: identity).filter {
            $0 !== association && $0.connection == association.connection
        }
        for other in sorted(others) { other.close(step, &outcome) }
        outcome.events.append(.firstContact(localSPI: association.localSPI))
    }
}
