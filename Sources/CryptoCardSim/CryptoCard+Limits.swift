// How far a session's numbers may go, and where they go on after another node has served the
// tunnel.

public import ESP
public import Wire

extension CryptoCard {
    /// The highest number that a session may use or accept.
    public borrowing func limit(of handle: CardHandle) throws(CardError) -> UInt64 {
        try requireCurrent(handle)
        return sessions.limit(of: handle)
    }

    /// Sets the highest number that a session may use or accept; packets beyond it are dropped as
    /// `leaseEnded`.
    public mutating func setLimit(_ limit: UInt64, of handle: CardHandle) throws(CardError) {
        try requireCurrent(handle)
        sessions.setLimit(limit, of: handle)
    }

    /// Sends on after what another node may have used: the next number is at least `last` + 1.
    /// Precondition: the session is outbound.
    public mutating func resumeSending(
        after last: UInt64, limit: UInt64, of handle: CardHandle
    ) throws(CardError) {
        try requireCurrent(handle)
        sessions.resumeSending(after: last, limit: limit, of: handle)
    }

    /// Receives on after what another node may have accepted: all numbers up to `edge` count as
    /// received. Precondition: the session is inbound.
    public mutating func resumeReceiving(
        closedUpTo edge: UInt64, limit: UInt64, of handle: CardHandle
    ) throws(CardError) {
        try requireCurrent(handle)
        sessions.resumeReceiving(closedUpTo: edge, limit: limit, of: handle)
    }

    private borrowing func requireCurrent(_ handle: CardHandle) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
    }
}

extension CryptoCard {
    /// Gives a session other outer addresses and ports, in the direction of its packets.
    /// Precondition: both addresses are of one family.
    public mutating func redirect(
        _ handle: CardHandle, source: IPAddress, destination: IPAddress, udp: UDPPorts?
    ) throws(CardError) {
        guard sessions.isCurrent(handle) else { throw .staleHandle(handle) }
        sessions.redirect(handle, source: source, destination: destination, udp: udp)
    }
}
