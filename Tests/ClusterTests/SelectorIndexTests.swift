import CMallocCounter
import ESP
import TestSupport
import Testing
import Wire

@testable import Cluster

/// An index over a slab, and the list of policies that it must agree with.
private final class Policies {
    struct Policy {
        let handle: AssociationHandle
        let order: UInt64
        let serial: Int
    }

    var slab: AssociationSlab
    var index = SelectorIndex()
    /// In the order of the policies.
    private(set) var policies: [Policy] = []
    private var serial = 0

    init(capacity: Int) {
        slab = AssociationSlab(capacity: capacity, catalogue: AssociationCatalogue())
    }

    @discardableResult
    func add(_ selectors: AssociationSelectors, order: UInt64? = nil) throws -> AssociationHandle {
        serial += 1
        var wanted = parameters(0x1000 + UInt32(serial))
        wanted.selectors = selectors
        let handle = try slab.insert(
            association(wanted), distributionIdentifier: 0, ivGeneration: 0)
        let policy = Policy(handle: handle, order: order ?? UInt64(serial), serial: serial)
        index.insert(handle: handle, selectors: selectors, order: policy.order)
        let place = policies.firstIndex {
            ($0.order, $0.serial) > (policy.order, policy.serial)
        }
        policies.insert(policy, at: place ?? policies.endIndex)
        return handle
    }

    func remove(at place: Int) {
        let handle = policies.remove(at: place).handle
        #expect(forget(handle))
        #expect(!forget(handle))
        slab.remove(handle)
    }

    func forget(_ handle: AssociationHandle) -> Bool { index.remove(handle) }

    func found(_ packet: [UInt8]) -> AssociationHandle? {
        packet.withUnsafeBytes { index.first(covering: $0, in: slab) }
    }

    /// RFC 4301 §5.1 read literally: one policy after the other.
    func expected(_ packet: [UInt8]) -> AssociationHandle? {
        packet.withUnsafeBytes {
            slab.first(of: policies.map(\.handle), covering: $0)
        }
    }

    var count: Int { index.count }
}

/// Addresses from a small world, in which prefixes contain each other often.
extension RandomNumberGenerator {
    fileprivate mutating func address(_ family: IPAddress.Family) -> IPAddress {
        let bits = next() & next()
        return family == .v4
            ? IPAddress(v4: UInt32(truncatingIfNeeded: bits) & 0xC000_0F0F)
            : IPAddress(high: bits & 0xC000_0000_0000_0003, low: next() & 0xC000_0000_0000_0007)
    }

    fileprivate mutating func selector() -> TrafficSelector? {
        let family: IPAddress.Family = Int(next() % 3) == 0 ? .v6 : .v4
        let ends: (first: IPAddress, last: IPAddress)
        switch Int(next() % 8) {
        case 0:  // Any range, mostly no prefix.
            let two = [address(family), address(family)].sorted { IPAddress.isOrdered($0, $1) }
            ends = (two[0], two[1])
        case 1..<4:
            let host = address(family)
            ends = (host, host)
        default:
            let lengths =
                family == .v4 ? [0, 1, 2, 8, 20, 24, 28, 31] : [0, 2, 32, 63, 64, 65, 125, 127]
            ends = address(family).prefixRange(length: lengths[Int(next() % 8)])
        }
        let ports: (UInt16, UInt16) = Int(next() % 3) == 0 ? (500, 600) : (0, .max)
        return TrafficSelector(
            first: ends.first, last: ends.last, ipProtocol: [0, 0, 17, 6][Int(next() % 4)],
            firstPort: ports.0, lastPort: ports.1)
    }

    fileprivate mutating func selectors() -> AssociationSelectors {
        func list(_ counts: [Int], _ random: inout Self) -> [TrafficSelector] {
            (0..<counts[Int(random.next() % UInt64(counts.count))])
                .compactMap { _ in random.selector() }
        }
        return AssociationSelectors(
            source: list([0, 0, 0, 1], &self), destination: list([0, 1, 1, 1, 2, 5], &self))
    }

    fileprivate mutating func packet() -> [UInt8] {
        let body = udpDatagram(from: 7, to: UInt16(450 + next() % 200), [1, 2, 3])
        if Int(next() % 3) == 0 {
            var packet = IPv6Packet(payload: body)
            let (source, destination) = (address(.v6), address(.v6))
            packet.source = (source.high, source.low)
            packet.destination = (destination.high, destination.low)
            // What stands between the addresses and the ports.
            if Bool.random(using: &self) { packet.extensions = [.init(60)] }
            return packet.bytes
        }
        var packet = IPv4Packet(payload: body)
        packet.source = UInt32(truncatingIfNeeded: address(.v4).low)
        packet.destination = UInt32(truncatingIfNeeded: address(.v4).low)
        packet.transport = Bool.random(using: &self) ? 17 : 6
        return packet.bytes
    }
}

