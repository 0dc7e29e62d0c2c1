// Pairs that carried so many packets that they need new keys.

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

@Suite struct PacketLifetimes {
    /// The only pair of an end.
    private func pair(_ end: IKEEnd) throws -> NewChild {
        #expect(end.children.count == 1)
        return try #require(end.children.values.first)
    }

    @Test(arguments: [
        ("aes128gcm16", UInt64(0xF000_0000), UInt64.max),
        ("chacha20poly1305", 0xF000_0000, .max),
        ("aes256gcm16-esn", 0x4_0000_0000, 0x8_0000_0000),
        ("aes128-sha256-esn", 0x4_0000_0000, 0x8_0000_0000),
        ("chacha20poly1305-esn", 0x4000_0000_0000, 0x8000_0000_0000),
    ])
    func pairsHaveLimits(esp: String, soft: UInt64, hard: UInt64) throws {
        var configuration = PairConfiguration()
        configuration.esp = [esp]
        let ends = try configuration.pair()
        try ends.connect()
        for end in [ends.left, ends.right] {
            let child = try pair(end)
            let sent = child.outbound.parameters.lifetimes
            #expect(sent.softPackets == soft && sent.hardPackets == hard)
            let received = child.inbound.parameters.lifetimes
            #expect(received.hardPackets == .max)
            // The one that sends is the first to rekey, and both do before the numbers end.
            #expect(received.softPackets > soft)
            #expect(received.softPackets < (child.inbound.parameters.usesESN ? hard : 1 << 32))
        }
    }

    private func note(_ ends: IKEPair, _ spi: SPI, atLeft: Bool = true) throws {
        let end = ends.end(isLeft: atLeft)
        let association = try #require(end.established.first)
        try ends.take(
            end.endpoint.noteSoftLifetime(
                spi, localSPI: association.localSPI, now: ends.now, seconds: ends.seconds),
            fromLeft: atLeft)
    }

    @Test func aPairIsRekeyedOnce() throws {
        let ends = try PairConfiguration().pair()
        try ends.connect()
        let old = try pair(ends.left).inbound.parameters.spi
        try note(ends, old)
        #expect(ends.wire.count == 1)
        try note(ends, old)
        #expect(ends.wire.count == 1)
        try ends.deliver()
        // The old pair is on its way out: it asks in vain, and so does one that never was.
        try note(ends, old)
        try note(ends, SPI(77))
        #expect(ends.wire.isEmpty)
        try ends.advance(seconds: 6)
        let new = try pair(ends.left).inbound.parameters.spi
        #expect(new != old && ends.left.count(.childRekeyed) == 1)
        try note(ends, new)
        try ends.deliver()
        try ends.advance(seconds: 6)
        #expect(ends.left.count(.childRekeyed) == 2)
        ends.expectAgreement()
    }

    /// Behind another request, behind a rekeying that was asked for, and at both ends at once.
    @Test func whatIsUnderWayIsNotAskedAgain() throws {
        let ends = try PairConfiguration().pair()
        try ends.connect()
        var spi = try pair(ends.left).inbound.parameters.spi
        try ends.command(.probe, byLeft: true)
        try note(ends, spi)
        try note(ends, spi)
        #expect(ends.left.established[0].requests.tasks == [.rekeyChild(spi)])
        try ends.deliver()
        try ends.advance(seconds: 6)
        spi = try pair(ends.left).inbound.parameters.spi
        try ends.command(.rekeyChild(spi), byLeft: true)
        try note(ends, spi)
        #expect(ends.left.established[0].requests.tasks.isEmpty)
        try ends.deliver()
        try ends.advance(seconds: 6)
        #expect(ends.left.count(.childRekeyed) == 2)
        try note(ends, try pair(ends.left).inbound.parameters.spi)
        try note(ends, try pair(ends.right).inbound.parameters.spi, atLeft: false)
        try ends.deliver()
        try ends.advance(seconds: 6)
        _ = try pair(ends.left)
        ends.expectAgreement()
    }

    /// What is refused is tried again at its time, not whenever a packet asks; the next owner does
    /// not begin anew either.
    @Test func aRefusalIsNotAskedAgainAtOnce() throws {
        var configuration = PairConfiguration()
        configuration.capacity = 1
        let ends = try configuration.pair()
        try ends.connect()
        let spi = try pair(ends.left).inbound.parameters.spi
        for _ in 0..<3 { try note(ends, spi) }
        #expect(ends.left.count(.noRoom) == 1 && ends.wire.isEmpty)
        try ends.revive(ends.left, Array(ends.left.stored.values))
        try note(ends, spi)
        #expect(ends.left.count(.noRoom) == 1)
        let child = try #require(ends.left.established.first?.children.first)
        let retry = child.rekey
        #expect(retry > ends.now && retry < child.end)
        try ends.advance(to: retry)
        #expect(ends.left.count(.noRoom) == 2)
    }
}
