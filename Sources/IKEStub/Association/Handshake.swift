// What an IKE SA knows only until both ends are authenticated.

internal import Crypto
internal import ESP
internal import Wire

/// The state of IKE_SA_INIT and IKE_AUTH.
final class Handshake {
    let agreement: KeyAgreement
    let nonce: [UInt8]
    var peerNonce: [UInt8] = []
    var peerPublic: [UInt8] = []
    /// Both messages as they were on the wire: each end signs its own (RFC 7296 §2.15).
    var request: [UInt8] = []
    var response: [UInt8] = []
    /// Returned to a responder that asked for it (RFC 7296 §2.6).
    var cookie: [UInt8] = []
    /// How often IKE_SA_INIT was begun anew, for a cookie or another group: bounded.
    var restarts = 0
    /// The policy of the initiator's first CHILD SA.
    var childPolicy: String?
    /// The initiator's first CHILD SA, once it is offered.
    var child: ChildOffer?
    /// Hashes that the peer's signatures may use (RFC 7427 §4).
    var peerHashes: [UInt16] = []
    /// We have no other IKE SA with the peer (INITIAL_CONTACT).
    var isFirstContact = true
    /// What the operator was told already: anybody may send us answers that are useless.
    var reported: Set<IKEReport.Kind> = []

    init(agreement: consuming KeyAgreement, nonce: [UInt8]) {
        self.agreement = agreement
        self.nonce = nonce
    }
}

/// A CHILD SA that we asked for and that has no answer yet.
final class ChildOffer {
    let policy: String
    let inbound: SPI
    let nonce: [UInt8]
    let agreement: KeyAgreement?
    let local: [TrafficSelector]
    let remote: [TrafficSelector]
    /// The pair that it shall replace.
    let replaces: SPI?
    /// The peer is not told that it replaces one.
    let isAfresh: Bool
    /// The peer rekeyed the same pair meanwhile.
    var collision: ChildCollision?
    /// Outbound SPIs unknown here that the peer has deleted meanwhile: the answer, still to come,
    /// may have been about one of them.
    var deleted: [SPI] = []
    /// Group and value of the KE payload; nil without perfect forward secrecy.
    let publicValue: (group: KeyAgreementGroup, data: [UInt8])?

    init(
        policy: String, inbound: SPI, nonce: [UInt8], agreement: consuming KeyAgreement?,
        local: [TrafficSelector], remote: [TrafficSelector], replaces: SPI?, isAfresh: Bool
    ) {
        self.policy = policy
        self.inbound = inbound
        self.nonce = nonce
        switch agreement {
        case .some(let agreement): publicValue = (agreement.group, agreement.publicValue)
        case .none: publicValue = nil
        }
        self.agreement = agreement
        self.local = local
        self.remote = remote
        self.replaces = replaces
        self.isAfresh = isAfresh
    }

    /// True when the peer's exchange wins: the pair with the lowest of four nonces is closed by who
    /// made it (RFC 7296 §2.8.1).
    func isSuperfluous(peerNonce: [UInt8]) -> Bool {
        guard let collision else { return false }
        let own = isLower(peerNonce, than: nonce) ? peerNonce : nonce
        return isLower(own, than: collision.lowestNonce)
    }

    /// g^ir of the exchange, empty without a key agreement; nil when the answer does not fit.
    func sharedSecret(
        _ answer: (group: UInt16, data: [UInt8])?, _ chosen: KeyAgreementGroup?
    ) -> SecretBytes? {
        // Of several proposals the peer may choose one without a key agreement.
        guard chosen != nil else { return SecretBytes(count: 0) }
        guard chosen == publicValue?.group else { return nil }
        switch agreement {
        case .none: return SecretBytes(count: 0)
        case .some(let agreement):
            guard let answer, answer.group == agreement.group.rawValue else { return nil }
            return try? agreement.sharedSecret(answer.data)
        }
    }
}

/// The other exchange of two that rekey one CHILD SA (RFC 7296 §2.8.1).
struct ChildCollision: Hashable {
    /// The pair that the peer's exchange made.
    let inbound: SPI
    /// The lower of that exchange's nonces.
    let lowestNonce: [UInt8]
}

/// An IKE SA that we asked for in place of this one.
final class SuccessorOffer {
    let localSPI: UInt64
    let nonce: [UInt8]
    let agreement: KeyAgreement
    /// The peer rekeyed this IKE SA meanwhile (RFC 7296 §2.8.2).
    var collision: SuccessorCollision?

    init(localSPI: UInt64, nonce: [UInt8], agreement: consuming KeyAgreement) {
        self.localSPI = localSPI
        self.nonce = nonce
        self.agreement = agreement
    }
}

/// The other exchange of two that rekey one IKE SA (RFC 7296 §2.8.2).
struct SuccessorCollision: Hashable {
    /// Our SPI of the IKE SA that the peer's exchange made.
    let localSPI: UInt64
    /// The lower of that exchange's nonces.
    let lowestNonce: [UInt8]
}

/// True when `left` is the lower nonce: octet by octet, and the shorter one where one ends
/// (RFC 7296 §2.8.1).
func isLower(_ left: [UInt8], than right: [UInt8]) -> Bool {
    left.lexicographicallyPrecedes(right)
}
