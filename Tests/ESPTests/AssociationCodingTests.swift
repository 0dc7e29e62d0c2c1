import Crypto
import TestSupport
import Testing
import Wire

@testable import ESP

/// Why octets are no association; nil when they are one.
private func refusal(_ octets: [UInt8]) -> AssociationCodingError? {
    do throws(AssociationCodingError) {
        _ = try SecurityAssociation.decode(secret(octets))
        return nil
    } catch {
        #expect(!error.description.isEmpty && !error.description.contains("\n"))
        return error
    }
}

private func encoded(_ association: borrowing SecurityAssociation) -> [UInt8] {
    association.encode().withUnsafeBytes { Array($0) }
}

private func decoded(_ octets: [UInt8]) throws -> (AssociationParameters, secret: [UInt8]) {
    let association = try SecurityAssociation.decode(secret(octets))
    return (association.parameters, association.secret.withUnsafeBytes { Array($0) })
}

extension RandomNumberGenerator {
    fileprivate mutating func address(_ family: IPAddress.Family) -> IPAddress {
        family == .v4
            ? IPAddress(v4: UInt32(truncatingIfNeeded: next()))
            : IPAddress(high: next(), low: next())
    }

    fileprivate mutating func selectors() -> [TrafficSelector] {
        // Mostly few; sometimes as many as there may be.
        let count = Int.random(in: 0..<20, using: &self) == 0 ? 255 : Int(next() % 3)
        return (0..<count).compactMap { _ in
            let family: IPAddress.Family = Bool.random(using: &self) ? .v4 : .v6
            let ends = [address(family), address(family)].sorted { IPAddress.isOrdered($0, $1) }
            let ports = [UInt16(next() >> 48), UInt16(next() >> 48)].sorted()
            return TrafficSelector(
                first: ends[0], last: ends[1], ipProtocol: UInt8(next() >> 56),
                firstPort: ports[0], lastPort: ports[1])
        }
    }

    /// A limit, an edge of its range, or none.
    private mutating func limit() -> UInt64 {
        [next(), 0, .max - 1, .max, .max][Int(next() % 5)]
    }

    fileprivate mutating func lifetimes() -> Lifetimes {
        var lifetimes = Lifetimes()
        lifetimes.softPackets = limit()
        lifetimes.hardPackets = limit()
        lifetimes.softBytes = limit()
        lifetimes.hardBytes = limit()
        lifetimes.softNanoseconds = limit()
        lifetimes.hardNanoseconds = limit()
        return lifetimes
    }

    fileprivate mutating func headers(_ mode: Mode) -> TunnelHeaderPolicy {
        var headers = TunnelHeaderPolicy()
        headers.dontFragment = [.copy, .set, .clear][Int(next() % 3)]
        headers.ecn = [.normal, .compatibility][Int(next() % 2)]
        headers.dscp = [nil, 0, 46, 63][Int(next() % 4)]
        headers.hopLimit = [nil, 1, 64, 255][Int(next() % 4)]
        headers.decrementsInnerHopLimit = Bool.random(using: &self)
        headers.tfcBytes = mode == .tunnel ? UInt16(next() >> 48) : 0
        headers.pathMTU = UInt16(next() >> 48)
        return headers
    }

    /// Any valid association of a transform, every field of it.
    fileprivate mutating func parameters(_ transform: Transform) -> AssociationParameters {
        let family: IPAddress.Family = Bool.random(using: &self) ? .v4 : .v6
        let mode: Mode = Bool.random(using: &self) ? .tunnel : .transport
        var parameters = AssociationParameters(
            spi: SPI(UInt32.random(in: 256 ... .max, using: &self)),
            direction: Bool.random(using: &self) ? .inbound : .outbound, mode: mode,
            transform: transform, source: address(family), destination: address(family))
        parameters.usesESN = Bool.random(using: &self)
        let windows = [32, 64, 1000, 4096] + (parameters.usesESN ? [] : [0])
        parameters.replayWindow = windows[Int(next() % UInt64(windows.count))]
        if Bool.random(using: &self) {
            parameters.udp = UDPPorts(
                source: UInt16(next() >> 48), destination: UInt16(next() >> 48))
        }
        parameters.selectors = AssociationSelectors(source: selectors(), destination: selectors())
        parameters.lifetimes = lifetimes()
        parameters.headers = headers(mode)
        parameters.firstSequence =
            parameters.usesESN ? next() | 1 : UInt64(UInt32.random(in: 1 ... .max, using: &self))
        parameters.createdNanoseconds = next()
        return parameters
    }
}

