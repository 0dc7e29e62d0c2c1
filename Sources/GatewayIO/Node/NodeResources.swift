// Numbers and addresses for the IKE side of a node, under the distribution of its cluster.

internal import Cluster
internal import Crypto
internal import ESP
internal import IKEStub
internal import Wire

/// SPIs whose distribution identifier is that of the IKE SA: one node owns the negotiation and the
/// packets that come of it (the patent's DI of cookie and SPI).
final class NodeResources: IKEResources {
    private let distribution: Distribution
    private let capacity: Int
    private var inUse: Set<SPI> = []
    private var received: [SPI: UInt64] = [:]
    private var addresses = LocalResources(capacity: 0)

    init(_ distribution: Distribution, capacity: Int) {
        self.distribution = distribution
        self.capacity = capacity
    }

    func initiatorSPI(replacing predecessor: UInt64?, _ random: inout any RandomSource) -> UInt64 {
        addresses.initiatorSPI(replacing: predecessor, &random)
    }

    func generation(initiatorSPI: UInt64) -> UInt16 { 1 }

    func responderSPI(initiatorSPI: UInt64, _ random: inout any RandomSource) -> UInt64 {
        addresses.responderSPI(initiatorSPI: initiatorSPI, &random)
    }

    func inboundSPI(initiatorSPI: UInt64, _ random: inout any RandomSource) -> SPI? {
        guard inUse.count < capacity else { return nil }
        let identifier = distribution.identifier(ofInitiatorCookie: initiatorSPI)
        // So many pairs of one identifier would fill the card of a node before.
        for _ in 0..<1000 {
            let low = UInt32(truncatingIfNeeded: random.uint64())
            let spi = distribution.spi(for: identifier, low: low)
            if inUse.insert(spi).inserted { return spi }
        }
        return nil
    }

    func release(_ spi: SPI) {
        inUse.remove(spi)
        received[spi] = nil
    }

    func address(from pool: AddressPool, for identity: Identity) -> IPAddress? {
        addresses.address(from: pool, for: identity)
    }

    func release(_ address: IPAddress) { addresses.release(address) }

    func lastReceived(_ spi: SPI) -> UInt64? { received[spi] }

    /// A good packet came in through the pair.
    func noteReceived(_ spi: SPI, at now: UInt64) {
        if inUse.contains(spi) { received[spi] = now }
    }
}