@Suite struct SelectorIndexTests {
    // What would fool us: the longest prefix wins, which is what routing does and policies don't;
    // or a list that loses somebody when its first policy goes.
    @Test func agreesWithOrderedPolicies() throws {
        var random = SeededGenerator()
        for rounds in [40, 40, 40, 400] {
            let holder = Policies(capacity: 300)
            var hits = 0
            for step in 0..<rounds * 8 {
                let fills = (step / rounds).isMultiple(of: 2) ? 8 : 3
                let isAdded = Int.random(in: 0..<10, using: &random) < fills
                if isAdded, holder.count < 300 {
                    // Equal orders, and some in front of others.
                    let order = Bool.random(using: &random) ? nil : random.next() % 20
                    try holder.add(random.selectors(), order: order)
                } else if let place = holder.policies.indices.randomElement(using: &random) {
                    holder.remove(at: place)
                }
                #expect(holder.count == holder.policies.count)
                for _ in 0..<10 {
                    let packet = random.packet()
                    let expected = holder.expected(packet)
                    #expect(holder.found(packet) == expected)
                    if expected != nil { hits += 1 }
                }
            }
            #expect(hits > rounds * 8)
            while !holder.policies.isEmpty { holder.remove(at: 0) }
            #expect(holder.found(random.packet()) == nil)
        }
    }

    // Many prefixes, so that places grow, collide and are shifted back.
    @Test func agreesWithADictionaryOfHosts() throws {
        var random = SeededGenerator()
        let holder = Policies(capacity: 3_000)
        var owners: [UInt32: AssociationHandle] = [:]
        func host(_ address: UInt32) throws -> TrafficSelector {
            try #require(
                TrafficSelector(first: IPAddress(v4: address), last: IPAddress(v4: address)))
        }
        func packet(_ address: UInt32) -> [UInt8] {
            var packet = IPv4Packet()
            packet.destination = address
            return packet.bytes
        }
        for number in 0..<3_000 as Range<UInt32> {
            // Half of them one behind the other, half of them anywhere.
            let address =
                number.isMultiple(of: 2)
                ? 0x0A00_0000 + number : UInt32(truncatingIfNeeded: random.next())
            if owners[address] != nil { continue }
            owners[address] = try holder.add(
                AssociationSelectors(destination: [host(address)]))
        }
        let addresses = owners.keys.sorted()
        for address in addresses.shuffled(using: &random).prefix(2_000) {
            let place = holder.policies.firstIndex { $0.handle == owners[address] }
            holder.remove(at: try #require(place))
            owners[address] = nil
        }
        for address in addresses { #expect(holder.found(packet(address)) == owners[address]) }
        #expect(holder.count == owners.count)
    }

    @Test func octetsThatAreNoPacketMatchNothing() throws {
        let holder = Policies(capacity: 1)
        let all = try holder.add(.any)
        let packet = IPv4Packet().bytes
        #expect(holder.found(packet) == all && holder.found(IPv6Packet().bytes) == all)
        for count in 0..<packet.count { #expect(holder.found(Array(packet[..<count])) == nil) }
        #expect(holder.found([0x55] + packet.dropFirst()) == nil)
        var random = SeededGenerator()
        for _ in 0..<2_000 {
            let noise = random.bytes(Int.random(in: 0..<80, using: &random))
            #expect(holder.found(noise) == holder.expected(noise))
        }
    }

    @Test func staleHandlesMatchNothing() throws {
        let holder = Policies(capacity: 1)
        let handle = try holder.add(.any)
        holder.slab.remove(handle)
        #expect(holder.found(IPv4Packet().bytes) == nil)
        let other = AssociationHandle(index: handle.index, generation: handle.generation + 1)
        let unknown = AssociationHandle(index: 99, generation: 1)
        #expect(!holder.forget(other) && !holder.forget(unknown))
        #expect(holder.forget(handle) && holder.count == 0)
    }

    @Test func prefixesHoldTheirRanges() {
        var random = SeededGenerator()
        for _ in 0..<3_000 {
            guard let selector = random.selector() else { continue }
            let prefix = Prefix(holding: selector)
            let width = selector.first.bitWidth
            for address in [selector.first, selector.last] {
                let again = Prefix(
                    prefix.family, high: address.high, low: address.low, length: prefix.length)
                #expect(again == prefix)
                let range = address.prefixRange(length: Int(prefix.length))
                #expect(range.first.high == prefix.high && range.first.low == prefix.low)
            }
            // One bit more would part them.
            guard Int(prefix.length) < width else { continue }
            let (left, right) = (
                selector.first.prefixRange(length: Int(prefix.length) + 1),
                selector.last.prefixRange(length: Int(prefix.length) + 1)
            )
            #expect(left.first != right.first)
        }
    }

    @Test func lookingUpDoesNotAllocate() throws {
        var random = SeededGenerator()
        let holder = Policies(capacity: 200)
        for _ in 0..<200 { try holder.add(random.selectors()) }
        let packets = (0..<200).map { _ in random.packet() }
        func pass() -> Int {
            // Without optimisation, a `for` loop over an array allocates by itself.
            var (place, hits) = (0, 0)
            while place < packets.count {
                if holder.found(packets[place]) != nil { hits += 1 }
                place += 1
            }
            return hits
        }
        let hits = pass()
        let before = malloc_counter_value()
        let again = pass()
        let allocations = malloc_counter_value() - before
        #expect(again == hits && hits > 100)
        #expect(allocations == 0)
    }
}
