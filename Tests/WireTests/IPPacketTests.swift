import TestSupport
import Testing
import Wire

private typealias Extension = IPv6Packet.Extension

@Suite struct IPv4PacketTests {
    @Test func takesAHeaderApart() throws {
        var packet = IPv4Packet(payload: [1, 2, 3])
        packet.transport = 6
        let parsed = try parse(packet.bytes).get()
        #expect(parsed.family == .v4 && parsed.totalLength == 23)
        #expect(parsed.payloadOffset == 20 && parsed.protocolOffset == 9)
        #expect(parsed.transportProtocol == 6)
        #expect(!parsed.isFragment && !parsed.isLaterFragment)
        #expect(parsed.transportInsertOffset == 20 && parsed.transportInsertProtocolOffset == 9)
    }

    @Test(arguments: 0...10)
    func optionsMoveThePayload(words: Int) throws {
        var packet = IPv4Packet(payload: [])
        packet.options = Array(repeating: 1, count: words * 4)
        let parsed = try parse(packet.bytes).get()
        #expect(parsed.payloadOffset == 20 + words * 4 && parsed.totalLength == 20 + words * 4)
        #expect(parsed.transportInsertOffset == parsed.payloadOffset)
    }

    @Test func octetsBehindThePacketAreLeftOut() throws {
        let bytes = IPv4Packet(payload: [1]).bytes + Array(repeating: 0, count: 25)
        #expect(try parse(bytes).get().totalLength == 21)
    }

    // Every shorter copy of a packet is truncated, whatever its header says.
    @Test func everyShortLengthIsTruncated() {
        var packet = IPv4Packet()
        packet.options = [1, 1, 1, 1]
        let bytes = packet.bytes
        for count in 0..<bytes.count {
            #expect(parse(Array(bytes[..<count])) == .failure(.truncated), "\(count)")
        }
    }

    @Test(arguments: 0..<5)
    func headerLengthBelowFiveIsMalformed(words: UInt8) {
        var bytes = IPv4Packet().bytes
        bytes[0] = 0x40 | words
        #expect(parse(bytes) == .failure(.malformed))
    }

    @Test func totalLengthBelowHeaderLengthIsMalformed() {
        for words in 5...15 {
            var packet = IPv4Packet(payload: Array(repeating: 0, count: 60))
            packet.options = Array(repeating: 0, count: (words - 5) * 4)
            var bytes = packet.bytes
            for total in 0..<words * 4 {
                bytes.replaceSubrange(2..<4, with: bigEndian(UInt16(total)))
                #expect(parse(bytes) == .failure(.malformed), "\(words) words, \(total) octets")
            }
            bytes.replaceSubrange(2..<4, with: bigEndian(UInt16(words * 4)))
            #expect(throws: Never.self) { try parse(bytes).get() }
        }
    }

    @Test(arguments: [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15] as [UInt8])
    func otherVersionsAreMalformed(version: UInt8) {
        var bytes = IPv6Packet().bytes
        bytes[0] = version << 4 | 5
        #expect(parse(bytes) == .failure(.malformed))
    }

    // Bits of the flags and offset field one by one: reserved, DF, MF, 13 of offset.
    @Test(arguments: 0..<16)
    func fragmentBits(bit: Int) throws {
        var packet = IPv4Packet()
        packet.fragment = 1 << UInt16(bit)
        let parsed = try parse(packet.bytes).get()
        #expect(parsed.isFragment == (bit <= 13))
        #expect(parsed.isLaterFragment == (bit <= 12))
    }
}

@Suite struct IPv6PacketTests {
    @Test func takesAHeaderApart() throws {
        let parsed = try parse(IPv6Packet(payload: [9]).bytes).get()
        #expect(parsed.family == .v6 && parsed.totalLength == 41)
        #expect(parsed.payloadOffset == 40 && parsed.protocolOffset == 6)
        #expect(parsed.transportProtocol == 17)
        #expect(!parsed.isFragment && !parsed.isLaterFragment)
        #expect(parsed.transportInsertOffset == 40 && parsed.transportInsertProtocolOffset == 6)
    }

