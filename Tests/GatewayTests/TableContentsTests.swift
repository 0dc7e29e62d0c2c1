// A common table that holds only some entries, and reads others when they are needed. Fooled by: a
// takeover before the read is finished; an entry cleared meanwhile that comes back; a lease noted
// for an entry that was not held, and forgotten; stores that answer in a convenient order.

import Cluster
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

private let one = NodeID(1)
private let two = NodeID(2)
private let three = NodeID(3)

/// Node 2 of three, each identifier with one backup. Of 16 identifiers, 0 to 5 are node 1's, 6 to
/// 10 its own, 11 to 15 node 3's; by the scores of the protocol it backs 0, and not 2.
private struct Holder {
    let node: Node
    let peers: Peers
    let before: Allocation
    let strange = DistributionIdentifier(2)

    init(_ change: (inout GatewayConfiguration) -> Void = { _ in }) throws {
        peers = try Peers()
        node = try Node(2) {
            $0.backups = 1
            change(&$0)
        }
        before = try Allocation(nodes: [one, two, three], identifierCount: 16)
        try node.take(before)
        let record = AllocationRecord(before)
        try #require(record.backups(of: DistributionIdentifier(0), count: 1) == [two])
        try #require(record.backups(of: strange, count: 1) == [three])
    }

    /// A tunnel of an identifier in the store.
    func tunnel(_ identifier: UInt16, _ number: UInt32 = 1) throws -> SPI {
        let spi = try tunnelSPI(identifier, number)
        try node.learn(peers.connect(spi))
        return spi
    }

    /// This node becomes the owner of the strange identifier.
    func gain() throws { node.take(AllocationRecord(try before.moving(strange, to: two))) }

    var table: [SPI] { node.tableSPIs }

    func holdsKeys(_ spi: SPI) -> Bool {
        node.tableContains(
            Array(keyOctets(spi, .gcm).prefix(16)))
    }
}

@Suite struct TableContentsTests {
    @Test func onlyWhatMustBeHeldIsHeld() throws {
        let holder = try Holder()
        let spis = try (0..<16 as Range<UInt16>).map { try holder.tunnel($0) }
        let record = AllocationRecord(holder.before)
        for (place, spi) in spis.enumerated() {
            let identifier = DistributionIdentifier(UInt16(place))
            let isHolder =
                (6...10).contains(place) || record.backups(of: identifier, count: 1) == [two]
            #expect(holder.table.contains(spi) == isHolder)
            #expect(holder.holdsKeys(spi) == isHolder, "what is not held costs nothing")
        }
        // Node 3 is gone: more is owned and backed, read from the store.
        let next = try record.removing(
            [three], backups: 1, mayHaveOverrun: { _ in false }, rules: Rules())
        holder.node.take(next)
        let wanted = spis.enumerated().filter {
            let identifier = DistributionIdentifier(UInt16($0.offset))
            return next.allocation.owner(of: identifier) == two
                || next.backups(of: identifier, count: 1) == [two]
        }.map(\.element)
        #expect(wanted.count == 16, "of two nodes with one backup each has everything")
        #expect(holder.table == spis.sorted())
        // And back again, by planned moves: what is not held any more leaves, keys too.
        holder.node.take(try next.adding(three, ClusterLoad(identifierCount: 16), .byCount))
        let owners = record.allocation.owners
        let back = AllocationRecord(
            try Allocation(
                epoch: 9, nodes: [one, two, three], owners: owners,
                generations: Array(repeating: 7, count: 16)))
        holder.node.take(back)
        for (place, spi) in spis.enumerated() {
            let identifier = DistributionIdentifier(UInt16(place))
            let isHolder = back.isHolder(two, of: identifier, backups: 1)
            #expect(holder.table.contains(spi) == isHolder && holder.holdsKeys(spi) == isHolder)
        }
    }

