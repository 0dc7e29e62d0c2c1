// What a run without lossy links and crashes must show in numbers: nothing was lost.

extension Simulation {
    /// Packets of established tunnels, both ways, that were sent and came out nowhere; nil when
    /// links or nodes may lose some.
    var lostPackets: UInt64? {
        guard isLossless else { return nil }
        var lost: UInt64 = 0
        for tunnel in tunnels.indices where tunnels[tunnel].state == .established {
            let up = UInt64(checker.delivered.count(tunnel, isToPeer: false))
            let down = UInt64(checker.delivered.count(tunnel, isToPeer: true))
            lost += peers.serial(of: tunnel) - min(peers.serial(of: tunnel), up)
            let sent = tunnels[tunnel].serverSerial
            lost += sent - min(sent, down)
        }
        return lost
    }
}
