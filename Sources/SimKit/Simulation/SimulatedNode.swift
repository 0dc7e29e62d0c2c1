// A node of a simulation: the real gateway with a clock of its own, which may stop and die.

import Cluster
import Gateway

/// One machine. Its gateway comes and goes with its lives.
final class SimulatedNode {
    /// A place for a value that can't be copied into an optional class property at will.
    final class Life {
        var gateway: Gateway
        /// What the gateway owned, a bit for each identifier, and until when it could serve, by its
        /// own clock, after the last step of its control plane.
        var owned: [UInt64]
        var servingUntil: UInt64 = 0

        init(_ gateway: consuming Gateway) {
            let words = (gateway.distribution.identifierCount + 63) / 64
            owned = Array(repeating: 0, count: words)
            self.gateway = gateway
        }

        func noteRights() {
            gateway.writeOwned(to: &owned)
            servingUntil = gateway.servingUntilNanoseconds
        }
    }

    let id: NodeID
    /// nil: it is down.
    var life: Life?
    /// Rises with every crash and start: what was meant for another life is dropped.
    var lives: UInt32 = 0
    /// It executes nothing before this time.
    var stoppedUntil: UInt64 = 0
    /// The tick that is planned; later ones are void.
    var plannedTick: UInt64 = .max
    /// What its dead lives counted.
    var buried = GatewayCounters()

    // Its clock: local = localBase + (true - trueBase) · rate / 1 000 000.
    private var localBase: UInt64
    private var trueBase: UInt64 = 0
    private(set) var rate: UInt64 = 1_000_000

    // The connection to the store.
    var isStoreCut = 0
    var watchRevision: UInt64?
    /// The number of the request that began the watch.
    var watch: UInt64 = 0
    var watchArrival: UInt64 = 0

    init(id: NodeID, clock: UInt64) {
        self.id = id
        localBase = clock
    }

    func local(_ time: UInt64) -> UInt64 { localBase + (time - trueBase) * rate / 1_000_000 }

    /// The first moment at which the node's clock shows at least `local`.
    func trueTime(_ local: UInt64) -> UInt64 {
        guard local > localBase else { return trueBase }
        return trueBase + ((local - localBase) * 1_000_000 + rate - 1) / rate
    }

    func setRate(_ rate: UInt64, at time: UInt64) {
        localBase = local(time)
        trueBase = time
        self.rate = rate
    }
}
