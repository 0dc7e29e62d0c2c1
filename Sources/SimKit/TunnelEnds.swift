// What traffic needs of the far ends of tunnels, whichever way the tunnels come about.

/// The far ends of tunnels 0..<count: ``PeerBank``, whose tunnels are given to the cluster, or
/// ``IKEPeerBank``, whose peers agree upon them with it.
protocol TunnelEnds: AnyObject {
    /// Writes and seals the next packet of a tunnel's user; nil: nothing can be sent now.
    func seal(
        _ tunnel: Int, into buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int,
        payloadBytes: Int, now: UInt64
    ) -> (offset: Int, length: Int)?
    /// Writes what a server sends to a tunnel's user, and returns its length.
    func innerPacket(
        toPeer tunnel: Int, serial: UInt64, into buffer: UnsafeMutableRawPointer, payloadBytes: Int
    ) -> Int
    /// Takes an ESP packet of a gateway.
    func open(
        _ buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int, length: Int, now: UInt64
    ) -> PeerVerdict
    /// Reads off an ESP packet of a gateway what was used for it; nil: it belongs to no tunnel.
    func inspect(_ packet: UnsafeRawBufferPointer) -> SentPacket?
    /// The serial of the last packet sealed.
    func serial(of tunnel: Int) -> UInt64
}

extension PeerBank: TunnelEnds {}

extension IKEPeerBank: TunnelEnds {
    func serial(of tunnel: Int) -> UInt64 { serials[tunnel] }
}
