// Where the peer is, whether it lives, and what is said again: forgeries, replays and NATs.

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

@Suite struct Paths {
    /// Left behind a NAT, which gives it that port.
    private final class NAT {
        var port: UInt16 = 40_000
        func translate(_ flight: inout Flight) -> Bool {
            if flight.toResponder {
                flight.path.local = ipv4("203.0.113.9")
                flight.path.localPort = port
            } else {
                guard flight.path.remotePort == port else { return false }
                flight.path.remote = IKEPair.path.local
                flight.path.remotePort = flight.path.localPort
            }
            return true
        }
    }

    private func behindNAT() throws -> (IKEPair, NAT) {
        let pair = try PairConfiguration().pair()
        let nat = NAT()
        pair.passes = nat.translate
        try pair.connect()
        return (pair, nat)
    }

    @Test func natIsFoundAndKeptOpen() throws {
        let (pair, _) = try behindNAT()
        let own = try #require(pair.left.children.values.first).outbound.parameters
        #expect(own.udp == UDPPorts(source: 4500, destination: 4500))
        let other = try #require(pair.right.children.values.first).outbound.parameters
        #expect(other.udp == UDPPorts(source: 4500, destination: 40_000))
        #expect(other.destination == ipv4("203.0.113.9"))
        try pair.advance(seconds: 100)
        #expect(pair.left.keepalives > 1 && pair.right.keepalives == 0)
    }

    @Test func aNewPortIsFollowedOnceItIsAuthentic() throws {
        let (pair, nat) = try behindNAT()
        #expect(try pair.command(.probe, byLeft: true))
        let old = try #require(pair.wire.first)
        try pair.deliver()
        nat.port = 50_000
        #expect(try pair.command(.probe, byLeft: true))
        var damaged = try #require(pair.wire.first)
        damaged.octets[damaged.octets.count - 1] ^= 1
        try pair.deliver(damaged)
        #expect(pair.right.redirects.isEmpty)
        try pair.deliver()
        let redirect = try #require(pair.right.redirects.last)
        #expect(redirect.1.remotePort == 50_000 && pair.right.redirects.count == 1)
        #expect(pair.right.count(.pathChanged) == 1)
        // What was captured before does not move the peer back.
        try pair.deliver(old)
        #expect(pair.right.redirects.count == 1)
    }

    /// The last request, replayed from elsewhere: it is answered there, and nothing else.
    @Test func replaysMoveNobodyAndProveNothing() throws {
        let (pair, _) = try behindNAT()
        #expect(try pair.command(.probe, byLeft: true))
        var captured = try #require(pair.wire.first)
        try pair.deliver()
        captured.path.local = ipv4("198.51.100.66")
        captured.path.localPort = 4500
        let heard = try #require(pair.right.established.first).times.heard
        pair.now += 10_000_000_000
        try pair.deliver(captured)
        #expect(pair.right.redirects.isEmpty)
        #expect(pair.right.established.first?.times.heard == heard)
        #expect(pair.right.established.first?.path.remote == ipv4("203.0.113.9"))
        #expect(pair.wire.first?.path.remote == ipv4("198.51.100.66"))
    }

    /// A fragment of an answered request is not opened unless it is the first: it must not count.
    @Test func forgedFragmentsMoveNobody() throws {
        let (pair, _) = try behindNAT()
        let association = try #require(pair.right.established.first)
        let id = association.responses.nextID - 1
        var octets = association.initiatorSPI.octets + association.responderSPI.octets
        octets += [53, 0x20, 37, IKEHeader.Flags.initiator.rawValue] + id.octets
        let body = [UInt8](repeating: 7, count: 60)
        octets += UInt32(28 + 8 + body.count).octets
        octets += [0, 0] + UInt16(8 + body.count).octets + [0, 2, 0, 2] + body
        var path = IKEPair.path
        path.local = ipv4("198.51.100.66")
        pair.now += 5_000_000_000
        let heard = association.times.heard
        try pair.deliver(Flight(toResponder: true, octets: octets, path: path))
        #expect(pair.right.redirects.isEmpty && association.times.heard == heard)
        #expect(pair.wire.isEmpty)
    }

    @Test func withoutNATThePeerStaysWhereItIs() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        #expect(try pair.command(.probe, byLeft: true))
        pair.wire[0].path.local = ipv4("198.51.100.66")
        try pair.deliver()
        #expect(pair.right.redirects.isEmpty)
    }
}

extension Paths {
    private static let second: UInt64 = 1_000_000_000

    /// A packet of the only pair, at the right end or at the left one.
    private func packet(
        _ pair: IKEPair, atLeft: Bool = false, from remote: String = "203.0.113.9", port: UInt16
    ) throws {
        let end = pair.end(isLeft: atLeft)
        let association = try #require(end.established.first)
        let spi = try #require(association.children.first).inbound
        let outcome = end.endpoint.noteReceived(
            spi, localSPI: association.localSPI, from: ipv4(remote), port: port, now: pair.now)
        #expect(outcome.events.isEmpty == outcome.changed.isEmpty)
        try pair.take(outcome, fromLeft: atLeft)
    }

