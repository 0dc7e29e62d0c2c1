// What one authenticated peer can take: a number of IKE SAs, and no more by rekeying them.

import Crypto
import Testing
import Wire

@testable import IKEStub

@Suite struct IdentityLimits {
    private func configuration(limit: Int = 16) -> PairConfiguration {
        var configuration = PairConfiguration()
        configuration.adjust = { connection, isLeft in
            guard !isLeft else { return }
            connection.remoteIdentity = .any
            connection.associationsPerIdentity = limit
        }
        return configuration
    }

    /// The left end is somebody else from now on.
    private func rename(_ pair: IKEPair, _ identity: Identity) throws {
        var configuration = PairConfiguration()
        configuration.leftIdentity = identity
        pair.left.world.configuration = try configuration.connection(isLeft: true)
    }

    @Test func onePeerHasSixteenAtMost() throws {
        var configuration = configuration()
        configuration.pools = [AddressPool(name: "guests", range: network("10.99.0.0", 24))]
        let old = configuration.adjust
        configuration.adjust = { connection, isLeft in
            old(&connection, isLeft)
            connection.asksForAddress = isLeft
        }
        let pair = try configuration.pair()
        for _ in 0..<20 { try pair.connect() }
        #expect(pair.right.established.count == 16 && pair.left.established.count == 16)
        #expect(pair.right.resources.addressesTaken == 16)
        // Four refusals, and one line about them.
        #expect(pair.right.endpoint.counters[.identityLimit] == 4)
        #expect(pair.right.count(.tooManyAssociations) == 1)
        #expect(pair.left.count(.authenticationFailed) == 4)
        pair.expectAgreement()
        try pair.command(.delete, byLeft: true)
        try pair.deliver()
        try pair.connect()
        #expect(pair.right.established.count == 16)
        #expect(pair.right.endpoint.counters[.identityLimit] == 4)
        pair.expectAgreement()
    }

    /// A name in other letters is the same name; another name is not.
    @Test func othersAreNotLimited() throws {
        let pair = try configuration(limit: 2).pair()
        for name in ["left.test", "LEFT.test", "Left.Test"] {
            try rename(pair, .fqdn(name))
            try pair.connect()
        }
        #expect(pair.right.established.count == 2)
        try rename(pair, .fqdn("other.test"))
        try pair.connect()
        #expect(pair.right.established.count == 3)
        #expect(pair.right.endpoint.counters[.identityLimit] == 1)
    }

    /// A peer that has forgotten everything says so, and is not refused for what it had.
    @Test func initialContactMakesRoom() throws {
        let pair = try configuration(limit: 1).pair()
        for _ in 0..<3 {
            pair.left.endpoint = IKEEndpoint(pair.left.world, now: pair.now)
            try pair.connect()
            #expect(pair.right.established.count == 1)
        }
        #expect(pair.right.endpoint.counters[.identityLimit] == 0)
    }

    @Test(arguments: Revival.all)
    func rekeyingIsNoFurtherOne(revival: Revival) throws {
        let pair = try configuration(limit: 1).pair()
        pair.revival = revival
        try pair.connect()
        for isLeft in [true, false, true] {
            try pair.command(.rekey, byLeft: isLeft)
            try pair.deliver()
            try pair.command(.rekey, byLeft: true)
            try pair.command(.rekey, byLeft: false)
            try pair.deliver()
            try pair.advance(seconds: 40)
        }
        #expect(pair.right.established.count == 1 && pair.left.count(.rekeyed) >= 3)
        pair.revival = .never
        try pair.connect()
        #expect(pair.right.established.count == 1)
        pair.expectAgreement()
    }

    /// A peer that rekeys in a loop and never deletes what it has replaced.
    @Test func replacedAssociationsDoNotPileUp() throws {
        let pair = try configuration(limit: 2).pair()
        try pair.connect()
        pair.passes = { !$0.toResponder || $0.octets[18] != ExchangeType.informational.rawValue }
        for _ in 0..<20 {
            try pair.command(.rekey, byLeft: true)
            try pair.deliver()
        }
        #expect(pair.right.endpoint.count == 4)
        #expect(pair.right.endpoint.counters[.identityLimit] > 0)
        let rekeyed = pair.right.count(.rekeyed)
        pair.passes = { _ in true }
        try pair.advance(seconds: 60)
        try pair.command(.rekey, byLeft: true)
        try pair.deliver()
        #expect(pair.right.count(.rekeyed) > rekeyed && pair.right.children.count == 1)
        try pair.advance(seconds: 60)
        #expect(pair.right.endpoint.count == 1)
        pair.expectAgreement()
    }

    @Test func namesThatAreTheSameAreFoundTogether() throws {
        func name(_ text: String) throws -> Identity {
            .distinguishedName(try DistinguishedName(text: text).der)
        }
        let same = [
            try name("C=CH, O=Lab Network, CN=gw"), try name("C=CH, O=lab  network, CN=GW"),
            try name("C=CH, O=\"Lab Network \", CN=gw"),
        ]
        for (left, right) in zip(same, same.dropFirst()) {
            #expect(left.isSame(as: right) && PeerName(left) == PeerName(right))
        }
        #expect(PeerName(same[0]) != PeerName(try name("C=CH, O=Lab Network, CN=gw2")))
        #expect(PeerName(.fqdn("a.test")) != PeerName(.email("a.test")))
        #expect(PeerName(.keyID([1])) != PeerName(.keyID([2])))
    }
}
