import TestSupport
import Testing
import Wire

@testable import ESP

/// What can be wrong with one received packet, in the order in which it must be found
/// (design §4: lengths, replay, open, padding and next header, inner selectors; lifetimes before
/// replay, the lease of numbers after the ICV).
private enum Defect: Int, CaseIterable {
    case truncated, ciphertextLength, lifetime, replayed, integrity, lease, padding, nextHeader
    case innerMalformed, ecn, selector

    var reason: DropReason {
        switch self {
        case .truncated: .truncated
        case .ciphertextLength: .ciphertextLength
        case .lifetime: .lifetimePackets
        case .replayed: .replayed
        case .lease: .leaseEnded
        case .integrity: .integrity
        case .padding: .padding
        case .nextHeader: .nextHeader
        case .innerMalformed: .innerMalformed
        case .ecn: .ecn
        case .selector: .selector
        }
    }

    /// These two exclude each other, and each makes what follows unreadable.
    static func canMeet(_ one: Defect, _ two: Defect) -> Bool {
        Set([one, two]) != [.truncated, .ciphertextLength]
    }
}

private func receiver(_ defects: Set<Defect>) throws -> (Station, AssociationHandle) {
    let station = try Station()
    var wanted = parameters(0x1001, .inbound, .plain)
    if defects.contains(.lifetime) { wanted.lifetimes.hardPackets = 1 }
    if defects.contains(.selector) {
        let nowhere = IPAddress(v4: 0x0101_0101)
        let selector = try #require(TrafficSelector(first: nowhere, last: nowhere))
        wanted.selectors = AssociationSelectors(source: [selector], destination: [])
    }
    let handle = try station.add(wanted)
    // One packet has come already; its number is the one to replay.
    let first = try craftESP(sequence: 1, body: paddedBody([], next: 59))
    #expect(station.open(first, handle).drop == .dummy)
    if defects.contains(.lease) { station.slab.setLimit(1, of: handle) }
    return (station, handle)
}

/// A packet with all of the defects.
private func packet(_ defects: Set<Defect>) throws -> [UInt8] {
    var inner = IPv4Packet()
    inner.tos = 0
    var payload = inner.bytes
    if defects.contains(.innerMalformed) { payload[0] = 0x44 }
    var body = paddedBody(payload + [0xEE], next: defects.contains(.nextHeader) ? 17 : 4)
    if defects.contains(.padding) { body[body.count - 3] ^= 0x80 }
    if defects.contains(.truncated) { body = [] }
    if defects.contains(.ciphertextLength) { body = [9] + body }
    return try craftESP(
        sequence: defects.contains(.replayed) ? 1 : 2, body: body,
        trafficClass: defects.contains(.ecn) ? 3 : 0, hasWrongICV: defects.contains(.integrity))
}

@Suite struct CheckOrderTests {
    @Test func withoutDefectItIsDelivered() throws {
        let (station, handle) = try receiver([])
        #expect(station.open(try packet([]), handle).bytes == IPv4Packet().bytes)
    }

    // What would fool us: each check works alone, and a packet with two defects shows which came
    // first. All pairs; the earlier defect must win.
    @Test func earlierChecksWin() throws {
        for one in Defect.allCases {
            for two in Defect.allCases where one.rawValue <= two.rawValue {
                guard Defect.canMeet(one, two) else { continue }
                let (station, handle) = try receiver([one, two])
                let opened = station.open(try packet([one, two]), handle)
                #expect(opened.drop == one.reason, "\(one) and \(two)")
                #expect(opened.bytes == nil)
                let drops = station.drops(handle)
                #expect(drops[one.reason] == 1 && drops.total == 2)
                #expect(station.engine.drops[one.reason] == 1)
            }
        }
    }

    @Test func allDefectsAtOnceFallOneByOne() throws {
        var left = Set(Defect.allCases).subtracting([.truncated])
        for defect in Defect.allCases.dropFirst() {
            let (station, handle) = try receiver(left)
            #expect(station.open(try packet(left), handle).drop == defect.reason)
            left.remove(defect)
        }
    }

    // Numbers are marked for authentic packets only, whatever they carry.
    @Test(arguments: Defect.allCases)
    private func onlyAuthenticPacketsMoveTheWindow(_ defect: Defect) throws {
        let (station, handle) = try receiver([defect])
        _ = station.open(try packet([defect]), handle)
        let isAuthentic = defect.rawValue > Defect.lease.rawValue
        #expect(station.status(handle).sequence == (isAuthentic ? 2 : 1))
        #expect(station.status(handle).packets == (isAuthentic ? 2 : 1))
    }

