// Stored records: their names, their bounds, and that secrets stay where they belong.

import Crypto
import ESP
import TestSupport
import Testing
import Wire

@testable import Cluster

@Suite struct StoreKeyTests {
    private static let keys: [(StoreKey, String)] = [
        (.allocation, "spindle/allocation"),
        (.member(NodeID(3)), "spindle/member/00003"),
        (.member(NodeID(65535)), "spindle/member/65535"),
        (.weight(NodeID(12)), "spindle/weight/00012"),
        (.lease(DistributionIdentifier(0)), "spindle/lease/0000"),
        (.lease(DistributionIdentifier(4095)), "spindle/lease/0fff"),
        (.entry(DistributionIdentifier(26), SPI(0xABC)), "spindle/entry/001a/00000abc"),
        (.entry(DistributionIdentifier(1), SPI(.max)), "spindle/entry/0001/ffffffff"),
    ]

    @Test func keysAreWrittenAndRead() {
        for (key, text) in Self.keys {
            #expect(key.text == text)
            #expect(StoreKey(text: text) == key)
            #expect(text.hasPrefix(StoreKey.prefix))
        }
    }

    @Test(arguments: [
        "", "spindle", "spindle/", "spindle//allocation", "spindle/allocation/",
        "Spindle/allocation", "other/allocation", "/spindle/allocation", "spindle/member",
        "spindle/member/", "spindle/member/3", "spindle/member/00000", "spindle/member/65536",
        "spindle/member/000003", "spindle/member/+0003", "spindle/member/-0003",
        "spindle/member/0003 ", "spindle/member/0000a", "spindle/lease/1000", "spindle/lease/0FFF",
        "spindle/lease/fff", "spindle/lease/00fff", "spindle/lease/0001/", "spindle/entry/0001",
        "spindle/entry/0001/abc", "spindle/entry/0001/00000ABC", "spindle/entry/1000/00000abc",
        "spindle/entry/0001/00000abc/1", "spindle/entry/0001/100000abc", "spindle/other/0001",
        "spindle/member/０００03", "spindle/member/00003\u{0}",
    ])
    func otherTextsAreNoKeys(text: String) { #expect(StoreKey(text: text) == nil) }

    @Test func keysAscendAsNumbersDo() {
        let texts = (0..<4096).map { StoreKey.lease(DistributionIdentifier($0)).text }
        #expect(texts == texts.sorted())
        let nodes = (1...UInt16.max).map { StoreKey.member(NodeID($0)).text }
        #expect(nodes == nodes.sorted())
    }
}

@Suite struct AllocationRecordTests {
    private let allocation: Allocation

    init() throws {
        allocation = try Allocation(nodes: [NodeID(1), NodeID(2)], identifierCount: 16)
            .moving(DistributionIdentifier(3), to: NodeID(2))
    }

    private func record(
        successors: [Int: UInt16] = [:], overruns: [Int: UInt16] = [:], count: Int = 16
    ) throws -> AllocationRecord {
        try AllocationRecord(
            allocation: allocation,
            successors: (0..<count).map { successors[$0].flatMap { NodeID(exactly: $0) } },
            overrunGenerations: (0..<16).map { overruns[$0] ?? 0 })
    }

    @Test func allThreePartsMustAgree() throws {
        #expect(try record() == AllocationRecord(allocation))
        _ = try record(successors: [0: 2, 3: 1], overruns: [0: 1, 3: 2])
        #expect(throws: ClusterError.allocationMalformed(.successorCount)) {
            try record(count: 15)
        }
        #expect(throws: ClusterError.allocationMalformed(.overrunCount)) {
            try AllocationRecord(
                allocation: allocation, successors: Array(repeating: nil, count: 16),
                overrunGenerations: [])
        }
        #expect(throws: ClusterError.allocationMalformed(.successorOwns)) {
            try record(successors: [3: 2])
        }
        #expect(throws: ClusterError.nodeUnknown(NodeID(3))) { try record(successors: [3: 3]) }
        #expect(throws: ClusterError.allocationMalformed(.overrunGeneration)) {
            try record(overruns: [4: 2])
        }
    }

    // Who has not let go goes on under the generation that it has; a new one would end sessions
    // that nobody else took over. Who had let go must not.
    @Test func aMoveThatIsGivenUpChangesNoOwnership() throws {
        let record = try record(successors: [0: 2, 1: 2, 3: 1], overruns: [0: 1])
        let (first, third) = (DistributionIdentifier(0), DistributionIdentifier(3))
        let given = try record.givingUp([first, third])
        #expect(given.allocation.epoch == record.allocation.epoch + 1)
        #expect(given.allocation.owners == allocation.owners)
        #expect(given.allocation.generations == allocation.generations)
        #expect(given.overrunGenerations == record.overrunGenerations)
        var successors: [NodeID?] = Array(repeating: nil, count: 16)
        successors[1] = NodeID(2)
        #expect(given.successors == successors)
        let cancelled = try record.cancelling([first, third])
        #expect(
            cancelled.successors == successors && cancelled.allocation.owners == allocation.owners)
        #expect(cancelled.allocation.generation(of: first) == 2)
        #expect(cancelled.allocation.generation(of: third) == 3)
    }
}

