// What an IKE endpoint wants done, in the order in which it must be done.

public import ESP
public import Wire

/// A pair of CHILD SAs with its keys, to be handed to the store of associations once.
public final class NewChild {
    /// What peers send to us.
    public let inbound: SecurityAssociation
    /// What we send.
    public let outbound: SecurityAssociation
    /// Name of the policy.
    public let policy: String
    /// The inbound SPI of the pair that this one replaces.
    public let replaces: SPI?
    /// False: the peer can't decrypt with it yet, so the replaced pair goes on sending until
    /// ``IKEEvent/sendThrough(_:)`` (RFC 7296 §2.8).
    public let isReadyToSend: Bool

    init(
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation,
        policy: String, replaces: SPI?, isReadyToSend: Bool
    ) {
        self.inbound = inbound
        self.outbound = outbound
        self.policy = policy
        self.replaces = replaces
        self.isReadyToSend = isReadyToSend
    }
}

/// One thing to do.
public enum IKEEvent {
    /// Datagrams to send, without the marker.
    case send([[UInt8]], IKEPath)
    /// A NAT keepalive: one octet 0xFF (RFC 3948 §2.3).
    case keepalive(IKEPath)
    /// Associations to install, before anything that follows is sent.
    case install(NewChild)
    /// The pair with this inbound SPI now sends for its selectors.
    case sendThrough(SPI)
    /// The pair with this inbound SPI sends no more; packets that are under way are still taken.
    case linger(SPI)
    /// The pair with this inbound SPI is over: wipe its keys.
    case remove(SPI)
    /// The pair with this inbound SPI is to be reached on another path from now on.
    case redirect(SPI, IKEPath)
    /// The pair with this inbound SPI sends on with numbers higher by so much: its peer may have
    /// seen those between. Without extended numbers, the last one of all is not passed.
    case advanceSequence(SPI, by: UInt64)
    /// The peer says that it has no other IKE SA with us but this one (INITIAL_CONTACT): those that
    /// other nodes speak for are over, too.
    case firstContact(localSPI: UInt64)
    /// An IKE SA is established, or took over from its predecessor.
    case established(localSPI: UInt64)
    /// An IKE SA is gone.
    case closed(localSPI: UInt64)
    /// A line for the operator.
    case report(IKEReport)
}

/// What a call to an endpoint leads to.
public struct IKEOutcome {
    /// In order.
    public internal(set) var events: [IKEEvent] = []
    /// Local SPIs of the IKE SAs whose encoding must be in the store of the cluster before any
    /// event is carried out, so that every successor gives the same answers.
    public internal(set) var changed: [UInt64] = []

    /// Local SPIs of the IKE SAs that took part: those changed, and those that were only asked.
    public internal(set) var involved: [UInt64] = []

    /// IKE SAs beside the one that was called: they are to be put in their place.
    var touched: [IKEAssociation] = []

    init() {}

    mutating func touch(_ association: IKEAssociation) {
        if !touched.contains(where: { $0 === association }) { touched.append(association) }
    }

    mutating func report(_ report: IKEReport) { events.append(.report(report)) }

    mutating func noteChange(of localSPI: UInt64) {
        if !changed.contains(localSPI) { changed.append(localSPI) }
        involve(localSPI)
    }

    mutating func involve(_ localSPI: UInt64) {
        if !involved.contains(localSPI) { involved.append(localSPI) }
    }
}
