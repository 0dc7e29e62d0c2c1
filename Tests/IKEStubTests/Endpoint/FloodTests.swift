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

    /// Attackers that return cookies: everything passes but their IKE_AUTH.
    private func passesNoProof(_ flight: inout Flight) -> Bool {
        !flight.toResponder || flight.octets[18] == ExchangeType.ikeSAInit.rawValue
    }

    @Test func theTableOfHalfOpenSetUpsIsBounded() throws {
        var configuration = PairConfiguration()
        configuration.rightLimits.halfOpen = 4
        let pair = try configuration.pair()
        // Without a cookie nobody is displaced.
        pair.passes = { $0.toResponder }
        for index in 1...9 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        #expect(pair.right.endpoint.halfOpen.count == 4 && pair.right.endpoint.count == 4)
        #expect(pair.right.endpoint.counters[.cookieAsked] == 5)
        #expect(pair.right.endpoint.counters[.halfOpenDisplaced] == 0)
        pair.passes = passesNoProof
        for index in 11...19 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        #expect(pair.right.endpoint.halfOpen.count == 4 && pair.right.endpoint.count == 4)
        #expect(pair.right.endpoint.counters[.halfOpenDisplaced] == 9)
        #expect(pair.right.endpoint.counters[.halfOpenLimit] == 0)
        #expect(pair.right.resources.spisTaken == 0)
    }

    /// The table is full of the set-ups of others, who return cookies and go on: one who comes
    /// once gets in, though its IKE_AUTH is late.
    @Test(arguments: [1, 5])
    func anHonestPeerGetsInBesideAFlood(perAddress: Int) throws {
        var configuration = PairConfiguration()
        configuration.rightLimits.halfOpen = 50
        let pair = try configuration.pair()
        var next = 0
        func flood(_ count: Int) throws {
            pair.passes = passesNoProof
            for _ in 0..<count {
                next += 1
                try pair.initiate(path: source(1 + next / perAddress % 200))
                try pair.deliver()
            }
        }
        try flood(60)
        #expect(pair.right.endpoint.halfOpen.count == 50)
        // The peer's IKE_SA_INIT is answered; its IKE_AUTH waits while the flood goes on.
        var late: [Flight] = []
        pair.passes = { flight in
            guard flight.toResponder, flight.octets[18] == ExchangeType.ikeAuth.rawValue else {
                return true
            }
            late.append(flight)
            return false
        }
        try pair.initiate()
        try pair.deliver()
        #expect(late.count == 1)
        try flood(45)
        #expect(pair.right.endpoint.halfOpen.count == 50)
        pair.passes = { _ in true }
        try pair.deliver(try #require(late.first))
        try pair.deliver()
        #expect(pair.right.established.count == 1)
        #expect(pair.right.established.first?.path.remote == IKEPair.path.local)
        #expect(pair.right.endpoint.halfOpen.count == 49)
    }

    /// When half-open set-ups are what keeps established IKE SAs out, they go; when there is none,
    /// nobody goes.
    @Test func establishedAssociationsAreNotDisplaced() throws {
        var configuration = PairConfiguration()
        configuration.rightLimits.associations = 3
        let pair = try configuration.pair()
        pair.passes = passesNoProof
        for index in 1...3 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        pair.passes = { _ in true }
        for index in 11...14 {
            try pair.initiate(path: source(index))
            try pair.deliver()
        }
        #expect(pair.right.established.count == 3 && pair.right.endpoint.count == 3)
        #expect(pair.right.endpoint.counters[.halfOpenLimit] == 1)
    }

    /// Against a plain list: which one goes, and how many there are of each host.
    @Test func theTableFindsTheOldestOfThoseWithMost() throws {
        let seed = UInt64.random(in: 0...1_000_000)
        var source = SeededSource(seed)
        var table = HalfOpenTable()
        var model: [IKEAssociation] = []
        func host(_ association: IKEAssociation) -> UInt64 { association.origin.remote.high }
        for number in UInt64(1)...4000 {
            if source.uint64() % 5 < 3 || model.isEmpty {
                var path = IKEPair.path
                path.local = ipv4("2001:db8::1")
                path.remote = IPAddress(high: source.uint64() % 20, low: source.uint64())
                let new = IKEAssociation(
                    role: .responder, initiatorSPI: number, responderSPI: number, path: path,
                    stage: .initAnswered, generation: 1, now: 0)
                table.insert(new)
                model.append(new)
            } else {
                let gone = model.remove(at: Int(source.uint64() % UInt64(model.count)))
                table.remove(gone)
                table.remove(gone)
            }
            let counts = Dictionary(grouping: model, by: host).mapValues(\.count)
            let most = counts.values.max() ?? 0
            let heads = counts.filter { $0.value == most }.keys.compactMap { high in
                model.first { host($0) == high }?.localSPI
            }
            let isRight = table.displaced.map(heads.contains) ?? model.isEmpty
            #expect(isRight && table.count == model.count, "seed \(seed), step \(number)")
            guard isRight else { return }
            for (high, count) in counts {
                #expect(table.count(of: IPAddress(high: high, low: 7)) == count)
            }
        }
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
