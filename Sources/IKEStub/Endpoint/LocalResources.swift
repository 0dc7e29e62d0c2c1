// Numbers and addresses for a node that stands alone.

public import Crypto
internal import ESP
public import Wire

/// Chooses freely, and remembers what is taken.
public struct LocalResources: IKEResources {
    private let capacity: Int
    private let generation: UInt16
    private var spis: Set<SPI> = []
    private var holders: [IPAddress: Identity] = [:]
    private var received: [SPI: UInt64] = [:]

    /// `capacity`: pairs of CHILD SAs that there is room for. `generation`: of the owner of all IKE
    /// SAs.
    public init(capacity: Int, generation: UInt16 = 1) {
        self.capacity = capacity
        self.generation = generation
    }

    /// SPIs in use, of pairs and of offers.
    var spisTaken: Int { spis.count }
    /// Addresses that peers have.
    var addressesTaken: Int { holders.count }

    /// Random, not 0.
    public mutating func initiatorSPI(
        replacing predecessor: UInt64?, sibling: SPI?, _ random: inout any RandomSource
    ) -> UInt64 { nonZero(&random) }

    /// Random, not 0.
    public mutating func responderSPI(
        initiatorSPI: UInt64, _ random: inout any RandomSource
    ) -> UInt64 { nonZero(&random) }

    private func nonZero(_ random: inout any RandomSource) -> UInt64 {
        while true {
            let value = random.uint64()
            if value != 0 { return value }
        }
    }

    /// Random, not reserved, not in use.
    public mutating func inboundSPI(
        initiatorSPI: UInt64, sibling: SPI?, _ random: inout any RandomSource
    ) -> SPI? {
        guard spis.count < capacity else { return nil }
        while true {
            let spi = SPI(UInt32(truncatingIfNeeded: random.uint64()))
            if !spi.isReserved, spis.insert(spi).inserted { return spi }
        }
    }

    /// The SPI is taken from now on.
    public mutating func claim(_ spi: SPI) { spis.insert(spi) }

    /// The address is taken from now on.
    public mutating func claim(_ address: IPAddress, for identity: Identity) {
        holders[address] = identity
    }

    /// Frees the SPI.
    public mutating func release(_ spi: SPI) {
        spis.remove(spi)
        received[spi] = nil
    }

    /// The first free one, beginning at a place that depends on the identity, so that a peer that
    /// comes back finds its address free more often than not.
    public mutating func address(
        from pool: AddressPool, for identity: Identity
    ) -> IPAddress? {
        address(from: pool, for: identity) { _ in true }
    }

    /// The same among the addresses that `isOurs` allows. All of a pool may be looked at, up to
    /// 65 536 addresses.
    public mutating func address(
        from pool: AddressPool, for identity: Identity, where isOurs: (IPAddress) -> Bool
    ) -> IPAddress? {
        let first = pool.range.first
        let size = pool.size
        let digest = identity.body.withUnsafeBytes { Hash.sha256.digest($0) }
        let start = digest[..<8].reduce(0) { $0 << 8 | UInt64($1) } % size
        for step in 0..<min(size, UInt64(holders.count) + 65_536) {
            let address = first.advanced(by: (start + step) % size)
            guard holders[address] == nil, isOurs(address) else { continue }
            holders[address] = identity
            return address
        }
        return nil
    }

    /// Frees the address.
    public mutating func release(_ address: IPAddress) { holders[address] = nil }

    /// One for all.
    public func generation(initiatorSPI: UInt64) -> UInt16 { generation }

    /// What ``noteReceived(_:at:)`` was told.
    public func lastReceived(_ spi: SPI) -> UInt64? { received[spi] }

    /// A good packet came in through the pair.
    public mutating func noteReceived(_ spi: SPI, at now: UInt64) {
        if spis.contains(spi) { received[spi] = now }
    }
}

extension AddressPool {
    /// Addresses, at most 2^63: no node has more peers.
    var size: UInt64 {
        let last = range.last
        let low = last.low &- range.first.low
        let isWide = last.high != range.first.high
        return isWide || low >= 1 << 63 ? 1 << 63 : low + 1
    }
}

extension IPAddress {
    fileprivate func advanced(by offset: UInt64) -> IPAddress {
        guard family == .v6 else { return IPAddress(v4: UInt32(truncatingIfNeeded: low + offset)) }
        let (sum, carries) = low.addingReportingOverflow(offset)
        return IPAddress(high: high &+ (carries ? 1 : 0), low: sum)
    }
}
