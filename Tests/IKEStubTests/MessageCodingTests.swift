// Octets written down here by hand from the figures of RFC 7296 §3, against values: a reader and a
// writer with the same mistake would agree with each other.

import ESP
import Foundation
import IKEStub
import TestSupport
import Testing
import Wire

@Suite struct MessageHeaderTests {
    @Test func fieldsStandWhereTheRFCPutsThem() throws {
        let octets = message([.nonce(Array(0..<16))], .createChildSA, id: 0x0102_0304).encoded()
        #expect(
            octets
                == hex(
                    "1122334455667788 99aabbccddeeff00 28 20 24 08 01020304 00000030"
                        + "00 00 0014 000102030405060708090a0b0c0d0e0f"))
        let header = try parse(octets).header
        #expect(header.initiatorSPI == cookies.initiator)
        #expect(header.responderSPI == cookies.responder)
        #expect(header.exchangeType == .createChildSA && header.messageID == 0x0102_0304)
        #expect(header.flags == .initiator && header.length == 48 && header.nextPayload == 40)
    }

    @Test func onlyVersionTwoIsRead() throws {
        var octets = message([]).encoded()
        octets[17] = 0x2F
        #expect(try parse(octets).header.minorVersion == 15)
        for (version, notify) in [(0x10, nil), (0x30, NotifyType.invalidMajorVersion)] {
            octets[17] = UInt8(version)
            let fault = #expect(throws: MessageFault.self) { try parse(octets) }
            #expect(fault == .majorVersion(UInt8(version >> 4)))
            #expect(fault?.notify?.notifyType == notify)
        }
    }

    @Test func aMessageIsItsDatagram() throws {
        let octets = message([.vendorID([1])]).encoded()
        #expect(throws: MessageFault.malformed(.messageLength, at: 24)) { try parse(octets + [0]) }
        #expect(throws: MessageFault.malformed(.messageLength, at: 24)) {
            try parse(octets.dropLast())
        }
        #expect(throws: MessageFault.malformed(.header, at: 0)) { try parse([]) }
        var tail = octets + [0]
        tail[27] += 1
        #expect(throws: MessageFault.malformed(.chainEnd, at: 33)) { try parse(tail) }
    }

    @Test func unknownPayloadsAreSkippedUnlessTheyAreCritical() throws {
        let skipped = Payload.unknown(type: 200, isCritical: false, data: [1])
        #expect(try parse(message([skipped]).encoded()).payloads == [skipped])
        let critical = Payload.unknown(type: 200, isCritical: true, data: [1])
        let fault = #expect(throws: MessageFault.self) {
            try parse(message([.vendorID([]), critical]).encoded())
        }
        #expect(fault == .unsupportedCriticalPayload(200, at: 32))
        #expect(fault?.notify == Notify(.unsupportedCriticalPayload, data: [200]))
        // RFC 7296 §3.2: the bit is ignored in a payload that is understood.
        #expect(try read(.nonce, Array(0..<16)) == .nonce(Array(0..<16)))
        let known = Payload.unknown(type: 43, isCritical: true, data: [7])
        #expect(try parse(message([known]).encoded()).payloads == [.vendorID([7])])
    }
}

@Suite struct PayloadValueTests {
    @Test func everythingIsReadAsItWasWritten() throws {
        let sent = message(try everyPayload())
        let parsed = try parse(sent.encoded())
        #expect(parsed.message == sent && parsed.protected == nil)
        #expect(Set(parsed.payloads.map(\.type)) == Set(33...48).subtracting([46]))
    }

    @Test func proposals() throws {
        let octets = hex(
            """
            02000020 01 01 00 02  0300000c 01 00 000c 800e0080  00000008 02 00 0005  0000
            """)
        // A length that is two octets too long.
        #expect(throws: MessageFault.self) { try read(.securityAssociation, octets) }
        let offer = hex(
            "0200001c 01 01 00 02  0300000c 01 00 000c 800e0080  00000008 02 00 0005"
                + "00000014 02 03 04 01 c1c2c3c4 00000008 05 00 0001")
        let proposals = [
            Proposal(
                number: 1, protocol: .ike, spi: [],
                transforms: [
                    ProposalTransform(.encryption, id: 12, keyBits: 128),
                    ProposalTransform(.pseudoRandomFunction, id: 5),
                ]),
            Proposal(
                number: 2, protocol: .esp, spi: [0xC1, 0xC2, 0xC3, 0xC4],
                transforms: [ProposalTransform(.extendedSequenceNumbers, id: 1)]),
        ]
        #expect(try read(.securityAssociation, offer) == .securityAssociation(proposals))
        #expect(body(.securityAssociation(proposals)) == offer)
    }

