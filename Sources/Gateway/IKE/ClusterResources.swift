// Numbers and addresses for the IKE side of a node, under the distribution of its cluster.

import Cluster
import Crypto
import ESP
import IKEStub
import Wire

/// SPIs whose distribution identifier is that of the IKE SA: one node owns the negotiation and the
/// packets that come of it (the patent's identifier of cookie and SPI).
final class ClusterResources: IKEResources {
    private let distribution: Distribution
    /// Pairs that this node has room for.
    private let capacity: Int
    private var inUse: Set<SPI> = []
    /// Those that were offered to peers, and have no sessions yet.
    private var offers: Set<SPI> = []
    /// Pairs that the card has room for now.
    var room = Int.max
    private var received: [SPI: UInt64] = [:]
    private var pools = LocalResources(capacity: 0)
    /// Addresses that peers of any node have, and how many of their IKE SAs name each.
    private var addressCounts: [IPAddress: Int] = [:]
    /// By identifier: the generation under which its owner speaks, and whether that is this node.
    private var generations: [UInt16]
    private var isOwn: [Bool]

    init(_ distribution: Distribution, capacity: Int) {
        self.distribution = distribution
        self.capacity = capacity
        generations = Array(repeating: 0, count: distribution.identifierCount)
        isOwn = Array(repeating: false, count: distribution.identifierCount)
    }

    /// What follows from a new allocation, or from taking and giving up an identifier.
    func note(_ identifier: DistributionIdentifier, generation: UInt16, isOwn own: Bool) {
        generations[Int(identifier.value)] = generation
        isOwn[Int(identifier.value)] = own
    }

    // MARK: IKE SAs

    func initiatorSPI(
        replacing predecessor: UInt64?, sibling: SPI?, _ random: inout any RandomSource
    ) -> UInt64 {
        let wanted =
            sibling.map { distribution.identifier(of: $0) }
            ?? predecessor.map { distribution.identifier(ofInitiatorCookie: $0) }
        // A node that owns one identifier of 4096 needs some ten thousand draws at most in
        // practice; one that owns nothing gets what it may not use.
        for _ in 0..<100_000 {
            let spi = nonZero(&random)
            let identifier = distribution.identifier(ofInitiatorCookie: spi)
            if wanted.map({ $0 == identifier }) ?? isOwn[Int(identifier.value)] { return spi }
        }
        return nonZero(&random)
    }

    func responderSPI(initiatorSPI: UInt64, _ random: inout any RandomSource) -> UInt64 {
        nonZero(&random)
    }

    private func nonZero(_ random: inout any RandomSource) -> UInt64 {
        while true {
            let spi = random.uint64()
            if spi != 0 { return spi }
        }
    }

    func generation(initiatorSPI: UInt64) -> UInt16 {
        generations[Int(distribution.identifier(ofInitiatorCookie: initiatorSPI).value)]
    }

    // MARK: Pairs

    /// A peer's rekeying of the IKE SA may have taken it to another identifier than its pairs:
    /// these stay together, so that one node chooses which of them sends.
    func inboundSPI(
        initiatorSPI: UInt64, sibling: SPI?, _ random: inout any RandomSource
    ) -> SPI? {
        guard inUse.count < capacity, offers.count < room else { return nil }
        let identifier =
            sibling.map { distribution.identifier(of: $0) }
            ?? distribution.identifier(ofInitiatorCookie: initiatorSPI)
        // So many pairs of one identifier would fill the card of a node before.
        for _ in 0..<1000 {
            let low = UInt32(truncatingIfNeeded: random.uint64())
            let spi = distribution.spi(for: identifier, low: low)
            if inUse.insert(spi).inserted {
                offers.insert(spi)
                return spi
            }
        }
        return nil
    }

    func claim(_ spi: SPI) { inUse.insert(spi) }

    /// The pair has its place.
    func noteInstalled(_ spi: SPI) { offers.remove(spi) }

    func release(_ spi: SPI) {
        inUse.remove(spi)
        offers.remove(spi)
        received[spi] = nil
    }

    func lastReceived(_ spi: SPI) -> UInt64? { received[spi] }

    /// A good packet came in through the pair.
    func noteReceived(_ spi: SPI, at now: UInt64) {
        if inUse.contains(spi) { received[spi] = now }
    }

    // MARK: Addresses

    /// Each address of a pool belongs to an identifier, whose owner alone gives it to a peer: so
    /// two nodes can't give one at the same moment. What peers of other nodes have is known from
    /// the store.
    func address(from pool: AddressPool, for identity: Identity) -> IPAddress? {
        pools.address(from: pool, for: identity) { address in
            let offset = address.low &- pool.range.first.low
            let place = Int(offset % UInt64(distribution.identifierCount))
            return isOwn[place] && addressCounts[address] == nil
        }
    }

    func claim(_ address: IPAddress, for identity: Identity) {
        pools.claim(address, for: identity)
    }

    func release(_ address: IPAddress) { pools.release(address) }

    /// The store's record of an IKE SA changed.
    func noteAddresses(_ new: [IPAddress], insteadOf old: [IPAddress]) {
        for address in old {
            let rest = (addressCounts[address] ?? 1) - 1
            addressCounts[address] = rest == 0 ? nil : rest
        }
        for address in new { addressCounts[address, default: 0] += 1 }
    }
}
