// The parts of an IKE SA's state that are about what is under way: windows, offers, handshakes.

internal import Crypto
internal import ESP
internal import Wire

extension StateWriter {
    mutating func put(_ offer: ChildOffer) {
        put(offer.policy)
        put(offer.inbound.value)
        putCounted(offer.nonce)
        switch offer.agreement {
        case .some(let agreement):
            put(true)
            put(agreement)
        case .none: put(false)
        }
        put(offer.local)
        put(offer.remote)
        put(offer.replaces) { $0.put($1.value) }
        put(offer.isAfresh)
        put(offer.collision) { writer, collision in
            writer.put(collision.inbound.value)
            writer.putCounted(collision.lowestNonce)
        }
        put(offer.deleted)
    }

    mutating func put(_ offer: SuccessorOffer) {
        put(offer.localSPI)
        putCounted(offer.nonce)
        put(offer.agreement)
        put(offer.collision) { writer, collision in
            writer.put(collision.localSPI)
            writer.putCounted(collision.lowestNonce)
        }
    }

    mutating func put(_ exchange: Exchange) {
        switch exchange {
        case .ikeSAInit: put(UInt8(0))
        case .ikeAuth: put(UInt8(1))
        case .createChild(let offer):
            put(UInt8(2))
            put(offer)
        case .rekeyIKE(let offer):
            put(UInt8(3))
            put(offer)
        case .deleteChildren(let spis):
            put(UInt8(4))
            put(spis)
        case .deleteIKE: put(UInt8(5))
        case .liveness: put(UInt8(6))
        case .replayCounters(let delta):
            put(UInt8(7))
            put(delta)
        }
    }

    mutating func put(_ task: PendingTask) {
        switch task {
        case .rekeyChild(let spi):
            put(UInt8(0))
            put(spi.value)
        case .createChild(let policy):
            put(UInt8(1))
            put(policy)
        case .deleteChildren(let spis):
            put(UInt8(2))
            put(spis)
        case .rekeyIKE: put(UInt8(3))
        case .deleteIKE: put(UInt8(4))
        case .liveness: put(UInt8(5))
        case .renewChild(let spi):
            put(UInt8(6))
            put(spi.value)
        case .replayCounters(let delta):
            put(UInt8(7))
            put(delta)
        }
    }

    mutating func put(_ datagrams: [[UInt8]]) { put(datagrams) { $0.putCounted($1) } }

    mutating func put(_ window: RequestWindow) {
        put(window.nextID)
        put(window.outstanding) { writer, outstanding in
            writer.put(outstanding.messageID)
            writer.put(outstanding.exchange)
            writer.put(outstanding.datagrams)
            writer.put(UInt16(clamping: outstanding.repetitions))
            writer.put(outstanding.repeatAt)
            writer.put(outstanding.patience)
            writer.put(outstanding.isReported)
        }
        put(window.tasks) { $0.put($1) }
        put(window.postponed) { $0.put($1) }
    }

    mutating func put(_ window: ResponseWindow) {
        put(window.nextID)
        put(window.last)
        put(window.mayHaveMissed)
    }

    mutating func put(_ handshake: Handshake) {
        put(handshake.agreement)
        putCounted(handshake.nonce)
        putCounted(handshake.peerNonce)
        putCounted(handshake.peerPublic)
        putCounted(handshake.request)
        putCounted(handshake.response)
        putCounted(handshake.cookie)
        put(UInt8(clamping: handshake.restarts))
        put(handshake.childPolicy) { $0.put($1) }
        put(handshake.child) { $0.put($1) }
        put(handshake.peerHashes) { $0.put($1) }
        put(handshake.isFirstContact)
        let kinds = IKEReport.Kind.allCases.enumerated()
        put(
            kinds.reduce(UInt32(0)) { mask, kind in
                handshake.reported.contains(kind.element) ? mask | 1 << kind.offset : mask
            })
    }
}