    /// RFC 7296 §3.3.6: the transform is out, the message is not.
    @Test(arguments: [
        ("80630001", nil), ("800e0080 800e0100", 128), ("000e0002 0080", nil),
        ("800e0100 00630003 616263", 256),
    ])
    func attributesThatAreNotUnderstood(attributes: String, keyBits: Int?) throws {
        let attributes = hex(attributes)
        let length = UInt8(8 + attributes.count)
        let octets =
            [0, 0, 0, 8 + length, 1, 1, 0, 1, 0, 0, 0, length, 1, 0, 0, 12] + attributes
        guard case .securityAssociation(let proposals) = try read(.securityAssociation, octets)
        else { return #expect(Bool(false), "a Security Association payload") }
        let transform = try #require(proposals.first?.transforms.first)
        #expect(transform.unknownAttributes && transform.keyBits == keyBits)
        #expect(transform != ProposalTransform(.encryption, id: 12, keyBits: keyBits))
        #expect(body(.securityAssociation(proposals)).count == octets.count)
    }

    @Test func identitiesKeepWhatAUTHSigns() throws {
        let octets = hex("02 a1b2c3") + octets("gw.example.org")
        let payload = try read(.initiatorIdentity, octets)
        #expect(payload == .initiatorIdentity(.fqdn("gw.example.org"), reserved: 0xA1B2C3))
        #expect(payload.identityBody == octets && body(payload) == octets)
        #expect(Identity.fqdn("gw.example.org").body == [2, 0, 0, 0] + octets[4...])
        #expect(Payload.nonce([]).identityBody == nil)
        for length in [0, 3, 5, 16] {
            #expect(throws: MessageFault.malformed(.identityLength, at: 32)) {
                try read(.initiatorIdentity, [1, 0, 0, 0] + Array(repeating: 1, count: length))
            }
        }
    }

    /// Swift's texts are equal when they mean the same; identities must not be.
    @Test func textsThatOnlyLookAlikeDiffer() throws {
        let composed = Array("caf\u{E9}@example.org".utf8)
        let decomposed = Array("cafe\u{301}@example.org".utf8)
        #expect(
            String(decoding: composed, as: UTF8.self) == String(decoding: decomposed, as: UTF8.self)
        )
        let identities = [composed, decomposed].map { Identity(type: 3, data: $0) }
        #expect(identities[0] != identities[1])
        #expect(identities == [.other(type: 3, composed), .other(type: 3, decomposed)])
        #expect(Identity(type: 2, data: [0x67, 0]) == .other(type: 2, [0x67, 0]))
        #expect(Identity(type: 2, data: [0xFF]) == .other(type: 2, [0xFF]))
    }

    @Test func deletions() throws {
        let octets = hex("03 04 0002 01020304 fffffffe")
        let delete = Delete(esp: [SPI(0x0102_0304), SPI(0xFFFF_FFFE)])
        #expect(try read(.delete, octets) == .delete(delete))
        #expect(body(.delete(delete)) == octets)
        #expect(delete.espSPIs == [SPI(0x0102_0304), SPI(0xFFFF_FFFE)])
        #expect(body(.delete(.ike)) == [1, 0, 0, 0] && Delete.ike.espSPIs == nil)
        // 65535 SPIs of no octets would be memory for nothing.
        #expect(throws: MessageFault.malformed(.spiCount, at: 34)) {
            try read(.delete, hex("09 00 ffff"))
        }
    }

    @Test func configurations() throws {
        let octets = hex(
            "02 000000  0001 0004 0a090007  8003 0004 0a090001  000d 0008 0a090000 ffff0000"
                + "0008 0011 fd000000000000000000000000000007 40  000e 0004 0001 0008"
                + "000d 0008 0a090000 ff00ff00  0001 0003 0a0900  0007 0002 6869")
        guard case .configuration(let configuration) = try read(.configuration, octets) else {
            return #expect(Bool(false), "a Configuration payload")
        }
        #expect(configuration.kind == .reply && configuration.attributes.count == 8)
        #expect(configuration.ip4Addresses == [try address("10.9.0.7")])
        // The reserved bit before the type is ignored.
        #expect(configuration.dnsServers == [try address("10.9.0.1")])
        #expect(configuration.subnets.count == 1)
        #expect(configuration.subnets.first?.prefixLength == 16)
        #expect(configuration.ip6Addresses.first?.address == (try address("fd00::7")))
        #expect(configuration.ip6Addresses.first?.prefixLength == 64)
        #expect(configuration.supportedAttributes == [1, 8])
        #expect(configuration.applicationVersion == "hi")
        #expect(configuration.asks(for: .ip6Address) && !configuration.asks(for: .ip6DNS))
        let subnet = Configuration.Attribute.subnet(try address("10.9.3.1"), prefixLength: 24)
        #expect(subnet.value == [10, 9, 3, 0, 255, 255, 255, 0])
        let all = Configuration.Attribute.subnet(try address("10.9.3.1"), prefixLength: 0)
        #expect(Configuration(.reply, [all]).subnets.first?.prefixLength == 0)
    }
}

