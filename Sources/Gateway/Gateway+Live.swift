// What a node does to tunnels while they live: sending goes over to a successor, peers move, and
// an operator looks.

import Cluster
import CryptoCardSim
public import ESP
public import Wire

/// A tunnel as an operator sees it. Nothing secret is in it.
public struct TunnelStatus: Equatable, Sendable {
    /// What packets come in through.
    public let inbound: AssociationParameters
    /// What packets go out through; nil: the tunnel only receives.
    public let outbound: AssociationParameters?
    /// How far receiving has come.
    public let received: AssociationStatus
    /// How far sending has come.
    public let sent: AssociationStatus?
}

extension Gateway {
    /// From now on the tunnel sends for its selectors, rather than the one it replaces: the peer
    /// has shown that it can decrypt (RFC 7296 §2.8).
    public mutating func prefer(_ spi: SPI) {
        if let entry = plane.table.find(spi) { plane.table.prefer(entry) }
    }

    /// The peer of a tunnel is at another address or port now (RFC 7296 §2.23). `local` is our end.
    /// Precondition: both addresses are of one family.
    public mutating func redirect(
        _ spi: SPI, local: IPAddress, remote: IPAddress, localPort: UInt16, remotePort: UInt16
    ) {
        guard let entry = plane.table.find(spi) else { return }
        plane.redirect(
            entry, inbound: true, source: remote, destination: local,
            UDPPorts(source: remotePort, destination: localPort))
        guard let outbound = plane.table.outbound(of: entry) else { return }
        plane.redirect(
            outbound, inbound: false, source: local, destination: remote,
            UDPPorts(source: localPort, destination: remotePort))
    }

    /// Publishes how far all tunnels of this node have come and what they may use, for a stop after
    /// which a successor goes on, or a beginning (docs/decisions/0018). One transaction takes so
    /// many only: ``tick(nowNanoseconds:)`` goes on with the rest (``unpublishedCount``).
    public mutating func publishAll(nowNanoseconds now: UInt64) {
        for place in plane.roles.indices where plane.roles[place] == .owned {
            publishing.isWanted[place] = true
        }
        publishing.nextAttemptAt = 0
        publish(now)
        pump(now)
    }

    /// Identifiers whose leases are to be published and that no request has taken.
    public var unpublishedCount: Int { publishing.isWanted.count { $0 } }

    /// A tunnel by its inbound SPI; nil: this node does not know it.
    public borrowing func status(of spi: SPI) -> TunnelStatus? {
        guard let entry = plane.table.find(spi) else { return nil }
        let outbound = plane.table.outbound(of: entry)
        return TunnelStatus(
            inbound: plane.table.associations.parameters(of: entry),
            outbound: outbound.map { plane.table.associations.parameters(of: $0) },
            received: plane.table.status(of: entry),
            sent: outbound.map { plane.table.status(of: $0) })
    }

    /// How many packets a tunnel has received and sent; nil: this node does not know it.
    public borrowing func packetCounts(of spi: SPI) -> (received: UInt64, sent: UInt64)? {
        guard let entry = plane.table.find(spi) else { return nil }
        let outbound = plane.table.outbound(of: entry)
        return (
            plane.table.status(of: entry).packets,
            outbound.map { plane.table.status(of: $0).packets } ?? 0
        )
    }

    /// Lends the associations of a tunnel with their keys, the inbound one first, to whoever was
    /// asked to show them.
    public borrowing func forEachAssociation(
        of spi: SPI, _ body: (borrowing SecurityAssociation) -> Void
    ) {
        guard let entry = plane.table.find(spi) else { return }
        body(plane.table.associations.association(of: entry))
        guard let outbound = plane.table.outbound(of: entry) else { return }
        body(plane.table.associations.association(of: outbound))
    }
}

extension DataPlane {
    /// In the table and wherever its session is. An association that was not in UDP stays so.
    fileprivate mutating func redirect(
        _ entry: AssociationHandle, inbound isInbound: Bool, source: IPAddress,
        destination: IPAddress, _ ports: UDPPorts
    ) {
        let parameters = table.associations.parameters(of: entry)
        let udp = parameters.udp == nil ? nil : ports
        table.updateStates {
            $0.redirect(entry, source: source, destination: destination, udp: udp)
        }
        let onCard = isInbound ? card.session(for: parameters.spi) : outboundSession(entry)
        let onHost = isInbound ? host.session(for: parameters.spi) : hostOutboundSession(entry)
        if let onCard {
            try? card.redirect(onCard, source: source, destination: destination, udp: udp)
        }
        if let onHost {
            try? host.redirect(onHost, source: source, destination: destination, udp: udp)
        }
    }
}
