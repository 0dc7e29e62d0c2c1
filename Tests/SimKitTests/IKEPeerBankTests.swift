// Fooled by: peers that agree with themselves only. The other end is a plain endpoint with a slab
// of its own; what both ends have is compared in the end, and every packet that came out is booked.

import Crypto
import IKEStub
import Testing
import Wire

@testable import SimKit

@Suite struct IKEPeerBankTests {
    private static let second: UInt64 = 1_000_000_000

    /// No more traffic, no more rekeying, and time for all that is deleted to be forgotten.
    private func settle(_ world: IKEBankWorld, seconds: UInt64 = 14) throws {
        world.trafficUntil = world.now
        world.bank.settle()
        world.station.environment.configuration = world.bank.settledGatewayConfiguration
        world.disturb(loss: 0, duplicates: 0, reorder: 0)
        try world.run(until: world.now + seconds * Self.second)
    }

    /// Both ends have one IKE SA and one pair for every peer, and name them alike.
    private func expectAgreement(_ world: IKEBankWorld, _ comment: String, without: Set<Int> = []) {
        let summaries = world.station.endpoint.summaries()
        var known = 0
        for peer in world.bank.peers where !without.contains(peer.number) {
            let own = peer.endpoint.summaries()
            guard own.count == 1, own[0].isEstablished, own[0].children.count == 1 else {
                Issue.record("\(comment): peer \(peer.number) has \(own)")
                continue
            }
            let child = own[0].children[0]
            let other = summaries.filter {
                $0.initiatorSPI == own[0].initiatorSPI && $0.responderSPI == own[0].responderSPI
            }
            #expect(other.count == 1 && other[0].isEstablished, "\(comment): peer \(peer.number)")
            #expect(
                other.first?.children.map(\.inbound) == [child.outbound]
                    && other.first?.children.map(\.outbound) == [child.inbound],
                "\(comment): peer \(peer.number)")
            #expect(peer.pairs.map(\.inbound) == [child.inbound], "\(comment)")
            #expect(peer.senders == [child.inbound], "\(comment)")
            #expect(
                world.station.pairs.filter { $0.peer == peer.number }.map(\.inbound)
                    == [child.outbound], "\(comment)")
            known += 1
        }
        #expect(summaries.count == known, "\(comment): the gateway has more than its peers")
        #expect(world.faults.isEmpty, "\(comment): \(world.faults)")
    }

    @Test func everythingIsRekeyedWithoutLoss() throws {
        var options = IKEPeerOptions(peers: 12)
        options.gatewayBegins = 1
        let world = try IKEBankWorld(options, seed: 1)
        try world.beginAll()
        try world.run(until: 20 * Self.second)
        world.trafficUntil = world.now
        try world.run(until: world.now + Self.second / 10)
        for peer in 0..<12 {
            let up = world.delivered.count(peer, isToPeer: false)
            let down = world.delivered.count(peer, isToPeer: true)
            #expect(up == Int(world.bank.serials[peer]) && up > 1500, "peer \(peer)")
            #expect(down == Int(world.serverSerials[peer]) && down > 1500, "peer \(peer)")
        }
        try settle(world)
        expectAgreement(world, "quiet wire")
        let figures = world.bank.figures
        #expect(figures.setUps == 12 && figures.losses == 0 && figures.deletes == 0)
        #expect(figures.rekeysOfIKE > 30 && figures.rekeysOfChildren > 100, "\(figures)")
        #expect(figures.collisions > 10, "\(figures)")
        #expect(world.sent.packets == world.delivered.count - world.bank.serials.reduce(0, +))
        #expect(world.bank.register.count > 12 + figures.rekeysOfChildren / 2)
        #expect(world.verdicts[.new, default: 0] > 500)
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func disorderEndsInAgreement(seed: UInt64) throws {
        var options = IKEPeerOptions(peers: 8)
        options.gatewayBegins = Int(seed % 3)
        let world = try IKEBankWorld(options, seed: seed)
        world.disturb(loss: 150_000, duplicates: 100_000, reorder: 100_000)
        try world.beginAll()
        for peer in 0..<8 where peer % 4 >= options.gatewayBegins {
            let time = UInt64(peer + 2) * Self.second
            world.plan(at: time) { $0.bank.delete(peer, comesBack: true, now: $0.now) }
        }
        try world.run(until: 15 * Self.second)
        try settle(world, seconds: 20)
        expectAgreement(world, "seed \(seed)")
        let figures = world.bank.figures
        #expect(figures.losses == 0, "seed \(seed): \(figures)")
        #expect(figures.rekeysOfChildren > 20, "seed \(seed): \(figures)")
        #expect(world.verdicts[.again, default: 0] > 20, "seed \(seed)")
        for peer in 0..<8 {
            #expect(world.delivered.count(peer, isToPeer: false) > 500, "seed \(seed)")
        }
    }

    @Test func aSilentPeerIsTakenForDeadAndComesBack() throws {
        let world = try IKEBankWorld(IKEPeerOptions(peers: 3), seed: 3)
        try world.beginAll()
        world.plan(at: 3 * Self.second) { world in
            world.bank.silence(0, now: world.now)
            world.bank.silence(1, now: world.now)
        }
        world.plan(at: 4 * Self.second) { world in
            world.bank.wake(1)
            world.bank.want(1, now: world.now)
        }
        try world.run(until: 6 * Self.second)
        #expect(world.bank.peers[0].pairs.isEmpty)
        #expect(world.station.endpoint.count == 3, "the gateway does not know yet")
        try world.run(until: 20 * Self.second)
        #expect(world.station.reports.contains { $0.kind == .peerSilent })
        try settle(world)
        expectAgreement(world, "one peer is gone", without: [0])
        #expect(world.bank.figures.setUps == 4 && world.bank.figures.losses == 0)
    }

    @Test func oneSeedGivesTheSameMessages() throws {
        func messages(_ seed: UInt64) throws -> UInt64 {
            let world = try IKEBankWorld(IKEPeerOptions(peers: 4), seed: seed)
            var trace = TraceHash()
            world.disturb(loss: 100_000, duplicates: 50_000, reorder: 50_000)
            try world.beginAll()
            for step in 1...60 as ClosedRange<UInt64> {
                try world.run(until: step * Self.second / 10)
                for peer in world.bank.peers {
                    for pair in peer.pairs {
                        trace.mix(UInt64(pair.inbound.value), UInt64(pair.outbound.value))
                    }
                }
                trace.mix(world.bank.figures.messages, world.sent.packets)
            }
            return trace.value
        }
        #expect(try messages(7) == messages(7))
        #expect(try messages(7) != messages(8))
    }

    @Test func packetsAreReadAsTheyWereWritten() throws {
        var path = IKEPeerBank.path(of: 3)
        let header = [UInt8](repeating: 7, count: 16) + [33, 0x20, 37, 0x08, 0, 0, 0, 1]
        let message = header + [0, 0, 0, 30, 1, 2]
        for hasMarker in [false, true] {
            if hasMarker {
                path.localPort = 4500
                path.remotePort = 4500
                path.hasMarker = true
            }
            let packet = IKEPacket.octets(message, path)
            try packet.withUnsafeBytes { octets in
                let (inside, seen) = try #require(IKEPacket.read(octets))
                #expect(Array(inside) == message)
                #expect(seen.local == path.remote && seen.remote == path.local)
                #expect(seen.hasMarker == hasMarker && seen.remotePort == path.localPort)
                for length in 0..<octets.count {
                    #expect(
                        IKEPacket.read(UnsafeRawBufferPointer(rebasing: octets[..<length])) == nil)
                }
            }
        }
        let keepalive = IKEPacket.keepalive(path)
        keepalive.withUnsafeBytes { octets in
            guard let base = octets.baseAddress else { return }
            #expect(OuterPacket.classify(at: base, count: octets.count) == .natKeepalive)
        }
    }
}