extension StateReader {
    private mutating func offer() throws(IKEStateFault) -> ChildOffer {
        let policy = try text()
        let inbound = try spi()
        let nonce = try nonce()
        let agreement = try optional { reader throws(IKEStateFault) in try reader.agreement() }
        let local = try selectors()
        let remote = try selectors()
        let replaces = try optional { reader throws(IKEStateFault) in try reader.spi() }
        let offer = ChildOffer(
            policy: policy, inbound: inbound, nonce: nonce, agreement: agreement, local: local,
            remote: remote, replaces: replaces, isAfresh: try flag())
        offer.collision = try optional { reader throws(IKEStateFault) in
            ChildCollision(inbound: try reader.spi(), lowestNonce: try reader.nonce())
        }
        offer.deleted = try spis()
        return offer
    }

    private mutating func successorOffer() throws(IKEStateFault) -> SuccessorOffer {
        let offer = SuccessorOffer(
            localSPI: try next(), nonce: try nonce(), agreement: try agreement())
        offer.collision = try optional { reader throws(IKEStateFault) in
            SuccessorCollision(localSPI: try reader.next(), lowestNonce: try reader.nonce())
        }
        return offer
    }

    private mutating func exchange() throws(IKEStateFault) -> Exchange {
        let place = offset
        switch try next(UInt8.self) {
        case 0: return .ikeSAInit
        case 1: return .ikeAuth
        case 2: return .createChild(try offer())
        case 3: return .rekeyIKE(try successorOffer())
        case 4: return .deleteChildren(try spis())
        case 5: return .deleteIKE
        case 6: return .liveness
        case 7: return .replayCounters(try next())
        default: throw .malformed(.exchange, at: place)
        }
    }

    private mutating func task() throws(IKEStateFault) -> PendingTask {
        let place = offset
        switch try next(UInt8.self) {
        case 0: return .rekeyChild(try spi())
        case 1: return .createChild(policy: try text())
        case 2:
            let spis = try spis()
            try require((1...255).contains(spis.count), .count, at: place)
            return .deleteChildren(spis)
        case 3: return .rekeyIKE
        case 4: return .deleteIKE
        case 5: return .liveness
        case 6: return .renewChild(try spi())
        case 7: return .replayCounters(try next())
        default: throw .malformed(.exchange, at: place)
        }
    }

    mutating func datagrams() throws(IKEStateFault) -> [[UInt8]] {
        try list { reader throws(IKEStateFault) in try reader.counted() }
    }

    mutating func requests() throws(IKEStateFault) -> RequestWindow {
        var window = RequestWindow()
        window.nextID = try next()
        window.outstanding = try optional { reader throws(IKEStateFault) in
            var outstanding = Outstanding(
                messageID: try reader.next(), exchange: try reader.exchange(),
                datagrams: try reader.datagrams(),
                repetitions: Int(try reader.next(UInt16.self)), repeatAt: try reader.next(),
                patience: try reader.next())
            outstanding.isReported = try reader.flag()
            return outstanding
        }
        window.tasks = try list { reader throws(IKEStateFault) in try reader.task() }
        window.postponed = try list { reader throws(IKEStateFault) in try reader.task() }
        return window
    }

    mutating func responses() throws(IKEStateFault) -> ResponseWindow {
        var window = ResponseWindow()
        window.nextID = try next()
        window.last = try datagrams()
        window.mayHaveMissed = try flag()
        return window
    }

    mutating func handshake() throws(IKEStateFault) -> Handshake {
        let handshake = Handshake(agreement: try agreement(), nonce: try nonce())
        handshake.peerNonce = try counted()
        handshake.peerPublic = try counted()
        handshake.request = try counted()
        handshake.response = try counted()
        handshake.cookie = try counted()
        handshake.restarts = Int(try next(UInt8.self))
        handshake.childPolicy = try optional { reader throws(IKEStateFault) in try reader.text() }
        handshake.child = try optional { reader throws(IKEStateFault) in try reader.offer() }
        handshake.peerHashes = try list { reader throws(IKEStateFault) in try reader.next() }
        handshake.isFirstContact = try flag()
        let place = offset
        let mask = try next(UInt32.self)
        let kinds = IKEReport.Kind.allCases
        try require(mask >> UInt32(kinds.count) == 0, .handshake, at: place)
        for (bit, kind) in kinds.enumerated() where mask & 1 << bit != 0 {
            handshake.reported.insert(kind)
        }
        return handshake
    }
}