    @Test func packetsMoveAllPairsAndMessages() throws {
        let (pair, nat) = try behindNAT()
        try pair.command(.createChild("net"), byLeft: true)
        try pair.deliver()
        try packet(pair, port: 40_000)
        #expect(pair.right.redirects.isEmpty)
        nat.port = 50_000
        try packet(pair, port: 50_000)
        #expect(Set(pair.right.redirects.map(\.0)) == Set(pair.right.children.keys))
        #expect(pair.right.redirects.count == 2)
        #expect(pair.right.redirects.allSatisfy { $0.1.remotePort == 50_000 && $0.1.hasMarker })
        #expect(pair.right.count(.pathChanged) == 1)
        try packet(pair, port: 50_000)
        #expect(pair.right.redirects.count == 2)
        // The NAT passes nothing to the port before: the check arrives, or the peer is silent.
        try pair.command(.probe, byLeft: false)
        try pair.deliver()
        #expect(pair.right.isIdle)
        // The next owner knows it too.
        try pair.revive(pair.right, Array(pair.right.stored.values))
        #expect(pair.right.established.first?.path.remotePort == 50_000)
    }

    @Test func packetsMoveNotMoreThanOnceInASecond() throws {
        let (pair, _) = try behindNAT()
        try packet(pair, port: 50_000)
        try packet(pair, port: 50_001)
        #expect(pair.right.redirects.map(\.1.remotePort) == [50_000])
        pair.now += Self.second
        try packet(pair, from: "203.0.113.10", port: 50_001)
        #expect(pair.right.redirects.map(\.1.remotePort) == [50_000, 50_001])
        #expect(pair.right.established.first?.path.remote == ipv4("203.0.113.10"))
    }

    /// An end behind a NAT, ends without one, a family that can't be, and pairs whose packets may
    /// be replays or stragglers.
    @Test func packetsThatMoveNobody() throws {
        var (pair, _) = try behindNAT()
        try packet(pair, atLeft: true, from: "198.51.100.66", port: 4500)
        #expect(pair.left.redirects.isEmpty)
        try packet(pair, from: "2001:db8::1", port: 4500)
        let spi = try #require(pair.left.children.keys.first)
        try pair.command(.deleteChild(spi), byLeft: true)
        try pair.deliver()
        try packet(pair, port: 50_000)
        #expect(pair.right.redirects.isEmpty)

        pair = try PairConfiguration().pair()
        try pair.connect()
        try packet(pair, from: "198.51.100.66", port: 4500)
        #expect(pair.right.redirects.isEmpty)

        var configuration = PairConfiguration()
        configuration.replayWindow = 0
        pair = try configuration.pair()
        pair.passes = NAT().translate
        try pair.connect()
        try packet(pair, port: 50_000)
        #expect(pair.right.redirects.isEmpty)
    }
}

@Suite struct Repetitions {
    @Test func requestsAndAnswersAreRepeatedAsTheyWere() throws {
        var configuration = PairConfiguration()
        configuration.timers.retransmissionTries = 20
        configuration.timers.retransmissionBase = 100
        let pair = try configuration.pair()
        var seen: [[UInt8]] = []
        var source = SeededSource(1)
        pair.passes = { flight in
            seen.append(flight.octets)
            return source.uint64() % 2 == 0
        }
        try pair.initiate()
        try pair.deliver()
        try pair.advance(seconds: 29)
        #expect(pair.left.children.count == 1)
        // Two requests and two answers, and never with other octets.
        #expect(seen.count > 8 && Set(seen).count == 4)
    }

