// Addresses from pools (RFC 7296 §2.19, §3.15).

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

@Suite struct VirtualAddresses {
    private func configuration(_ networks: [TrafficSelector]) -> PairConfiguration {
        var configuration = PairConfiguration()
        configuration.leftSelectors = [.dynamic, .fixed([network("10.2.0.0", 16)])]
        configuration.rightSelectors = [.dynamic, .fixed([network("10.2.0.0", 16)])]
        configuration.pools = networks.enumerated().map {
            AddressPool(name: "pool \($0.offset)", range: $0.element)
        }
        configuration.adjust = { if $1 { $0.asksForAddress = true } }
        return configuration
    }

    private func expectAddress(
        _ pair: IKEPair, in range: TrafficSelector
    ) throws -> IPAddress {
        let association = try #require(pair.left.established.first)
        let address = try #require(association.virtualAddresses.first)
        #expect(range.contains(TrafficSelector(host: address)))
        let source = pair.left.children.values.first?.outbound.parameters.selectors.source
        #expect(source == [TrafficSelector(host: address)])
        #expect(pair.right.established.first?.virtualAddresses == [address])
        pair.expectAgreement()
        return address
    }

    @Test(arguments: ["10.9.0.0/30", "2001:db8:9::/126"])
    func anAddressOfEachFamily(range: String) throws {
        let parts = range.split(separator: "/").map(String.init)
        let pool = network(parts[0], try #require(Int(parts[1])))
        var configuration = configuration([pool])
        if parts[0].contains(":") {
            let remote = ChildPolicy.Selectors.fixed([network("2001:db8:2::", 48)])
            configuration.leftSelectors[1] = remote
            configuration.rightSelectors[1] = remote
        }
        let pair = try configuration.pair()
        pair.revival = .move
        try pair.connect()
        let address = try expectAddress(pair, in: pool)
        // Rekeying, by the end that has no address too, changes nothing about it.
        for byLeft in [false, true] {
            #expect(try pair.command(.rekey, byLeft: byLeft))
            try pair.deliver()
            let spi = try #require(pair.end(isLeft: byLeft).children.keys.first)
            #expect(try pair.command(.rekeyChild(spi), byLeft: byLeft))
            try pair.deliver()
            try pair.advance(seconds: 10)
            #expect(try expectAddress(pair, in: pool) == address)
        }
        #expect(pair.right.resources.addressesTaken == 1)
        #expect(try pair.command(.delete, byLeft: false))
        try pair.deliver()
        #expect(pair.right.resources.addressesTaken == 0)
        pair.expectAgreement()
    }

    @Test func anEmptyPoolRefusesTheChildOnly() throws {
        let pair = try configuration([network("10.9.0.1", 32)]).pair()
        _ = pair.right.world.resources.address(
            from: pair.right.world.configuration.pools[0], for: .fqdn("other"))
        try pair.connect()
        #expect(pair.right.count(.addressFailure) == 1 && pair.left.children.isEmpty)
        #expect(pair.left.established.count == 1)
        #expect(pair.left.reports.contains { $0.text.contains("INTERNAL_ADDRESS_FAILURE") })
        pair.expectAgreement()
    }

    /// A pool of one address: who comes back after a crash finds its own.
    @Test func whoComesBackGetsItsAddress() throws {
        let pool = network("10.9.0.1", 32)
        let pair = try configuration([pool]).pair()
        for _ in 0..<3 {
            try pair.connect()
            _ = try expectAddress(pair, in: pool)
            pair.left.endpoint = IKEEndpoint(pair.left.world, now: pair.now)
            pair.left.world.resources = LocalResources(capacity: 10)
            for spi in pair.left.children.keys { pair.left.remove(spi) }
        }
    }

    @Test func poolsOfBothFamilies() throws {
        let pair = try configuration([network("10.9.0.0", 24), network("2001:db8:9::", 64)])
            .pair()
        try pair.connect()
        let families = pair.left.established.first?.virtualAddresses.map(\.family)
        #expect(families == [.v4, .v6])
        #expect(pair.right.resources.addressesTaken == 2)
        pair.expectAgreement()
    }
}
