// Stored records against known answers that were made from docs/cluster-protocol.md by other code.

import Crypto
import ESP
import Foundation
import TestSupport
import Testing
import Wire

@testable import Cluster

private struct Head: Decodable { let clusterKey: String }

private struct RecordCase: Decodable {
    let name, kind, key, nonce, plain, sealed: String
    let fields: Fields
}

private struct RefusedCase: Decodable { let name, kind, key, sealed, stage: String }

/// The fields of all kinds.
private struct Fields: Decodable {
    struct Lease: Decodable {
        let spi: UInt32
        let sendLimit, receiveEdge, receiveLimit: UInt64
    }

    struct Endpoint: Decodable {
        let address, station: String
        let port: UInt16
    }

    let epoch, incarnation: UInt64?
    let endpoint: Endpoint?
    let nodes, owners, generations, successors, overruns: [UInt16]?
    let identifier, generation, weight: UInt16?
    let sendLimit, receiveLimit: UInt64?
    let isNegotiated: Bool?
    let leases: [Lease]?
    let inbound, outbound: Association?

    func allocation() throws -> AllocationRecord {
        try AllocationRecord(
            allocation: Allocation(
                epoch: #require(epoch), nodes: #require(nodes).map { NodeID($0) },
                owners: #require(owners).map { NodeID($0) }, generations: #require(generations)),
            successors: #require(successors).map { NodeID(exactly: $0) },
            overrunGenerations: #require(overruns))
    }

    func leaseRecord() throws -> LeaseRecord {
        LeaseRecord(
            identifier: DistributionIdentifier(try #require(identifier)),
            generation: try #require(generation),
            leases: try #require(leases).map {
                TunnelLease(
                    spi: SPI($0.spi), sendLimit: $0.sendLimit, receiveEdge: $0.receiveEdge,
                    receiveLimit: $0.receiveLimit)
            })
    }
}

/// An association as the vectors describe it.
private struct Association: Decodable {
    struct Selector: Decodable {
        let first, last: String
        let `protocol`: UInt8
        let firstPort, lastPort: UInt16

        func value() throws -> TrafficSelector {
            let (first, last) = (try #require(IPAddress(first)), try #require(IPAddress(last)))
            return try #require(
                TrafficSelector(
                    first: first, last: last, ipProtocol: `protocol`, firstPort: firstPort,
                    lastPort: lastPort))
        }
    }

    let spi: UInt32
    let outbound, transport, esn, hop: Bool
    let encr: String
    let bits: Int
    let integ: String?
    let src, dst: String
    let df, ecn: UInt8
    let window: Int
    let first, created: UInt64
    let dscp, hopLimit: UInt8?
    let tfc, mtu: UInt16
    let udp: [UInt16]?
    let lifetimes: [String: UInt64]
    let sources, destinations: [Selector]
    let encrKey, integKey, salt: String

    func parameters() throws -> AssociationParameters {
        let transform = try Transform(
            #require(EncryptionAlgorithm(rawValue: encr)), keyBits: bits,
            integrity: integ.map { try #require(IntegrityAlgorithm(rawValue: $0)) })
        var parameters = try AssociationParameters(
            spi: SPI(spi), direction: outbound ? .outbound : .inbound,
            mode: transport ? .transport : .tunnel, transform: transform,
            source: #require(IPAddress(src)), destination: #require(IPAddress(dst)))
        parameters.usesESN = esn
        parameters.replayWindow = window
        parameters.firstSequence = first
        parameters.createdNanoseconds = created
        parameters.udp = udp.map { UDPPorts(source: $0[0], destination: $0[1]) }
        parameters.selectors.source = try sources.map { try $0.value() }
        parameters.selectors.destination = try destinations.map { try $0.value() }
        parameters.headers.dontFragment = try #require(.init(rawValue: df))
        parameters.headers.ecn = try #require(.init(rawValue: ecn))
        parameters.headers.dscp = dscp
        parameters.headers.hopLimit = hopLimit
        parameters.headers.decrementsInnerHopLimit = hop
        parameters.headers.tfcBytes = tfc
        parameters.headers.pathMTU = mtu
        parameters.lifetimes = limits
        return parameters
    }

    private var limits: Lifetimes {
        var limits = Lifetimes()
        limits.softPackets = lifetimes["softPackets"] ?? .max
        limits.hardPackets = lifetimes["hardPackets"] ?? .max
        limits.softBytes = lifetimes["softBytes"] ?? .max
        limits.hardBytes = lifetimes["hardBytes"] ?? .max
        limits.softNanoseconds = lifetimes["softNanoseconds"] ?? .max
        limits.hardNanoseconds = lifetimes["hardNanoseconds"] ?? .max
        return limits
    }
}

@Suite struct RecordVectorTests {
    @Test func recordsAreEncodedAndSealedToTheVeryOctets() throws {
        let file = try ClusterVectors<Head, RecordCase>("records")
        let seal = try RecordSeal(ClusterSecret(key: secret(hex(file.head.clusterKey))))
        var kinds: Set<String> = []
        for one in file.cases {
            let comment = Comment(rawValue: one.name)
            let key = try #require(StoreKey(text: one.key), comment)
            let plain = hex(one.plain)
            let sealed = plain.withUnsafeBytes { seal.seal($0, key: key, nonce: hex(one.nonce)) }
            #expect(sealed == hex(one.sealed), comment)
            let opened = try hex(one.sealed).withUnsafeBytes {
                try octets(of: seal.open($0, key: key))
            }
            #expect(opened == plain, comment)
            let encoded = try plain.withUnsafeBytes { try check(one, $0) }
            #expect(encoded == plain, comment)
            kinds.insert(one.kind)
        }
        #expect(kinds == ["allocation", "lease", "member", "weight", "tunnel"])
    }

    /// Compares the decoded record with the fields, and encodes it again.
    private func check(_ one: RecordCase, _ plain: UnsafeRawBufferPointer) throws -> [UInt8] {
        let comment = Comment(rawValue: one.name)
        switch one.kind {
        case "allocation":
            let record = try AllocationRecord(decoding: plain)
            #expect(try record == one.fields.allocation(), comment)
            return record.encode()
        case "lease":
            let record = try LeaseRecord(decoding: plain)
            #expect(try record == one.fields.leaseRecord(), comment)
            return record.encode()
        case "member":
            let record = try MemberRecord(decoding: plain)
            #expect(record.incarnation == one.fields.incarnation, comment)
            #expect(record.endpoint?.address.description == one.fields.endpoint?.address, comment)
            #expect(record.endpoint?.port == one.fields.endpoint?.port, comment)
            #expect(record.endpoint?.station.description == one.fields.endpoint?.station, comment)
            return record.encode()
        case "weight":
            let record = try WeightRecord(decoding: plain)
            #expect(record.weight == one.fields.weight, comment)
            return record.encode()
        default:
            let record = try TunnelRecord(decoding: plain)
            #expect(record.identifier.value == one.fields.identifier, comment)
            #expect(record.generation == one.fields.generation, comment)
            #expect(record.sendLimit == one.fields.sendLimit, comment)
            #expect(record.isNegotiated == one.fields.isNegotiated, comment)
            #expect(record.receiveLimit == one.fields.receiveLimit, comment)
            let inbound = record.inbound.parameters
            #expect(try inbound == one.fields.inbound?.parameters(), comment)
            switch record.outbound {
            case .some(let association):
                let outbound = association.parameters
                #expect(try outbound == one.fields.outbound?.parameters(), comment)
            case .none: #expect(one.fields.outbound == nil, comment)
            }
            return octets(of: record.encode())
        }
    }

    @Test func whatDoesNotOpenOrDecodeIsRefusedWithAReason() throws {
        let file = try ClusterVectors<Head, RefusedCase>("refused-records")
        let seal = try RecordSeal(ClusterSecret(key: secret(hex(file.head.clusterKey))))
        for one in file.cases {
            let comment = Comment(rawValue: one.name)
            let key = try #require(StoreKey(text: one.key), comment)
            let sealed = hex(one.sealed)
            var refusal: RecordError?
            if one.stage == "seal" {
                refusal = #expect(throws: RecordError.self, comment) {
                    try sealed.withUnsafeBytes { _ = try seal.open($0, key: key) }
                }
            } else {
                let plain = try sealed.withUnsafeBytes { octets(of: try seal.open($0, key: key)) }
                refusal = #expect(throws: RecordError.self, comment) {
                    try plain.withUnsafeBytes { try decode(one.kind, $0) }
                }
                #expect(refusal != .forged, comment)
            }
            #expect(refusal?.description.isEmpty == false, comment)
        }
    }

    private func decode(_ kind: String, _ plain: UnsafeRawBufferPointer) throws {
        switch kind {
        case "allocation": _ = try AllocationRecord(decoding: plain)
        case "lease": _ = try LeaseRecord(decoding: plain)
        case "member": _ = try MemberRecord(decoding: plain)
        case "weight": _ = try WeightRecord(decoding: plain)
        default: _ = try TunnelRecord(decoding: plain)
        }
    }

    private func octets(of secret: borrowing SecretBytes) -> [UInt8] {
        secret.withUnsafeBytes { Array($0) }
    }
}
