// Two endpoints set up an IKE SA with a pair of CHILD SAs whose keys agree, or say why not.

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

@Suite struct SetUp {
    @Test(arguments: [
        "aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-ecp256",
        "chacha20poly1305-prfsha512-ecp384", "aes256-sha512-modp2048",
        "aes128-sha256-ecp521", "aes192ccm16-prfsha1-modp3072",
    ])
    func aSharedKeyIsEnough(ike: String) throws {
        var configuration = PairConfiguration()
        configuration.ike = [ike]
        let pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.children.count == 1)
        pair.expectAgreement()
    }

    @Test func extendedNumbersAndTransportMode() throws {
        var configuration = PairConfiguration()
        configuration.esp = ["aes128gcm16-esn"]
        configuration.mode = .transport
        configuration.replayWindow = 0
        configuration.leftSelectors = [.dynamic, .dynamic]
        configuration.rightSelectors = [.dynamic, .dynamic]
        let pair = try configuration.pair()
        try pair.connect()
        let child = try #require(pair.left.children.values.first)
        #expect(child.outbound.parameters.usesESN && child.outbound.parameters.mode == .transport)
        #expect(
            child.outbound.parameters.selectors.source
                == [TrafficSelector(host: IKEPair.path.local)])
        pair.expectAgreement()
    }

    /// RFC 7296 §1.3.1: the responder declines by not answering in kind.
    @Test func transportModeIsDeclined() throws {
        var configuration = PairConfiguration()
        configuration.mode = .transport
        configuration.rightMode = .tunnel
        let pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.children.values.first?.inbound.parameters.mode == .tunnel)
        pair.expectAgreement()
    }

    @Test func withoutAChildThenWithThree() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect(child: nil)
        #expect(pair.left.established.count == 1 && pair.left.children.isEmpty)
        for byLeft in [true, false, true] {
            #expect(try pair.command(.createChild("net"), byLeft: byLeft))
            try pair.deliver()
        }
        #expect(pair.right.children.count == 3)
        pair.expectAgreement()
    }

    @Test func theWrongKeyIsToldOnceAtEachEnd() throws {
        var configuration = PairConfiguration()
        configuration.rightSecret = "swordfist"
        let pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.endpoint.count == 0 && pair.right.endpoint.count == 0)
        #expect(pair.left.count(.authenticationFailed) == 1)
        #expect(pair.right.count(.authenticationFailed) == 1)
        #expect(!pair.reports.contains("sword"))
        pair.expectAgreement()
    }

    @Test func identitiesMustBeThoseThatAreConfigured() throws {
        var configuration = PairConfiguration()
        configuration.adjust = { connection, isLeft in
            if !isLeft { connection.remoteIdentity = .fqdnBelow("elsewhere.test") }
        }
        var pair = try configuration.pair()
        try pair.connect()
        #expect(pair.right.count(.identityUnknown) == 1 && pair.right.endpoint.count == 0)
        // IDr: the initiator asks for somebody whom the responder is not.
        configuration.adjust = { connection, isLeft in
            if isLeft { connection.remoteIdentity = .exactly(.fqdn("somebody.test")) }
        }
        pair = try configuration.pair()
        try pair.connect()
        #expect(pair.right.has(.identityUnknown) && pair.left.endpoint.count == 0)
        // The responder is another than the initiator wants, and learns of it: it has the IKE SA.
        configuration.adjust = { connection, isLeft in
            if isLeft { connection.remoteIdentity = .fqdnBelow("elsewhere.test") }
        }
        pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.has(.identityUnknown) && pair.right.has(.authenticationFailed))
        #expect(pair.left.endpoint.count == 0 && pair.right.endpoint.count == 0)
        pair.expectAgreement()
    }

    /// RFC 7296 §2.21.1: an error that nothing vouches for is not the end, and is told once.
    @Test func noCommonProposal() throws {
        var configuration = PairConfiguration()
        configuration.rightIKE = ["aes128-sha256-modp2048"]
        let pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.endpoint.count == 1 && pair.right.endpoint.count == 0)
        try pair.advance(seconds: 300)
        #expect(pair.left.endpoint.count == 0)
        #expect(pair.left.count(.peerError) == 1)
        // Once in a minute, not once for each of six requests; the others are counted.
        let told = pair.right.reports.filter { $0.kind == .noProposal }.map(\.text)
        #expect((2...4).contains(told.count), "\(told)")
        let counted = told.compactMap { text in
            text.hasPrefix("and ") ? Int(text.split(separator: " ")[1]) : nil
        }
        #expect(!counted.isEmpty && told.count - counted.count + counted.reduce(0, +) == 6)
        let text = try #require(told.first)
        #expect(text.contains("x25519") && text.contains("modp2048"))
    }

    @Test func theOtherGroupIsTriedOnce() throws {
        var configuration = PairConfiguration()
        configuration.ike = ["aes128gcm16-prfsha256-x25519-ecp256"]
        configuration.rightIKE = ["aes128gcm16-prfsha256-ecp256"]
        configuration.esp = ["aes128gcm16-x25519-ecp384"]
        configuration.rightESP = ["aes128gcm16-ecp384"]
        let pair = try configuration.pair()
        try pair.connect()
        pair.expectAgreement()
        let spi = try #require(pair.left.children.keys.first)
        #expect(try pair.command(.rekeyChild(spi), byLeft: true))
        #expect(try pair.command(.rekey, byLeft: true))
        try pair.deliver()
        try pair.advance(seconds: 10)
        pair.expectAgreement()
        #expect(pair.left.children[spi] == nil && pair.left.children.count == 1)
        #expect(pair.left.established.first?.suite?.group == .ecp256)
    }

    /// An attacker names a group that we did not offer (RFC 7296 §2.7), or begins us anew for ever.
    @Test func forgedAnswersToTheFirstMessage() throws {
        let pair = try PairConfiguration().pair()
        try pair.initiate()
        let request = try #require(pair.wire.first)
        let header = try request.octets.withUnsafeBytes { try IKEMessage.read($0).header }
        func answer(_ payload: Payload) -> Flight {
            let message = IKEMessage(
                initiatorSPI: header.initiatorSPI, responderSPI: 0, exchange: .ikeSAInit,
                flags: .response, messageID: 0, payloads: [payload])
            return Flight(
                toResponder: false, octets: message.encoded(), path: request.path.reversed)
        }
        try pair.deliver(answer(.notify(.invalidKEPayload, [0, 14])))
        #expect(pair.wire.count == 1)
        for round in 1...20 { try pair.deliver(answer(.notify(.cookie, [UInt8(round)]))) }
        #expect(pair.wire.count <= 5)
        #expect(pair.left.reports.count <= 2)
        pair.wire = [pair.wire[pair.wire.count - 1]]
        try pair.deliver()
        pair.expectAgreement()
        #expect(pair.left.children.count == 1)
    }

    @Test func childRefusalsLeaveTheIKESAAlone() throws {
        var configuration = PairConfiguration()
        configuration.rightESP = ["aes128-sha256"]
        var pair = try configuration.pair()
        try pair.connect()
        #expect(pair.right.count(.noProposal) == 1 && pair.left.count(.peerError) == 1)
        #expect(pair.left.established.count == 1)
        pair.expectAgreement()
        configuration.rightESP = nil
        configuration.rightSelectors[0] = .fixed([network("10.9.0.0", 16)])
        pair = try configuration.pair()
        try pair.connect()
        #expect(pair.right.count(.selectorsUnacceptable) == 1)
        #expect(pair.left.reports.contains { $0.text.contains("TS_UNACCEPTABLE") })
        pair.expectAgreement()
    }

    @Test func selectorsAreNarrowed() throws {
        var configuration = PairConfiguration()
        configuration.rightSelectors = [
            .fixed([network("10.1.2.0", 24), network("10.1.8.0", 24)]),
            .fixed([network("10.0.0.0", 8)]),
        ]
        let pair = try configuration.pair()
        try pair.connect()
        let child = try #require(pair.left.children.values.first)
        #expect(
            child.outbound.parameters.selectors
                == AssociationSelectors(
                    source: [network("10.1.2.0", 24), network("10.1.8.0", 24)],
                    destination: [network("10.2.0.0", 16)]))
        pair.expectAgreement()
        // Its successor has the same.
        #expect(try pair.command(.rekeyChild(child.inbound.parameters.spi), byLeft: false) == false)
        #expect(try pair.command(.rekeyChild(child.outbound.parameters.spi), byLeft: false))
        try pair.deliver()
        try pair.advance(seconds: 10)
        pair.expectAgreement()
    }

    @Test func noRoom() throws {
        var configuration = PairConfiguration()
        configuration.rightLimits.childrenPerAssociation = 2
        let pair = try configuration.pair()
        try pair.connect()
        for _ in 0..<3 {
            #expect(try pair.command(.createChild("net"), byLeft: true))
            try pair.deliver()
        }
        #expect(pair.left.children.count == 2 && pair.right.count(.noRoom) == 2)
        #expect(pair.left.reports.contains { $0.text.contains("NO_ADDITIONAL_SAS") })
        pair.expectAgreement()
        // A full IKE SA can still rekey.
        let spi = try #require(pair.left.children.keys.min())
        #expect(try pair.command(.rekeyChild(spi), byLeft: true))
        try pair.deliver()
        try pair.advance(seconds: 10)
        #expect(pair.left.children[spi] == nil && pair.left.children.count == 2)
        pair.expectAgreement()
    }

    @Test func noRoomInTheNode() throws {
        var configuration = PairConfiguration()
        configuration.capacity = 1
        let pair = try configuration.pair()
        try pair.connect()
        #expect(try pair.command(.createChild("net"), byLeft: true))
        try pair.deliver()
        #expect(pair.left.count(.noRoom) == 1 && pair.left.children.count == 1)
        pair.expectAgreement()
    }

    @Test func encapsulationIsForced() throws {
        for isLeftForcing in [true, false] {
            var configuration = PairConfiguration()
            configuration.adjust = { $0.forcesEncapsulation = $1 == isLeftForcing }
            let pair = try configuration.pair()
            try pair.connect()
            let child = try #require(pair.left.children.values.first)
            #expect(
                child.outbound.parameters.udp == UDPPorts(source: 4500, destination: 4500))
            #expect(pair.left.established.first?.path.hasMarker == true)
            pair.expectAgreement()
        }
    }

    /// A peer that lost its memory comes back (RFC 7296 §2.4).
    @Test func initialContactClosesTheOldOne() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        pair.left.endpoint = IKEEndpoint(pair.left.world, now: pair.now)
        pair.left.world.resources = LocalResources(capacity: 10)
        for spi in pair.left.children.keys { pair.left.remove(spi) }
        try pair.connect()
        #expect(pair.right.established.count == 1)
        pair.expectAgreement()
    }

    @Test func aSecondSetUpIsNoInitialContact() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        try pair.connect()
        #expect(pair.right.established.count == 2 && pair.right.children.count == 2)
        pair.expectAgreement()
    }
}
