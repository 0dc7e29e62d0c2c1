import Glibc
import TestSupport
import Testing
import Wire

/// The C library's parser, as an oracle.
private func parsedByLibrary(_ text: String) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET6, text, &bytes) == 1 { return bytes }
    return inet_pton(AF_INET, text, &bytes) == 1 ? Array(bytes[..<4]) : nil
}

private func octets(of address: IPAddress) -> [UInt8] {
    address.family == .v4
        ? bigEndian(UInt32(address.low)) : bigEndian(address.high) + bigEndian(address.low)
}

@Suite struct IPAddressTests {
    // RFC 5952 §4 and §5, and RFC 4291 §2.2; left what may be written, right what we write.
    @Test(arguments: [
        ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"),
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:DB8::AAAA", "2001:db8::aaaa"),
        ("FF01:0:0:0:0:0:0:101", "ff01::101"),
        ("0:0:0:0:0:0:0:1", "::1"), ("0:0:0:0:0:0:0:0", "::"), ("1::", "1::"),
        ("0:0:0:0:0:FFFF:129.144.52.38", "::ffff:8190:3426"),
        ("::13.1.68.3", "::d01:4403"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("192.0.2.33", "192.0.2.33"), ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
    ])
    func shortensAsTheRFCSays(_ text: String, _ short: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == short)
        #expect(IPAddress(short) == address)
        #expect(octets(of: address) == parsedByLibrary(text))
    }

    @Test(arguments: [
        "", ".", ":", ":::", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.-4", "+1.2.3.4",
        "1.2.3.4 ", " 1.2.3.4", "1..2.3", "1.2.3.", "1.2.3.0004", "01.2.3.4", "1.2.3.08",
        "0x1.2.3.4", "１.2.3.4",
        "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4::5:6:7:8", "1::2::3", ":1", "1:", "::1:",
        ":1::", "12345::", "g::", "-0::", "+1::", "::-1", "::1.2.3", "::1.2.3.4.5",
        "1.2.3.4::", "1.2.3.4::1", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4", "fe80::1%eth0", "::1/64",
        "[::1]", "::ffff:01.2.3.4", "1:::2", "::\u{301}1",
    ])
    func refuses(_ text: String) {
        #expect(parsedByLibrary(text) == nil, "the oracle takes it")
        #expect(IPAddress(text) == nil)
    }

    // What would fool us: texts that no list thought of.
    @Test func agreesWithTheLibraryOnRandomTexts() {
        var random = SeededGenerator()
        let pieces = [
            "0", "1", "25", "255", "256", "a", "ffff", "00", ":", "::", ".", "-", "1.2.3.4",
        ]
        var taken = 0
        for _ in 0..<20_000 {
            var text = ""
            let separator = Bool.random(using: &random) ? ":" : "."
            for _ in 0..<Int.random(in: 1...9, using: &random) {
                text += pieces.randomElement(using: &random) ?? ""
                if Int.random(in: 0..<8, using: &random) > 0 { text += separator }
            }
            if Int.random(in: 0..<4, using: &random) > 0, text.hasSuffix(separator) {
                text.removeLast()
            }
            let expected = parsedByLibrary(text)
            if expected != nil { taken += 1 }
            #expect(IPAddress(text).map(octets(of:)) == expected, "\(text)")
        }
        #expect(taken > 100, "too few valid texts to mean anything")
    }

    @Test func textRoundTrips() throws {
        var random = SeededGenerator()
        for _ in 0..<2_000 {
            let v4 = IPAddress(v4: UInt32.random(in: 0 ... .max, using: &random))
            #expect(IPAddress(v4.description) == v4)
            // Many zero groups, so that every place of "::" comes up.
            let mask = { (random: inout SeededGenerator) in
                (0..<4).reduce(UInt64(0)) { word, _ in
                    word << 16 | (Bool.random(using: &random) ? 0xFFFF : 0)
                }
            }
            let v6 = IPAddress(
                high: random.next() & mask(&random), low: random.next() & mask(&random))
            #expect(IPAddress(v6.description) == v6)
            #expect(parsedByLibrary(v6.description) == octets(of: v6))
        }
    }

    @Test func readsNetworkOrder() {
        let bytes = hex("EE 20010db8000000000000000000000001 c0000221")
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            #expect(IPAddress(.v6, at: base, 1).description == "2001:db8::1")
            #expect(IPAddress(.v4, at: base, 17).description == "192.0.2.33")
        }
        #expect(IPAddress(v4: 1).bitWidth == 32 && IPAddress(high: 0, low: 1).bitWidth == 128)
        #expect(IPAddress(v4: 1) != IPAddress(high: 0, low: 1))
    }

    @Test func ordersWithinAndAcrossFamilies() {
        let low = IPAddress(v4: 1)
        let high = IPAddress(v4: .max)
        let six = IPAddress(high: 0, low: 0)
        #expect(IPAddress.isOrdered(low, high) && !IPAddress.isOrdered(high, low))
        #expect(IPAddress.isOrdered(low, low) && IPAddress.isOrdered(six, six))
        #expect(IPAddress.isOrdered(high, six) && !IPAddress.isOrdered(six, low))
        let upper = IPAddress(high: 1, low: 0)
        let lower = IPAddress(high: 0, low: .max)
        #expect(IPAddress.isOrdered(lower, upper) && !IPAddress.isOrdered(upper, lower))
    }

    // The reference works on bits one by one; every length of both families.
    @Test func prefixRangesMatchBitByBit() {
        var random = SeededGenerator()
        for length in 0...128 {
            let v6 = IPAddress(high: random.next(), low: random.next())
            expectRange(v6, length)
            if length <= 32 {
                expectRange(IPAddress(v4: UInt32(truncatingIfNeeded: random.next())), length)
            }
        }
    }

    private func expectRange(_ address: IPAddress, _ length: Int) {
        var first = octets(of: address)
        var last = first
        for bit in length..<address.bitWidth {
            first[bit / 8] &= ~(0x80 >> UInt8(bit % 8))
            last[bit / 8] |= 0x80 >> UInt8(bit % 8)
        }
        let range = address.prefixRange(length: length)
        #expect(octets(of: range.first) == first && octets(of: range.last) == last)
        #expect(range.first.family == address.family && range.last.family == address.family)
    }

    @Test func prefixLongerThanTheAddressIsACallersBug() async {
        await #expect(processExitsWith: .failure) {
            _ = IPAddress(v4: 0).prefixRange(length: 33)
        }
        await #expect(processExitsWith: .failure) {
            _ = IPAddress(high: 0, low: 0).prefixRange(length: 129)
        }
    }
}