@Suite struct IKELedgerTests {
    /// A message as the ledger looks at it: header, Encrypted payload, IV.
    private func message(
        iv: UInt8, id: UInt8 = 7, response: Bool = false, byInitiator: Bool = true,
        content: [UInt8] = [9]
    ) -> [UInt8] {
        let flags: UInt8 = (byInitiator ? 0x08 : 0) | (response ? 0x20 : 0)
        let body =
            [0, 0, 0, 0] + [UInt8](repeating: iv, count: 8) + content
            + [UInt8](repeating: 1, count: 17)
        return [UInt8](repeating: 1, count: 8) + [UInt8](repeating: 2, count: 8)
            + [46, 0x20, 37, flags, 0, 0, 0, id, 0, 0, 0, UInt8(28 + body.count)] + body
    }

    private func note(_ ledger: inout IKELedger, _ message: [UInt8]) -> IKEVerdict {
        message.withUnsafeBytes { ledger.note($0) }
    }

    @Test func noncesAndAnswersAreBooked() {
        var ledger = IKELedger()
        #expect(note(&ledger, message(iv: 1)) == .new)
        #expect(note(&ledger, message(iv: 1)) == .again)
        #expect(note(&ledger, message(iv: 1, content: [8])) == .nonceTwice)
        #expect(note(&ledger, message(iv: 1, id: 1)) == .nonceTwice)
        #expect(note(&ledger, message(iv: 2)) == .otherRequest)
        // The other direction has another key.
        #expect(note(&ledger, message(iv: 1, response: true, byInitiator: false)) == .new)
        #expect(note(&ledger, message(iv: 1, response: true, byInitiator: false)) == .again)
        #expect(
            note(&ledger, message(iv: 3, response: true, byInitiator: false)) == .otherAnswer)
        // An empty request, a liveness check, may be answered anew; never under the same nonce.
        #expect(note(&ledger, message(iv: 4, id: 4, content: [])) == .new)
        let answer = message(iv: 5, id: 4, response: true, byInitiator: false, content: [])
        let other = message(iv: 6, id: 4, response: true, byInitiator: false, content: [])
        #expect(note(&ledger, answer) == .new && note(&ledger, other) == .new)
        // Synchronization of message IDs has the number 0 again and again.
        #expect(note(&ledger, message(iv: 10, id: 0)) == .new)
        #expect(note(&ledger, message(iv: 11, id: 0)) == .new)
        #expect(note(&ledger, message(iv: 11, id: 0, content: [8])) == .nonceTwice)
        var forged = answer
        forged[50] ^= 1
        #expect(note(&ledger, forged) == .nonceTwice)
        var open = message(iv: 9)
        open[16] = 33
        #expect(note(&ledger, open) == .unprotected)
        #expect(note(&ledger, []) == .unprotected)
    }
}
