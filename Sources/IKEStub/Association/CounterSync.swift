// What is known about the synchronization of counters with the peer (RFC 6311).

internal import Crypto

/// The content of IKEV2_MESSAGE_ID_SYNC (RFC 6311 §6.3), as its sender sees it.
struct MessageIDSync: Hashable {
    /// Returned as it is.
    let nonce: UInt32
    /// Of the sender's next request.
    let sendID: UInt32
    /// Of the next request that the sender expects.
    let receiveID: UInt32

    static let byteCount = 12

    init(nonce: UInt32, sendID: UInt32, receiveID: UInt32) {
        self.nonce = nonce
        self.sendID = sendID
        self.receiveID = receiveID
    }

    /// Nil unless there are 12 octets.
    init?(octets: [UInt8]) {
        guard octets.count == Self.byteCount else { return nil }
        func number(_ place: Int) -> UInt32 {
            octets[place..<place + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
        self.init(nonce: number(0), sendID: number(4), receiveID: number(8))
    }

    var octets: [UInt8] { nonce.octets + sendID.octets + receiveID.octets }
}

/// Both parts that an end can have in it.
struct CounterSync {
    /// What an owner that took over from another one wants of the peer.
    struct Wish: Hashable {
        /// By how much the peer shall advance what it sends with; 0: it need not.
        let delta: UInt64
        /// The least Message ID that no owner before can have used.
        let sendID: UInt32
        /// An outstanding request for new keys or pairs is repeated up to this number before.
        let repetitions: Int
    }

    /// A request for synchronization that has no response yet. The windows have no place for it.
    struct Request {
        let content: MessageIDSync
        let datagrams: [[UInt8]]
        var repetitions = 0
        var repeatAt: UInt64
        /// How long to wait after the next repetition.
        var patience: UInt64
        /// Other requests don't wait any more. A late answer still tells what the peer has done.
        var isGivenUp = false
    }

    enum Stage {
        case none
        case wanted(Wish)
        case sent(Request)
    }

    /// The last request of the peer that was granted.
    struct Granted {
        let nonce: UInt32
        /// A later one must have a higher one (RFC 6311 §5.1).
        let sendID: UInt32
        /// Repeated, the same octets, until the peer shows that it has it; then empty.
        var response: [[UInt8]]
        /// When it may be repeated again. The next owner begins anew.
        var repeatAgain: UInt64 = 0
    }

    var stage = Stage.none
    var granted: Granted?

    /// Until there is an answer, other requests wait.
    var isWaiting: Bool { if case .sent(let request) = stage { !request.isGivenUp } else { false } }

    /// It is not known yet which requests of the peer are new: until it is, none is acted upon (RFC
    /// 6311 §8.1). A state that is behind would take an old one for new.
    var isUncertain: Bool { if case .wanted = stage { true } else { isWaiting } }

    /// The highest Message ID that the peer may have been told.
    var sendID: UInt32 {
        switch stage {
        case .none: 0
        case .wanted(let wish): wish.sendID
        case .sent(let request): request.content.sendID
        }
    }
}

extension CounterSync {
    /// What an initiator says about it (RFC 6311 §6.1, §6.2).
    static let announcement: [Payload] = [
        .notify(.messageIDSyncSupported), .notify(.replayCounterSyncSupported),
    ]
}

extension IKEAssociation {
    /// Notes what the peer announces, where we may use it: returns what a responder says in turn.
    func noteCounterSync(_ policy: Connection, _ payloads: [Payload]) -> [Payload] {
        guard policy.synchronizesCounters else { return [] }
        var answer: [Payload] = []
        if payloads.notify(.messageIDSyncSupported) != nil {
            traits.insert(.messageIDSync)
            answer.append(.notify(.messageIDSyncSupported))
        }
        if payloads.notify(.replayCounterSyncSupported) != nil {
            traits.insert(.replayCounterSync)
            answer.append(.notify(.replayCounterSyncSupported))
        }
        return answer
    }
}

extension [Payload] {
    /// IKEV2_MESSAGE_ID_SYNC, alone or with what may stand beside it in a request (RFC 6311 §5.1);
    /// nil: there is none, or something else too.
    func messageIDSync(isResponse: Bool) -> MessageIDSync? {
        let allowed: Set<UInt16> =
            isResponse
            ? [NotifyType.messageIDSync.rawValue]
            : [NotifyType.messageIDSync.rawValue, NotifyType.replayCounterSync.rawValue]
        var seen: Set<UInt16> = []
        for payload in self {
            guard case .notify(let notify) = payload, allowed.contains(notify.type),
                seen.insert(notify.type).inserted
            else { return nil }
        }
        return notify(.messageIDSync).flatMap { MessageIDSync(octets: $0.data) }
    }
}
