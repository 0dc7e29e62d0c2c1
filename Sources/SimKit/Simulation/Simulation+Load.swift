// Uneven load: some tunnels are busy, and after a while others are.

import Gateway

extension Simulation {
    /// For so long the same tunnels are busy.
    private static var busyNanoseconds: UInt64 { 4_000_000_000 }

    /// Between two packets of a tunnel in one direction, now. Every fourth tunnel is busy.
    func packetInterval(of tunnel: Int) -> UInt64 {
        guard options.loadSkew > 1 else { return options.packetInterval }
        let phase = now / Self.busyNanoseconds
        var random = loadRandom.fork(phase << 32 | UInt64(tunnel))
        guard random.chance(1, in: 4) else { return options.packetInterval }
        return max(options.packetInterval / options.loadSkew, 100_000)
    }

    /// True when planned moves are under way at some node that is alive: what they hold comes out
    /// of it before the run ends.
    var isMoving: Bool {
        nodes.contains { $0.life?.gateway.isMoving ?? false }
    }
}
