// A router takes one off the hop limit of whatever it forwards (RFC 1812 §5.3.1, RFC 8200 §3).

/// The hop limit of IP packets.
public enum HopLimit {
    /// Takes one off, in place. False, and the packet is as it was, when it may go no further; then
    /// its source is told (``ICMPNotice/timeExceeded``). The packet has its whole IP header.
    public static func decrement(_ packet: UnsafeMutableRawPointer) -> Bool {
        guard load8(packet, 0) >> 4 == 4 else {
            let limit = load8(packet, 7)
            guard limit > 1 else { return false }
            store8(limit - 1, packet, 7)
            return true
        }
        // TTL and protocol are one word of the checksum (RFC 1624).
        let old = load16(packet, 8)
        guard old >> 8 > 1 else { return false }
        let new = old &- 0x0100
        store16(new, packet, 8)
        store16(checksumUpdate(load16(packet, 10), from: old, to: new), packet, 10)
        return true
    }
}
