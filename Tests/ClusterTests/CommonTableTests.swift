import ESP
import TestSupport
import Testing
import Wire

@testable import Cluster

/// The macros of tests take no calls on values that can't be copied.
private final class Table {
    var table: CommonTable

    init(capacity: Int, identifierCount: Int = 16) {
        table = CommonTable(
            capacity: capacity, identifierCount: identifierCount,
            catalogue: AssociationCatalogue())
    }

    func insert(
        _ parameters: AssociationParameters, _ identifier: UInt16
    ) throws -> AssociationHandle {
        try table.insert(
            association(parameters), identifier: DistributionIdentifier(identifier))
    }

    /// A tunnel whose outbound SPI is the inbound one and 1 << 31, to the destination.
    func insertTunnel(
        _ spi: UInt32, _ identifier: UInt16, to destination: IPAddress? = nil,
        order: UInt64? = nil
    ) throws -> AssociationHandle {
        var outbound = parameters(spi | 1 << 31, .outbound)
        if let destination {
            outbound.selectors.destination = [
                try #require(TrafficSelector(first: destination, last: destination))
            ]
        }
        return try table.insert(
            inbound: association(parameters(spi, .inbound)), outbound: association(outbound),
            identifier: DistributionIdentifier(identifier), order: order)
    }

    func entries(_ identifier: UInt16) -> [AssociationHandle] {
        table.entries(of: DistributionIdentifier(identifier))
    }

    func visited(_ identifier: UInt16) -> [AssociationHandle] {
        var entries: [AssociationHandle] = []
        table.forEachEntry(of: DistributionIdentifier(identifier)) { entries.append($0) }
        return entries
    }

    func count(_ identifier: UInt16) -> Int {
        table.tunnelCount(of: DistributionIdentifier(identifier))
    }

    func find(_ spi: UInt32) -> AssociationHandle? { table.find(SPI(spi)) }

    func status(_ entry: AssociationHandle) -> AssociationStatus { table.status(of: entry) }

    func outbound(_ entry: AssociationHandle) -> AssociationHandle? { table.outbound(of: entry) }

    func inbound(_ entry: AssociationHandle) -> AssociationHandle? { table.inbound(of: entry) }

    func findOutbound(to destination: UInt32) -> AssociationHandle? {
        var packet = IPv4Packet()
        packet.destination = destination
        return packet.bytes.withUnsafeBytes { table.findOutbound(covering: $0) }
    }

    func isCurrent(_ handle: AssociationHandle) -> Bool { table.associations.isCurrent(handle) }

    func apply(_ checkpoint: SequenceCheckpoint) -> Bool { table.apply(checkpoint) }

    var all: [AssociationHandle] { table.entries() }

    var associationCount: Int { table.associations.count }
}

private func errorOf(_ body: () throws -> some Any) -> CommonTableError? {
    do {
        _ = try body()
        return nil
    } catch {
        return error as? CommonTableError
    }
}

@Suite struct CommonTableTests {
    private struct Entry {
        let inbound: AssociationHandle
        let spi: UInt32
        let hasOutbound: Bool
    }