@Suite struct AssociationCodingTests {
    // What would fool us: an encoder and a decoder that are wrong alike. These octets were put
    // together by hand from the table in the source.
    @Test func octetsAreAsDocumented() throws {
        var wanted = parameters(0x1122_3344, .outbound, .find(.aesCTR, 128, .hmacSHA256))
        wanted.usesESN = true
        wanted.replayWindow = 0x0102
        wanted.firstSequence = 0x0A0B_0C0D_0E0F_1011
        wanted.createdNanoseconds = 0x2122_2324_2526_2728
        wanted.headers.dontFragment = .clear
        wanted.headers.ecn = .compatibility
        wanted.headers.dscp = 46
        wanted.headers.hopLimit = nil
        wanted.headers.tfcBytes = 0x0506
        wanted.headers.pathMTU = 1400
        wanted.udp = UDPPorts(source: 4500, destination: 0x1234)
        wanted.lifetimes.hardPackets = 9
        wanted.lifetimes.hardNanoseconds = 0x0102_0304
        let net = IPAddress(v4: 0x0A00_0000).prefixRange(length: 8)
        let host = IPAddress(high: 0x2001_0DB8_0000_0000, low: 7)
        wanted.selectors.source = [
            try #require(
                TrafficSelector(
                    first: net.first, last: net.last, ipProtocol: 6, firstPort: 80, lastPort: 90))
        ]
        wanted.selectors.destination = [try #require(TrafficSelector(first: host, last: host))]
        var expected = hex("01 2d 02 01 0d 0c 0080 11223344 0102 0a0b0c0d0e0f1011 2122232425262728")
        expected += hex("2e 00 0506 0578 c0000201 c6336401 1194 1234")
        expected += hex("22 0000000000000009 0000000001020304 01 01")
        expected += hex("04 06 0050 005a 0a000000 0affffff")
        expected += hex("06 00 0000 ffff") + hex("20010db8 00000000 00000000 00000007")
        expected += hex("20010db8 00000000 00000000 00000007")
        expected += keyOctets(wanted.spi, wanted.transform)
        #expect(encoded(try association(wanted)) == expected)
        #expect(try decoded(expected).0 == wanted)
    }

    @Test(arguments: Transform.all)
    func everythingSurvives(_ transform: Transform) throws {
        var random = SeededGenerator()
        var slab = AssociationSlab(capacity: 1, catalogue: AssociationCatalogue())
        for _ in 0..<10 {
            let wanted = random.parameters(transform)
            let octets = encoded(try association(wanted))
            let back = try decoded(octets)
            #expect(back.0 == wanted)
            #expect(back.secret == keyOctets(wanted.spi, transform))
            // Through a record, as in the common table.
            let handle = try slab.insert(
                association(wanted), distributionIdentifier: 0, ivGeneration: 0)
            let kept = try decoded(encoded(slab.association(of: handle)))
            slab.remove(handle)
            var expected = wanted
            if wanted.direction == .outbound { expected.replayWindow = 0 }
            #expect(kept.0 == expected && kept.secret == back.secret)
        }
    }

