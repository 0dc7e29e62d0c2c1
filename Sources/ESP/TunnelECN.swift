// Congestion notification through a tunnel (RFC 6040).

import Wire

enum TunnelECN {
    static let notECT: UInt8 = 0
    static let ect1: UInt8 = 1
    static let ect0: UInt8 = 2
    static let ce: UInt8 = 3

    /// RFC 6040 §4.2, Figure 4: what the inner header says after the tunnel.
    ///
    ///     inner \ outer   Not-ECT   ECT(0)    ECT(1)    CE
    ///     Not-ECT         Not-ECT   Not-ECT   Not-ECT   drop
    ///     ECT(0)          ECT(0)    ECT(0)    ECT(1)    CE
    ///     ECT(1)          ECT(1)    ECT(1)    ECT(1)    CE
    ///     CE              CE        CE        CE        CE
    ///
    /// False: drop.
    @inline(__always)
    static func decapsulate(
        outerClass: UInt8, inner: UnsafeMutableRawPointer, family: IPAddress.Family
    ) -> Bool {
        let outer = outerClass & 3
        if outer == notECT { return true }
        let old = IPPacket.trafficClass(inner, family) & 3
        if old == notECT { return outer != ce }
        if outer == ce || (outer == ect1 && old == ect0) { write(outer, inner, family) }
        return true
    }

    /// Replaces the ECN field and mends an IPv4 checksum.
    @inline(never)
    private static func write(
        _ ecn: UInt8, _ base: UnsafeMutableRawPointer, _ family: IPAddress.Family
    ) {
        let old = load16(base, 0)
        guard family == .v4 else {
            store16(old & ~0x0030 | UInt16(ecn) << 4, base, 0)
            return
        }
        let new = old & ~0x0003 | UInt16(ecn)
        store16(new, base, 0)
        store16(checksumUpdate(load16(base, 10), from: old, to: new), base, 10)
    }
}
