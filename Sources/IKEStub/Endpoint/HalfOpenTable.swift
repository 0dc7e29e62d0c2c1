// Set-ups that peers began and have not authenticated: what a flood would fill (RFC 7296 §2.6).

internal import Wire

/// Counts half-open IKE SAs, and finds the one that a repeated IKE_SA_INIT belongs to.
struct HalfOpenTable {
    /// Who began it; an SPI alone could be the choice of two peers.
    private struct Origin: Hashable {
        let initiatorSPI: UInt64
        let address: IPAddress
        let port: UInt16
    }

    private var localSPIs: [Origin: UInt64] = [:]
    private var perAddress: [IPAddress: Int] = [:]

    /// In all.
    var count: Int { localSPIs.count }

    /// Of one address.
    func count(of address: IPAddress) -> Int { perAddress[address] ?? 0 }

    /// Our SPI of the set-up.
    func localSPI(initiatorSPI: UInt64, _ path: IKEPath) -> UInt64? {
        localSPIs[Origin(initiatorSPI: initiatorSPI, address: path.remote, port: path.remotePort)]
    }

    mutating func insert(_ association: IKEAssociation) {
        localSPIs[Self.origin(association)] = association.localSPI
        perAddress[association.origin.remote, default: 0] += 1
    }

    /// Does nothing for an IKE SA that is not in the table.
    mutating func remove(_ association: IKEAssociation) {
        let origin = Self.origin(association)
        guard association.role == .responder, localSPIs[origin] == association.localSPI else {
            return
        }
        localSPIs[origin] = nil
        let address = association.origin.remote
        let rest = (perAddress[address] ?? 1) - 1
        perAddress[address] = rest == 0 ? nil : rest
    }

    private static func origin(_ association: IKEAssociation) -> Origin {
        Origin(
            initiatorSPI: association.initiatorSPI, address: association.origin.remote,
            port: association.origin.remotePort)
    }
}