    // What would fool us: a list that loses its tail when an entry in the middle goes, or an
    // outbound association that belongs to the tunnel before. The model keeps an array per
    // identifier, latest first; heads, tails and middles are removed at random.
    @Test func listsAgreeWithArrays() throws {
        var random = SeededGenerator()
        let holder = Table(capacity: 40, identifierCount: 16)
        var lists = [[Entry]](repeating: [], count: 4)
        var spi: UInt32 = 0x1000
        for step in 0..<3_000 {
            let count = lists.reduce(0) { $0 + $1.count }
            let identifier = Int.random(in: lists.indices, using: &random)
            // Swings between nearly empty and full.
            let fills = (step / 100).isMultiple(of: 2) ? 8 : 3
            if Int.random(in: 0..<10, using: &random) < fills {
                spi += 1
                let hasOutbound = Int.random(in: 0..<4, using: &random) > 0
                let error = errorOf {
                    let entry =
                        hasOutbound
                        ? try holder.insertTunnel(spi, UInt16(identifier))
                        : try holder.insert(parameters(spi, .inbound), UInt16(identifier))
                    lists[identifier].insert(
                        Entry(inbound: entry, spi: spi, hasOutbound: hasOutbound), at: 0)
                    #expect(holder.find(spi) == entry)
                }
                #expect(error == (count == 40 ? .full(capacity: 40) : nil))
            } else if let place = lists[identifier].indices.randomElement(using: &random) {
                let gone = lists[identifier].remove(at: place)
                let other = holder.outbound(gone.inbound)
                let isNamedByOther = Bool.random(using: &random)
                holder.table.remove((isNamedByOther ? other : nil) ?? gone.inbound)
                #expect(holder.find(gone.spi) == nil && !holder.isCurrent(gone.inbound))
                if let other { #expect(!holder.isCurrent(other)) }
            }
            expect(holder, toHold: lists)
        }
        for number in UInt16(lists.count)..<16 { #expect(holder.entries(number).isEmpty) }
    }

    private func expect(_ holder: Table, toHold lists: [[Entry]]) {
        for (number, list) in lists.enumerated() {
            #expect(holder.entries(UInt16(number)) == list.map(\.inbound))
            #expect(holder.visited(UInt16(number)) == list.map(\.inbound))
            #expect(holder.count(UInt16(number)) == list.count)
            for entry in list {
                let status = holder.status(entry.inbound)
                #expect(status.spi == SPI(entry.spi) && status.direction == .inbound)
                #expect(status.distributionIdentifier == UInt16(number))
                let outbound = holder.outbound(entry.inbound)
                #expect((outbound != nil) == entry.hasOutbound)
                guard let outbound else { continue }
                let other = holder.status(outbound)
                #expect(other.spi == SPI(entry.spi | 1 << 31) && other.direction == .outbound)
                #expect(other.distributionIdentifier == UInt16(number))
                #expect(holder.inbound(outbound) == entry.inbound)
                #expect(holder.outbound(outbound) == nil && holder.inbound(entry.inbound) == nil)
            }
        }
        let flat = lists.joined()
        let all = flat.map(\.inbound).sorted { $0.index < $1.index }
        #expect(holder.all == all && holder.table.count == all.count)
        let pairs = flat.count { $0.hasOutbound }
        #expect(holder.associationCount == flat.count + pairs)
    }

    @Test func oneTunnelPerInboundSPI() throws {
        let holder = Table(capacity: 4)
        let entry = try holder.insertTunnel(0x1001, 3)
        #expect(errorOf { try holder.insertTunnel(0x1001, 4) } == .duplicateSPI(SPI(0x1001)))
        let alone = errorOf { try holder.insert(parameters(0x1001, .inbound), 4) }
        #expect(alone == .duplicateSPI(SPI(0x1001)))
        #expect(holder.find(0x1001) == entry && holder.count(4) == 0 && holder.table.count == 1)
        #expect(holder.associationCount == 2)
        // The other direction's SPIs are the peers' choice.
        let own = try association(parameters(0x1002, .inbound))
        _ = try holder.table.insert(
            inbound: own, outbound: association(parameters(0x1001 | 1 << 31)),
            identifier: DistributionIdentifier(3))
        #expect(holder.find(0x1001) == entry && holder.count(3) == 2)
        #expect(holder.find(0x1001 | 1 << 31) == nil)
    }

    @Test func fullTablesChangeNothing() throws {
        let holder = Table(capacity: 2)
        // There would be room for the association, but not for the tunnel.
        _ = try holder.insert(parameters(0x1001, .inbound), 0)
        let second = try holder.insert(parameters(0x1002, .inbound), 0)
        for error in [
            errorOf { try holder.insert(parameters(0x1003, .inbound), 0) },
            errorOf { try holder.insertTunnel(0x1003, 0) },
        ] {
            #expect(error == .full(capacity: 2))
            #expect(error?.description.contains("raise its capacity") == true)
        }
        #expect(holder.find(0x1003) == nil && holder.count(0) == 2)
        #expect(holder.associationCount == 2 && holder.findOutbound(to: 5) == nil)
        holder.table.remove(second)
        #expect(throws: Never.self) { try holder.insertTunnel(0x1003, 0) }
        #expect(throws: Never.self) {
            holder.table.remove(try #require(holder.find(0x1001)))
            _ = try holder.insertTunnel(0x1004, 0)
        }
        #expect(holder.associationCount == 4)
    }

    // What would fool us: an inbound association that is left behind when the outbound one finds no
    // place for its policies.
    @Test func tunnelsComeWholeOrNotAtAll() throws {
        let holder = Table(capacity: 65_536)
        for number in 0..<UInt32(AssociationCatalogue.profilesMaximum) - 1 {
            var wanted = parameters(0x1000 + number, .inbound)
            wanted.lifetimes.softBytes = UInt64(number) + 1
            _ = try holder.insert(wanted, 0)
        }
        var inbound = parameters(0x100_0000, .inbound)
        inbound.lifetimes.softBytes = 1 << 40
        var outbound = parameters(0x200_0000)
        outbound.lifetimes.softBytes = 1 << 41
        let before = (holder.table.count, holder.associationCount)
        let error = errorOf {
            try holder.table.insert(
                inbound: association(inbound), outbound: association(outbound),
                identifier: DistributionIdentifier(1))
        }
        #expect(error == .tooManyProfiles)
        #expect(before == (holder.table.count, holder.associationCount))
        #expect(holder.find(0x100_0000) == nil && holder.count(1) == 0)
        // Nothing of it is held in the catalogue either.
        outbound.lifetimes = inbound.lifetimes
        _ = try holder.table.insert(
            inbound: association(inbound), outbound: association(outbound),
            identifier: DistributionIdentifier(1))
        #expect(holder.count(1) == 1)
    }

    @Test func tunnelsAreFoundByPacket() throws {
        let holder = Table(capacity: 4)
        let first = try holder.insertTunnel(0x1001, 0, to: IPAddress(v4: 1))
        let twin = try holder.insertTunnel(0x1002, 5, to: IPAddress(v4: 1))
        let other = try holder.insertTunnel(0x1003, 5, to: IPAddress(v4: 2))
        #expect(holder.findOutbound(to: 1) == holder.outbound(first))
        #expect(holder.findOutbound(to: 2) == holder.outbound(other))
        #expect(holder.findOutbound(to: 3) == nil)
        holder.table.remove(first)
        #expect(holder.findOutbound(to: 1) == holder.outbound(twin))
        // A given place comes before what is there; the next without one comes behind all.
        let early = try holder.insertTunnel(0x1004, 0, to: IPAddress(v4: 1), order: 0)
        #expect(holder.findOutbound(to: 1) == holder.outbound(early))
        holder.table.remove(early)
        let late = try holder.insertTunnel(0x1005, 0, to: IPAddress(v4: 1))
        #expect(holder.findOutbound(to: 1) == holder.outbound(twin))
        holder.table.remove(twin)
        #expect(holder.findOutbound(to: 1) == holder.outbound(late))
        holder.table.remove(late)
        let given = try holder.insertTunnel(0x1006, 0, to: IPAddress(v4: 1), order: 1_000)
        _ = try holder.insertTunnel(0x1007, 0, to: IPAddress(v4: 1))
        #expect(holder.findOutbound(to: 1) == holder.outbound(given))
        let octets: [UInt8] = [1, 2, 3]
        let noise = octets.withUnsafeBytes { holder.table.findOutbound(covering: $0) }
        #expect(noise == nil)
    }

    @Test func staleHandlesHaveNoPartner() throws {
        let holder = Table(capacity: 2)
        let entry = try holder.insertTunnel(0x1001, 0)
        let outbound = try #require(holder.outbound(entry))
        holder.table.remove(entry)
        #expect(holder.outbound(entry) == nil && holder.inbound(outbound) == nil)
        // The slots are used again, in whatever roles.
        let next = try holder.insertTunnel(0x1002, 0)
        #expect(holder.outbound(entry) == nil && holder.inbound(outbound) == nil)
        #expect(holder.outbound(next).flatMap(holder.inbound) == next)
        let alone = try holder.insert(parameters(0x1003, .inbound), 0)
        #expect(holder.outbound(alone) == nil && holder.inbound(alone) == nil)
    }

    @Test func checkpointsFindTheirEntry() throws {
        let holder = Table(capacity: 2)
        let entry = try holder.insert(parameters(0x1001, .inbound), 0)
        let receiver = try Station()
        let handle = try receiver.add(parameters(0x1001, .inbound))
        let peer = try Station()
        let out = try peer.add(parameters(0x1001))
        for _ in 0..<3 { _ = receiver.open(peer.seal(IPv4Packet().bytes, out).bytes ?? [], handle) }
        let checkpoint = receiver.slab.checkpoint(of: handle)
        #expect(holder.apply(checkpoint))
        #expect(holder.status(entry).sequence == 3 && holder.status(entry).packets == 3)
        holder.table.remove(entry)
        #expect(!holder.apply(checkpoint))
    }

    @Test func bothDirectionsTakeCheckpoints() throws {
        let holder = Table(capacity: 1)
        let entry = try holder.insertTunnel(0x1001, 0)
        let outbound = try #require(holder.outbound(entry))
        let sent = SequenceCheckpoint(
            spi: SPI(0x1001 | 1 << 31), sequence: 9, packets: 8, bytes: 7)
        holder.table.updateStates { $0.apply(sent, to: outbound) }
        let status = holder.status(outbound)
        #expect(status.sequence == 9 && status.packets == 8 && status.bytes == 7)
        #expect(holder.status(entry).sequence == 0)
    }

    @Test func mistakesOfTheCaller() async {
        await #expect(processExitsWith: .failure) {
            let holder = Table(capacity: 2, identifierCount: 16)
            _ = try holder.insert(parameters(0x1001, .inbound), 16)
        }
        // An outbound SPI is the peer's, and names no tunnel here.
        await #expect(processExitsWith: .failure) {
            let holder = Table(capacity: 2)
            _ = try holder.insert(parameters(0x1001, .outbound), 0)
        }
    }
}
