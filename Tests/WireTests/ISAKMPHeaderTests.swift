import TestSupport
import Testing
import Wire

@Suite struct ISAKMPHeaderTests {
    private func header(_ bytes: [UInt8]) -> ISAKMPHeader? {
        withGuarded(bytes) { ISAKMPHeader(at: $0, count: bytes.count) }
    }

    @Test func takesTheFieldsApart() throws {
        let bytes = hex(
            """
            0123456789abcdef fedcba9876543210 21 20 22 08 01020304 0000001e aabb
            """)
        let parsed = try #require(header(bytes))
        #expect(parsed.initiatorCookie == 0x0123_4567_89AB_CDEF)
        #expect(parsed.responderCookie == 0xFEDC_BA98_7654_3210)
        #expect(parsed.exchangeType == 34 && parsed.messageID == 0x0102_0304)
    }

    @Test func everyShortLengthIsRefused() {
        let bytes = ikeMessage(initiator: 1, body: [1, 2, 3])
        for count in 0..<bytes.count { #expect(header(Array(bytes[..<count])) == nil) }
        #expect(header(bytes) != nil)
    }

    @Test func cookieZeroIsRefused() {
        #expect(header(ikeMessage(initiator: 0, responder: 1)) == nil)
        // Each octet of the cookie counts.
        for octet in 0..<8 { #expect(header(ikeMessage(initiator: 1 << UInt64(octet * 8))) != nil) }
    }

    @Test(arguments: [0, 27, 33, 0x8000_0000, UInt32.max])
    func lengthsThatCannotBeAreRefused(length: UInt32) {
        #expect(header(ikeMessage(initiator: 1, body: [1, 2, 3, 4], length: length)) == nil)
    }

    @Test(arguments: 28...32 as ClosedRange<UInt32>)
    func octetsBehindTheMessageAreAllowed(length: UInt32) {
        #expect(header(ikeMessage(initiator: 1, body: [1, 2, 3, 4], length: length)) != nil)
    }
}

@Suite struct SPITests {
    @Test func reservedOnes() {
        #expect(SPI(0).isReserved && SPI(1).isReserved && SPI(255).isReserved)
        #expect(!SPI(256).isReserved && !SPI(.max).isReserved)
    }

    @Test func textAndOrder() {
        #expect(SPI(0xAB).description == "000000ab" && SPI(.max).description == "ffffffff")
        #expect(SPI(1) < SPI(2) && !(SPI(2) < SPI(1)) && !(SPI(0x8000_0000) < SPI(1)))
    }
}

@Suite struct BytesTests {
    // What would fool us: a store and a load that are wrong in the same way. The octets are
    // compared with shifts.
    @Test func storesMostSignificantOctetFirst() {
        var bytes = [UInt8](repeating: 0xEE, count: 24)
        bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            store8(0x01, base, 1)
            store16(0x2345, base, 3)
            store32(0x6789_ABCD, base, 7)
            store64(0x0011_2233_4455_6677, base, 13)
            #expect(load8(base, 1) == 0x01 && load16(base, 3) == 0x2345)
            #expect(load32(base, 7) == 0x6789_ABCD && load64(base, 13) == 0x0011_2233_4455_6677)
        }
        #expect(bytes == hex("EE01EE2345EEEE6789ABCDEEEE0011223344556677EEEEEE"))
    }
}
