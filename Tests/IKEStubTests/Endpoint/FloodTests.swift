// What strangers can make a responder do: nothing that lasts, and little at a time.

import Crypto
import Testing
import Wire

@testable import IKEStub

@Suite struct Floods {
    private func source(_ index: Int) -> IKEPath {
        var path = IKEPair.path
        path.local = ipv4("198.51.100.\(index)")
        return path
    }

    @Test func aStrangerTakesOnlyAPartOfAnAddress() throws {
        let pair = try PairConfiguration().pair()
        // Requests from one address, whose answers go to somebody else.
        for _ in 0..<20 { try pair.initiate() }
        pair.passes = { $0.toResponder }
        try pair.deliver()
        #expect(pair.right.endpoint.halfOpen.count == 3)
        #expect(pair.right.endpoint.counters[.cookieAsked] == 17)
        // The real owner of the address still gets in.
        pair.passes = { _ in true }
        try pair.connect()
        #expect(pair.right.established.count == 1)
        // What was half-open goes by itself, and without a word.
        let reports = pair.right.reports.count
        pair.left.endpoint = IKEEndpoint(pair.left.world, now: pair.now)
        pair.passes = { _ in false }
        try pair.advance(seconds: 31)
        #expect(pair.right.endpoint.halfOpen.count == 0)
        #expect(pair.right.reports.count == reports)
    }

    @Test func cookiesUnderLoad() throws {
        let pair = try PairConfiguration().pair()
        pair.passes = { $0.toResponder }
        for index in 1...40 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        #expect(pair.right.endpoint.halfOpen.count == 10)
        #expect(pair.right.endpoint.counters[.cookieAsked] == 30)
        pair.passes = { _ in true }
        try pair.initiate(path: source(99))
        try pair.deliver()
        #expect(pair.right.established.count == 1)
        #expect(pair.right.endpoint.counters[.cookieWrong] == 0)
        pair.right.endpoint.cookies.renew(&pair.right.world.random, now: pair.now + 61_000_000_000)
    }

    @Test func aCookieIsForOneAddressAndSomeTime() throws {
        var random = SeededSource(5)
        var jar = CookieJar(&random, now: 0)
        let nonce = random.octets(32)
        let (home, other) = (ipv4("192.0.2.1"), ipv4("192.0.2.2"))
        let cookie = try jar.cookie(nonce: nonce, home, initiatorSPI: 7)
        func accepts(_ address: IPAddress, _ spi: UInt64) throws -> Bool {
            try jar.isOurs(cookie, nonce: nonce, address, initiatorSPI: spi)
        }
        #expect(try accepts(home, 7))
        #expect(try !accepts(other, 7))
        #expect(try !accepts(home, 8))
        jar.renew(&random, now: 60_000_000_000)
        #expect(try accepts(home, 7))
        jar.renew(&random, now: 120_000_000_000)
        #expect(try !accepts(home, 7))
    }

    @Test func theTableOfHalfOpenSetUpsIsBounded() throws {
        var configuration = PairConfiguration()
        configuration.rightLimits.halfOpen = 4
        let pair = try configuration.pair()
        pair.passes = { $0.toResponder }
        for index in 1...9 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        #expect(pair.right.endpoint.halfOpen.count == 4)
        #expect(pair.right.endpoint.counters[.halfOpenLimit] == 5)
    }

    /// RFC 7296 §2.5: both are answered, and nothing else of what can't be read is.
    @Test func unreadableRequests() throws {
        let pair = try PairConfiguration().pair()
        try pair.initiate()
        let request = pair.wire.removeFirst()
        func answer(_ change: (inout [UInt8]) -> Void) throws -> Notify? {
            var flight = request
            change(&flight.octets)
            try pair.deliver(flight)
            guard let answer = pair.wire.popLast() else { return nil }
            let parsed = try answer.octets.withUnsafeBytes { try IKEMessage.read($0) }
            return parsed.payloads.errorNotify
        }
        #expect(try answer { $0[17] = 0x30 }?.notifyType == .invalidMajorVersion)
        let critical = try answer { octets in
            octets[16] = 200
            octets.insert(contentsOf: [33, 0x80, 0, 4], at: 28)
            octets[26] = UInt8(octets.count >> 8)
            octets[27] = UInt8(octets.count & 0xFF)
        }
        #expect(critical?.notifyType == .unsupportedCriticalPayload && critical?.data == [200])
        #expect(try answer { $0.removeLast(4) } == nil)
        #expect(pair.right.endpoint.count == 0)
    }
}
