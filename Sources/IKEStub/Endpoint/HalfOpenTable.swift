// Set-ups that peers began and have not authenticated: what a flood would fill (RFC 7296 §2.6).

internal import Wire

/// Counts half-open IKE SAs, finds the one that a repeated IKE_SA_INIT belongs to, and the one that
/// goes when there is no room. All of that takes the same time whatever is in the table.
struct HalfOpenTable {
    /// Who began it; an SPI alone could be the choice of two peers.
    private struct Origin: Hashable {
        let initiatorSPI: UInt64
        let address: IPAddress
        let port: UInt16
    }

    private var localSPIs: [Origin: UInt64] = [:]
    /// Set-ups of each host, the oldest first.
    private var hosts: [IPAddress: LinkedQueue<UInt64>] = [:]
    /// Hosts by the number of their set-ups; who came to the number first stands first.
    private var levels: [Int: LinkedQueue<IPAddress>] = [:]
    /// The largest number of set-ups of one host.
    private var highest = 0

    /// In all.
    var count: Int { localSPIs.count }

    /// Of one IPv4 address, or of one IPv6 network of 64 bits, which is one host's to choose from.
    func count(of address: IPAddress) -> Int { hosts[Self.host(address)]?.count ?? 0 }

    private static func host(_ address: IPAddress) -> IPAddress {
        address.family == .v4 ? address : address.prefixRange(length: 64).first
    }

    /// Our SPI of the set-up.
    func localSPI(initiatorSPI: UInt64, _ path: IKEPath) -> UInt64? {
        localSPIs[Origin(initiatorSPI: initiatorSPI, address: path.remote, port: path.remotePort)]
    }

    /// Our SPI of the set-up that goes first: the oldest one of a host that has most of them. So a
    /// flood from few hosts displaces itself, and one from many hosts needs as many new set-ups as
    /// the table holds before it reaches the set-up of one who has one only.
    var displaced: UInt64? {
        guard let host = levels[highest]?.first else { return nil }
        return hosts[host]?.first
    }

    mutating func insert(_ association: IKEAssociation) {
        let origin = Self.origin(association)
        // Two owners before may have answered the same request: the later one counts.
        if let old = localSPIs.updateValue(association.localSPI, forKey: origin) {
            withHost(of: association) { $0.remove(old) }
        }
        withHost(of: association) { $0.append(association.localSPI) }
    }

    /// Does nothing for an IKE SA that is not in the table.
    mutating func remove(_ association: IKEAssociation) {
        let origin = Self.origin(association)
        guard association.role == .responder, localSPIs[origin] == association.localSPI else {
            return
        }
        localSPIs[origin] = nil
        withHost(of: association) { $0.remove(association.localSPI) }
    }

    /// Changes a host's queue by one, and its level with it.
    private mutating func withHost(
        of association: IKEAssociation, _ change: (inout LinkedQueue<UInt64>) -> Void
    ) {
        let host = Self.host(association.origin.remote)
        let before = hosts[host]?.count ?? 0
        change(&hosts[host, default: LinkedQueue()])
        let after = hosts[host]?.count ?? 0
        if after == 0 { hosts[host] = nil }
        if before > 0 { levels[before]?.remove(host) }
        if after > 0 { levels[after, default: LinkedQueue()].append(host) }
        if levels[before]?.isEmpty == true { levels[before] = nil }
        highest = after > highest || levels[highest] == nil ? after : highest
    }

    private static func origin(_ association: IKEAssociation) -> Origin {
        Origin(
            initiatorSPI: association.initiatorSPI, address: association.origin.remote,
            port: association.origin.remotePort)
    }
}