    @Test func everyShortLengthIsRefused() {
        var packet = IPv6Packet()
        packet.extensions = [Extension(0), Extension(43, bytes: 24), Extension(60)]
        let bytes = packet.bytes
        for count in 0..<bytes.count {
            #expect(parse(Array(bytes[..<count])) == .failure(.truncated), "\(count)")
        }
    }

    // What would fool us: a payload length that cuts an extension header in two, with octets behind
    // it that make the read succeed.
    @Test func extensionHeadersMustLieInsideThePayloadLength() {
        var packet = IPv6Packet(payload: [])
        packet.extensions = [Extension(0), Extension(43, bytes: 24), Extension(60, bytes: 16)]
        packet.transport = 6
        let bytes = packet.bytes
        for length in 0..<48 {
            var short = bytes
            short.replaceSubrange(4..<6, with: bigEndian(UInt16(length)))
            #expect(parse(short) == .failure(.malformed), "\(length)")
        }
        #expect(throws: Never.self) { try parse(bytes).get() }
    }

    /// A chain, and what a reader of RFC 8200 §4.1 and RFC 4303 §3.1.1 says of it: the offset
    /// behind all headers, and the place in the chain before which ESP goes in transport mode.
    struct Chain: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let extensions: [IPv6Packet.Extension]
        let payloadOffset: Int
        /// nil: directly before the payload.
        let insertBefore: Int?

