// The HA link against known answers that were made from docs/cluster-protocol.md by other code.

import Crypto
import Foundation
import TestSupport
import Testing
import Wire

@testable import Cluster

/// A file of `vectors/cluster`: what its cases share, and its cases.
struct ClusterVectors<Head: Decodable, Case: Decodable> {
    let head: Head
    let cases: [Case]

    init(_ name: String) throws {
        let url = URL(filePath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "vectors/cluster/\(name).jsonl")
        let lines = try String(contentsOf: url, encoding: .utf8).split(separator: "\n")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        head = try decoder.decode(Head.self, from: Data(try #require(lines.first).utf8))
        cases = try lines.dropFirst().map { try decoder.decode(Case.self, from: Data($0.utf8)) }
        try #require(cases.count >= 5, "an empty file would pass every test")
    }
}

private struct Head: Decodable {
    let clusterKey: String
    let sender, receiver: UInt16
    let senderIncarnation, receiverIncarnation: UInt64
    let otherSender: UInt16?
    let otherSenderIncarnation: UInt64?

    func secret() throws -> ClusterSecret {
        try ClusterSecret(key: TestSupport.secret(hex(clusterKey)))
    }

    var ends: (sender: HALinkEnd, receiver: HALinkEnd) {
        (
            HALinkEnd(node: NodeID(sender), incarnation: senderIncarnation),
            HALinkEnd(node: NodeID(receiver), incarnation: receiverIncarnation)
        )
    }
}

private struct MessageCase: Decodable {
    let name: String
    let counter: UInt64
    let kind: UInt8
    let fields: Fields
    let message, datagram: String
}

private struct Refusal: Decodable {
    let name, datagram: String
    let refusal: String?
}

/// The fields of all kinds.
private struct Fields: Decodable {
    struct State: Decodable {
        let spi: UInt32
        let sent, sentPackets, sentBytes, received, receivedPackets, receivedBytes: UInt64
        let exposedThrough: UInt64
        let window: [UInt64]

        var value: TunnelState {
            TunnelState(
                spi: SPI(spi), sent: sent, sentPackets: sentPackets, sentBytes: sentBytes,
                received: received, receivedPackets: receivedPackets,
                receivedBytes: receivedBytes, exposedThrough: exposedThrough, window: window)
        }
    }
    struct Move: Decodable { let identifier, generation: UInt16 }
    struct Load: Decodable {
        let identifier: UInt16
        let packetsPerSecond, tunnels: UInt32
    }

    let number, echo, grant, epoch, revision, request: UInt64?
    let flags, code: UInt8?
    let identifier, generation, part, parts: UInt16?
    let spi, replaces: UInt32?
    let sealed: String?
    let sends: Bool?
    let suspects: [UInt16]?
    let states: [State]?
    let moves: [Move]?
    let loads: [Load]?
    let sentDigests: [UInt64]?

    func message(kind: UInt8) throws -> HALinkMessage {
        switch kind {
        case 1:
            .heartbeat(
                Heartbeat(
                    number: try #require(number), echo: try #require(echo),
                    grant: try #require(grant), epoch: try #require(epoch),
                    revision: try #require(revision),
                    flags: Heartbeat.Flags(rawValue: try #require(flags)),
                    suspects: try #require(suspects).map { NodeID($0) }))
        case 2:
            .checkpoints(
                Checkpoints(
                    identifier: try namedIdentifier(), generation: try #require(generation),
                    states: try #require(states).map(\.value)))
        case 3:
            .foreignEntry(
                ForeignEntry(
                    request: try #require(request), identifier: try namedIdentifier(),
                    spi: SPI(try #require(spi)), sends: sends == true,
                    replaces: SPI(try #require(replaces)), sealed: hex(try #require(sealed))))
        case 4:
            .foreignEntryAnswer(
                ForeignEntryAnswer(
                    request: try #require(request),
                    code: try #require(ForeignEntryAnswer.Code(rawValue: code ?? 0))))
        case 5: .moveOffer(try notice())
        case 6: .moveReady(try notice())
        case 7:
            .handover(
                Handover(
                    identifier: try namedIdentifier(), generation: try #require(generation),
                    part: try #require(part), parts: try #require(parts),
                    states: try #require(states).map(\.value),
                    sentDigests: try #require(sentDigests)))
        default:
            .load(
                LoadReport(
                    loads: try #require(loads).map {
                        LoadReport.Load(
                            identifier: DistributionIdentifier($0.identifier),
                            packetsPerSecond: $0.packetsPerSecond, tunnels: $0.tunnels)
                    }))
        }
    }

    private func namedIdentifier() throws -> DistributionIdentifier {
        DistributionIdentifier(try #require(identifier))
    }

    private func notice() throws -> MoveNotice {
        MoveNotice(
            moves: try #require(moves).map {
                MoveNotice.Move(
                    identifier: DistributionIdentifier($0.identifier), generation: $0.generation)
            })
    }
}

@Suite struct HALinkVectorTests {
    @Test func messagesAreSealedToTheVeryOctetsAndOpened() throws {
        let file = try ClusterVectors<Head, MessageCase>("messages")
        let ends = file.head.ends
        var kinds: Set<UInt8> = []
        for one in file.cases {
            let message = try one.fields.message(kind: one.kind)
            let comment = Comment(rawValue: one.name)
            #expect(message.encode() == hex(one.message), comment)
            let decoded = try hex(one.message).withUnsafeBytes {
                try HALinkMessage(decoding: $0)
            }
            #expect(decoded == message, comment)

            var sender = HALinkSession(
                local: ends.sender, peer: ends.receiver, secret: try file.head.secret(),
                sent: one.counter - 1)
            #expect(sender.seal(message) == hex(one.datagram), comment)
            var receiver = HALinkSession(
                local: ends.receiver, peer: ends.sender, secret: try file.head.secret())
            let opened = try hex(one.datagram).withUnsafeBytes { try receiver.open($0) }
            #expect(opened == message, comment)
            kinds.insert(one.kind)
        }
        #expect(kinds == Set(1...8))
    }

    // What would fool us: refusals for another reason than the intended one, or a receiver that
    // refuses everything. So the reason is compared, and accepted ones stand between.
    @Test func datagramsAreRefusedForTheirOwnReason() throws {
        let file = try ClusterVectors<Head, Refusal>("refused")
        let head = file.head
        var link = HALink(
            node: NodeID(head.receiver), incarnation: head.receiverIncarnation,
            secret: try head.secret())
        link.learn(NodeID(head.sender), incarnation: head.senderIncarnation)
        link.learn(
            NodeID(try #require(head.otherSender)),
            incarnation: try #require(head.otherSenderIncarnation))
        var seen: Set<String> = []
        for one in file.cases {
            var expected = link.counters
            let opened = hex(one.datagram).withUnsafeBytes { link.open($0) }
            let comment = Comment(rawValue: one.name)
            if let name = one.refusal {
                let refusal = try #require(
                    HALinkRefusal.allCases.first { "\($0)" == name }, comment)
                expected[refusal] += 1
                seen.insert(name)
                #expect(opened == nil, comment)
            } else {
                expected.received += 1
                #expect(opened != nil, comment)
            }
            #expect(link.counters == expected, comment)
        }
        #expect(seen.count == HALinkRefusal.allCases.count)
    }
}
