// What a run without lossy links and crashes must show in numbers: nothing was lost.

extension Simulation {
    /// Packets of established tunnels, both ways, that were sent and came out nowhere; nil when
    /// links or nodes may lose some.
    var lostPackets: UInt64? {
        guard isLossless else { return nil }
        var lost: UInt64 = 0
        for tunnel in tunnels.indices where isWhole(tunnel) {
            let up = UInt64(checker.delivered.count(tunnel, isToPeer: false))
            let down = UInt64(checker.delivered.count(tunnel, isToPeer: true))
            lost += ends.serial(of: tunnel) - min(ends.serial(of: tunnel), up)
            let sent = tunnels[tunnel].serverSerial
            lost += sent - min(sent, down)
        }
        return lost
    }

    /// True for a tunnel that was there from its first packet to its last.
    func isWhole(_ tunnel: Int) -> Bool {
        tunnels[tunnel].state == .established && !tunnels[tunnel].wasInterrupted
    }
}
