import TestSupport
import Testing
import Wire

@testable import ESP

/// What a reader of RFC 4301 §4.4.1.1 and RFC 7296 §3.13.1 sees in a packet, from its octets alone.
private struct Flow {
    let source: [UInt8]
    let destination: [UInt8]
    let transport: UInt8
    /// nil: none to be seen (OPAQUE), or the protocol has none.
    let ports: (source: UInt16, destination: UInt16)?

    init(v4 packet: [UInt8]) {
        source = Array(packet[12..<16])
        destination = Array(packet[16..<20])
        transport = packet[9]
        let isLater = (UInt16(packet[6] & 0x1F) << 8 | UInt16(packet[7])) != 0
        ports = Self.ports(transport, packet[(Int(packet[0] & 15) * 4)...], isLater)
    }

    init(v6 packet: [UInt8], offset: Int, transport: UInt8) {
        source = Array(packet[8..<24])
        destination = Array(packet[24..<40])
        self.transport = transport
        ports = Self.ports(transport, packet[offset...], false)
    }

    private static func ports(
        _ transport: UInt8, _ payload: ArraySlice<UInt8>, _ isLater: Bool
    ) -> (UInt16, UInt16)? {
        let payload = Array(payload)
        if isLater { return nil }
        switch transport {
        case 6, 17, 33, 132, 136:
            guard payload.count >= 4 else { return nil }
            return (number(payload[..<2]), number(payload[2..<4]))
        case 1, 58:
            guard payload.count >= 2 else { return nil }
            return (number(payload[..<2]), number(payload[..<2]))
        default: return nil
        }
    }

    func matches(_ selectors: AssociationSelectors) -> Bool {
        matches(selectors.source, source, ports?.source)
            && matches(selectors.destination, destination, ports?.destination)
    }

    private func matches(
        _ list: [TrafficSelector], _ address: [UInt8], _ port: UInt16?
    ) -> Bool {
        list.isEmpty
            || list.contains { selector in
                let first = octets(selector.first)
                let last = octets(selector.last)
                guard address.count == first.count else { return false }
                let isInside =
                    !address.lexicographicallyPrecedes(first)
                    && !last.lexicographicallyPrecedes(address)
                let isProtocol = selector.ipProtocol == 0 || selector.ipProtocol == transport
                let isAnyPort = selector.firstPort == 0 && selector.lastPort == 65_535
                let isPort =
                    isAnyPort
                    || port.map { $0 >= selector.firstPort && $0 <= selector.lastPort } == true
                return isInside && isProtocol && isPort
            }
    }

    private func octets(_ address: IPAddress) -> [UInt8] {
        address.family == .v4
            ? bigEndian(UInt32(address.low)) : bigEndian(address.high) + bigEndian(address.low)
    }
}

/// Few addresses, protocols and ports, so that matches and near misses are frequent.
private struct Maker {
    var random: SeededGenerator
    let transports: [UInt8] = [1, 6, 17, 33, 47, 50, 58, 132, 136]

    mutating func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

    mutating func v4() -> UInt32 {
        0x0A00_0000 | UInt32(pick(0...3)) << 8 | UInt32(pick(0...3))
    }

    mutating func port() -> UInt16 { [0, 80, 81, 2048, 65_535][pick(0...4)] }

    mutating func selector() throws -> TrafficSelector {
        let transport = pick(0...1) == 0 ? 0 : transports[pick(0...transports.count - 1)]
        var (firstPort, lastPort) = (port(), port())
        if firstPort > lastPort { swap(&firstPort, &lastPort) }
        if pick(0...1) == 0 { (firstPort, lastPort) = (0, .max) }
        var range = (first: IPAddress(v4: v4()), last: IPAddress(v4: v4()))
        switch pick(0...3) {
        case 0: range.last = IPAddress(v4: UInt32(range.first.low) | 3)
        case 1:
            range = range.first.prefixRange(length: [0, 8, 22, 23, 24, 30, 31, 32][pick(0...7)])
        case 2:
            let six = IPAddress(high: 0x2001_0DB8_0000_0000 | UInt64(pick(0...1)), low: 1)
            range = six.prefixRange(length: [0, 32, 63, 64, 127, 128][pick(0...5)])
        default: break
        }
        if !IPAddress.isOrdered(range.first, range.last) { swap(&range.first, &range.last) }
        return try #require(
            TrafficSelector(
                first: range.first, last: range.last, ipProtocol: UInt8(transport),
                firstPort: firstPort, lastPort: lastPort))
    }

    mutating func packet() -> (bytes: [UInt8], flow: Flow) {
        let transport = transports[pick(0...transports.count - 1)]
        let payload = bigEndian(port()) + bigEndian(port()) + [0, 0, 0, 0]
        if pick(0...3) == 0 {
            var packet = IPv6Packet(payload: Array(payload[..<pick(0...8)]))
            packet.source = (0x2001_0DB8_0000_0000 | UInt64(pick(0...1)), UInt64(pick(0...2)))
            packet.destination = (0x2001_0DB8_0000_0000 | UInt64(pick(0...1)), UInt64(pick(0...2)))
            packet.transport = transport
            if pick(0...1) == 0 { packet.extensions = [.init(60, bytes: 16)] }
            let offset = packet.extensions.isEmpty ? 40 : 56
            return (packet.bytes, Flow(v6: packet.bytes, offset: offset, transport: transport))
        }
        var packet = IPv4Packet(payload: Array(payload[..<pick(0...8)]))
        packet.source = v4()
        packet.destination = v4()
        packet.transport = transport
        if pick(0...4) == 0 { packet.fragment = UInt16(pick(0...2)) }
        if pick(0...4) == 0 { packet.options = [1, 1, 1, 1] }
        return (packet.bytes, Flow(v4: packet.bytes))
    }
}