@Suite struct RecordTests {
    private func seal() throws -> RecordSeal {
        try RecordSeal(ClusterSecret(key: secret(Array(repeating: 1, count: 32))))
    }

    @Test func aValueOpensInItsOwnPlaceOnly() throws {
        let seal = try seal()
        let identifier = DistributionIdentifier(1)
        let keys: [StoreKey] = [
            .allocation, .member(NodeID(1)), .member(NodeID(2)), .weight(NodeID(1)),
            .lease(identifier), .entry(identifier, SPI(1)), .entry(identifier, SPI(2)),
        ]
        let plain = octets("a value")
        for key in keys {
            let sealed = plain.withUnsafeBytes {
                seal.seal($0, key: key, nonce: Array(repeating: 5, count: 12))
            }
            for other in keys {
                let opened = try? sealed.withUnsafeBytes { sealed in
                    try seal.open(sealed, key: other).withUnsafeBytes { Array($0) }
                }
                #expect(opened == (other == key ? plain : nil))
            }
        }
    }

    @Test func nothingIsAValueToo() throws {
        let seal = try seal()
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        let sealed = seal.seal(empty, key: .allocation, nonce: Array(repeating: 0, count: 12))
        #expect(sealed.count == RecordSeal.overheadBytes)
        let count = try sealed.withUnsafeBytes { try seal.open($0, key: .allocation).count }
        #expect(count == 0)
        #expect(throws: RecordError.malformed(.truncated)) {
            _ = try seal.open(empty, key: .allocation)
        }
    }

    // What would fool us: a decoded record that looks right and holds other keys. So the keys are
    // looked for in the octets.
    @Test func aTunnelKeepsItsKeysAndHidesThemSealed() throws {
        var inbound = parameters(0x1001, .inbound)
        inbound.usesESN = true
        let record = TunnelRecord(
            identifier: DistributionIdentifier(7), generation: 2, sendLimit: 3, receiveLimit: 4,
            inbound: try association(inbound), outbound: try association(parameters(0x2002)))
        let plain = record.encode().withUnsafeBytes { Array($0) }
        let keys = [keyOctets(SPI(0x1001), .gcm), keyOctets(SPI(0x2002), .gcm)]
        for key in keys { #expect(contains(plain, key)) }
        let key = StoreKey.entry(DistributionIdentifier(7), SPI(0x1001))
        let seal = try seal()
        let sealed = plain.withUnsafeBytes {
            seal.seal($0, key: key, nonce: Array(repeating: 9, count: 12))
        }
        for key in keys { #expect(!contains(sealed, key[..<16])) }
        let again = try sealed.withUnsafeBytes { sealed in
            try seal.open(sealed, key: key).withUnsafeBytes { plain in
                let record = try TunnelRecord(decoding: plain)
                return record.encode().withUnsafeBytes { Array($0) }
            }
        }
        #expect(again == plain)
        #expect(sealed.count <= ForeignEntry.sealedMaximum, "a usual tunnel fits a foreign entry")
    }

    @Test func whatIsAcceptedIsCanonical() throws {
        var random = SeededGenerator()
        let lease = LeaseRecord(
            identifier: DistributionIdentifier(1), generation: 1,
            leases: (0..<20 as Range<UInt32>).map {
                let edge = random.next() >> UInt64($0 * 3 + 1)
                return TunnelLease(
                    spi: SPI($0 * 7), sendLimit: random.next(), receiveEdge: edge,
                    receiveLimit: edge + 200)
            })
        let allocation = AllocationRecord(
            try Allocation(nodes: [NodeID(1), NodeID(2)], identifierCount: 16))
        var accepted = 0
        for _ in 0..<20000 {
            let isLease = Bool.random(using: &random)
            var octets = isLease ? lease.encode() : allocation.encode()
            for _ in 0..<Int.random(in: 1...2, using: &random) {
                octets[Int.random(in: 0..<octets.count, using: &random)] =
                    UInt8.random(in: 0...255, using: &random)
            }
            let again = try? octets.withUnsafeBytes { octets in
                isLease
                    ? try LeaseRecord(decoding: octets).encode()
                    : try AllocationRecord(decoding: octets).encode()
            }
            guard let again else { continue }
            accepted += 1
            #expect(again == octets)
        }
        #expect(accepted > 1000)
    }

    @Test func errorsSayWhatToDo() {
        let errors: [RecordError] = [
            .version(9), .malformed(.order), .allocation(.noNodes), .association("text"),
            .direction, .forged,
        ]
        for error in errors { #expect(!error.description.contains("\n")) }
        #expect("\(RecordError.version(9))".contains("version 9"))
        #expect("\(RecordError.malformed(.order))".contains("ascending"))
    }
}