    @Test func nothingIsServedBeforeTheReadIsFinished() throws {
        let holder = try Holder()
        let spi = try holder.tunnel(2)
        let packets = try (0..<2).map { _ in try holder.peers.packet(spi) }
        holder.node.delaysReads = true
        try holder.gain()
        #expect(holder.node.isAwaiting(holder.strange) && holder.node.readsWaiting > 0)
        #expect(holder.node.session(spi) == nil && holder.node.news.isEmpty)
        #expect(holder.node.receive([packets[0].outer]) == [.held])
        #expect(try holder.node.add(holder.peers.connect(tunnelSPI(2, 8))) != nil)
        holder.node.answerReads()
        #expect(holder.node.released == [packets[0].inner], "what was held is handled")
        #expect(!holder.node.isAwaiting(holder.strange))
        #expect(
            holder.node.receive(packets.map(\.outer)) == [.dropped(.replayed), .delivered])
        guard case .reallocated(let report)? = holder.node.news.last else {
            Issue.record("the reallocation is complete, and nobody was told")
            return
        }
        #expect(report.loaded == 1)
    }

    #if RULE_BREAKS
        @Test func withoutTheRuleItIsServedTooEarly() throws {
            let holder = try Holder { $0.rules.broken = .entriesRead }
            let spi = try holder.tunnel(2)
            holder.node.delaysReads = true
            try holder.gain()
            #expect(
                holder.node.receive([try holder.peers.packet(spi).outer])
                    == [.dropped(.unknownSPI)])
        }
    #endif

    // The leases were published while the node held nothing that they are about.
    @Test(arguments: [false, true]) func leasesOfEntriesThatWereNotHeldCount(
        comesDuringRead: Bool
    ) throws {
        let holder = try Holder()
        let spi = try holder.tunnel(2)
        let packets = try (0..<6).map { _ in try holder.peers.packet(spi).outer }
        let leases = LeaseRecord(
            identifier: holder.strange, generation: 1,
            leases: [
                TunnelLease(spi: spi, sendLimit: 77_000, receiveEdge: 5, receiveLimit: 9000)
            ])
        if comesDuringRead {
            // The read of entries is answered as it was before; the watch tells of the leases.
            holder.node.delaysReads = true
            try holder.gain()
            holder.node.publish(leases)
            holder.node.answerReads()
        } else {
            holder.node.publish(leases)
            try holder.gain()
        }
        let expected: [PacketVerdict] =
            Array(repeating: .dropped(.replayed), count: 5) + [.delivered]
        #expect(holder.node.receive(packets) == expected)
        let entry = try #require(holder.node.entry(spi))
        #expect(holder.node.gateway.plane.book.published(entry).send >= 77_000)
    }

    // The read shows the store as it was before the entry was cleared.
    @Test func whatIsClearedWhileBeingReadStaysAway() throws {
        let holder = try Holder()
        let (cleared, renewed) = (try holder.tunnel(2), try holder.tunnel(2, 2))
        let stays = try holder.tunnel(2, 3)
        holder.node.delaysReads = true
        try holder.gain()
        holder.node.strike(cleared)
        holder.node.strike(renewed)
        try holder.node.learn(holder.peers.connect(renewed))
        let revision = try #require(holder.node.storedRevision(renewed))
        holder.node.answerReads()
        #expect(holder.table == [renewed, stays].sorted())
        #expect(holder.node.sessionSPIs == [renewed, stays].sorted())
        #expect(holder.node.storedRevision(renewed) == revision)
        #expect(!holder.holdsKeys(cleared))
    }

    // The read shows the store as it will be; the watch tells old news for a while.
    @Test func aReadMayBeAheadOfTheWatch() throws {
        let holder = try Holder()
        let early = try holder.tunnel(2)
        holder.node.delaysReads = true
        holder.node.readsLate = true
        try holder.gain()
        holder.node.delaysWatch = true
        let (late, brief) = (try holder.tunnel(2, 2), try holder.tunnel(2, 3))
        holder.node.strike(brief)
        holder.node.strike(early)
        holder.node.answerReads()
        #expect(holder.table == [late], "nothing of this was told by the watch yet")
        let session = try #require(holder.node.session(late))
        var delivered = 0
        while holder.node.deliverChange() {
            delivered += 1
            #expect(holder.table == [late] && holder.node.session(late) == session)
        }
        #expect(delivered == 4)
        // What is newer than the read is believed again.
        let last = try holder.tunnel(2, 4)
        holder.node.delaysWatch = false
        holder.node.settle()
        #expect(holder.table == [late, last].sorted())
    }

    @Test func aSuccessorIsReadyOnlyWithTheEntries() throws {
        let holder = try Holder()
        let spi = try holder.tunnel(2)
        var record = AllocationRecord(try holder.before.refreshed())
        record.successors[2] = two
        holder.node.delaysReads = true
        holder.node.take(record)
        holder.node.offer(holder.strange, generation: 1, from: one)
        #expect(!holder.node.isHolding(holder.strange))
        holder.node.answerReads()
        holder.node.offer(holder.strange, generation: 1, from: one)
        #expect(holder.node.isHolding(holder.strange) && holder.node.session(spi) != nil)
        // The plan is given up: nothing stays.
        holder.node.take(AllocationRecord(try holder.before.refreshed().refreshed()))
        #expect(holder.table.isEmpty && holder.node.sessionSPIs.isEmpty)
        #expect(!holder.holdsKeys(spi))
    }

    // Each packet's checkpoint, and those of the rounds, go to the one backup.
    @Test func checkpointsGoToBackupsOnly() throws {
        let site = try Site(nodes: 4) { $0.backups = 1 }
        let peers = try Peers()
        let spi = try tunnelSPI(0, 7)
        try site.install(peers.connect(spi))
        let place = try #require(site.cluster.place(of: site.owner(of: spi)))
        let owner = site.cluster.members[place]
        let backup = AllocationRecord(site.cluster.allocation)
            .backups(of: DistributionIdentifier(0), count: 1)
        for isRound in [false, true] {
            let verdicts = site.showEach(try peers.packet(spi).outer).map(\.verdict)
            #expect(verdicts.count { $0 == .delivered } == 1)
            _ = owner.gateway.takeOutputs()
            if isRound {
                owner.gateway.visitIdentifiers(site.cluster.clock)
            } else {
                owner.gateway.checkpointNow(spi)
            }
            var receivers: [NodeID: Int] = [:]
            for case .datagram(let to, _) in owner.gateway.takeOutputs() {
                receivers[to, default: 0] += 1
            }
            // A round may tell loads as well, and these to all.
            let least = site.cluster.nodes.filter { $0 != owner.node }
                .map { receivers[$0] ?? 0 }.min()
            let more = receivers.filter { $0.value > least ?? 0 }.keys
            #expect(Array(more) == backup)
        }
    }

    // Gained, lost before the read is answered, and gained again.
    @Test func answersOfOtherTimesAreIgnored() throws {
        let holder = try Holder()
        let spi = try holder.tunnel(2)
        holder.node.delaysReads = true
        let gained = try holder.before.moving(holder.strange, to: two)
        holder.node.take(AllocationRecord(gained))
        let lost = try gained.moving(holder.strange, to: one)
        holder.node.take(AllocationRecord(lost))
        holder.node.answerReads()
        #expect(holder.table.isEmpty && !holder.holdsKeys(spi))
        holder.node.take(AllocationRecord(try lost.moving(holder.strange, to: two)))
        #expect(holder.node.isAwaiting(holder.strange))
        holder.node.answerReads()
        #expect(holder.node.receive([try holder.peers.packet(spi).outer]) == [.delivered])
    }
}