@Suite struct TrafficSelectorTests {
    // What would fool us: the short form inside a record that admits a little more or less than the
    // list it stands for. Records with short form, with lists, and the reference must agree.
    @Test func recordsAdmitWhatTheReferenceAdmits() throws {
        var maker = Maker(random: SeededGenerator())
        let station = try Station(capacity: 4)
        var counts: [AssociationRecord.SelectorKind: (yes: Int, no: Int)] = [:]
        for round in 0..<1_500 {
            var selectors = AssociationSelectors()
            for _ in 0..<maker.pick(0...3) { selectors.source.append(try maker.selector()) }
            for _ in 0..<maker.pick(0...3) { selectors.destination.append(try maker.selector()) }
            if round % 3 == 0 { selectors = try shortForm(&maker) }
            var described = parameters(0x1001)
            described.selectors = selectors
            let handle = try station.add(described)
            let kind = station.record(handle).pointee.selectorKind
            if round % 3 == 0 { #expect(kind == .ipv4Prefixes) }
            // The same, forced into a list by saying one selector twice.
            described.selectors.source += selectors.source
            described.selectors.destination += selectors.destination
            let asList = try station.add(described)
            for _ in 0..<12 {
                let (bytes, flow) = maker.packet()
                let expected = flow.matches(selectors)
                #expect(admits(station, handle, bytes) == expected, "\(selectors) \(bytes)")
                #expect(admits(station, asList, bytes) == expected, "\(selectors) \(bytes)")
                counts[kind, default: (0, 0)].yes += expected ? 1 : 0
                counts[kind, default: (0, 0)].no += expected ? 0 : 1
            }
            station.slab.remove(handle)
            station.slab.remove(asList)
        }
        #expect(counts[.ipv4Prefixes].map { $0.yes > 100 && $0.no > 100 } == true)
        #expect(counts[.list].map { $0.yes > 100 && $0.no > 100 } == true)
    }

    private func shortForm(_ maker: inout Maker) throws -> AssociationSelectors {
        let transport = maker.pick(0...1) == 0 ? 0 : maker.transports[maker.pick(0...8)]
        func one(_ maker: inout Maker) throws -> TrafficSelector {
            let length = [0, 8, 23, 24, 30, 31, 32][maker.pick(0...6)]
            let range = IPAddress(v4: maker.v4()).prefixRange(length: length)
            return try #require(
                TrafficSelector(first: range.first, last: range.last, ipProtocol: transport))
        }
        return AssociationSelectors(source: [try one(&maker)], destination: [try one(&maker)])
    }

    private func admits(
        _ station: Station, _ handle: AssociationHandle, _ packet: [UInt8]
    ) -> Bool {
        packet.withUnsafeBytes { station.slab.first(of: [handle], covering: $0) == handle }
    }

    @Test func rangesThatRunBackwardsAreRefused() {
        let (one, two) = (IPAddress(v4: 1), IPAddress(v4: 2))
        #expect(TrafficSelector(first: two, last: one) == nil)
        #expect(TrafficSelector(first: one, last: IPAddress(high: 0, low: 2)) == nil)
        #expect(TrafficSelector(first: one, last: two, firstPort: 2, lastPort: 1) == nil)
        #expect(TrafficSelector(first: one, last: one, firstPort: 2, lastPort: 2) != nil)
    }

