// What a node keeps on disk, as far as it can be tried without rights: see
// EndToEndTests/LiveStateTests for the rest.
//
// What would fool us: a reader that forgives what its own writer never makes (hence every octet of
// a file changed, and every length of it), and a second life that only looks like a successor
// (hence the numbers that it really uses).

import Cluster
import Crypto
import ESP
import Foundation
import Gateway
import Glibc
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite struct StateJournalTests {
    /// A folder that goes with the test.
    private final class Folder {
        let path = NSTemporaryDirectory() + "spindle-state-\(UUID().uuidString)"

        deinit { try? FileManager.default.removeItem(atPath: path) }

        func mode(_ name: String) throws -> Int? {
            try FileManager.default.attributesOfItem(atPath: path + name)[.posixPermissions]
                as? Int
        }
    }

    private func open(_ folder: Folder) throws -> StateJournal {
        var random = SystemRandomSource()
        return try StateJournal(path: folder.path, random: &random)
    }

    private func keep(
        _ changes: [StateChange], _ store: inout CoordinationStore, _ journal: StateJournal
    ) throws {
        journal.begin(changes, of: &store)
        #expect(try journal.finish(waits: true) == true)
    }

    private func pairs(_ store: inout CoordinationStore) -> [String: [UInt8]] {
        guard case .pairs(let pairs, _) = store.handle(.read(prefix: ""), nowNanoseconds: 0)
        else { return [:] }
        return Dictionary(uniqueKeysWithValues: pairs.map { ($0.key, $0.value) })
    }

    // MARK: The file

    // RFC 3720 B.4, and the check value of the CRC catalogues.
    @Test func checksumsAreThoseOfTheRFC() {
        #expect(CRC32C.checksum(Array("123456789".utf8)[...]) == 0xE306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)[...]) == 0x8A91_36AA)
        #expect(CRC32C.checksum([UInt8](repeating: 0xFF, count: 32)[...]) == 0x62A8_AB43)
        #expect(CRC32C.checksum((0..<32).map { UInt8($0) }[...]) == 0x46DD_794E)
    }

    private let check = [UInt8](repeating: 7, count: StateFile.checkBytes)

    /// A snapshot of two frames, and two frames behind it.
    private func file() -> (octets: [UInt8], snapshotEnd: Int, lastFrame: Int) {
        let frames: [[StateChange]] = [
            [.put(key: "a", value: [1, 2, 3]), .put(key: "b", value: [])],
            [.put(key: "c", value: Array(0..<200))],
            [.delete(key: "a"), .put(key: "b", value: [9])],
            [.put(key: "d", value: [4]), .delete(key: "absent")],
        ]
        let octets = frames.enumerated().map { StateFile.frame($1, number: UInt32($0)) }
        let snapshotBytes = octets[0].count + octets[1].count
        let all =
            StateFile.header(check: check, snapshotBytes: snapshotBytes) + octets.flatMap { $0 }
        return (all, StateFile.headerBytes + snapshotBytes, all.count - octets[3].count)
    }

    @Test func everyLengthIsWholeOrTornOrRefused() throws {
        let (octets, snapshotEnd, lastFrame) = file()
        let whole = try StateFile(octets, check: check)
        #expect(whole.end == octets.count && whole.frames == 4)
        #expect(whole.pairs == ["b": [9], "c": Array(0..<200), "d": [4]])
        for count in 0..<octets.count {
            let cut = Array(octets[..<count])
            guard count >= snapshotEnd else {
                #expect(throws: StateFile.Fault.self, "\(count)") {
                    try StateFile(cut, check: check)
                }
                continue
            }
            for tail in [[], [UInt8](repeating: 0, count: 100)] {
                let read = try StateFile(cut + tail, check: check)
                #expect(read.pairs["d"] == nil && read.pairs["c"]?.count == 200)
                #expect((read.pairs["a"] == nil) == (count >= lastFrame), "\(count)")
                #expect(read.end == (count >= lastFrame ? lastFrame : snapshotEnd))
            }
        }
    }

    @Test func noChangedOctetIsBelieved() throws {
        let (octets, _, lastFrame) = file()
        for place in octets.indices {
            for bit in [UInt8(1), 0x80] {
                var changed = octets
                changed[place] ^= bit
                guard place >= lastFrame else {
                    #expect(throws: StateFile.Fault.self, "\(place)") {
                        try StateFile(changed, check: check)
                    }
                    continue
                }
                // The end of a file may be torn: then it is as if it had not been written.
                let read = try StateFile(changed, check: check)
                #expect(read.end == lastFrame && read.pairs["b"] == [9] && read.pairs["d"] == nil)
            }
        }
        var other = check
        other[3] ^= 1
        #expect(throws: StateFile.Fault.otherSecret) { try StateFile(octets, check: other) }
        var newer = octets
        newer[14] = UInt8(ascii: "2")
        #expect(throws: StateFile.Fault.version) { try StateFile(newer, check: check) }
    }

    @Test func randomOctetsTrapNothing() {
        var random = SeededGenerator()
        let (octets, _, _) = file()
        for _ in 0..<2000 {
            var changed = octets
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                changed[Int.random(in: octets.indices, using: &random)] =
                    UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) {
                changed.removeLast(Int.random(in: 0...changed.count, using: &random))
            }
            _ = try? StateFile(changed, check: check)
        }
    }

    // MARK: The directory

    @Test func whatIsKeptIsThereAgain() throws {
        let folder = Folder()
        var store = CoordinationStore()
        func put(_ key: String, _ value: [UInt8], lease: UInt64? = nil) throws {
            let reply = store.handle(
                .transaction(
                    CoordinationTransaction(
                        operations: [.put(key: key, value: value, lease: lease)])),
                nowNanoseconds: 0)
            guard case .committed = reply else { throw StateFile.Fault.damaged(0) }
        }
        do {
            let journal = try open(folder)
            #expect(journal.isNew)
            try put("a", [1])
            guard
                case .lease(let lease) = store.handle(
                    .grantLease(seconds: 5), nowNanoseconds: 0)
            else { return #expect(Bool(false)) }
            try put("leased", [2], lease: lease)
            try keep([], &store, journal)
            #expect(try folder.mode("") == 0o700 && folder.mode("/secret") == 0o600)
            #expect(try folder.mode("/store") == 0o600)
            try put("b", [3])
            try keep([.put(key: "b", value: [3]), .delete(key: "a")], &store, journal)
            // Two processes are as two openings: the lock is of the open directory.
            #expect(throws: StateError.inUse(folder.path)) { try open(folder) }
        }
        let again = try open(folder)
        #expect(!again.isNew)
        var restored = try again.takeStore()
        #expect(pairs(&restored) == ["b": [3]])
        #expect(try open(Folder()).secret().matches(again.secret()) == false)
    }

    // What would fool us: an end that comes with a job is seldom seen, and hangs.
    @Test(.timeLimit(.minutes(1))) func aWriterThatEndsFinishesItsJob() throws {
        for number in 0..<500 {
            let folder = Folder()
            var store = CoordinationStore()
            do {
                let journal = try open(folder)
                try keep([], &store, journal)
                journal.begin([.put(key: "k", value: [UInt8(number & 255)])], of: &store)
                if number.isMultiple(of: 2) { usleep(useconds_t(number)) }
            }
            var restored = try open(folder).takeStore()
            #expect(pairs(&restored) == ["k": [UInt8(number & 255)]])
        }
    }

    @Test func manyChangesAreMadeIntoASnapshot() throws {
        let folder = Folder()
        var store = CoordinationStore()
        let value = [UInt8](repeating: 5, count: 100_000)
        do {
            let journal = try open(folder)
            try keep([], &store, journal)
            for number in 0..<50 {
                let key = "k\(number % 3)"
                _ = store.handle(
                    .transaction(
                        CoordinationTransaction(
                            operations: [.put(key: key, value: value, lease: nil)])),
                    nowNanoseconds: 0)
                try keep([.put(key: key, value: value)], &store, journal)
            }
        }
        let size = try FileManager.default.attributesOfItem(atPath: folder.path + "/store")[.size]
        #expect(try #require(size as? Int) < 2_000_000)
        var restored = try open(folder).takeStore()
        #expect(pairs(&restored) == ["k0": value, "k1": value, "k2": value])
    }

    @Test func aFirstStartThatWasCutOffIsTriedAgain() throws {
        let folder = Folder()
        var store = CoordinationStore()
        do { try keep([], &store, open(folder)) }
        let (secret, new) = (folder.path + "/secret", folder.path + "/secret.new")
        // Between the two names.
        try FileManager.default.moveItem(atPath: secret, toPath: new)
        do {
            let journal = try open(folder)
            #expect(!journal.isNew)
            try keep([], &store, journal)
        }
        #expect(FileManager.default.fileExists(atPath: secret))
        // Without any secret it is not.
        try FileManager.default.removeItem(atPath: secret)
        #expect(throws: StateError.missing(secret, directory: folder.path)) { try open(folder) }
        // Before the store had its name, nothing had been served.
        try FileManager.default.removeItem(atPath: folder.path + "/store")
        try Data([1]).write(to: URL(filePath: new))
        #expect(try open(folder).isNew)
    }

    // MARK: A node that is its own successor

    private func member(_ journal: StateJournal, now: UInt64) throws -> SoleMember {
        var random = SystemRandomSource()
        return try SoleMember(
            capacity: 100, journal: journal, store: journal.takeStore(), ike: nil,
            library: CryptoLibrary(), random: &random, now: now)
    }

    private func establish(_ member: SoleMember, _ spi: UInt32, _ now: UInt64) throws {
        let refusal = member.establish(
            inbound: try association(parameters(spi, .inbound)),
            outbound: try association(parameters(spi | 1 << 31)), replacing: nil, now)
        try #require(refusal == nil)
    }

    @Test func aSuccessorTakesTheNextGenerationAndStartsAtTheLeases() throws {
        let folder = Folder()
        var now: UInt64 = 1_700_000_000_000_000_000
        var generations: [UInt16] = []
        var reached: [UInt64] = []
        for life in 0..<4 {
            let member = try member(open(folder), now: now)
            now = member.founded
            if life == 0 { for spi in 1...20 { try establish(member, UInt32(0x1000 + spi), now) } }
            if life == 2 { member.gateway.clear(SPI(0x1003), nowNanoseconds: now) }
            member.carry(now)
            generations.append(member.generation)
            let status = member.gateway.status(of: SPI(0x1002))
            reached.append(try #require(status?.sent?.sequence))
            let (cleared, count) = (
                member.gateway.status(of: SPI(0x1003)) == nil, member.gateway.entryCount
            )
            #expect(cleared == (life >= 2) && count == (life >= 2 ? 19 : 20))
            now += 1_000_000_000
        }
        #expect(generations == [1, 2, 3, 4])
        // Nothing was sent, but as much as stood in the leases might have been; and in lives that
        // published none, what they might have sent before (docs/decisions/0011).
        #expect(reached[0] == 0 && reached[1] >= 65_536)
        for (before, after) in zip(reached.dropFirst(), reached.dropFirst(2)) {
            #expect(after >= before + LeaseSizing(policy: .learn).sendStart)
        }
    }

    // What would fool us: a fresh allocation in the place of one that can't be read.
    @Test func aStoreThatCannotBeBelievedIsNoFreshStart() throws {
        let folder = Folder()
        do {
            let journal = try open(folder)
            let member = try member(journal, now: 1)
            try establish(member, 0x1001, member.founded)
            var store = CoordinationStore()
            try keep([.put(key: StoreKey.allocation.text, value: [1, 2, 3])], &store, journal)
        }
        do {
            _ = try member(open(folder), now: 1)
            Issue.record("it served")
        } catch let error as NodeError {
            #expect(error.description.contains("spindle/allocation"), "\(error)")
            #expect(error.description.contains("make new keys"), "\(error)")
        }
    }

    @Test func nothingIsPromisedThatTheDiskRefuses() throws {
        let folder = Folder()
        do {
            let journal = try open(folder)
            let member = try member(journal, now: 1_000_000_000)
            var now = member.founded
            try establish(member, 0x1001, now)
            // A full disk, as the kernel plays it.
            let full = Glibc.open("/dev/full", O_WRONLY)
            dup2(full, try #require(journal.file).number)
            close(full)
            let refusal = member.establish(
                inbound: try association(parameters(0x1002, .inbound)),
                outbound: try association(parameters(0x1002 | 1 << 31)), replacing: nil, now)
            #expect(refusal == "the state directory takes nothing")
            let faults = member.takeFaults()
            #expect(faults.count == 1 && "\(faults)".contains("No space left on device"))
            // What was there goes on, and what was refused does not come back.
            let until = member.gateway.servingUntilNanoseconds
            #expect(until > now)
            let status = member.gateway.status(of: SPI(0x1001))
            #expect(status != nil)
            for _ in 0..<50 {
                now += 100_000_000
                member.gateway.tick(nowNanoseconds: now)
                member.settle(now)
            }
            let count = member.gateway.entryCount
            #expect(member.takeFaults().isEmpty && count == 1)
            // There is room again, and everything was written anew.
            try establish(member, 0x1003, now)
        }
        let again = try member(open(folder), now: 1_000_000_000_000)
        let spis = again.gateway.tableSPIs()
        #expect(spis == [SPI(0x1001), SPI(0x1003)])
        #expect(again.generation == 2)
    }
}