    // One encoding for each association: what decodes is what would have been encoded. No octets
    // trap, whatever was changed in them.
    @Test(arguments: Transform.kinds)
    func damageIsRefusedOrAnotherAssociation(_ transform: Transform) throws {
        var random = SeededGenerator()
        var slab = AssociationSlab(capacity: 1, catalogue: AssociationCatalogue())
        var refused = 0
        var taken = 0
        for _ in 0..<3 {
            var wanted = random.parameters(transform)
            wanted.selectors.source = Array(wanted.selectors.source.prefix(2))
            wanted.selectors.destination = Array(wanted.selectors.destination.prefix(2))
            let octets = encoded(try association(wanted))
            for count in octets.indices { #expect(refusal(Array(octets[..<count])) == .truncated) }
            #expect(refusal(octets + [0]) == .trailing(octets: 1))
            for place in octets.indices {
                for flip in [1, 0x80, UInt8(random.next() >> 56) | 1] as [UInt8] {
                    var damaged = octets
                    damaged[place] ^= flip
                    if refusal(damaged) != nil {
                        refused += 1
                        continue
                    }
                    taken += 1
                    let association = try SecurityAssociation.decode(secret(damaged))
                    #expect(encoded(association) == damaged)
                    // It is good enough for a record too.
                    let handle = try slab.insert(
                        association, distributionIdentifier: 0, ivGeneration: 0)
                    slab.remove(handle)
                }
            }
        }
        #expect(refused > 50 && taken > 50)
    }

    @Test func noiseIsRefused() {
        var random = SeededGenerator()
        for _ in 0..<5_000 {
            var octets = random.bytes(Int.random(in: 0..<200, using: &random))
            // Past the first doors now and then.
            for (place, value) in [(0, 1), (2, 1), (3, 1), (4, 20), (5, 0), (6, 1), (7, 0)]
                as [(Int, UInt8)]
            where place < octets.count && Int.random(in: 0..<8, using: &random) > 0 {
                octets[place] = value
            }
            _ = refusal(octets)
        }
        #expect(refusal([]) == .truncated)
    }

    @Test func eachImpossibleFieldIsNamed() throws {
        var wanted = parameters(0x1001, .inbound)
        wanted.headers.hopLimit = nil
        let host = IPAddress(v4: 5)
        wanted.selectors.source = [try #require(TrafficSelector(first: host, last: host))]
        let good = encoded(try association(wanted))
        // The selector stands behind 36 + 8 octets, the lifetimes' octet and the two counts.
        let selector = 36 + 8 + 1 + 2
        let cases: [(place: Int, value: UInt8, AssociationCodingError)] = [
            (0, 0, .version(0)), (0, 2, .version(2)), (2, 3, .field(.dontFragment)),
            (3, 2, .field(.ecn)), (4, 0, .field(.transform)), (4, 12, .field(.transform)),
            (5, 2, .field(.transform)), (5, 9, .field(.transform)), (7, 1, .field(.transform)),
            (30, 1, .field(.dscp)), (31, 1, .field(.hopLimit)), (44, 0x40, .field(.lifetimes)),
            (selector, 5, .field(.selector)), (selector + 9, 9, .field(.selector)),
            (13, 1, .invalid(.replayWindow(1))), (21, 0, .invalid(.firstSequence(0))),
        ]
        for (place, value, expected) in cases {
            var octets = good
            octets[place] = value
            #expect(refusal(octets) == expected)
        }
        var reserved = good
        reserved.replaceSubrange(8..<12, with: [0, 0, 0, 255])
        #expect(refusal(reserved) == .invalid(.reservedSPI(SPI(255))))
        // A limit that is none has one encoding only: to be left out.
        var unlimited = good
        unlimited[44] = 1
        unlimited.insert(contentsOf: Array(repeating: 0xFF, count: 8), at: 45)
        #expect(refusal(unlimited) == .field(.lifetimes))
    }

    // It can't send or receive any more, and its tunnel is there still.
    @Test(arguments: [false, true], [Direction.inbound, .outbound])
    func usedUpAssociationsSurvive(usesESN: Bool, direction: Direction) throws {
        let station = try Station(capacity: 2)
        var wanted = parameters(0x1001, direction, .find(.aesCBC, 128, .hmacSHA1))
        wanted.usesESN = usesESN
        let handle = try station.add(wanted)
        let last = usesESN ? UInt64.max : UInt64(UInt32.max)
        station.record(handle).pointee.sequence = last
        let octets = encoded(station.slab.association(of: handle))
        let copy = try station.slab.insert(
            SecurityAssociation.decode(secret(octets)), distributionIdentifier: 7, ivGeneration: 1)
        #expect(station.status(copy).sequence == last)
    }

    @Test func listsLongerThanIKEHasAreRefused() throws {
        let host = IPAddress(v4: 5)
        let selector = try #require(TrafficSelector(first: host, last: host))
        var wanted = parameters(0x1001, .inbound)
        wanted.selectors.source = Array(repeating: selector, count: 256)
        #expect(throws: AssociationError.sourceSelectors(256)) { _ = try association(wanted) }
        wanted.selectors = AssociationSelectors(
            destination: Array(repeating: selector, count: 300))
        #expect(throws: AssociationError.destinationSelectors(300)) {
            _ = try association(wanted)
        }
    }
}
