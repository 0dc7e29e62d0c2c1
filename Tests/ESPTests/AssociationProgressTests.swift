import TestSupport
import Testing
import Wire

@testable import ESP

/// What a receiver knows, as sets: the highest number, and those up to it that count as received
/// because they were, or because nobody can tell.
private struct Knowledge {
    let bits: UInt64
    var highest: UInt64 = 0
    var received: Set<UInt64> = []
    /// All numbers up to here count as received.
    var closed: UInt64 = 0

    func refuses(_ number: UInt64) -> Bool {
        number <= closed || received.contains(number)
            || (highest >= bits && number <= highest - bits)
    }

    mutating func receive(_ number: UInt64) {
        received.insert(number)
        highest = max(highest, number)
    }

    mutating func close(upTo edge: UInt64) {
        closed = max(closed, edge)
        highest = max(highest, edge)
    }

    mutating func merge(_ other: Knowledge) {
        received.formUnion(other.received)
        closed = max(closed, other.closed)
        highest = max(highest, other.highest)
    }
}

/// A record and its model, which must agree on every number near the window.
private final class Replica {
    let station: Station
    let handle: AssociationHandle
    var model: Knowledge

    init(window: Int, usesESN: Bool) throws {
        station = try Station(capacity: 1)
        var wanted = parameters(0x1001, .inbound)
        wanted.replayWindow = window
        wanted.usesESN = usesESN
        handle = try station.add(wanted)
        model = Knowledge(bits: UInt64(window))
    }

    func receive(_ number: UInt64) {
        guard number > 0, !model.refuses(number) else { return }
        let record = station.record(handle)
        record.replayRing.mark(number, highest: &record.pointee.sequence)
        record.pointee.packets += 1
        model.receive(number)
    }

    func apply(_ checkpoint: SequenceCheckpoint) -> Bool {
        station.slab.apply(checkpoint, to: handle)
    }

    func resume(closedUpTo edge: UInt64) {
        station.slab.resumeReceiving(closedUpTo: edge, limit: .max, of: handle)
    }

    func take(_ other: Replica) {
        let isTaken = apply(other.station.checkpoint(other.handle))
        #expect(isTaken)
        model.merge(other.model)
    }

    func takeEdge(_ other: Replica) {
        let all = other.station.checkpoint(other.handle)
        let edge = SequenceCheckpoint(
            spi: all.spi, sequence: all.sequence, packets: all.packets, bytes: all.bytes)
        let isTaken = apply(edge)
        #expect(isTaken)
        if other.model.highest > model.highest { model.close(upTo: other.model.highest) }
    }

    func expectAgreement() {
        let record = station.record(handle)
        #expect(record.pointee.sequence == model.highest)
        let reach = model.bits + 70
        let first = model.highest > reach ? model.highest - reach : 1
        let ring = record.replayRing
        for number in first...model.highest + 70 {
            // Far left of the window, a low half stands for a number of the next round.
            if model.highest >= model.bits, number <= model.highest - model.bits,
                ring.usesESN
            {
                continue
            }
            let verdict = ring.check(
                UInt32(truncatingIfNeeded: number), highest: record.pointee.sequence)
            let isRefused = verdict != .accept(number)
            #expect(isRefused == model.refuses(number), "\(number) at \(model.highest)")
        }
    }
}

@Suite struct MergeTests {
    // What would fool us: a merge that unmarks what one side knew, because bits of a word stand for
    // other numbers in the other ring. Three copies receive, tell each other and close at random.
    @Test(arguments: [32, 64, 65, 192, 193, 1024], [false, true])
    func agreesWithSets(window: Int, usesESN: Bool) throws {
        var random = SeededGenerator()
        for start: UInt64 in usesESN ? [0, 1 << 32 - 100] : [0, 63] {
            let copies = try (0..<3).map { _ in try Replica(window: window, usesESN: usesESN) }
            if start > 0 { for copy in copies { copy.receive(start) } }
            for _ in 0..<100 {
                let copy = copies[Int(random.next() % 3)]
                let other = copies[Int(random.next() % 3)]
                let highest = copy.model.highest
                switch Int.random(in: 0..<12, using: &random) {
                case 0..<6:
                    let jump = UInt64.random(
                        in: 0...[3, 70, UInt64(window) * 3][Int(random.next() % 3)], using: &random)
                    let back = UInt64.random(in: 0...UInt64(window), using: &random)
                    copy.receive(highest + jump > back ? highest + jump - back : 1)
                case 6..<9: copy.take(other)
                case 9: copy.takeEdge(other)
                default:
                    let span = UInt64(window) + 70
                    let edge = highest + UInt64.random(in: 0...span + 70, using: &random)
                    copy.resume(closedUpTo: edge > span ? edge - span : 0)
                    copy.model.close(upTo: edge > span ? edge - span : 0)
                }
                copy.expectAgreement()
            }
        }
    }

