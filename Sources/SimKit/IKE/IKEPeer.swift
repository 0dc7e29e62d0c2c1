// One far end that speaks IKE: its endpoint, its pairs of associations, and what it wants.

import Crypto
import ESP
import IKEStub
import Wire

/// How an IKE SA of a peer comes about.
enum IKEBeginner: Hashable {
    case peer
    case gateway
}

/// A machine at the other end of a tunnel.
final class IKEPeer {
    /// A pair of CHILD SAs with its places in the bank's slab.
    struct Pair {
        let inbound: SPI
        let outbound: SPI
        let receives: AssociationHandle
        let sends: AssociationHandle
        /// The gateway has not shown yet that it can decrypt what the pair sends.
        var isWaiting: Bool
    }

    let number: Int
    let environment: IKEEnvironment
    let numbers: PeerNumbers
    let beginner: IKEBeginner
    private(set) var endpoint: IKEEndpoint
    /// In the order in which they were made.
    var pairs: [Pair] = []
    /// The pairs that may send, by their inbound SPIs; the last one does.
    var senders: [SPI] = []
    /// It is to have an IKE SA.
    var wantsTunnel = false
    /// It has had an IKE SA since it wanted one last, and has not given it up.
    var isUp = false
    /// It has deleted its IKE SAs, and some are not gone yet.
    var isLeaving = false
    /// It is switched off: it hears and says nothing.
    var isSilent = false
    /// When it begins a set-up of its own accord.
    var beginsAt: UInt64 = .max
    /// When it asks for a pair, where its IKE SA has none.
    var asksAt: UInt64 = .max
    /// Its CREATE_CHILD_SA requests that are not answered.
    var asking: [CrossingRequests.Place] = []
    /// Requests of the gateway that crossed one of them, each counted once.
    var crossed: Set<CrossingRequests.Place> = []

    init(
        number: Int, beginner: IKEBeginner, environment: IKEEnvironment, numbers: PeerNumbers
    ) {
        self.number = number
        self.beginner = beginner
        self.environment = environment
        self.numbers = numbers
        endpoint = IKEEndpoint(environment, now: 0)
    }

    /// Forgets every IKE SA, as a machine that was switched off.
    func restart(now: UInt64) {
        endpoint = IKEEndpoint(environment, now: now)
        isUp = false
        isLeaving = false
        beginsAt = .max
        asksAt = .max
        asking = []
        crossed = []
    }

    /// When it has something to do by itself; `.max`: never.
    var deadline: UInt64 { isSilent ? .max : min(endpoint.deadline ?? .max, beginsAt, asksAt) }

    func pair(inbound spi: SPI) -> Pair? { pairs.first { $0.inbound == spi } }
}

/// Finds requests that crossed: each end asked to rekey or to make something before it had heard
/// of the other's wish (RFC 7296 §2.8.1, §2.8.2).
enum CrossingRequests {
    struct Place: Hashable {
        let initiatorSPI: UInt64
        let responderSPI: UInt64
        let messageID: UInt32
    }

    /// CREATE_CHILD_SA: the one exchange that can collide.
    static func place(of message: UnsafeRawBufferPointer, isResponse: Bool) -> Place? {
        guard let header = try? IKEHeader(reading: message),
            header.exchangeType == .createChildSA,
            header.flags.contains(.response) == isResponse
        else { return nil }
        return Place(
            initiatorSPI: header.initiatorSPI, responderSPI: header.responderSPI,
            messageID: header.messageID)
    }
}
