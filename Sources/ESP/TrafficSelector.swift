// Which inner packets an association may carry (RFC 4301 §4.4.1.1, RFC 7296 §3.13.1).

public import Wire

/// A range of addresses with a protocol and a range of ports.
public struct TrafficSelector: Hashable, Sendable {
    /// First and last address, both included.
    public let first: IPAddress
    /// Last address.
    public let last: IPAddress
    /// 0: any protocol.
    public let ipProtocol: UInt8
    /// First and last port, both included; for ICMP type * 256 + code. 0…65535: any, also packets
    /// that have no ports, such as later fragments (OPAQUE, RFC 4301 §4.4.1.1).
    public let firstPort: UInt16
    /// Last port.
    public let lastPort: UInt16

    /// Nil when the addresses are of two families or a range runs backwards.
    public init?(
        first: IPAddress, last: IPAddress, ipProtocol: UInt8 = 0, firstPort: UInt16 = 0,
        lastPort: UInt16 = .max
    ) {
        guard first.family == last.family, IPAddress.isOrdered(first, last), firstPort <= lastPort
        else { return nil }
        self.first = first
        self.last = last
        self.ipProtocol = ipProtocol
        self.firstPort = firstPort
        self.lastPort = lastPort
    }

    /// True when any packet end lies in both.
    public func overlaps(_ other: TrafficSelector) -> Bool {
        first.family == other.first.family
            && IPAddress.isOrdered(first, other.last) && IPAddress.isOrdered(other.first, last)
            && (ipProtocol == 0 || other.ipProtocol == 0 || ipProtocol == other.ipProtocol)
            && firstPort <= other.lastPort && other.firstPort <= lastPort
    }

    var hasAnyPort: Bool { firstPort == 0 && lastPort == .max }

    /// The prefix length when this is a whole IPv4 prefix with any port, else nil.
    var ipv4PrefixLength: UInt8? {
        guard first.family == .v4, hasAnyPort else { return nil }
        let host = first.low ^ last.low
        guard host & (host + 1) == 0, first.low & host == 0 else { return nil }
        return UInt8(32 - host.nonzeroBitCount)
    }

    @inline(__always)
    func covers(_ address: IPAddress, _ flow: InnerFlow, port: UInt16) -> Bool {
        guard address.family == first.family else { return false }
        guard ipProtocol == 0 || ipProtocol == flow.ipProtocol else { return false }
        guard IPAddress.isOrdered(first, address), IPAddress.isOrdered(address, last) else {
            return false
        }
        return hasAnyPort || (flow.hasPorts && port >= firstPort && port <= lastPort)
    }
}

/// The selectors of one association, in the direction of its packets. An empty list allows all.
public struct AssociationSelectors: Hashable, Sendable {
    /// The longest list: IKEv2 counts selectors in one octet (RFC 7296 §3.13).
    public static let listMaximum = 255

    /// What the packet's source must match.
    public var source: [TrafficSelector]
    /// What the packet's destination must match.
    public var destination: [TrafficSelector]

    /// The packet must match one selector of each list that is not empty.
    public init(source: [TrafficSelector] = [], destination: [TrafficSelector] = []) {
        self.source = source
        self.destination = destination
    }

    /// No restriction.
    public static let any = AssociationSelectors()

    /// True when some packet would match both.
    public func overlaps(_ other: AssociationSelectors) -> Bool {
        Self.meet(source, other.source) && Self.meet(destination, other.destination)
    }

    private static func meet(_ left: [TrafficSelector], _ right: [TrafficSelector]) -> Bool {
        left.isEmpty || right.isEmpty
            || left.contains { one in right.contains { one.overlaps($0) } }
    }
}

/// What selectors look at in an inner packet.
struct InnerFlow {
    let ipProtocol: UInt8
    let hasPorts: Bool
    let sourcePort: UInt16
    let destinationPort: UInt16

    /// `base` is the packet's first octet; the packet was parsed, so its headers are inside.
    @inline(__always)
    init(_ packet: IPPacket, _ base: UnsafeRawPointer) {
        ipProtocol = packet.transportProtocol
        let room = packet.totalLength - packet.payloadOffset
        switch packet.transportProtocol {
        case IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp, IPProtocol.dccp, IPProtocol.udpLite:
            hasPorts = !packet.isLaterFragment && room >= 4
            sourcePort = hasPorts ? load16(base, packet.payloadOffset) : 0
            destinationPort = hasPorts ? load16(base, packet.payloadOffset + 2) : 0
        case IPProtocol.icmp, IPProtocol.icmpV6:
            // RFC 7296 §3.13.1: type and code stand where ports stand, on both sides.
            hasPorts = !packet.isLaterFragment && room >= 2
            sourcePort = hasPorts ? load16(base, packet.payloadOffset) : 0
            destinationPort = sourcePort
        default:
            hasPorts = false
            sourcePort = 0
            destinationPort = 0
        }
    }
}

/// A packet's own addresses.
@inline(__always)
func innerAddresses(
    _ packet: IPPacket, _ base: UnsafeRawPointer
) -> (source: IPAddress, destination: IPAddress) {
    packet.family == .v4
        ? (IPAddress(.v4, at: base, 12), IPAddress(.v4, at: base, 16))
        : (IPAddress(.v6, at: base, 8), IPAddress(.v6, at: base, 24))
}
