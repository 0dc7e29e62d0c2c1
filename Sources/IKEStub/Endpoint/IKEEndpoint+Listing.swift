// What an operator may see of IKE SAs, and what only one who asks for keys may see.

public import Crypto
public import ESP
public import Wire

/// A pair of CHILD SAs as its IKE SA knows it.
public struct ChildSummary: Sendable {
    /// What we receive through; it names the pair here.
    public let inbound: SPI
    /// What we send through.
    public let outbound: SPI
    /// Name of the policy.
    public let policy: String
    /// The algorithms, as they would be configured.
    public let suite: String
    /// Tunnel or transport.
    public let mode: Mode
    /// On our side.
    public let local: [TrafficSelector]
    /// On the peer's side.
    public let remote: [TrafficSelector]
    /// False for a pair that has a successor, or is over.
    public let isCurrent: Bool
    /// False while the pair that it replaces sends: its peer has given no sign of being ready.
    public let sends: Bool
    /// The inbound SPI of the pair that it replaced, which may be gone.
    public let replaces: SPI?
}

/// An IKE SA as an operator sees it.
public struct IKESummary: Sendable {
    /// Names it at this node.
    public let localSPI: UInt64
    /// SPIi.
    public let initiatorSPI: UInt64
    /// SPIr; 0 before the peer's answer.
    public let responderSPI: UInt64
    /// Our part in it.
    public let role: IKERole
    /// True when CHILD SAs can be made.
    public let isEstablished: Bool
    /// The connection's name; empty while a responder does not know it.
    public let connection: String
    /// Where it runs.
    public let path: IKEPath
    /// The algorithms, as they would be configured; nil before they are agreed upon.
    public let suite: String?
    /// Who we say we are.
    public let localIdentity: String?
    /// Who the peer has proven to be.
    public let remoteIdentity: String?
    /// Addresses from a pool: ours when `hasOwnVirtualAddress`, else the peer's.
    public let virtualAddresses: [IPAddress]
    /// The virtual addresses are ours.
    public let hasOwnVirtualAddress: Bool
    /// When it began, in nanoseconds of the owner's clock.
    public let createdNanoseconds: UInt64
    /// In the order in which they were made.
    public let children: [ChildSummary]
}

extension IKEEndpoint {
    /// All IKE SAs, the oldest first.
    public func summaries() -> [IKESummary] { sorted(associations.values).map(IKESummary.init) }

    /// One IKE SA; nil: there is none with this local SPI.
    public func summary(of localSPI: UInt64) -> IKESummary? {
        associations[localSPI].map(IKESummary.init)
    }

    /// The generation in the IVs of an IKE SA; nil: there is none with this local SPI.
    public func generation(of localSPI: UInt64) -> UInt16? {
        associations[localSPI]?.generation
    }

    /// The initiator's SPI of an IKE SA; nil: there is none with this local SPI.
    public func initiatorSPI(of localSPI: UInt64) -> UInt64? {
        associations[localSPI]?.initiatorSPI
    }

    /// Lends the keys of an IKE SA, for whoever was asked to show them; false: it has none yet.
    public func withKeys(
        of localSPI: UInt64, _ body: (IKESuite, borrowing IKEKeys) -> Void
    ) throws(CryptoError) -> Bool {
        guard let association = associations[localSPI], let suite = association.suite,
            association.keys != nil
        else { return false }
        try association.withKeys { body(suite, $0) }
        return true
    }
}

extension IKESummary {
    fileprivate init(_ association: IKEAssociation) {
        localSPI = association.localSPI
        initiatorSPI = association.initiatorSPI
        responderSPI = association.responderSPI
        role = association.role
        isEstablished = association.isEstablished
        connection = association.connection
        path = association.path
        suite = association.suite?.description
        localIdentity = association.localIdentity?.description
        remoteIdentity = association.remoteIdentity?.description
        virtualAddresses = association.virtualAddresses
        hasOwnVirtualAddress = association.hasOwnVirtualAddress
        createdNanoseconds = association.times.created
        children = association.children.map { child in
            ChildSummary(
                inbound: child.inbound, outbound: child.outbound, policy: child.policy,
                suite: child.suite.description, mode: child.mode, local: child.local,
                remote: child.remote, isCurrent: child.stage == .active, sends: child.sends,
                replaces: child.replaces)
        }
    }
}