    @Test func countersNeverGoBack() throws {
        let copy = try Replica(window: 64, usesESN: false)
        func apply(_ sequence: UInt64, _ packets: UInt64, _ bytes: UInt64) -> [UInt64] {
            _ = copy.apply(
                SequenceCheckpoint(
                    spi: SPI(0x1001), sequence: sequence, packets: packets, bytes: bytes))
            let status = copy.station.status(copy.handle)
            return [status.sequence, status.packets, status.bytes]
        }
        #expect(apply(10, 5, 500) == [10, 5, 500])
        #expect(apply(9, 4, 600) == [10, 5, 600])
        #expect(apply(9, 7, 100) == [10, 7, 600])
        #expect(apply(12, 1, 1) == [12, 7, 600])
    }

    // They come from another node: whatever stands in them, the window goes on working.
    @Test(arguments: [32, 64, 193])
    func nonsenseDoesNoHarm(window: Int) throws {
        let copy = try Replica(window: window, usesESN: false)
        copy.receive(100)
        let words = ReplayRing.wordCount(bits: window)
        func checkpoint(
            _ sequence: UInt64, _ window: [UInt64], spi: UInt32 = 0x1001
        ) -> SequenceCheckpoint {
            SequenceCheckpoint(
                spi: SPI(spi), sequence: sequence, packets: 0, bytes: 0, window: window)
        }
        let full = Array(repeating: UInt64.max, count: words)
        for wrong in [
            checkpoint(200, full, spi: 0x1002), checkpoint(200, full + [0]),
            checkpoint(200, [1]), checkpoint(1 << 32, full), checkpoint(1 << 32, []),
        ] {
            #expect(!copy.apply(wrong))
        }
        copy.expectAgreement()
        // Bits beyond its own edge don't count, and its edge does without a bit.
        #expect(copy.apply(checkpoint(90, full)))
        copy.model.close(upTo: 90)
        copy.expectAgreement()
        #expect(copy.apply(checkpoint(120, Array(repeating: 0, count: words))))
        copy.model.receive(120)
        copy.expectAgreement()
        #expect(copy.apply(checkpoint(0, full)) && copy.apply(checkpoint(0, [])))
        copy.expectAgreement()
        #expect(copy.apply(checkpoint(UInt64(UInt32.max), full)))
        #expect(copy.station.status(copy.handle).sequence == UInt64(UInt32.max))
    }

    @Test func sendersTakeTheHigherNumber() throws {
        let station = try Station()
        let handle = try station.add(parameters(0x1001, .outbound))
        for (sequence, expected) in [(7, 7), (3, 7), (9, 9)] as [(UInt64, UInt64)] {
            let isTaken = station.slab.apply(
                SequenceCheckpoint(spi: SPI(0x1001), sequence: sequence, packets: 0, bytes: 0),
                to: handle)
            #expect(isTaken && station.status(handle).sequence == expected)
        }
    }
}

@Suite struct LimitTests {
    private let inner = IPv4Packet().bytes

