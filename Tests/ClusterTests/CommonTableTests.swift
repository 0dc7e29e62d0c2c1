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

    func entries(_ identifier: UInt16) -> [AssociationHandle] {
        table.entries(of: DistributionIdentifier(identifier))
    }

    func count(_ identifier: UInt16) -> Int { table.count(of: DistributionIdentifier(identifier)) }

    func find(_ spi: UInt32) -> AssociationHandle? { table.find(SPI(spi)) }

    func status(_ entry: AssociationHandle) -> AssociationStatus { table.status(of: entry) }

    func apply(_ checkpoint: SequenceCheckpoint) -> Bool { table.apply(checkpoint) }

    var all: [AssociationHandle] { table.entries() }
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
    // What would fool us: a list that loses its tail when an entry in the middle goes. The model
    // keeps an array per identifier, latest first; heads, tails and middles are removed at random.
    @Test func listsAgreeWithArrays() throws {
        var random = SeededGenerator()
        let identifiers = 4
        let holder = Table(capacity: 40, identifierCount: 16)
        var lists = [[(entry: AssociationHandle, spi: UInt32)]](repeating: [], count: identifiers)
        var spi: UInt32 = 0x1000
        for step in 0..<3_000 {
            let count = lists.reduce(0) { $0 + $1.count }
            let identifier = Int.random(in: 0..<identifiers, using: &random)
            // Swings between nearly empty and full.
            let fills = (step / 100).isMultiple(of: 2) ? 8 : 3
            if Int.random(in: 0..<10, using: &random) < fills {
                spi += 1
                let direction: Direction =
                    Int.random(in: 0..<4, using: &random) == 0
                    ? .outbound : .inbound
                let error = errorOf {
                    let entry = try holder.insert(
                        parameters(spi, direction), UInt16(identifier))
                    lists[identifier].insert((entry, spi), at: 0)
                    #expect(holder.find(spi) == (direction == .inbound ? entry : nil))
                }
                #expect(error == (count == 40 ? .full(capacity: 40) : nil))
            } else if let place = lists[identifier].indices.randomElement(using: &random) {
                let (entry, gone) = lists[identifier].remove(at: place)
                holder.table.remove(entry)
                #expect(holder.find(gone) == nil)
            }
            for (number, list) in lists.enumerated() {
                #expect(holder.entries(UInt16(number)) == list.map(\.entry))
                #expect(holder.count(UInt16(number)) == list.count)
                for (entry, spi) in list {
                    let status = holder.status(entry)
                    #expect(status.spi == SPI(spi))
                    #expect(status.distributionIdentifier == UInt16(number))
                }
            }
            let all = lists.joined().map(\.entry).sorted { $0.index < $1.index }
            #expect(holder.all == all && holder.table.count == all.count)
        }
        for number in UInt16(identifiers)..<16 { #expect(holder.entries(number).isEmpty) }
    }

    @Test func oneInboundEntryPerSPI() throws {
        let holder = Table(capacity: 4)
        let entry = try holder.insert(parameters(0x1001, .inbound), 3)
        let error = errorOf { try holder.insert(parameters(0x1001, .inbound), 4) }
        #expect(error == .duplicateSPI(SPI(0x1001)))
        #expect(holder.find(0x1001) == entry && holder.count(4) == 0 && holder.table.count == 1)
        // The other direction's SPIs are the peers' choice.
        _ = try holder.insert(parameters(0x1001), 3)
        _ = try holder.insert(parameters(0x1001), 3)
        #expect(holder.find(0x1001) == entry && holder.count(3) == 3)
    }

    @Test func fullTablesChangeNothing() throws {
        let holder = Table(capacity: 2)
        _ = try holder.insert(parameters(0x1001, .inbound), 0)
        let second = try holder.insert(parameters(0x1002, .inbound), 0)
        let error = errorOf { try holder.insert(parameters(0x1003, .inbound), 0) }
        #expect(error == .full(capacity: 2))
        #expect(error?.description.contains("raise its capacity") == true)
        #expect(holder.find(0x1003) == nil && holder.count(0) == 2)
        holder.table.remove(second)
        #expect(throws: Never.self) { try holder.insert(parameters(0x1003, .inbound), 0) }
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

    @Test func identifiersOutsideTheRangeAreACallersBug() async {
        await #expect(processExitsWith: .failure) {
            let holder = Table(capacity: 2, identifierCount: 16)
            _ = try holder.insert(parameters(0x1001, .inbound), 16)
        }
    }
}
