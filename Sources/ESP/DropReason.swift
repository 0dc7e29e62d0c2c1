// Why a packet was refused: one flat list, from which enum, counter, text and JSON key come.

/// A reason for refusing a packet. Every refusal has exactly one, counted per association (where
/// one was found) and in total.
public enum DropReason: UInt8, CaseIterable, Sendable {
    // Before an association is known.
    /// Fewer octets than the headers, the IV and the ICV need, or than a length field says.
    case truncated
    /// An outer header that contradicts itself.
    case malformed
    /// An outer IP fragment: reassembly comes before ESP (RFC 4303 §3.4.1); or a fragment offered
    /// for transport mode (§3.3.4).
    case fragment
    /// SPI 0…255 (RFC 4303 §2.1).
    case reservedSPI
    /// No association has this SPI.
    case unknownSPI
    /// The owner knows the association, but its card has no room for it.
    case cardFull
    /// The card lost the session; it is being loaded again.
    case sessionLost
    /// The card does not answer.
    case cardStalled
    /// The card's queue has no room for this batch.
    case cardBusy
    /// This node's right to serve has ended: another node may own the tunnel now.
    case notServing

    // Receiving (RFC 4303 §3.4).
    /// Number 0, which no sender may use while replay protection is on (§3.4.3).
    case sequenceZero
    /// The number was seen before.
    case replayed
    /// The number lies to the left of the window.
    case tooOld
    /// Ciphertext that is not a multiple of the cipher's block or of 4 octets (§2.4).
    case ciphertextLength
    /// The ICV is wrong (§3.4.4).
    case integrity
    /// Padding is not 1, 2, 3, … or longer than the payload (§2.4).
    case padding
    /// A dummy packet, next header 59, thrown away as the RFC says (§2.6).
    case dummy
    /// A next header that the mode does not allow.
    case nextHeader
    /// The inner IP header is wrong or longer than what was decrypted.
    case innerMalformed
    /// Congestion was marked on a packet whose transport can't bear it (RFC 6040 §4.2).
    case ecn
    /// The inner packet is outside the association's traffic selectors (RFC 4301 §5.2 step 4).
    case selector

    // Sending (RFC 4303 §3.3).
    /// No outbound association covers the packet.
    case noAssociation
    /// No number is left: the association must be rekeyed (§3.3.3).
    case sequenceExhausted
    /// The packet would exceed the largest IP packet or the path MTU of the association.
    case packetTooBig
    /// The inner hop limit is used up (RFC 4301 §5.1.2).
    case hopLimit

    // Both ways.
    /// Hard lifetime in packets.
    case lifetimePackets
    /// Hard lifetime in bytes.
    case lifetimeBytes
    /// Hard lifetime in time.
    case lifetimeTime
    /// The numbers that were published as usable are used up; more are being published.
    case leaseEnded
    /// The crypto engine failed to take a key or to run.
    case cryptoFailure
}

extension DropReason {
    /// How many there are. `allCases` is an array, and the packet path must not make one.
    static let count = allCases.count

    /// One short sentence for tables and traces.
    public var explanation: String {
        switch self {
        case .truncated: "shorter than its headers, IV and ICV"
        case .malformed: "outer header contradicts itself"
        case .fragment: "IP fragment; reassembly comes before ESP"
        case .reservedSPI: "SPI 0 to 255 is reserved"
        case .unknownSPI: "no association has this SPI"
        case .cardFull: "the owner's card has no room for the association"
        case .sessionLost: "the card lost the session"
        case .cardStalled: "the card does not answer"
        case .cardBusy: "the card's queue is full"
        case .notServing: "this node's right to serve has ended"
        case .sequenceZero: "sequence number 0"
        case .replayed: "sequence number seen before"
        case .tooOld: "sequence number left of the replay window"
        case .ciphertextLength: "ciphertext is not whole blocks"
        case .integrity: "integrity check failed"
        case .padding: "padding is not 1, 2, 3, …"
        case .dummy: "dummy packet (next header 59)"
        case .nextHeader: "next header does not fit the mode"
        case .innerMalformed: "inner IP header is wrong"
        case .ecn: "congestion marked on a packet without ECN"
        case .selector: "inner packet is outside the traffic selectors"
        case .noAssociation: "no outbound association covers the packet"
        case .sequenceExhausted: "sequence numbers are used up; rekey"
        case .packetTooBig: "would exceed the largest packet"
        case .hopLimit: "hop limit used up"
        case .lifetimePackets: "hard lifetime reached (packets)"
        case .lifetimeBytes: "hard lifetime reached (bytes)"
        case .lifetimeTime: "hard lifetime reached (time)"
        case .leaseEnded: "published sequence numbers are used up; more are being published"
        case .cryptoFailure: "the crypto engine failed"
        }
    }

    /// The name in JSON and in vectors: the case's own name.
    public var name: String { String(describing: self) }

    /// The reason with this name; nil when there is none.
    public init?(name: String) {
        guard let reason = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = reason
    }
}

/// Counters per reason.
public struct DropCounters: Equatable, Sendable {
    private var counts = [UInt64](repeating: 0, count: DropReason.count)

    /// All zero.
    public init() {}

    /// The count of one reason.
    public subscript(reason: DropReason) -> UInt64 {
        get { counts[Int(reason.rawValue)] }
        set { counts[Int(reason.rawValue)] = newValue }
    }

    /// All refusals.
    public var total: UInt64 { counts.reduce(0, +) }

    /// The reasons that occurred, in the list's order.
    public var nonzero: [(reason: DropReason, count: UInt64)] {
        DropReason.allCases.compactMap { self[$0] == 0 ? nil : ($0, self[$0]) }
    }

    /// Adds another set of counters.
    public static func += (left: inout DropCounters, right: DropCounters) {
        for index in left.counts.indices { left.counts[index] += right.counts[index] }
    }
}