@Suite struct CardOnlyKeyTests {
    /// A node that owns everything, and leaves the keys to its card.
    private struct Owner {
        let node: Node
        let peers: Peers
        let first: Allocation

        init(_ change: (inout GatewayConfiguration) -> Void = { _ in }) throws {
            peers = try Peers()
            node = try Node(1) {
                $0.tableHoldsOwn = false
                change(&$0)
            }
            first = try Allocation(nodes: [one, two], identifierCount: 16)
            try node.take(first)
        }

        func holdsKeys(_ spi: SPI) -> Bool {
            node.tableContains(
                Array(keyOctets(spi, .gcm).prefix(16)))
        }
    }

    @Test(arguments: [true, false]) func ownKeysAreOnTheCardOnly(holdsOwn: Bool) throws {
        let owner = try Owner { $0.tableHoldsOwn = holdsOwn }
        let spi = try tunnelSPI(0, 1)
        let back = SPI(spi.value ^ 0x55)
        let inbound = try owner.peers.connect(spi)
        owner.node.gateway.establish(
            inbound: try association(inbound),
            outbound: try association(parameters(back.value, .outbound)),
            nowNanoseconds: owner.node.clock)
        owner.node.settle()
        #expect(owner.node.news.contains(.established(spi)))
        #expect(owner.holdsKeys(spi) == holdsOwn && owner.holdsKeys(back) == holdsOwn)
        #expect(owner.node.keysTwice == (holdsOwn ? [spi] : []))
        #expect(owner.node.gateway.sessionCount == 2)
        #expect(owner.node.receive([try owner.peers.packet(spi).outer]) == [.delivered])
    }