    // A prefix by counting: the range has 2^n addresses and begins at a multiple of that.
    @Test func prefixesAreRecognised() throws {
        var random = SeededGenerator()
        for _ in 0..<5_000 {
            let first = UInt32.random(in: 0...64, using: &random) << 26
            let size =
                Bool.random(using: &random)
                ? UInt64(1) << UInt64.random(in: 0...26, using: &random)
                : UInt64.random(in: 1...1 << 26, using: &random)
            let last = UInt64(first) + size - 1
            guard last <= UInt32.max else { continue }
            let selector = try #require(
                TrafficSelector(
                    first: IPAddress(v4: first), last: IPAddress(v4: UInt32(last))))
            let isPrefix = size.nonzeroBitCount == 1 && UInt64(first) % size == 0
            let length = isPrefix ? UInt8(32 - size.trailingZeroBitCount) : nil
            #expect(selector.ipv4PrefixLength == length)
        }
        let all = TrafficSelector(first: IPAddress(v4: 0), last: IPAddress(v4: .max))
        #expect(all?.ipv4PrefixLength == 0)
        let ports = TrafficSelector(
            first: IPAddress(v4: 0), last: IPAddress(v4: .max), firstPort: 1)
        #expect(ports?.ipv4PrefixLength == nil)
    }

    // Two selectors overlap when some end of a packet lies in both: tried out over all ends of a
    // small world.
    @Test func overlapMeansACommonPacket() throws {
        var maker = Maker(random: SeededGenerator())
        let ends = (0..<16).flatMap { address in
            [6, 17].flatMap { transport in
                [0, 80, 81, 2048, 65_535].map { (UInt32(address), UInt8(transport), UInt16($0)) }
            }
        }
        func lies(_ end: (UInt32, UInt8, UInt16), _ selector: TrafficSelector) -> Bool {
            let address = IPAddress(v4: 0x0A00_0000 | (end.0 & 12) << 6 | end.0 & 3)
            return selector.first.low <= address.low && address.low <= selector.last.low
                && selector.first.family == .v4
                && (selector.ipProtocol == 0 || selector.ipProtocol == end.1)
                && selector.firstPort <= end.2 && end.2 <= selector.lastPort
        }
        var overlaps = 0
        for _ in 0..<3_000 {
            var (one, two) = (try maker.selector(), try maker.selector())
            one = try inWorld(one)
            two = try inWorld(two)
            let hasCommon = ends.contains { lies($0, one) && lies($0, two) }
            if hasCommon {
                #expect(one.overlaps(two) && two.overlaps(one))
                overlaps += 1
            }
            #expect(one.overlaps(two) == two.overlaps(one))
            if !hasCommon, one.first.family == .v4, two.first.family == .v4 {
                // Outside of the small world they may still meet, but not in all three respects.
                let apart = !one.overlaps(two) || meetsOutside(one, two)
                #expect(apart, "\(one) \(two)")
            }
        }
        #expect(overlaps > 100)
    }

    /// Protocols other than TCP and UDP are none of the small world.
    private func inWorld(_ selector: TrafficSelector) throws -> TrafficSelector {
        let transport: UInt8 = [0, 6, 17].contains(selector.ipProtocol) ? selector.ipProtocol : 6
        return try #require(
            TrafficSelector(
                first: selector.first, last: selector.last, ipProtocol: transport,
                firstPort: selector.firstPort, lastPort: selector.lastPort))
    }

    private func meetsOutside(_ one: TrafficSelector, _ two: TrafficSelector) -> Bool {
        let ports =
            max(
                one.firstPort, two.firstPort)...max(
                max(one.firstPort, two.firstPort), min(one.lastPort, two.lastPort))
        let low = max(one.first.low, two.first.low)
        let isWorldPort = [0, 80, 81, 2048, 65_535].contains { ports.contains($0) }
        let isWorldAddress = low & 0xFFFF_FFFF & ~0x303 == 0x0A00_0000
        return !isWorldPort || !isWorldAddress
    }

    @Test func emptyListsMeetEverything() throws {
        let one = try #require(TrafficSelector(first: IPAddress(v4: 1), last: IPAddress(v4: 1)))
        let two = try #require(TrafficSelector(first: IPAddress(v4: 2), last: IPAddress(v4: 2)))
        let some = AssociationSelectors(source: [one], destination: [two])
        #expect(AssociationSelectors.any.overlaps(some) && some.overlaps(.any))
        #expect(some.overlaps(AssociationSelectors(source: [two, one])))
        #expect(!some.overlaps(AssociationSelectors(source: [two])))
        #expect(!some.overlaps(AssociationSelectors(source: [one], destination: [one])))
    }

    // The first of several that cover the packet, whatever covers it later.
    @Test func orderDecides() throws {
        let station = try Station()
        var narrow = parameters(0x1001)
        let source = IPAddress(v4: 0x0A01_0000).prefixRange(length: 16)
        let one = try #require(TrafficSelector(first: source.first, last: source.last))
        narrow.selectors = AssociationSelectors(source: [one])
        let first = try station.add(narrow)
        let second = try station.add(parameters(0x1002))
        let gone = try station.add(parameters(0x1003))
        station.slab.remove(gone)
        func choice(_ handles: [AssociationHandle], _ packet: [UInt8]) -> AssociationHandle? {
            packet.withUnsafeBytes { station.slab.first(of: handles, covering: $0) }
        }
        var packet = IPv4Packet()
        #expect(choice([first, second], packet.bytes) == first)
        #expect(choice([second, first], packet.bytes) == second)
        #expect(choice([gone, first], packet.bytes) == first)
        packet.source = 0x0B00_0001
        #expect(choice([first, second], packet.bytes) == second)
        #expect(choice([first, gone], packet.bytes) == nil)
        #expect(choice([second], [1, 2, 3]) == nil && choice([second], []) == nil)
    }
}