    // Sending: selectors, lifetimes, sequence number, size.
    @Test func sendingChecksInOrder() throws {
        let nowhere = IPAddress(v4: 0x0101_0101)
        let selector = try #require(TrafficSelector(first: nowhere, last: nowhere))
        func drop(_ change: (inout AssociationParameters) -> Void) throws -> DropReason? {
            let tunnel = try Tunnel(.gcm, mode: .tunnel, change)
            _ = tunnel.sender.seal([], tunnel.out, isDummy: true)
            tunnel.sender.record(tunnel.out).pointee.packets = 1
            return tunnel.sender.seal(IPv4Packet().bytes, tunnel.out).drop
        }
        var all: (inout AssociationParameters) -> Void = {
            $0.headers.pathMTU = 30
            $0.firstSequence = UInt64(UInt32.max)
            $0.lifetimes.hardPackets = 1
            $0.selectors.source = [selector]
        }
        // A dummy of 0 octets needs 56, so it is too big and spends no number: spend it here.
        func exhausted(_ change: (inout AssociationParameters) -> Void) throws -> DropReason? {
            let tunnel = try Tunnel(.gcm, mode: .tunnel, change)
            tunnel.sender.record(tunnel.out).pointee.sequence = UInt64(UInt32.max)
            tunnel.sender.record(tunnel.out).pointee.packets = 1
            return tunnel.sender.seal(IPv4Packet().bytes, tunnel.out).drop
        }
        #expect(try exhausted(all) == .selector)
        all = {
            $0.headers.pathMTU = 30
            $0.lifetimes.hardPackets = 1
        }
        #expect(try exhausted(all) == .lifetimePackets)
        #expect(try exhausted { $0.headers.pathMTU = 30 } == .sequenceExhausted)
        #expect(try drop { $0.headers.pathMTU = 30 } == .packetTooBig)
    }
}

@Suite struct PlaintextTests {
    // What would fool us: OpenSSL decrypts in place before it knows that the tag is wrong. Not four
    // octets in a row of the plaintext may be left anywhere in the buffer.
    @Test(arguments: Transform.all)
    func nothingIsLeftAfterAWrongICV(_ transform: Transform) throws {
        for mode in [Mode.tunnel, .transport] {
            let tunnel = try Tunnel(transform, mode: mode)
            let marker = (0..<120).map { UInt8(truncatingIfNeeded: 0x61 + $0 % 26) }
            let inner = IPv4Packet(payload: marker).bytes
            let sealed = try tunnel.seal(inner)
            for place in [sealed.count - 1, tunnel.espOffset + 8 + transform.ivBytes, 27] {
                var wrong = sealed
                wrong[place] ^= 0x02
                let opened = tunnel.open(wrong)
                #expect(opened.drop == .integrity)
                let isLeft = (0..<26).contains { contains(opened.memory, marker[$0..<$0 + 4]) }
                #expect(!isLeft)
                let body = Station.headroom + tunnel.espOffset + 8 + transform.ivBytes
                let end = Station.headroom + sealed.count - transform.icvBytes
                #expect(opened.memory[body..<end].allSatisfy { $0 == 0 })
            }
            #expect(tunnel.open(sealed).bytes == inner)
        }
    }
}

@Suite struct DropReasonTests {
    @Test func namesAreTheirOwn() {
        let reasons = DropReason.allCases
        #expect(Set(reasons.map(\.name)).count == reasons.count)
        #expect(Set(reasons.map(\.explanation)).count == reasons.count)
        for (index, reason) in reasons.enumerated() {
            #expect(Int(reason.rawValue) == index, "counters are arrays")
            #expect(DropReason(name: reason.name) == reason)
            #expect(!reason.explanation.isEmpty && !reason.explanation.contains("\n"))
        }
        #expect(DropReason(name: "nonsense") == nil && DropReason(name: "") == nil)
    }

    @Test func countersAddUp() {
        var one = DropCounters()
        var two = DropCounters()
        one[.integrity] = 3
        two[.integrity] = 4
        two[.cryptoFailure] = 1
        one += two
        #expect(one[.integrity] == 7 && one[.cryptoFailure] == 1 && one[.truncated] == 0)
        #expect(one.total == 8)
        #expect(one.nonzero.map(\.reason) == [.integrity, .cryptoFailure])
        #expect(one.nonzero.map(\.count) == [7, 1])
    }
}