    @Test func aDeadPeerIsGivenUpOnce() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        pair.passes = { _ in false }
        try pair.advance(seconds: 300)
        for end in [pair.left, pair.right] {
            #expect(end.endpoint.count == 0 && end.children.isEmpty)
            #expect(end.count(.peerSilent) == 1 && end.resources.spisTaken == 0)
            #expect(end.endpoint.deadline == nil || end.endpoint.count == 0)
        }
    }

    /// Packets are a sign of life (RFC 7296 §2.4).
    @Test func trafficSparesLivenessChecks() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        var sent = 0
        pair.passes = { _ in
            sent += 1
            return true
        }
        for _ in 0..<20 {
            for end in [pair.left, pair.right] {
                var resources = end.resources
                for spi in end.children.keys { resources.noteReceived(spi, at: pair.now) }
                end.world.resources = resources
            }
            try pair.advance(seconds: 10)
        }
        #expect(sent == 0)
        try pair.advance(seconds: 100)
        #expect(sent > 0)
    }

    @Test func theAnswerToADeleteIsLost() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        #expect(try pair.command(.delete, byLeft: true))
        let request = try #require(pair.wire.first)
        var lost = 1
        pair.passes = { flight in
            guard !flight.toResponder, lost > 0 else { return true }
            lost -= 1
            return false
        }
        try pair.deliver()
        #expect(pair.right.endpoint.count == 0 && pair.left.endpoint.count == 1)
        try pair.advance(seconds: 3)
        #expect(pair.left.endpoint.count == 0 && pair.left.count(.peerSilent) == 0)
        // Not for ever, and only for the same octets.
        var other = request
        other.octets[40] ^= 1
        try pair.deliver(other)
        #expect(pair.wire.isEmpty)
        pair.now += 200_000_000_000
        try pair.deliver(request)
        #expect(pair.wire.isEmpty)
    }

    @Test func theRefusalIsLost() throws {
        var configuration = PairConfiguration()
        configuration.rightSecret = "other"
        let pair = try configuration.pair()
        try pair.initiate()
        var lost = 2
        pair.passes = { flight in
            // The first answer is that to IKE_SA_INIT.
            guard !flight.toResponder else { return true }
            lost -= 1
            return lost != 0
        }
        try pair.deliver()
        try pair.advance(seconds: 10)
        #expect(pair.left.count(.authenticationFailed) == 1 && pair.left.count(.peerSilent) == 0)
        #expect(pair.right.count(.authenticationFailed) == 1)
    }

    @Test func farewellsAreBounded() {
        var book = FarewellBook()
        func answer(_ spi: UInt64, _ now: UInt64) -> [[UInt8]]? {
            spi.octets.withUnsafeBytes { book.answer(to: $0, localSPI: spi, now: now) }
        }
        for spi in UInt64(1)...1000 {
            spi.octets.withUnsafeBytes {
                book.remember([[1]], to: $0, localSPI: spi, now: spi)
            }
        }
        #expect(answer(744, 1000) == nil && answer(745, 1000) != nil)
        #expect(answer(1000, 1000 + FarewellBook.nanoseconds) == nil)
    }

    @Test func everythingTwiceAndBackwards() throws {
        let pair = try PairConfiguration().pair()
        try pair.initiate()
        for _ in 0..<40 where !pair.wire.isEmpty {
            let flights = Array(pair.wire.reversed())
            pair.wire = []
            for flight in flights + flights { try pair.deliver(flight) }
            if pair.wire.count > 50 { break }
            pair.wire = Array(Set(pair.wire.map(\.octets))).compactMap { octets in
                pair.wire.first { $0.octets == octets }
            }
            if pair.left.isIdle, pair.right.isIdle { break }
        }
        #expect(pair.left.children.count == 1)
        pair.expectAgreement()
    }
}

@Suite struct MalformedContents {
    /// A message that the left end seals by hand.
    private func seal(
        _ pair: IKEPair, _ exchange: ExchangeType, _ content: [UInt8], first: UInt8
    ) throws -> Flight {
        let association = try #require(pair.left.established.first)
        let message = IKEMessage(
            initiatorSPI: association.initiatorSPI, responderSPI: association.responderSPI,
            exchange: exchange, flags: .initiator, messageID: association.requests.nextID,
            payloads: [])
        association.requests.nextID += 1
        let protection = try association.protection(sending: true, pair.left.world)
        let octets = try protection.seal(
            message, content[...], first: first, fragment: nil,
            iv: .counter(association.nextIV()))
        return Flight(toResponder: true, octets: octets, path: IKEPair.path)
    }

    private func answer(_ pair: IKEPair, _ flight: Flight) throws -> Notify? {
        try pair.deliver(flight)
        let answer = pair.wire.removeLast()
        let association = try #require(pair.left.established.first)
        let protection = try association.protection(sending: false, pair.left.world)
        return try answer.octets.withUnsafeBytes { octets in
            try protection.open(octets, IKEMessage.read(octets))
        }.errorNotify
    }

    @Test func requestsThatCannotBeReadAreAnswered() throws {
        let pair = try PairConfiguration().pair()
        try pair.connect()
        let broken = try seal(pair, .informational, [0, 0, 0, 99], first: 42)
        #expect(try answer(pair, broken)?.notifyType == .invalidSyntax)
        let critical = try seal(pair, .informational, [0, 0x80, 0, 4], first: 201)
        #expect(try answer(pair, critical)?.notifyType == .unsupportedCriticalPayload)
        let nonces = Payload.chain([
            .nonce([UInt8](repeating: 1, count: 32)), .nonce([UInt8](repeating: 2, count: 32)),
        ])
        #expect(
            try answer(pair, seal(pair, .createChildSA, nonces, first: 40))?.notifyType
                == .invalidSyntax)
        #expect(
            try answer(pair, seal(pair, .createChildSA, [], first: 0))?.notifyType
                == .invalidSyntax)
        #expect(
            try answer(pair, seal(pair, .ikeAuth, [], first: 0))?.notifyType == .invalidSyntax)
        let unknown = Payload.chain([
            .notify(Notify(.rekeySA, protocol: .esp, spi: [1, 2, 3, 4])),
            .notify(Notify(.useTransportMode)),
        ])
        #expect(
            try answer(pair, seal(pair, .createChildSA, unknown, first: 41))?.notifyType
                == .childSANotFound)
        // A delete of what is not there, and of what can't be.
        let deletes = Payload.chain([.delete(Delete(esp: [SPI(77), SPI(0x1234_5678)]))])
        #expect(try answer(pair, seal(pair, .informational, deletes, first: 42)) == nil)
        #expect(pair.right.children.count == 1)
        pair.expectAgreement()
    }
}