    @Test(arguments: Transform.kinds, [false, true])
    func sendersStopAtTheirLimit(_ transform: Transform, usesESN: Bool) throws {
        let tunnel = try Tunnel(transform) { $0.usesESN = usesESN }
        let slab = tunnel.sender
        slab.slab.setLimit(2, of: tunnel.out)
        for _ in 0..<2 { #expect(tunnel.open(try tunnel.seal(inner)).bytes == inner) }
        for _ in 0..<3 { #expect(slab.seal(inner, tunnel.out).drop == .leaseEnded) }
        #expect(slab.drops(tunnel.out)[.leaseEnded] == 3 && slab.drops(tunnel.out).total == 3)
        // No number was lost over it.
        slab.slab.setLimit(3, of: tunnel.out)
        #expect(number(try tunnel.seal(inner)[24..<28]) == 3 as UInt32)
        #expect(slab.seal(inner, tunnel.out).drop == .leaseEnded)
    }

    // A limit that is lifted beyond the last number does not lift the last number.
    @Test(arguments: Transform.kinds, [false, true])
    func theLastNumberIsNoLease(_ transform: Transform, usesESN: Bool) throws {
        let last: UInt64 =
            !usesESN ? UInt64(UInt32.max) : transform.ivBytes == 8 ? 1 << 48 - 1 : .max
        let tunnel = try Tunnel(transform) {
            $0.usesESN = usesESN
            $0.firstSequence = last - 1
        }
        let sender = tunnel.sender
        sender.slab.setLimit(last - 1, of: tunnel.out)
        _ = try tunnel.seal(inner)
        #expect(sender.seal(inner, tunnel.out).drop == .leaseEnded)
        sender.slab.setLimit(.max, of: tunnel.out)
        let limit = sender.slab.limit(of: tunnel.out)
        #expect(limit == last)
        _ = try tunnel.seal(inner)
        #expect(sender.seal(inner, tunnel.out).drop == .sequenceExhausted)
        // However low the limit was set meanwhile.
        sender.slab.setLimit(5, of: tunnel.out)
        #expect(sender.seal(inner, tunnel.out).drop == .sequenceExhausted)
    }

    @Test(arguments: [0, 64, 1024], [false, true])
    func receiversStopAtTheirLimit(window: Int, usesESN: Bool) throws {
        if window == 0 && usesESN { return }
        let first: UInt64 = usesESN ? 1 << 32 - 3 : 1
        let tunnel = try Tunnel {
            $0.replayWindow = window
            $0.usesESN = usesESN
            $0.firstSequence = first
        }
        let receiver = tunnel.receiver
        let packets = try (0..<8).map { _ in try tunnel.seal(inner) }
        receiver.slab.setLimit(first + 4, of: tunnel.into)
        #expect(tunnel.open(packets[5]).drop == .leaseEnded)
        for packet in packets[..<5] { #expect(tunnel.open(packet).drop == nil) }
        #expect(tunnel.open(packets[6]).drop == .leaseEnded)
        #expect(receiver.status(tunnel.into).sequence == first + 4)
        #expect(receiver.drops(tunnel.into)[.leaseEnded] == 2)
        receiver.slab.setLimit(first + 6, of: tunnel.into)
        #expect(tunnel.open(packets[6]).drop == nil && tunnel.open(packets[5]).drop == nil)
        #expect(tunnel.open(packets[7]).drop == .leaseEnded)
        // A number that was seen is known to be so, lease or not.
        receiver.slab.setLimit(0, of: tunnel.into)
        #expect(tunnel.open(packets[6]).drop == (window == 0 ? .leaseEnded : .replayed))
    }

    // The 48 bits are those of our IVs. A peer that makes them otherwise may go on.
    @Test func peersMayUseAll64Bits() throws {
        let station = try Station()
        var wanted = parameters(0x1001, .inbound)
        wanted.usesESN = true
        wanted.firstSequence = 1 << 50
        let handle = try station.add(wanted)
        let limit = station.slab.limit(of: handle)
        #expect(limit == .max)
    }

    @Test func limitsTravelWithACopy() throws {
        let tunnel = try Tunnel()
        tunnel.sender.slab.setLimit(77, of: tunnel.out)
        let other = try Station(catalogue: tunnel.sender.slab.catalogue)
        let copy = try other.slab.insert(
            copying: tunnel.out, from: tunnel.sender.slab, ivGeneration: 2)
        let limit = other.slab.limit(of: copy)
        #expect(limit == 77)
    }
}

@Suite struct ResumeTests {
    private let inner = IPv4Packet().bytes

    @Test func sendersGoOnAfterTheLast() throws {
        let tunnel = try Tunnel()
        _ = try tunnel.seal(inner)
        tunnel.sender.slab.resumeSending(after: 1000, limit: 1001, of: tunnel.out)
        #expect(number(try tunnel.seal(inner)[24..<28]) == 1001 as UInt32)
        #expect(tunnel.sender.seal(inner, tunnel.out).drop == .leaseEnded)
        // Never back.
        tunnel.sender.slab.resumeSending(after: 3, limit: 2000, of: tunnel.out)
        #expect(number(try tunnel.seal(inner)[24..<28]) == 1002 as UInt32)
        tunnel.sender.slab.resumeSending(after: .max, limit: .max, of: tunnel.out)
        #expect(tunnel.sender.seal(inner, tunnel.out).drop == .sequenceExhausted)
    }

    @Test(arguments: [32, 64, 192, 4096], [false, true])
    func receiversRefuseWhatIsClosed(window: Int, usesESN: Bool) throws {
        let first: UInt64 = usesESN ? 1 << 32 - 30 : 1
        let tunnel = try Tunnel {
            $0.replayWindow = window
            $0.usesESN = usesESN
            $0.firstSequence = first
        }
        let packets = try (0..<60).map { _ in try tunnel.seal(inner) }
        #expect(tunnel.open(packets[20]).drop == nil)
        let before = tunnel.receiver.status(tunnel.into)
        tunnel.receiver.slab.resumeReceiving(
            closedUpTo: first + 39, limit: first + 49, of: tunnel.into)
        for index in (0..<60).shuffled() {
            // An extended number left of the window is taken for one 2^32 later (RFC 4303 §A2.1),
            // under which the ICV is wrong.
            let old: DropReason = usesESN ? .integrity : .tooOld
            let drop = tunnel.open(packets[index]).drop
            switch index {
            case 0..<40: #expect(drop == .replayed || drop == old)
            case 40..<50: #expect(drop == nil || index < 50 - window)
            default: #expect(drop == .leaseEnded)
            }
        }
        #expect(tunnel.receiver.status(tunnel.into).packets == before.packets + 10)
    }

    @Test func whatCameBeyondTheEdgeStays() throws {
        let tunnel = try Tunnel()
        let packets = try (0..<10).map { _ in try tunnel.seal(inner) }
        for index in [2, 7, 9] { _ = tunnel.open(packets[index]) }
        tunnel.receiver.slab.resumeReceiving(closedUpTo: 5, limit: .max, of: tunnel.into)
        let drops = packets.map { tunnel.open($0).drop }
        let seen: [DropReason?] = Array(repeating: .replayed, count: 5)
        #expect(drops == seen + [nil, nil, .replayed, nil, .replayed])
    }

    // The very last number, and edges beyond it, which can only be a mistake of somebody.
    @Test func edgesAtTheEnd() throws {
        let tunnel = try Tunnel { $0.firstSequence = UInt64(UInt32.max) }
        let last = try tunnel.seal(inner)
        tunnel.receiver.slab.resumeReceiving(
            closedUpTo: UInt64(UInt32.max) - 1, limit: .max, of: tunnel.into)
        #expect(tunnel.open(last).drop == nil)
        let station = try Station()
        let handle = try station.add(tunnel.outbound.reversedDirection)
        station.slab.resumeReceiving(closedUpTo: .max, limit: .max, of: handle)
        #expect(station.open(last, handle).drop == .replayed)
        #expect(station.status(handle).sequence == UInt64(UInt32.max))
    }

    @Test func directionsAreACallersBug() async {
        await #expect(processExitsWith: .failure) {
            let station = try Station()
            let handle = try station.add(parameters(0x1001, .inbound))
            station.slab.resumeSending(after: 1, limit: 2, of: handle)
        }
        await #expect(processExitsWith: .failure) {
            let station = try Station()
            let handle = try station.add(parameters(0x1001, .outbound))
            station.slab.resumeReceiving(closedUpTo: 1, limit: 2, of: handle)
        }
    }
}