        init(_ name: String, _ chain: [IPv6Packet.Extension], _ offset: Int, before: Int? = nil) {
            testDescription = name
            extensions = chain
            payloadOffset = offset
            insertBefore = before
        }
    }

    static let chains = [
        Chain("none", [], 40),
        Chain("hop-by-hop", [Extension(0, bytes: 16)], 56),
        Chain("routing", [Extension(43, bytes: 24)], 64),
        Chain("destination options", [Extension(60)], 48, before: 0),
        Chain("hop-by-hop, destination", [Extension(0), Extension(60)], 56, before: 1),
        Chain(
            "destination for the first hop, routing", [Extension(60), Extension(43)], 56),
        Chain(
            "the full order of RFC 8200",
            [Extension(0), Extension(60), Extension(43), Extension(60, bytes: 32)], 96, before: 3),
        Chain(
            "two destination options at the end", [Extension(0), Extension(60), Extension(60)], 64,
            before: 1),
        Chain("destination, hop-by-hop, out of order", [Extension(60), Extension(0)], 56),
        Chain("longest", [Extension(0, bytes: 2048)], 2088),
        Chain(
            "atomic fragment", [Extension(fragmentOffset: 0, more: false)], 48),
        Chain(
            "atomic fragment, destination",
            [Extension(fragmentOffset: 0, more: false), Extension(60)], 56, before: 1),
    ]

    @Test(arguments: chains)
    func walksExtensionHeaders(_ chain: Chain) throws {
        var packet = IPv6Packet()
        packet.extensions = chain.extensions
        packet.transport = 6
        let bytes = packet.bytes
        let parsed = try parse(bytes).get()
        #expect(parsed.transportProtocol == 6)
        #expect(parsed.payloadOffset == chain.payloadOffset)
        #expect(bytes[parsed.protocolOffset] == 6)
        #expect(!parsed.isFragment)
        var offset = 40
        for part in chain.extensions[..<(chain.insertBefore ?? chain.extensions.count)] {
            offset += part.body.count
        }
        #expect(parsed.transportInsertOffset == offset)
        let next = chain.insertBefore.map { chain.extensions[$0].number } ?? 6
        #expect(bytes[parsed.transportInsertProtocolOffset] == next)
        // The octet that is to be rewritten belongs to the header right before the place.
        #expect(parsed.transportInsertProtocolOffset < offset)
    }

    // AH, mobility and "no next header" are payloads here, whatever stands in them.
    @Test(arguments: [51, 135, 59, 139, 140, 253] as [UInt8])
    func othersAreNotWalkedOver(number: UInt8) throws {
        var packet = IPv6Packet()
        packet.extensions = [Extension(0), Extension(60)]
        packet.transport = number
        let parsed = try parse(packet.bytes).get()
        #expect(parsed.transportProtocol == number && parsed.payloadOffset == 56)
        #expect(parsed.transportInsertOffset == 48)
    }

    @Test func fragments() throws {
        var packet = IPv6Packet()
        packet.extensions = [Extension(0), Extension(fragmentOffset: 0, more: true), Extension(60)]
        let first = try parse(packet.bytes).get()
        #expect(first.isFragment && !first.isLaterFragment)
        #expect(first.payloadOffset == 64 && first.transportProtocol == 17)

        // Behind the header of a later fragment stand octets of the middle of something.
        packet.extensions = [
            Extension(0), Extension(fragmentOffset: 3, more: false), Extension(60),
        ]
        let later = try parse(packet.bytes).get()
        #expect(later.isFragment && later.isLaterFragment)
        #expect(later.payloadOffset == 56 && later.transportProtocol == 60)
    }

    // The two reserved bits between offset and M mean nothing.
    @Test func reservedBitsDoNotMakeAFragment() throws {
        var packet = IPv6Packet()
        packet.extensions = [Extension(fragmentOffset: 0, more: false)]
        var bytes = packet.bytes
        bytes[43] |= 0x06
        #expect(try parse(bytes).get().isFragment == false)
    }

    @Test func chainsEndSomewhere() throws {
        var packet = IPv6Packet(payload: [])
        packet.extensions = Array(repeating: Extension(60), count: 15)
        packet.transport = 59
        #expect(try parse(packet.bytes).get().payloadOffset == 160)
        for count in [17, 40, 8000] {
            packet.extensions = Array(repeating: Extension(60), count: count)
            #expect(parse(packet.bytes) == .failure(.malformed), "\(count) headers")
        }
        // A header that names itself for ever.
        var endless = IPv6Packet(payload: [])
        endless.extensions = [Extension(0)]
        endless.transport = 0
        #expect(parse(endless.bytes) == .failure(.malformed))
    }

    @Test func trafficClassIsSpreadOverTwoOctets() {
        for value in UInt8.min ... .max {
            var six = IPv6Packet()
            six.trafficClass = value
            six.flowLabel = 0xFFFFF
            var four = IPv4Packet()
            four.tos = value
            withGuarded(six.bytes) { #expect(IPPacket.trafficClass($0, .v6) == value) }
            withGuarded(four.bytes) { #expect(IPPacket.trafficClass($0, .v4) == value) }
        }
    }

    // What would fool us: offsets that pass for whole packets only. For every cut and many damaged
    // octets, whatever is accepted must lie inside, and nothing may read behind the end (the memory
    // there can't be read).
    @Test func damagedPacketsNeverLieOutside() {
        var random = SeededGenerator()
        var six = IPv6Packet()
        six.extensions = [Extension(0), Extension(fragmentOffset: 0, more: false), Extension(60)]
        let originals = [IPv4Packet().bytes, six.bytes]
        var accepted = 0
        for _ in 0..<4_000 {
            var bytes = originals.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let place = Int.random(in: 0..<min(bytes.count, 70), using: &random)
                bytes[place] = UInt8.random(in: 0 ... .max, using: &random)
            }
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count + 10, using: &random)))
            guard case .success(let packet) = parse(bytes) else { continue }
            accepted += 1
            #expect(packet.totalLength <= bytes.count)
            #expect(packet.payloadOffset <= packet.totalLength)
            #expect(packet.protocolOffset < packet.payloadOffset)
            #expect(packet.transportInsertOffset <= packet.payloadOffset)
            #expect(packet.transportInsertProtocolOffset < packet.transportInsertOffset)
        }
        #expect(accepted > 100, "too few valid packets to mean anything")
    }
}