@Suite struct SelectorListTests {
    @Test func rangesAndPorts() throws {
        let octets = hex(
            "02 000000  07 11 0010 0035 0035 0a010000 0a01ffff"
                + "08 3a 0028 8000 80ff 20010db8000000000000000000000000"
                + "20010db8ffffffffffffffffffffffff")
        let list = SelectorList([
            try selector("10.1.0.0", "10.1.255.255", ipProtocol: 17, ports: 53...53),
            try selector(
                "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", ipProtocol: 58,
                ports: 0x8000...0x80FF),
        ])
        #expect(try read(.initiatorSelectors, octets) == .initiatorSelectors(list))
        #expect(body(.responderSelectors(list)) == octets)
    }

    /// What can't be expressed must not become "any", neither alone nor beside others.
    @Test(arguments: [
        "07 00 0010 ffff 0000 0a010000 0a01ffff", "0a 00 0007 616263", "09 00 0004",
    ])
    func whatIsUnknownNarrows(entry: String) throws {
        guard
            case .initiatorSelectors(let alone) = try read(
                .initiatorSelectors, hex("01 000000" + entry))
        else { return #expect(Bool(false), "a TSi payload") }
        #expect(alone.selectors.isEmpty && alone.hasUnknown)
        #expect(body(.initiatorSelectors(alone)) == hex("01 000000" + entry))
        let beside = hex("02 000000" + entry + "07 06 0010 0000 ffff 0a010000 0a01ffff")
        guard case .responderSelectors(let both) = try read(.responderSelectors, beside) else {
            return #expect(Bool(false), "a TSr payload")
        }
        #expect(try both.selectors == [selector("10.1.0.0", "10.1.255.255", ipProtocol: 6)])
        #expect(both.hasUnknown)
    }

    @Test func noListIsEmpty() {
        #expect(throws: MessageFault.malformed(.selectorCount, at: 32)) {
            try read(.initiatorSelectors, [0, 0, 0, 0])
        }
    }
}

@Suite struct NotifyTypeTests {
    static let rfc = URL(filePath: "/work/shared/rfc")

    @Test func errorsAreBelow16384() throws {
        for type in NotifyType.allCases { #expect(type.isError == (type.rawValue < 16384)) }
        let unknown = try read(.notify, hex("00 00 3fff"))
        guard case .notify(let notify) = unknown else { return #expect(Bool(false), "a Notify") }
        #expect(notify.isError && notify.notifyType == nil)
        #expect(Set(NotifyType.allCases.map(\.name)).count == NotifyType.allCases.count)
    }

    /// Names and numbers as the RFCs' own tables have them.
    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: rfc.path),
            "NOT COMPARED: no RFC texts in /work/shared/rfc"))
    func namesAreTheRFCs() throws {
        var compared = 0
        for number in [4555, 5685, 5723, 6311, 7296, 7383, 8784, 9370, 9611] {
            let text = try String(
                contentsOf: Self.rfc.appending(path: "rfc\(number).txt"), encoding: .utf8)
            for line in text.split(separator: "\n") {
                let words = line.split { " |-.".contains($0) }
                guard words.count >= 2 else { continue }
                for (name, value) in [(words[0], words[1]), (words[1], words[0])] {
                    guard let type = NotifyType.allCases.first(where: { $0.name == name }),
                        let value = UInt16(value)
                    else { continue }
                    #expect(type.rawValue == value, "\(name) in RFC \(number)")
                    compared += 1
                }
            }
        }
        #expect(compared >= 45)
    }
}
