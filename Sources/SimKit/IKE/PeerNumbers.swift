// Which SPIs peers choose: no two of them ever the same, so that a packet's SPI names its
// association for as long as a run lasts.

import Crypto
import ESP
import IKEStub
import Wire

/// All SPIs that peers have ever chosen for what they receive.
final class SPIRegister {
    /// Whose SPI it is.
    struct Entry {
        let peer: Int
        /// Counts all SPIs: the place of the association in ledgers.
        let association: Int
    }

    /// Asked for single SPIs only.
    private var entries: [SPI: Entry] = [:]

    /// SPIs so far.
    var count: Int { entries.count }

    subscript(spi: SPI) -> Entry? { entries[spi] }

    fileprivate func draw(_ peer: Int, _ random: inout any RandomSource) -> SPI {
        while true {
            let spi = SPI(UInt32(truncatingIfNeeded: random.uint64()))
            guard !spi.isReserved, entries[spi] == nil else { continue }
            entries[spi] = Entry(peer: peer, association: entries.count)
            return spi
        }
    }
}

/// What one peer's endpoint asks for: it knows by itself what is taken, and has no pool.
final class PeerNumbers: IKEResources {
    private let peer: Int
    private let register: SPIRegister
    /// By SPI of its own: when the last good packet came in.
    private var received: [SPI: UInt64] = [:]

    init(peer: Int, _ register: SPIRegister) {
        self.peer = peer
        self.register = register
    }

    func initiatorSPI(
        replacing predecessor: UInt64?, sibling: SPI?, _ random: inout any RandomSource
    ) -> UInt64 {
        nonZero(&random)
    }

    func responderSPI(initiatorSPI: UInt64, _ random: inout any RandomSource) -> UInt64 {
        nonZero(&random)
    }

    private func nonZero(_ random: inout any RandomSource) -> UInt64 {
        while true {
            let value = random.uint64()
            if value != 0 { return value }
        }
    }

    func inboundSPI(
        initiatorSPI: UInt64, sibling: SPI?, _ random: inout any RandomSource
    ) -> SPI? {
        register.draw(peer, &random)
    }

    func release(_ spi: SPI) { received[spi] = nil }

    func address(from pool: AddressPool, for identity: Identity) -> IPAddress? { nil }

    func release(_ address: IPAddress) {}

    func generation(initiatorSPI: UInt64) -> UInt16 { 1 }

    func lastReceived(_ spi: SPI) -> UInt64? { received[spi] }

    func noteReceived(_ spi: SPI, at now: UInt64) { received[spi] = now }
}
