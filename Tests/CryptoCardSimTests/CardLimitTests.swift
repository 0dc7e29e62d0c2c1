import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

/// The common table's side of a card: a slab of the same catalogue.
private struct Node {
    let holder: CardHolder
    let table: Station

    init(capacity: Int) throws {
        let catalogue = AssociationCatalogue()
        holder = try CardHolder(capacity: capacity, catalogue: catalogue)
        table = try Station(catalogue: catalogue)
    }

    func load(_ entry: AssociationHandle, generation: UInt16 = 2) throws -> CardHandle {
        try holder.card.open(copying: entry, from: table.slab, ivGeneration: generation)
    }
}

@Suite struct CardLimitTests {
    @Test func sendingStopsAndGoesOn() throws {
        let holder = try CardHolder(capacity: 1)
        let handle = try holder.open(parameters(0x1001))
        try holder.card.resumeSending(after: 40, limit: 41, of: handle)
        let first = holder.send([(innerPacket, handle), (innerPacket, handle)]).results
        guard case .packet(let outer) = first[0] else {
            Issue.record("\(first[0])")
            return
        }
        #expect(number(outer[24..<28]) == 41 as UInt32)
        #expect(first[1] == .drop(.leaseEnded))
        #expect(holder.card.drops[.leaseEnded] == 1)
        #expect(try holder.drops(handle)[.leaseEnded] == 1)
        try holder.card.setLimit(100, of: handle)
        let limit = try holder.card.limit(of: handle)
        #expect(limit == 100)
        #expect(holder.send([(innerPacket, handle)]).results[0] != .drop(.leaseEnded))
        #expect(try holder.status(handle).sequence == 42)
    }

    @Test func receivingStopsAndGoesOn() throws {
        let holder = try CardHolder(capacity: 1)
        let handle = try holder.open(parameters(0x1001, .inbound))
        let packets = try sealed(0x1001, count: 6)
        try holder.card.resumeReceiving(closedUpTo: 2, limit: 4, of: handle)
        let results = holder.receive(packets).results
        let good = CardHolder.Result.packet(innerPacket)
        #expect(
            results == [
                .drop(.replayed), .drop(.replayed), good, good, .drop(.leaseEnded),
                .drop(.leaseEnded),
            ])
        try holder.card.setLimit(5, of: handle)
        #expect(holder.receive(Array(packets[4...])).results == [good, .drop(.leaseEnded)])
    }

    @Test func staleHandlesAreRefused() throws {
        let holder = try CardHolder(capacity: 1)
        let handle = try holder.open(parameters(0x1001))
        try holder.close(handle)
        let commands: [() throws -> Void] = [
            { _ = try holder.card.limit(of: handle) },
            { try holder.card.setLimit(1, of: handle) },
            { try holder.card.resumeSending(after: 1, limit: 2, of: handle) },
            { try holder.card.resumeReceiving(closedUpTo: 1, limit: 2, of: handle) },
        ]
        for command in commands { #expect(errorOf(command) == .staleHandle(handle)) }
    }

    // What would fool us: a session that is loaded for a tunnel's outbound direction and begins at
    // 1.
    @Test func outboundEntriesAreLoadedToo() throws {
        let node = try Node(capacity: 2)
        let outbound = try node.table.add(parameters(0x1001))
        let twin = try node.table.add(parameters(0x1001))
        for _ in 0..<3 { _ = node.table.seal(innerPacket, outbound) }
        let session = try node.load(outbound)
        // Outbound SPIs are the peers' choice: two peers may choose alike.
        let other = try node.load(twin)
        #expect(node.holder.session(0x1001) == nil)
        let results = node.holder.send([(innerPacket, session), (innerPacket, other)]).results
        for (result, expected) in zip(results, [4, 1] as [UInt32]) {
            guard case .packet(let outer) = result else {
                Issue.record("\(result)")
                continue
            }
            #expect(number(outer[24..<28]) == expected)
            // The new owner's generation leads the IV.
            #expect(number(outer[28..<30]) == 2 as UInt16)
        }
        try node.holder.close(session)
        #expect(node.holder.send([(innerPacket, session)]).results == [.drop(.sessionLost)])
        #expect(try node.holder.status(other).sequence == 1)
    }

    // What would fool us: a session that is renewed and keeps something of its own: here it is
    // ahead of its entry in some ways and behind in others. Windows of both kinds of memory.
    @Test(arguments: [64, 1024])
    func renewingIsOpeningAnew(window: Int) throws {
        let node = try Node(capacity: 4)
        var inbound = parameters(0x1001, .inbound)
        inbound.replayWindow = window
        let entry = try node.table.add(inbound)
        let outbound = try node.table.add(parameters(0x2002))
        let (receiving, sending) = (try node.load(entry), try node.load(outbound))
        let packets = try sealed(0x1001, count: 9)
        _ = node.holder.receive([packets[0], packets[6]])
        _ = node.holder.send([(innerPacket, sending), (innerPacket, sending)])
        for place in [1, 4] { _ = node.table.open(packets[place], entry) }
        node.table.slab.resumeReceiving(closedUpTo: 3, limit: 8, of: entry)
        node.table.slab.resumeSending(after: 40, limit: 50, of: outbound)
        try node.holder.card.renew(
            receiving, from: entry, of: node.table.slab, ivGeneration: 3)
        try node.holder.card.renew(sending, from: outbound, of: node.table.slab, ivGeneration: 3)
        for (session, original) in [(receiving, entry), (sending, outbound)] {
            let checkpoint = try node.holder.card.checkpoint(of: session)
            let limit = try node.holder.card.limit(of: session)
            #expect(checkpoint == node.table.slab.checkpoint(of: original))
            #expect(limit == node.table.slab.limit(of: original))
            #expect(try node.holder.status(session).ivGeneration == 3)
        }
        // 5 was received, 4 was not and 7 only by the session as it was; 9 is beyond the limit.
        let results = node.holder.receive([3, 4, 6, 8].map { packets[$0] }).results
        let good = CardHolder.Result.packet(innerPacket)
        #expect(results == [good, .drop(.replayed), good, .drop(.leaseEnded)])
        let sent = node.holder.send([(innerPacket, sending)]).results
        guard case .packet(let outer) = sent[0] else {
            Issue.record("\(sent)")
            return
        }
        #expect(number(outer[24..<28]) == 41 as UInt32 && number(outer[28..<30]) == 3 as UInt16)
        try node.holder.close(sending)
        #expect(
            errorOf {
                try node.holder.card.renew(
                    sending, from: outbound, of: node.table.slab, ivGeneration: 4)
            } == .staleHandle(sending))
    }
}