    // A key that is not in the store yet must not be lost with the card.
    @Test func keysStayUntilTheStoreHasThem() throws {
        let owner = try Owner()
        let spi = try tunnelSPI(0, 1)
        owner.node.gateway.establish(
            inbound: try association(owner.peers.connect(spi)), outbound: nil,
            nowNanoseconds: owner.node.clock)
        #expect(owner.node.session(spi) != nil && owner.holdsKeys(spi))
        owner.node.settle()
        #expect(!owner.holdsKeys(spi))
    }

    // What would fool us: a session that comes back, with the window that the entry in the store
    // has.
    @Test func aResetCardComesBackWithItsWindow() throws {
        let owner = try Owner()
        let spi = try tunnelSPI(0, 1)
        #expect(try owner.node.add(owner.peers.connect(spi)) == nil)
        let packets = try (0..<4).map { _ in try owner.peers.packet(spi).outer }
        #expect(owner.node.receive([packets[0], packets[2]]) == [.delivered, .delivered])
        let entry = try #require(owner.node.entry(spi))
        let granted = owner.node.gateway.plane.book.granted(entry)
        owner.node.gateway.inject(.reset)
        owner.node.delaysReads = true
        #expect(owner.node.receive([packets[0]]) == [.dropped(.sessionLost)])
        owner.node.settle()
        #expect(owner.node.readsWaiting == 1)
        #expect(owner.node.receive([packets[3]]) == [.dropped(.sessionLost)])
        owner.node.answerReads()
        #expect(owner.node.readsWaiting == 0)
        let expected: [PacketVerdict] = [
            .dropped(.replayed), .delivered, .dropped(.replayed), .delivered,
        ]
        #expect(owner.node.receive(packets) == expected)
        #expect(!owner.holdsKeys(spi), "the card has them again")
        #expect(owner.node.gateway.plane.book.granted(entry) == granted)
    }

    @Test func lostTunnelsGetTheirKeysBackAndLeaveThemAgain() throws {
        let owner = try Owner()
        let spi = try tunnelSPI(0, 1)
        #expect(try owner.node.add(owner.peers.connect(spi)) == nil)
        let moving = DistributionIdentifier(0)
        let packet = try owner.peers.packet(spi).outer
        #expect(owner.node.receive([packet]) == [.delivered])
        owner.node.delaysReads = true
        let lost = try owner.first.moving(moving, to: two)
        owner.node.take(AllocationRecord(lost))
        #expect(owner.node.session(spi) == nil && !owner.holdsKeys(spi))
        #expect(owner.node.keysNowhere == [spi])
        // Gained before the keys have come.
        owner.node.take(AllocationRecord(try lost.moving(moving, to: one)))
        #expect(owner.node.isAwaiting(moving))
        owner.node.answerReads()
        #expect(owner.node.receive([packet]) == [.dropped(.replayed)])
        #expect(owner.node.receive([try owner.peers.packet(spi).outer]) == [.delivered])
        #expect(!owner.holdsKeys(spi))
        // Lost for good: the table is a backup's.
        owner.node.take(AllocationRecord(try lost.moving(moving, to: one).moving(moving, to: two)))
        owner.node.answerReads()
        #expect(owner.holdsKeys(spi) && owner.node.keysNowhere == [])
    }

    // The generation is part of the nonce, so the session is opened anew: with its exact window.
    @Test func aRenewedOwnershipGoesOnExactly() throws {
        let owner = try Owner { $0.takeoverPolicy = .strict }
        let spi = try tunnelSPI(0, 1)
        #expect(try owner.node.add(owner.peers.connect(spi)) == nil)
        let packets = try (0..<5).map { _ in try owner.peers.packet(spi) }
        let outer = packets.map(\.outer)
        #expect(owner.node.receive([outer[0], outer[2]]) == [.delivered, .delivered])
        owner.node.delaysReads = true
        owner.node.take(AllocationRecord(try owner.first.renewing(one)))
        #expect(owner.node.receive([outer[3]]) == [.held])
        owner.node.answerReads()
        #expect(owner.node.released == [packets[3].inner])
        let expected: [PacketVerdict] = [
            .dropped(.replayed), .delivered, .dropped(.replayed), .dropped(.replayed), .delivered,
        ]
        #expect(owner.node.receive(outer) == expected)
        let session = try #require(owner.node.session(spi))
        let status = try owner.node.gateway.plane.card.status(of: session)
        #expect(status.ivGeneration == 2)
        #expect(!owner.holdsKeys(spi))
    }
}
